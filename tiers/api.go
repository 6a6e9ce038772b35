package tiers

import (
	"time"

	"github.com/edgenode/edgenode/tiers/item"
)

// A Source says which tier an answer came from.
type Source byte

// The sources, nearest first.
const (
	FromNone    Source = iota
	FromL1             // memory
	FromPending        // the journal, or memory not yet flushed
	FromL2             // Redis
	FromL3             // SQL
)

// String returns the name used in metrics and Cache-Status details.
func (s Source) String() string {
	return [...]string{"none", "l1", "pending", "l2", "l3"}[s]
}

// ReadOptions say how Get reads. The zero value reads every tier.
type ReadOptions struct {
	Tiers      item.Tiers   // tiers to ask; 0 means all. Never hides a newer version
	Sure       bool         // ask L3 also where the filter says that there is none
	Verify     bool         // recompute the content hash; ErrCorrupt if it differs
	MinVersion item.Version // answer with this version or a newer one, else ErrTooOld; as Sure
	Now        int64        // Unix ms of Options.Now, from a moment ago; 0 looks at the clock. Below L1 it always does
}

// A Condition must hold for the present item or the write fails with
// ErrPrecondition. Conditions of one id are decided one at a time. The zero
// value always holds.
type Condition struct {
	MatchAny   bool         // If-Match: *
	Match      []item.ETag  // If-Match: one of these
	NoneAny    bool         // If-None-Match: *
	NoneMatch  []item.ETag  // If-None-Match: none of these
	Version    item.Version // the present version equals this; 0 is not asked
	NeverMatch bool         // If-Match listed only tags that cannot be ours
}

// None reports whether the condition always holds.
func (c *Condition) None() bool {
	return c == nil || !c.MatchAny && c.Match == nil && !c.NoneAny && c.NoneMatch == nil && c.Version == 0 && !c.NeverMatch
}

// A Write is a put. The engine reads it during the call only.
type Write struct {
	Key      item.Key
	Content  []byte
	MIME     string // empty means application/octet-stream, or application/json if the content is JSON
	State    string
	Tags     []string
	Response []byte // response metadata, opaque

	Tiers      item.Tiers    // 0 means all for items, L1 and L2 for site objects
	TTL        time.Duration // lifetime of the item; 0 means for ever
	L1TTL      time.Duration // lifetime of the copy in L1; 0 means as long as the item
	L2TTL      time.Duration // same for L2
	Durability item.Durability

	If *Condition

	// Version is set for answers of origins only: the stamp that Engine.Stamp
	// gave when the request left. The answer is stored only if nothing newer is,
	// and if no purge or delete since covers it (ErrPurged).
	Version item.Version

	BatchID, TraceParent, TraceState string
}

// Existence is what a write knows about the time before it.
type Existence byte

// What was there before.
const (
	ExistedUnknown Existence = iota
	ExistedNo
	ExistedYes
)

// String returns "unknown", "false" or "true", as in Edge-Existed.
func (x Existence) String() string { return [...]string{"unknown", "false", "true"}[x] }

// A Receipt is the acknowledgement of a write.
type Receipt struct {
	Version   item.Version
	ETag      item.ETag // of a put
	Persisted item.Durability
	Existed   Existence
	Err       error // only in the results of SubmitMany and DeleteMany
}

// A MetadataChange changes what its non-nil fields say and leaves the rest.
type MetadataChange struct {
	State *string
	Tags  *[]string
	TTL   *time.Duration // from now on; 0 means for ever

	Durability item.Durability
	If         *Condition
}

// A Query selects items of the items namespace. Prefix, State and Tag narrow
// together; all empty selects everything in scope.
type Query struct {
	Prefix string // of the id
	State  string
	Tag    string
	Scope  string // further prefix that ids must have (a token's namespace)

	WithoutContent bool // views of rows in L3 have no content

	Limit  int    // page size; 0 means 100, at most 1,000
	Cursor string // from the page before; empty begins
}

// A Purge invalidates what can be fetched again: answers of origins, and the
// copies in L1 of everything else.
type Purge struct {
	Soft       bool // stale at once instead of gone
	Background bool // return when it holds; copies leave their tiers later. Not with State
	Namespaces item.Namespaces
	Match      item.Predicate
	Values     []string
	Scope      string // prefix of the key after its namespace
	State      string // instead of Match: items in this state now
}

// A BulkReceipt is the acknowledgement of a bulk delete or a purge.
type BulkReceipt struct {
	Version   item.Version // the rule's; its number in order with all writes
	Seq       uint64       // of its change in L3, or a little later; 0 if L3 does not have it yet
	L1, L2    int64        // copies removed from L1 and from L2, so far
	L3        int64        // rows removed from L3, so far
	Complete  bool         // false: the sweep goes on in the background; the rule holds already
	Persisted item.Durability
}

// Where an item is.
const (
	StatusPending    = "pending"   // acknowledged in memory, not yet in L3
	StatusJournaled  = "journaled" // in the journal, not yet in L3
	StatusSynced     = "synced"    // in every tier that it is meant for
	StatusDeadLetter = "dead-lettered"
	StatusMissing    = "missing"
)

// A Status says where the newest version of an item is.
type Status struct {
	Where      string // one of the constants above
	Version    item.Version
	L1, L2, L3 bool // whether that tier holds this version now
	Tombstone  bool // the newest version is a delete
}

// A Node is one that shares this engine's L3, or this one itself.
type Node struct {
	ID, Name, Addr string
	Self           bool
	Live           bool   // it renews its registration
	Applied        uint64 // the last change that it has seen: rules up to it hold there
	LeaseUntil     int64  // Unix ms; when it is taken as gone unless it renews that
}

// A BackendHealth is the state of one backend.
type BackendHealth struct {
	OK        bool
	LatencyMS float64 // of the last probe
	Circuit   string  // closed, half-open or open
	Error     string  `json:",omitempty"`
	Since     int64   // Unix ms of the last change of OK
}

// Health is the engine's view of itself. Latencies are milliseconds; a nil
// backend is not configured.
type Health struct {
	State           string
	Verdict         string // ok, degraded or down
	Reasons         []string
	AcceptingWrites bool
	L2, L3          *BackendHealth
	Merkle          *TreeHealth   // nil if this node does not calculate
	Filter          *FilterHealth // nil if it is off
	L2Trusted       bool          // what L2 holds is known to be the newest, and is used
	JournalRecords  int64         // not yet in L3
	JournalBytes    int64
	JournalQuota    int64
	Pressure        float64
	PressureLevel   string
	L1Bytes, L1Max  int64
	L1Items         int64
}
