package api

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// An Exchange is one request and its answer. Byte slices of the request are
// valid until Serve returns. The answer is written in this order: Status,
// fields, then exactly one of Send, SendSized and Stream.
type Exchange interface {
	Method() string
	Target() []byte // raw path and query, never normalised
	Host() []byte
	Scheme() string
	Fields(yield func(name, value []byte) bool) // every header line in order
	ContentLength() int64                       // -1 unknown, 0 none
	Body() io.Reader                            // errors may have BodyTooLarge, Timeout, BodyMalformed or Busy, each () bool
	Client() netip.Addr
	Local() bool // the peer is loopback and nothing was forwarded
	Context() context.Context

	Status(code int)
	Add(name, value string)
	AddBlock(block []byte)   // header lines, each ended by CRLF
	AddUndated(block []byte) // AddBlock of lines of which none is a Date
	Send(body []byte) error
	SendSized(length int64) error
	Stream(length int64) (io.Writer, error) // the writer may have Flush() error
	Abort()                                 // cut the connection: the answer is not whole
	CloseAfter()
}

// An Engine keeps the items. Its methods are those of tiers.Engine.
type Engine interface {
	Get(ctx context.Context, key item.Key, o tiers.ReadOptions) (tiers.Hit, bool, error)
	GetMany(ctx context.Context, keys []item.Key, o tiers.ReadOptions, fn func(i int, h *tiers.Hit, ok bool, err error))
	Submit(ctx context.Context, w *tiers.Write) (tiers.Receipt, error)
	SubmitMany(ctx context.Context, ws []*tiers.Write, out []tiers.Receipt)
	Delete(ctx context.Context, key item.Key, c *tiers.Condition, d item.Durability) (tiers.Receipt, error)
	DeleteMany(ctx context.Context, keys []item.Key, d item.Durability, out []tiers.Receipt)
	Change(ctx context.Context, key item.Key, c tiers.MetadataChange) (tiers.Receipt, error)
	List(ctx context.Context, q tiers.Query, fn func(v item.View) error) (next string, err error)
	Count(ctx context.Context, q tiers.Query) (n int64, exact bool, err error)
	DeleteMatching(ctx context.Context, q tiers.Query, d item.Durability) (tiers.BulkReceipt, error)
	Purge(ctx context.Context, p tiers.Purge) (tiers.BulkReceipt, error)
	Status(ctx context.Context, key item.Key) (tiers.Status, error)
	Feed(ctx context.Context, q tiers.FeedQuery, fn func(ev *tiers.Event) error) (last uint64, err error)
	AwaitChange(ctx context.Context, after uint64) error
	LastChange() uint64
	Nodes(ctx context.Context) ([]tiers.Node, error)
	RemoveNode(ctx context.Context, id string) (existed bool, err error)
	AwaitApplied(ctx context.Context, seq uint64) ([]tiers.Node, error)
	DeadLetters(ctx context.Context, cursor string, limit int) (list []tiers.DeadLetter, next string, err error)
	RetryDeadLetter(ctx context.Context, key item.Key) error
	DropDeadLetter(ctx context.Context, key item.Key) error
}

// An Op is what a request does, as policies see it.
type Op byte

// The operations.
const (
	OpRead   Op = 1
	OpWrite  Op = 2
	OpDelete Op = 3
	OpPurge  Op = 4
)

// A Policy decides about requests, for instance by hooks. Both methods are
// called on the goroutine of the request, concurrently for different requests,
// must not block, and must not keep x, id or d.
type Policy interface {
	// Route is called after the token was checked and before anything is read
	// or stored. id is the item's id; for lists and bulk deletes the prefix; for
	// purges the selector's value. size is the content's length in bytes, -1 if
	// unknown, 0 if there is none. d comes filled with what is decided so far.
	Route(x Exchange, op Op, id []byte, size int64, d *Decision)
	// TTL is called when the content is there and before it is stored.
	TTL(x Exchange, id []byte, size int64, d *Decision)
}

// A Decision is what a policy may change. Values that are not allowed (an
// unknown tier, a malformed state or tag) are ignored.
type Decision struct {
	Deny   int    // answer with this status (400 to 599) instead
	Reason string // detail of the denial
	Answer *Ready // answer with this instead; ignored when Deny is set

	Tiers             item.Tiers // to read or to write; 0 leaves it to the engine
	State             string     // of the item that is written
	Tags              []string   // of the item that is written
	TTL, L1TTL, L2TTL time.Duration
	NoStore           bool // TTL only: refuse the write

	// Edits change the fields of the answer; Route only, and not for a line of a
	// batch. Their bytes hold until Serve returns. Those of the request, of what
	// the API says of items and what package edit refuses have no effect but
	// that they are counted.
	Edits []edit.Edit
}

// A Ready is an answer that a policy gives by itself.
type Ready struct {
	Status int    // 200 to 599
	Block  []byte // header lines, each ended by CRLF
	Body   []byte
}

// A SitePurge translates what names stored answers of origins into a predicate
// over the tags that they carry implicitly. An error says what is wrong with
// the value; it is shown to the sender.
type SitePurge interface {
	URL(url string) (item.Predicate, []string, error)
	Host(host string) (item.Predicate, []string, error)
	Prefix(urlPrefix string) (item.Predicate, []string, error)
}
