package proxy

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/tiers/item"
)

// A Policy decides what the operator's modules may decide about requests and
// answers. What it may not decide is kept from it: see the order of authority
// in the package comment. Its methods are called by many goroutines, must not
// block, and keep neither in nor out.
type Policy interface {
	// Route decides about a request before it is looked up. out is zero.
	Route(in *RouteInput, out *RouteDecision)
	// TTL decides about an answer before it is stored. out is zero.
	TTL(in *TTLInput, out *TTLDecision)
}

// A routing Policy can say that its Route never adds to keys or rewrites: then
// an unsafe request for what is not stored needs no purge rule.
type routing interface{ Routes() bool }

// RouteInput is what Route sees. Slices are valid during the call.
type RouteInput struct {
	Site    string
	Request Exchange // for its fields and client address; the answer side is not used
	Scheme  string
	Host    []byte // lower case, with a port that is not the scheme's default
	Target  []byte // path and query as received
	Tiers   item.Tiers
	Now     int64 // Unix ms, when the request came; 0 if nobody has looked
}

// RouteDecision is the verdict of Route. The zero value changes nothing.
type RouteDecision struct {
	Deny       int        // status of a refusal, 400 to 599; 0 lets the request pass
	Reason     string     // of the refusal, shown to the client
	Answer     *Ready     // answer with this; ignored when Deny is set
	Pass       bool       // neither look up, store nor wait
	Pool       string     // name of another pool
	Key        []byte     // added to the key, at most 256 bytes
	Target     []byte     // replaces path and query, in origin form
	ReadTiers  item.Tiers // 0 leaves the site's
	WriteTiers item.Tiers // 0 leaves the site's
	Tags       []string   // added to what is stored
	// Edits change the fields of the request, as the cache and the origin see it,
	// and of the answer, as the client gets it. Their bytes hold until Serve
	// returns. See package edit for what is refused.
	Edits []edit.Edit
}

// A Ready is an answer that a policy gives by itself. It is never stored.
type Ready struct {
	Status int
	Block  []byte // header lines, each ended by CRLF
	Body   []byte
}

// TTLInput is what TTL sees.
type TTLInput struct {
	Site     string
	Method   string
	URL      string // scheme://host/path?query
	Request  http.Header
	Client   netip.Addr
	Status   int
	Header   http.Header
	Lifetime time.Duration // after RFC 9111
	Known    bool          // the origin said it
	Length   int64         // of the content; -1 unknown
}

// TTLDecision is the verdict of TTL. The zero value changes nothing.
type TTLDecision struct {
	NoStore     bool
	HasLifetime bool
	Lifetime    time.Duration
	HasStale    bool          // the next two hold
	Revalidate  time.Duration // stale-while-revalidate; negative leaves it as it is
	IfError     time.Duration // stale-if-error; negative leaves it as it is
	L1TTL       time.Duration // lifetime of the copy in L1; 0 is as long as the object
	L2TTL       time.Duration // same for L2
	Tags        []string      // added
}

// maxKeyAddition bounds RouteDecision.Key.
const maxKeyAddition = 256
