package refcache_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/proxy/refcache"
)

var seedFlag = flag.Uint64("seed", 0, "seed of TestModel; 0 is the default one, or a new one in a soak")

// mostFaults ends a run: what follows from a disagreement is not news.
const mostFaults = 3

// A model runs requests against the proxy and compares with the reference.
type model struct {
	*testing.T
	g    *generator
	w    *world
	ref  *refcache.Cache
	step int
	log  []string
	bad  int

	served, renewed, behind, stood, open int
}

// TestModel drives the proxy and the reference with the same random history.
func TestModel(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		if seed = 20441106; exchanges > 10_000 {
			seed = uint64(time.Now().UnixNano())
		}
	}
	t.Logf("seed %d: replay with -seed %d", seed, seed)
	w := newWorld(t)
	m := &model{T: t, w: w, ref: &refcache.Cache{Policy: refcache.DefaultPolicy()}}
	m.g = &generator{Rand: rand.New(rand.NewPCG(seed, 0)), w: w, resources: map[string]*resource{}, tags: map[string]bool{}}
	for m.step = 0; m.step < exchanges && m.bad < mostFaults; m.step++ {
		if m.step%500 == 0 {
			w.store.forget()
			m.ref = &refcache.Cache{Policy: refcache.DefaultPolicy()}
			m.log = nil
		}
		w.pass(m.g.step())
		if m.g.sometimes(25) {
			m.purge()
		}
		m.exchange()
	}
	t.Logf("%d exchanges: %d served from the store, %d renewed, %d renewed behind, %d stood in; %d times nothing was expected", m.step, m.served, m.renewed, m.behind, m.stood, m.open)
	if m.bad == 0 && (m.served < exchanges/20 || m.renewed < exchanges/100 || m.behind < exchanges/500 || m.stood < exchanges/500 || m.open > exchanges/2) {
		t.Error("the run proves too little: see the line above")
	}
}

func (m *model) purge() {
	url, soft := absolute(pick(m.g, targets...)), m.g.sometimes(2)
	m.w.purge(url, soft)
	m.ref.Purge(url, soft)
	m.note("purge %s soft=%v", url, soft)
}

func (m *model) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%d %s ", m.step, m.w.now().Format("01-02T15:04:05.000"))+fmt.Sprintf(format, args...))
}

// An event is one exchange with all that is known about it.
type event struct {
	r             refcache.Request
	x             *exchange
	asked         []*asked
	before, after time.Time
	v             refcache.Verdict
}

func (m *model) exchange() {
	r, target := m.g.request()
	p := m.g.plan(r.URL)
	m.w.mu.Lock()
	m.w.reply = m.replies(p, r.URL)
	m.w.mu.Unlock()
	e := event{r: r, x: &exchange{r: r, target: target}, before: m.w.now()}
	e.v = m.ref.Decide(e.before, r)
	m.w.p.Serve(e.x)
	e.asked, e.after = m.w.take(), m.w.now()
	m.note("%s %s %v -> %d %q %v aborted=%v", r.Method, r.URL, r.Fields, e.x.status, e.x.out.String(), e.x.fields(), e.x.aborted)
	for _, a := range e.asked {
		m.note("    asked %s %v -> fault %d: %d %q %v in %v", a.method, a.fields, a.plan.fault, a.answer.Status, a.answer.Body, a.answer.Fields, a.came.Sub(a.at))
	}
	if fault := m.judge(&e); fault != "" {
		m.fail(&e, fault)
	}
}

// fail reports a disagreement with what led to it, and starts anew.
func (m *model) fail(e *event, fault string) {
	m.bad++
	m.Errorf("exchange %d: %s\nwant %d, %s\nhistory of %s:\n%s", m.step, fault, e.v.Want, describe(e.v.Match, e.before), e.r.URL, m.history(e.r.URL))
	m.w.store.forget()
	m.ref = &refcache.Cache{Policy: refcache.DefaultPolicy()}
	m.log = nil
}

