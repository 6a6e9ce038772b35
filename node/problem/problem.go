package problem

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// URN is the prefix of every problem's type.
const URN = "urn:edgenode:problem:"

// ContentType is the media type of a problem (RFC 9457).
const ContentType = "application/problem+json"

// A Problem is one occurrence of a kind. It is not changed once made.
type Problem struct {
	Kind   Kind
	Status int    // instead of the table's, if not 0: a hook may choose
	Detail string // what is wrong this time; empty is left out. No addresses, paths or ids of others

	Limit, Value int64         // the limit that was met and the value that met it; 0 is left out
	RetryAfter   time.Duration // when to try again; 0 is left out. Told in whole seconds, rounded up
	Faults       []string      // several faults of one request (a configuration)

	Allow        string // field Allow, with 405
	Challenge    string // field WWW-Authenticate, with 401
	ContentRange string // field Content-Range, with 416
}

// New returns a problem of kind with a detail.
func New(kind Kind, detail string) *Problem { return &Problem{Kind: kind, Detail: detail} }

// Newf is New with a format.
func Newf(kind Kind, format string, args ...any) *Problem {
	return &Problem{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// Error returns the name, and the detail if there is one.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Kind.Entry().Name
	}
	return p.Kind.Entry().Name + ": " + p.Detail
}

// Code returns the HTTP status.
func (p *Problem) Code() int {
	if p.Status != 0 {
		return p.Status
	}
	return p.Kind.Entry().Status
}

// RetrySeconds returns RetryAfter in whole seconds, rounded up.
func (p *Problem) RetrySeconds() int64 {
	return int64((p.RetryAfter + time.Second - 1) / time.Second)
}

// body is a problem on the wire (RFC 9457 section 3.1, then our own members).
type body struct {
	Type       string   `json:"type"`
	Title      string   `json:"title"`
	Status     int      `json:"status"`
	Detail     string   `json:"detail,omitempty"`
	Remedy     string   `json:"remedy"`
	Limit      int64    `json:"limit,omitempty"`
	Value      int64    `json:"value,omitempty"`
	RetryAfter int64    `json:"retry_after,omitempty"`
	Faults     []string `json:"faults,omitempty"`
}

// AppendJSON appends the problem as one JSON object without line breaks.
func (p *Problem) AppendJSON(dst []byte) []byte {
	e := p.Kind.Entry()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(body{
		Type: URN + e.Name, Title: e.Meaning, Status: p.Code(), Detail: p.Detail, Remedy: e.Remedy,
		Limit: p.Limit, Value: p.Value, RetryAfter: p.RetrySeconds(), Faults: p.Faults,
	})
	if err != nil { // strings and numbers always encode
		return append(dst, `{"type":"urn:edgenode:problem:internal","status":500}`...)
	}
	return append(dst, bytes.TrimSuffix(out.Bytes(), []byte("\n"))...)
}

// An Answer is where a problem is written.
type Answer interface {
	Status(code int)
	Add(name, value string)
	Send(body []byte) error
}

// Write answers with p: its status, the fields that belong to it, and the JSON
// body. Fields added to x by the caller after this call are lost.
func Write(x Answer, p *Problem) error {
	x.Status(p.Code())
	return Finish(x, p)
}

// Finish is Write after the caller has called x.Status(p.Code()) and added
// fields of its own.
func Finish(x Answer, p *Problem) error {
	x.Add("Content-Type", ContentType)
	x.Add("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		x.Add("Retry-After", strconv.FormatInt(p.RetrySeconds(), 10))
	}
	for _, f := range [...][2]string{
		{"Allow", p.Allow}, {"WWW-Authenticate", p.Challenge}, {"Content-Range", p.ContentRange},
	} {
		if f[1] != "" {
			x.Add(f[0], f[1])
		}
	}
	return x.Send(append(p.AppendJSON(nil), '\n'))
}

// sorted returns the table by status, then name.
func sorted() []Entry {
	rows := slices.Clone(table[:])
	slices.SortFunc(rows, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Name, b.Name))
	})
	return rows
}

// Markdown renders the table as the page docs/problems.md.
func Markdown() []byte {
	b := []byte(`# Problems

Every error of the items API and of the admin listener, and every error that the
node itself answers on a site to a client that prefers JSON, is
` + "`application/problem+json`" + ` (RFC 9457):

` + "```json" + `
{"type":"urn:edgenode:problem:content-too-large","title":"The content is above the limit; nothing was written.","status":413,"remedy":"Send less, or …","limit":16777216,"value":20000000}
` + "```" + `

` + "`type`" + ` is ` + "`urn:edgenode:problem:`" + ` and a name of this table; decide on it, never on texts. ` + "`title`" + `
and ` + "`remedy`" + ` are the columns below, ` + "`detail`" + ` says what it is this time. ` + "`limit`, `value`" + `
and ` + "`retry_after`" + ` (seconds, also in ` + "`Retry-After`" + `) are there where they apply. A hook that
denies a request may choose another status.

This page is rendered from ` + "`node/problem/table.go`" + `: ` + "`go test ./node/problem -update`" + `.

| name | status | meaning | remedy |
|---|--:|---|---|
`)
	for _, e := range sorted() {
		b = fmt.Appendf(b, "| `%s` | %d | %s | %s |\n", e.Name, e.Status, e.Meaning, e.Remedy)
	}
	return b
}
