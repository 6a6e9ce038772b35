package proxy

import (
	"context"
	"io"
	"net/netip"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// An Exchange is one request and the sink for its answer. Byte slices of the
// request are valid until Serve returns. The answer side is called in this
// order: Informational any number of times, Status, fields, then exactly one of
// Send, SendSized and Stream. It is used by one goroutine at a time.
type Exchange interface {
	Method() string
	Target() []byte // path and query exactly as received
	Host() []byte
	Scheme() string
	Header(name string) []byte
	Fields(yield func(name, value []byte) bool)
	ContentLength() int64 // -1 unknown, 0 none
	Body() io.Reader
	Client() netip.Addr // as trusted proxies tell it
	Peer() netip.Addr   // at the other end of the connection
	HTTP10() bool
	Context() context.Context

	Informational(code int, block []byte) error
	Status(code int)
	Add(name, value string)
	AddBlock(block []byte)                  // prepared lines, each ended by CRLF
	Send(body []byte) error                 // whole answer with its length
	SendSized(length int64) error           // no body bytes; -1 announces no length
	Stream(length int64) (io.Writer, error) // body follows; -1 is unknown
	Abort()
	CloseAfter()
}

// A trailing Exchange can send fields behind a body that it streams in chunks. It
// reports false if it cannot now.
type trailing interface {
	Trailer(block []byte) bool
}

// An Engine stores answers. Its methods are called by many goroutines.
type Engine interface {
	// Get returns what is stored under key. The hit is released by the caller.
	Get(ctx context.Context, key item.Key, o tiers.ReadOptions) (tiers.Hit, bool, error)
	// Submit stores an answer whose request left at w.Version. It fails with
	// tiers.ErrPurged if a purge since then covers it, and with
	// tiers.ErrSuperseded if a newer one is stored.
	Submit(ctx context.Context, w *tiers.Write) (tiers.Receipt, error)
	// Purge records a rule; it holds when Purge returns.
	Purge(ctx context.Context, p tiers.Purge) (tiers.BulkReceipt, error)
	// Stamp returns a version greater than every one before it.
	Stamp() item.Version
	// CoveredSince reports whether a rule newer than since covers an object with
	// this key or one of these tags.
	CoveredSince(key item.Key, tags []string, since item.Version) bool
	// Hottest returns up to n of the keys that were found in memory most of late.
	Hottest(n int) tiers.Hottest
	// Crowded reports whether the node is so full that it begins nothing of its own.
	Crowded() bool
}