func describe(all []*refcache.Entry, now time.Time) string {
	var b strings.Builder
	for _, e := range all {
		fmt.Fprintf(&b, "[X-Id %s age %v doubt %v invalid %v soft %v]", e.Answer.Fields.First("X-Id"), e.Age(now), e.Doubt, e.Invalid, e.Soft)
	}
	return b.String()
}

// history returns the last lines of the log that are about url.
func (m *model) history(url string) string {
	var lines []string
	mine := false
	for _, l := range m.log {
		if !strings.Contains(l, "    asked ") {
			mine = strings.Contains(l, url+" ") || !strings.Contains(l, " GET http") && !strings.Contains(l, " HEAD http")
		}
		if mine {
			lines = append(lines, l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}

// judge compares one exchange and lets the reference learn of it. It returns
// what is wrong, or "".
func (m *model) judge(e *event) string {
	hit := strings.Contains(e.x.fields().First("Cache-Status"), ";hit")
	switch {
	case e.r.Method != "GET" && e.r.Method != "HEAD":
		return m.judgeForeground(e, hit)
	case slices.Contains(e.r.Fields.Lines("Cache-Control"), "only-if-cached") && e.x.status == 504 && len(e.asked) == 0 && !hit:
		if e.v.Want == refcache.Serve || e.v.Want == refcache.Refresh {
			return "expected: only-if-cached is answered from the store (RFC 9111 §5.2.1.7)"
		}
		return ""
	case len(e.asked) == 0:
		return m.judgeServed(e, hit)
	case slices.Contains(e.r.Fields.Lines("Cache-Control"), "only-if-cached") && !hit:
		return "allowed: only-if-cached does not ask the origin (RFC 9111 §5.2.1.7)"
	case hit:
		return m.judgeBehind(e)
	}
	return m.judgeForeground(e, hit)
}

// judgeServed is for an answer without the origin.
func (m *model) judgeServed(e *event, hit bool) string {
	if !hit {
		return fmt.Sprintf("allowed: the origin was not asked, but Cache-Status does not tell a hit: %q", e.x.fields().First("Cache-Status"))
	}
	why := "none was allowed"
	for _, c := range e.v.Fresh {
		if why = m.same(e, c); why == "" {
			m.served++
			m.countOpen(e)
			if e.x.status != 304 {
				m.ref.Confirm(e.r, c)
			}
			return m.wanted(e, refcache.Serve)
		}
	}
	return "allowed: served from the store: " + why
}

func (m *model) countOpen(e *event) {
	if e.v.Want == refcache.Open {
		m.open++
	}
}

// wanted compares what was done with what was expected.
func (m *model) wanted(e *event, did ...refcache.What) string {
	if e.v.Want == refcache.Open || slices.Contains(did, e.v.Want) {
		return ""
	}
	return fmt.Sprintf("expected: want %d, did %d", e.v.Want, did)
}

// judgeBehind is for a stale answer that is renewed behind the client's back.
func (m *model) judgeBehind(e *event) string {
	why := "none was allowed"
	for _, c := range e.v.Behind {
		if why = m.same(e, c); why == "" {
			break
		}
	}
	if why != "" {
		return "allowed: served stale (RFC 5861 §3): " + why
	}
	m.behind++
	m.countOpen(e)
	for _, a := range e.asked {
		if a.plan.fault == none || a.answer.Body == "" && a.plan.fault == cuts {
			r := e.r
			r.Method = a.method
			m.learnBehind(r, a, m.validated(e, a))
		}
	}
	return m.wanted(e, refcache.Refresh)
}

// validated returns the entry that the proxy asked about, by its validators, or
// nil; several if it is in doubt which of them it has.
func (m *model) validated(e *event, a *asked) []*refcache.Entry {
	var all []*refcache.Entry
	for _, c := range e.v.Match {
		tag, date := c.Answer.Fields.First("ETag"), c.Answer.Fields.First("Last-Modified")
		sentTag, sentDate := a.fields.Get("If-None-Match"), a.fields.Get("If-Modified-Since")
		if tag != "" && sentTag == tag || tag == "" && sentTag == "" && date != "" && sentDate == date {
			all = append(all, c)
		}
	}
	return all
}

// learnBehind is for an exchange that no client saw the outcome of.
func (m *model) learnBehind(r refcache.Request, a *asked, all []*refcache.Entry) {
	switch {
	case a.answer.Status != 304 || len(all) == 0:
		m.ref.Learn(r, *a.answer, nil)
	case len(all) == 1:
		m.ref.Learn(r, *a.answer, all[0])
	default:
		for _, old := range all {
			m.ref.MayRenew(r, *a.answer, old)
		}
	}
}

// same compares an answer with a stored one; "" is equality.
func (m *model) same(e *event, c *refcache.Entry) string {
	x := e.x
	if x.aborted {
		return "it was aborted"
	}
	if x.status == 304 {
		if !c.NotModified(e.r.Fields, e.before) {
			return "304, but the client does not have it (RFC 9110 §13.2.2)"
		}
		return missing304(c.Shown(), x.fields())
	}
	if x.status != c.Answer.Status {
		return fmt.Sprintf("status %d, stored %d", x.status, c.Answer.Status)
	}
	if why := differ(c.Shown(), x.fields()); why != "" {
		return why
	}
	if body := c.Answer.Body; x.out.String() != body && e.r.Method != "HEAD" || e.r.Method == "HEAD" && x.out.Len() > 0 {
		return fmt.Sprintf("body %q, stored %q", x.out.String(), body)
	}
	if x.status == 200 && c.NotModified(e.r.Fields, e.before) && !c.Doubt {
		return "200, but the client has it (RFC 9110 §13.2.2)"
	}
	return m.sameAge(e, c)
}

// sameAge allows a second, and what the clock went on meanwhile.
func (m *model) sameAge(e *event, c *refcache.Entry) string {
	line := e.x.fields().First("Age")
	age, err := strconv.ParseInt(line, 10, 64)
	least, most := int64(c.Age(e.before)/time.Second)-1, int64(c.Age(e.after)/time.Second)+1
	if most > 1<<31-10 {
		most = 1 << 40
	}
	if err != nil || age < least || age > most {
		return fmt.Sprintf("Age %q, want %d to %d (RFC 9111 §4.2.3)", line, least, most)
	}
	return ""
}

// ours are the fields that the proxy makes or that frame the message.
var ours = map[string]bool{
	"via": true, "cache-status": true, "age": true, "content-length": true, "connection": true, "transfer-encoding": true,
}

func lines(f refcache.Fields) map[string][]string {
	all := map[string][]string{}
	for _, l := range f {
		if name := strings.ToLower(l.Name); !ours[name] {
			all[name] = append(all[name], strings.Trim(l.Value, " \t"))
		}
	}
	return all
}

// differ compares all end-to-end fields; a Date is added where there is none.
func differ(want, got refcache.Fields) string {
	a, b := lines(want), lines(got)
	if a["date"] == nil {
		delete(b, "date")
	}
	for name, values := range a {
		if !slices.Equal(values, b[name]) {
			return fmt.Sprintf("field %s: got %q, want %q", name, b[name], values)
		}
	}
	for name := range b {
		if a[name] == nil {
			return fmt.Sprintf("field %s: got %q, want none", name, b[name])
		}
	}
	return ""
}

// missing304 holds that a 304 has what RFC 9110 §15.4.5 demands.
func missing304(stored, got refcache.Fields) string {
	for _, name := range []string{"Cache-Control", "Content-Location", "Date", "ETag", "Expires", "Vary"} {
		if want := stored.Lines(name); want != nil && !slices.Equal(want, got.Lines(name)) {
			return fmt.Sprintf("304 with %s %q, want %q (RFC 9110 §15.4.5)", name, got.Lines(name), want)
		}
	}
	return ""
}
