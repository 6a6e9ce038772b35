package refcache

import (
	"slices"
	"strings"
	"time"
)

// A Field is one header line.
type Field struct{ Name, Value string }

// Fields are header lines in order.
type Fields []Field

// Lines returns the values of a field.
func (f Fields) Lines(name string) []string {
	var all []string
	for _, l := range f {
		if strings.EqualFold(l.Name, name) {
			all = append(all, strings.Trim(l.Value, " \t"))
		}
	}
	return all
}

// First returns the first value of a field, or "".
func (f Fields) First(name string) string {
	if all := f.Lines(name); len(all) > 0 {
		return all[0]
	}
	return ""
}

// Has reports whether there is such a field.
func (f Fields) Has(name string) bool { return len(f.Lines(name)) > 0 }

// without returns the lines whose lower-case names are not in names.
func (f Fields) without(names map[string]bool) Fields {
	var rest Fields
	for _, l := range f {
		if !names[strings.ToLower(l.Name)] {
			rest = append(rest, l)
		}
	}
	return rest
}

// EndToEnd returns the fields that may be passed on or stored: not those of the
// connection (RFC 9110 §7.6.1, RFC 9111 §3.1), and not the tags meant for us.
func (f Fields) EndToEnd() Fields {
	drop := map[string]bool{
		"connection": true, "keep-alive": true, "proxy-connection": true, "te": true, "trailer": true, "transfer-encoding": true, "upgrade": true,
		"proxy-authenticate": true, "proxy-authorization": true, "proxy-authentication-info": true, "surrogate-key": true, "cache-tag": true,
	}
	for _, line := range f.Lines("Connection") {
		for _, name := range splitList(line) {
			drop[strings.ToLower(name)] = true
		}
	}
	return f.without(drop)
}

// A Request is what a client asks. URL is absolute.
type Request struct {
	Method, URL string
	Fields      Fields
}

// An Answer is what the origin said to a request that left at Asked, with a
// header that came at Came.
type Answer struct {
	Status      int
	Fields      Fields
	Body        string
	Asked, Came time.Time
}

// An Entry is a stored answer.
type Entry struct {
	Request Request // that it answered
	Answer  Answer  // fields are end-to-end; of the last validation

	// Doubt: a cache may have dropped it, or may never have stored it.
	Doubt bool
	// Invalid: it must be validated before each use (RFC 9111 §4.4).
	Invalid bool
	// Soft: it was made stale by hand.
	Soft bool

	directives directives
	targeted   bool
	withheld   []string        // lower case, besides those that directives name
	lifetimes  []time.Duration // what it may be read as
	explicit   bool
	age        time.Duration // corrected initial age
}

// Default heuristics (RFC 9111 §4.2.2).
const (
	heuristicPart = 10
	heuristicMost = 24 * time.Hour
)

