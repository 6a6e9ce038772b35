package hooks

import "github.com/edgenode/edgenode/hooks/abi"

// Request is what a hook may see of a request. All slices are borrowed for the
// duration of one call; nothing is kept.
type Request struct {
	// Input holds operation, method, tiers as now decided, time, sizes, client
	// and so on. Its Hook and abi.FlagTruncated are set by the host.
	abi.Input
	Site    string  // name of the site; "" for the items API
	Key     []byte  // scheme://host/path?query, or the id
	Headers Headers // nil if there are none
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

// String returns the word of cases and reports.
func (v Verdict) String() string {
	if v > Answer {
		return "unknown"
	}
	return [...]string{"continue", "pass", "deny", "answer"}[v]
}

// Edit is one change to the header fields of the request or the response.
type Edit struct {
	Response bool
	Remove   bool
	Name     []byte
	Value    []byte // of a field to set; it replaces all lines of that name
}

// Field is one header line.
type Field struct{ Name, Value []byte }

// Decision is what a chain of hooks decided. It is reused: the slices hold until
// its next use, and are only to be read: some belong to what is remembered for
// others. The zero value is ready.
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

	arena  []byte
	hint   uint32
	asked  bool // some module answered
	failed bool // some module did not

	memoKey []byte // of the request, if the memo was asked
	values  [][]byte
}

// Reset empties the decision and keeps its memory.
func (d *Decision) Reset() {
	d.Verdict, d.Faulted, d.Status, d.Reason = Continue, false, 0, nil
	d.Pool, d.KeyAddition, d.Target, d.State = "", nil, nil, nil
	d.Tags, d.Edits, d.arena = d.Tags[:0], d.Edits[:0], d.arena[:0]
	d.TiersSet, d.ReadTiers, d.WriteTiers = false, 0, 0
	d.NoStore, d.LifetimeSet, d.Lifetime = false, false, 0
	d.TierLifetimes = [3]uint32{abi.AsComputed, abi.AsComputed, abi.AsComputed}
	d.StaleWhileRevalidate, d.StaleIfError = abi.AsComputed, abi.AsComputed
	d.ReuseSeconds, d.asked, d.failed = 0, false, false
	d.AnswerStatus, d.AnswerFields, d.AnswerBody = 0, d.AnswerFields[:0], nil
}

// keep copies b into the decision's memory. An older part of the arena stays
// valid when the arena moves.
func (d *Decision) keep(b []byte) []byte {
	n := len(d.arena)
	d.arena = append(d.arena, b...)
	return d.arena[n:len(d.arena):len(d.arena)]
}
