package refcache

import (
	"slices"
	"strings"
	"time"
)

// A Policy is what the operator says. DefaultPolicy is that of a site that says
// nothing.
type Policy struct {
	Targeted     []string // targeted fields, the first that is valid counts
	StaleOnError time.Duration
	Keep         time.Duration // beyond freshness, with a validator
}

// DefaultPolicy returns the policy of a site with default values.
func DefaultPolicy() Policy {
	return Policy{Targeted: []string{"Edgenode-Cache-Control", "CDN-Cache-Control"}, StaleOnError: time.Hour, Keep: 24 * time.Hour}
}

// Cache is the reference: a list of what is stored.
type Cache struct {
	Policy Policy
	stored []*Entry
}

// Len returns how many answers are stored.
func (c *Cache) Len() int { return len(c.stored) }

// What is to be done with a request.
type What int

// The expectations of a good cache.
const (
	Open       What = iota // anything that is allowed
	Serve                  // answer from the store, do not ask
	Refresh                // answer from the store, ask behind
	Ask                    // ask the origin
	AskWhether             // ask the origin with the conditional fields of Entry
)

// A Verdict is the answer to a request before the origin is asked. To ask the
// origin is always allowed.
type Verdict struct {
	Fresh  []*Entry // may be served without asking
	Behind []*Entry // may be served while the origin is asked behind the client's back
	Match  []*Entry // all that the request selects, for what comes after asking

	Want  What
	Entry *Entry // for Serve, Refresh and AskWhether
}

// Decide says what may and what should be done with a request at now.
func (c *Cache) Decide(now time.Time, r Request) Verdict {
	var v Verdict
	if r.Method != "GET" && r.Method != "HEAD" {
		v.Want = Ask
		return v
	}
	v.Match = c.selected(r)
	mixed := c.mixed(r.URL)
	for _, e := range v.Match {
		if e.directives.bare("no-cache") || e.Invalid {
			continue
		}
		least, _ := e.staleness(now)
		if may, _ := e.fresh(now); may {
			v.Fresh = append(v.Fresh, e)
		} else if !e.neverStale() && least < e.window("stale-while-revalidate") {
			v.Behind = append(v.Behind, e)
		}
	}
	v.Fresh = latest(v.Fresh)
	v.Want, v.Entry = c.want(now, &v, mixed)
	return v
}

// want narrows what is allowed to what is expected.
func (c *Cache) want(now time.Time, v *Verdict, mixed bool) (What, *Entry) {
	if len(v.Match) == 0 {
		return Ask, nil
	}
	if mixed || len(v.Match) > 1 || v.Match[0].Doubt || now.Sub(v.Match[0].Answer.Came) > 29*24*time.Hour {
		return Open, nil
	}
	e := v.Match[0]
	_, must := e.fresh(now)
	_, most := e.staleness(now)
	switch {
	case e.Invalid || e.Soft:
		return Open, nil // asked in any case; with conditions or not
	case len(v.Fresh) == 1 && must:
		return Serve, e
	case len(v.Fresh) == 1:
		return Open, nil
	case len(v.Behind) == 1 && most < e.window("stale-while-revalidate"):
		return Refresh, e
	case len(v.Behind) == 1:
		return Open, nil
	case e.hasValidator() && most < c.Policy.Keep:
		return AskWhether, e
	case e.hasValidator():
		return Open, nil
	}
	return Ask, nil
}

func (e *Entry) hasValidator() bool {
	_, ok := parseDate(e.Answer.Fields.First("Last-Modified"), e.Answer.Came)
	return ok || e.Answer.Fields.Has("ETag")
}

// StandsIn reports whether e may be served at now since the origin could not be
// asked (status 0) or answered with this status, and whether it should.
func (c *Cache) StandsIn(now time.Time, e *Entry, status int) (may, should bool) {
	if e.neverStale() {
		return false, false
	}
	least, most := e.staleness(now)
	if least < 0 { // stale by hand only
		return true, false
	}
	sie := e.window("stale-if-error")
	certain := !e.Doubt && !e.Soft && len(e.lifetimes) == 1
	switch {
	case status == 0: // RFC 9111 §4.2.4: disconnected
		limit := max(sie, c.Policy.StaleOnError)
		return least < limit || e.Soft, certain && most < min(limit, c.Policy.StaleOnError)
	case status == 500, status >= 502 && status <= 504: // RFC 5861 §4
		return least < sie || e.Soft && sie > 0, certain && most < sie
	}
	return false, false
}

// selected returns the stored answers that the request selects (RFC 9111 §4,
// §4.1).
func (c *Cache) selected(r Request) []*Entry {
	var all []*Entry
	for _, e := range c.stored {
		if e.Request.URL == r.URL && varyMatches(e, r.Fields) {
			all = append(all, e)
		}
	}
	return all
}

// latest leaves those that no other, which is surely there, is more recent than
// (RFC 9111 §4, the last paragraph).
func latest(all []*Entry) []*Entry {
	last := time.Time{}
	for _, e := range all {
		if !e.Doubt && e.date().After(last) {
			last = e.date()
		}
	}
	return slices.DeleteFunc(all, func(e *Entry) bool { return e.date().Before(last) })
}

// mixed reports whether answers with different Vary are stored for a URL; how
// many of them are kept is then open.
func (c *Cache) mixed(url string) bool {
	first, seen := "", false
	for _, e := range c.stored {
		if e.Request.URL == url {
			names := strings.Join(varyNames(e.Answer.Fields), ",")
			if seen && names != first {
				return true
			}
			first, seen = names, true
		}
	}
	return false
}

func varyNames(f Fields) []string {
	var names []string
	for _, line := range f.Lines("Vary") {
		for _, n := range splitList(line) {
			names = append(names, strings.ToLower(n))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// varyMatches follows RFC 9111 §4.1: absent matches only absent, whitespace in
// lists and their lines do not matter.
func varyMatches(e *Entry, f Fields) bool {
	for _, name := range varyNames(e.Answer.Fields) {
		if name == "*" {
			return false
		}
		old, now := e.Request.Fields.Lines(name), f.Lines(name)
		if (old == nil) != (now == nil) || listOf(old) != listOf(now) {
			return false
		}
	}
	return true
}

func listOf(lines []string) string { return strings.Join(splitList(strings.Join(lines, ",")), ",") }