// newEntry reads an answer.
func newEntry(r Request, a Answer, p *Policy) *Entry {
	a.Fields = a.Fields.EndToEnd()
	if !a.Fields.Has("Date") { // RFC 9110 §6.6.1
		a.Fields = append(a.Fields, Field{"Date", a.Came.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")})
	}
	e := &Entry{Request: r, Answer: a}
	e.directives = parseCacheControl(a.Fields.Lines("Cache-Control"))
	for _, name := range p.Targeted {
		if d, ok := parseTargeted(a.Fields.Lines(name)); ok {
			e.directives, e.targeted = d, true
			break
		}
	}
	e.setLifetime()
	e.setAge()
	return e
}

// date returns the Date of the answer, or when it came.
func (e *Entry) date() time.Time {
	if t, ok := parseDate(e.Answer.Fields.First("Date"), e.Answer.Came); ok {
		return t
	}
	return e.Answer.Came
}

// setLifetime follows RFC 9111 §4.2.1 and RFC 9213 §2.2.
func (e *Entry) setLifetime() {
	e.explicit = true
	if e.lifetimes = e.directives.seconds("s-maxage"); e.lifetimes != nil {
		return
	}
	if e.lifetimes = e.directives.seconds("max-age"); e.lifetimes != nil {
		return
	}
	if expires := e.Answer.Fields.Lines("Expires"); len(expires) > 0 && !e.targeted {
		life := time.Duration(0)
		if t, ok := parseDate(expires[0], e.Answer.Came); ok {
			life = max(t.Sub(e.date()), 0)
		}
		e.lifetimes = []time.Duration{life}
		if len(expires) > 1 {
			e.lifetimes = append(e.lifetimes, 0)
		}
		return
	}
	e.explicit = false
	e.lifetimes = []time.Duration{0}
	modified, ok := parseDate(e.Answer.Fields.First("Last-Modified"), e.Answer.Came)
	if ok && (heuristic(e.Answer.Status) || e.directives.has("public")) {
		e.lifetimes[0] = min(max(e.date().Sub(modified)/heuristicPart, 0), heuristicMost)
	}
}

// setAge follows RFC 9111 §4.2.3.
func (e *Entry) setAge() {
	a := &e.Answer
	received := time.Duration(0)
	if line := a.Fields.First("Age"); line != "" {
		first, _, _ := strings.Cut(line, ",")
		if n, ok := deltaSeconds(strings.Trim(first, " \t")); ok {
			received = n
		}
	}
	apparent := max(a.Came.Truncate(time.Second).Sub(e.date()), 0) // Date has no fractions
	e.age = max(apparent, received+a.Came.Sub(a.Asked))
}

// Age is the current age at now.
func (e *Entry) Age(now time.Time) time.Duration { return e.age + now.Sub(e.Answer.Came) }

// fresh reports whether the entry may be taken as fresh, and whether it must.
func (e *Entry) fresh(now time.Time) (may, must bool) {
	must = !e.Soft
	for _, life := range e.lifetimes {
		fresh := e.Age(now) < life && !e.Soft
		may = may || fresh
		must = must && fresh
	}
	return may, must
}

// staleness is how long the entry has been stale, by its shortest and longest
// reading.
func (e *Entry) staleness(now time.Time) (least, most time.Duration) {
	age := e.Age(now)
	least, most = age-e.lifetimes[0], age-e.lifetimes[0]
	for _, life := range e.lifetimes {
		least, most = min(least, age-life), max(most, age-life)
	}
	return least, most
}

// neverStale reports whether the origin forbids stale use (RFC 9111 §4.2.4).
func (e *Entry) neverStale() bool {
	d := e.directives
	return d.bare("no-cache") || d.has("must-revalidate") || d.has("proxy-revalidate") || d.has("s-maxage") || e.Invalid
}

// window returns the argument of stale-while-revalidate or stale-if-error; 0 if
// it is absent or malformed (RFC 5861).
func (e *Entry) window(name string) time.Duration {
	if s := e.directives.seconds(name); len(s) == 1 {
		return s[0]
	}
	return 0
}

// Shown returns the fields that a reuse of the entry has: not those that the
// origin let nobody else have (RFC 9111 §5.2.2.4, §5.2.2.7).
func (e *Entry) Shown() Fields {
	drop := map[string]bool{}
	for _, n := range slices.Concat(e.directives.names("no-cache"), e.directives.names("private"), e.withheld) {
		drop[n] = true
	}
	return e.Answer.Fields.without(drop)
}

// heuristic reports whether a status may be cached without being told (RFC 9110
// §15.1); 206 aside, which this cache does not keep.
func heuristic(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// registered reports whether RFC 9110 §15 defines the status; a cache that knows
// the document understands it (RFC 9111 §3). 206 and 304 are not stored here.
func registered(status int) bool {
	switch {
	case status >= 200 && status <= 205, status >= 300 && status <= 305, status == 307, status == 308,
		status >= 400 && status <= 417, status == 421, status == 422, status == 426, status >= 500 && status <= 505:
		return true
	}
	return false
}
