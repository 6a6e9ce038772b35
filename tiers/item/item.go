package item

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A Kind says what a record is.
type Kind byte

// Kinds of records.
const (
	KindPut       Kind = 1 // content and metadata
	KindTombstone Kind = 2 // the item no longer exists
	KindMetadata  Kind = 3 // metadata only; the content is that of ContentVersion, kept elsewhere
	KindRule      Kind = 4 // a bulk delete or purge; see Rule
)

// Tiers is a set of tiers.
type Tiers byte

// The tiers.
const (
	L1 Tiers = 1 << iota
	L2
	L3

	AllTiers = L1 | L2 | L3
)

// String returns the set as it is written in headers: "l1,l3".
func (t Tiers) String() string {
	var names []string
	for i, name := range [...]string{"l1", "l2", "l3"} {
		if t&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// A Durability is what an acknowledgement means, in ascending order.
type Durability byte

// Durability levels. The zero value asks for the configured default.
const (
	DurabilityDefault Durability = iota
	DurabilityMemory             // in RAM
	DurabilityJournal            // handed to the operating system: survives kill -9
	DurabilitySync               // fdatasync done: survives power loss
	DurabilityL3                 // committed in SQL
)

var durabilityNames = [...]string{"default", "memory", "journal", "sync", "l3"}

// String returns the level's name in headers and configuration.
func (d Durability) String() string {
	if int(d) < len(durabilityNames) {
		return durabilityNames[d]
	}
	return fmt.Sprintf("durability(%d)", byte(d))
}

// ParseDurability is the inverse of String, without "default".
func ParseDurability(s string) (Durability, error) {
	for i, name := range durabilityNames[1:] {
		if s == name {
			return Durability(i + 1), nil
		}
	}
	return 0, fmt.Errorf("item: unknown durability %q, allowed are memory, journal, sync, l3", s)
}

// Flags of a record.
type Flags byte

// The flags.
const (
	FlagJSON  Flags = 1 << iota // the content is one valid JSON text
	FlagStale                   // purged softly: what Expires says no longer holds
)

// An ETag is the first half of SHA-256(MIME, a zero byte, content). It changes
// with content or MIME only.
type ETag [16]byte

// String returns the 32 hex digits without quotes.
func (t ETag) String() string { return hex.EncodeToString(t[:]) }

// ParseETag is the inverse of String.
func ParseETag(s string) (ETag, bool) {
	var t ETag
	if len(s) != 2*len(t) {
		return t, false
	}
	_, err := hex.Decode(t[:], []byte(s))
	return t, err == nil
}

// An Item is an id with content and metadata, or its tombstone. Slices are
// shared with whoever filled them in.
type Item struct {
	Kind       Kind
	Tiers      Tiers // where this version lives
	Flags      Flags
	Durability Durability // what the writer asked for

	Key             Key
	Version         Version // the greater of the next two
	ContentVersion  Version // of the put or delete
	MetadataVersion Version // of the last change of state, tags, expiry

	UpdatedAt int64 // Unix ms of Version's stamp
	ExpiresAt int64 // Unix ms; 0 means never. Equal in every tier
	L1TTL     int64 // ms that a copy may live in L1; 0 means as long as the item
	L2TTL     int64 // ms that a copy may live in L2; 0 means as long as the item

	ContentHash  [32]byte // SHA-256 of Content
	ETag         ETag
	MIME         string
	State        string
	Tags         []string
	BatchID      string
	TraceParent  string
	TraceState   string
	HomeInstance string
	AccessCount  uint64
	LastAccessed int64 // Unix ms

	Response []byte // response metadata; opaque to the engine
	Content  []byte // exact bytes
}

// Seal computes ContentHash, ETag and the JSON flag from MIME and Content.
// It reads the content twice.
func (it *Item) Seal() {
	it.ContentHash = sha256.Sum256(it.Content)
	it.ETag = ETagOf(it.MIME, it.Content)
	it.Flags &^= FlagJSON
	if isJSON(it.MIME, it.Content) {
		it.Flags |= FlagJSON
	}
}

// ETagOf returns the entity tag of content served as mime.
func ETagOf(mime string, content []byte) ETag {
	h := sha256.New()
	h.Write([]byte(mime))
	h.Write([]byte{0})
	h.Write(content)
	var sum [sha256.Size]byte
	return ETag(h.Sum(sum[:0])[:16])
}

// isJSON reports whether content is one JSON text. Content that neither begins
// like an object or array nor is called JSON by its MIME type is not looked at.
func isJSON(mime string, content []byte) bool {
	text := bytes.TrimLeft(content, " \t\r\n")
	if len(text) == 0 {
		return false
	}
	if text[0] != '{' && text[0] != '[' && !strings.Contains(mime, "json") {
		return false
	}
	return json.Valid(content)
}

// Expired reports whether the item is over at nowMilli (Unix ms).
func (it *Item) Expired(nowMilli int64) bool { return it.ExpiresAt != 0 && nowMilli >= it.ExpiresAt }

// ErrTooLarge is returned for an item whose parts do not fit into a record.
var ErrTooLarge = errors.New("item: too large for a record")

// Check reports whether the item can be encoded: a valid key, and parts that
// fit their length fields. Ids, states and tags of callers are checked where
// they come in (CheckID, CheckState, CheckTags); the engine's own tags may be
// longer.
func (it *Item) Check() error {
	if err := it.Key.Check(); err != nil {
		return err
	}
	const u16 = 1<<16 - 1
	f := func(part string, got, limit int) error {
		if got <= limit {
			return nil
		}
		return fmt.Errorf("%w: %s of %d bytes, allowed are %d", ErrTooLarge, part, got, limit)
	}
	errs := []error{
		f("MIME", len(it.MIME), u16), f("state", len(it.State), 255), f("batch id", len(it.BatchID), u16),
		f("traceparent", len(it.TraceParent), u16), f("tracestate", len(it.TraceState), u16),
		f("home instance", len(it.HomeInstance), u16), f("number of tags", len(it.Tags), u16),
		f("response metadata", len(it.Response), maxPart), f("content", len(it.Content), maxPart),
	}
	for _, t := range it.Tags {
		errs = append(errs, f("tag", len(t), u16))
	}
	if it.Tiers > 0xf || it.Durability > 0xf {
		errs = append(errs, fmt.Errorf("%w: tiers %#x, durability %d", ErrMalformed, byte(it.Tiers), byte(it.Durability)))
	}
	return errors.Join(errs...)
}
