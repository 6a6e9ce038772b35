package hooks

import "github.com/edgenode/edgenode/hooks/abi"

// Request is what a hook may see of a request. All slices are borrowed for the
// duration of one call; nothing is kept.
type Request struct {
	Operation    abi.Operation
	Method       abi.Method
	Tiers        abi.Tiers // as now decided
	Flags        abi.Flags
	NowMillis    uint64 // Unix time of the request
	ContentBytes uint64 // abi.UnknownBytes if not known
	Status       uint16 // of the response, for TTL; else 0
	Lifetime     uint32 // seconds, with abi.FlagLifetimeKnown
	Hits         uint32
	Client       [16]byte // IPv4 as ::ffff:a.b.c.d
	Site         string   // name of the site; "" for the items API
	Key          []byte   // scheme://host/path?query, or the id
	Headers      Headers  // nil if there are none
}

// Headers gives access to the header fields of a request and its response.
type Headers interface {
	// AppendHeader appends the values of all lines of that name, in order, and
	// returns the extended slice. Name is in lower case. The values stay valid
	// until the hook call returns. It is called on the caller's goroutine.
	AppendHeader(dst [][]byte, name string, response bool) [][]byte
}

// KV answers kv_get from the memory tier.
type KV interface {
	// Get appends the value of key to dst. It must not block and keeps
	// neither argument. It is called from several goroutines.
	Get(dst, key []byte) ([]byte, bool)
}

// Verdict is the main part of a decision.
type Verdict uint8

// The verdicts.
const (
	Continue Verdict = iota // go on, with what else is decided
	Pass                    // neither read nor store nor wait
	Deny                    // refuse with Decision.Status
	Answer                  // answer with Decision.Answer
)

// Edit is one change to the header fields of the request or the response.
type Edit struct {
	Response bool
	Remove   bool
	Name     []byte
	Value    []byte // of a field to set; it replaces all lines of that name
}

// Field is one header line.
type Field struct{ Name, Value []byte }

// Decision is what a chain of hooks decided. It is reused: the slices belong to
// the Decision and hold until its next use. The zero value is ready.
//
// A Decision must not be used by two goroutines at once. Keep one per worker or
// connection: it remembers which instances it used last.
type Decision struct {
	Verdict Verdict
	// Faulted says that a module failed and its on_fault setting took part in
	// this decision.
	Faulted bool
	Status  int    // of Deny
	Reason  []byte // of Deny; may be empty

	Pool        string   // "" as configured
	KeyAddition []byte   // nil for none
	Target      []byte   // path and query; nil as requested
	State       []byte   // nil for none
	Tags        [][]byte // may hold duplicates
	TiersSet    bool     // ReadTiers and WriteTiers hold
	ReadTiers   abi.Tiers
	WriteTiers  abi.Tiers

	NoStore              bool
	LifetimeSet          bool
	Lifetime             uint32    // seconds, with LifetimeSet
	TierLifetimes        [3]uint32 // seconds for L1, L2, L3; abi.AsComputed
	StaleWhileRevalidate uint32    // seconds; abi.AsComputed
	StaleIfError         uint32    // seconds; abi.AsComputed

	// ReuseSeconds is how long every module that was asked allows the verdict
	// to be reused for equal inputs; 0 is not at all.
	ReuseSeconds uint32
	Edits        []Edit

	AnswerStatus int
	AnswerFields []Field
	AnswerBody   []byte

	arena []byte
	hint  uint32
	asked bool // some module answered
}

// Reset empties the decision and keeps its memory.
func (d *Decision) Reset() {
	*d = Decision{
		TierLifetimes:        [3]uint32{abi.AsComputed, abi.AsComputed, abi.AsComputed},
		StaleWhileRevalidate: abi.AsComputed,
		StaleIfError:         abi.AsComputed,
		Tags:                 d.Tags[:0],
		Edits:                d.Edits[:0],
		AnswerFields:         d.AnswerFields[:0],
		arena:                d.arena[:0],
		hint:                 d.hint,
	}
}

// keep copies b into the decision's memory. An older part of the arena stays
// valid when the arena moves.
func (d *Decision) keep(b []byte) []byte {
	n := len(d.arena)
	d.arena = append(d.arena, b...)
	return d.arena[n:len(d.arena):len(d.arena)]
}
