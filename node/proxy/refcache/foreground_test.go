package refcache_test

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/edgenode/edgenode/node/proxy/refcache"
)

// replies is the origin's behaviour during one exchange.
func (m *model) replies(p *plan, url string) func(a *asked, q *http.Request) {
	return func(a *asked, q *http.Request) {
		if p.fault == cuts && (q.Method == "HEAD" || p.status == 204) {
			p.fault = none
		}
		m.g.answer(p, url, a, q)
		if p.fault == cuts && a.answer.Status == 304 {
			p.fault = none
		}
	}
}

// judgeForeground is for an answer that the origin was asked for.
func (m *model) judgeForeground(e *event, hit bool) string {
	if len(e.asked) == 0 {
		return fmt.Sprintf("allowed: %s was answered %d without the origin", e.r.Method, e.x.status)
	}
	a := e.asked[len(e.asked)-1]
	m.countOpen(e)
	m.trustMiss(e)
	why := m.judgeQuestion(e, e.asked[0])
	switch {
	case a.plan.fault != none:
		return first(why, m.judgeFault(e, a))
	case a.answer.Status == 304 && len(m.validated(e, a)) > 0:
		return first(why, m.judgeRenewed(e, a))
	}
	return first(why, m.judgeForwarded(e, a))
}

// trustMiss settles what was in doubt by what the proxy says that it has not.
func (m *model) trustMiss(e *event) {
	status := e.x.fields().First("Cache-Status")
	noURL := strings.Contains(status, "fwd=uri-miss")
	if noURL {
		m.ref.Deny(e.r)
	}
	if e.v.Want == refcache.Open && (noURL || strings.Contains(status, "fwd=vary-miss")) {
		e.v.Match = nil
	}
}

func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// judgeQuestion looks at what the origin was asked.
func (m *model) judgeQuestion(e *event, a *asked) string {
	for _, name := range []string{"Authorization", "Cookie", "X-Class", "X-Other"} {
		if want, got := e.r.Fields.Lines(name), a.fields.Values(name); fmt.Sprint(want) != fmt.Sprint(got) {
			return fmt.Sprintf("allowed: the origin got %s %q, the client sent %q", name, got, want)
		}
	}
	switch {
	case e.v.Want == refcache.AskWhether && e.r.Method == "GET":
		f := e.v.Entry.Answer.Fields
		if got, want := a.fields.Get("If-None-Match"), f.First("ETag"); got != want {
			return fmt.Sprintf("expected: asked with If-None-Match %q, stored ETag %q (RFC 9111 §4.3.1)", got, want)
		}
		if got, want := a.fields.Get("If-Modified-Since"), f.First("Last-Modified"); got != want {
			return fmt.Sprintf("expected: asked with If-Modified-Since %q, stored Last-Modified %q (RFC 9111 §4.3.1)", got, want)
		}
		return ""
	case e.v.Want == refcache.Ask:
		if got := a.fields.Get("If-None-Match"); got != "" && got != e.r.Fields.First("If-None-Match") && !m.g.tags[e.r.URL+got] {
			return fmt.Sprintf("allowed: If-None-Match %q comes from nowhere", got)
		}
	}
	return m.wanted(e, refcache.Ask, refcache.AskWhether)
}

// judgeFault is for an origin that closed or broke off.
func (m *model) judgeFault(e *event, a *asked) string {
	if e.r.Method != "GET" && e.r.Method != "HEAD" && e.r.Method != "OPTIONS" {
		if a.plan.fault == cuts {
			m.ref.Invalidate(e.r, *a.answer)
		}
		m.ref.Drop(e.r.URL) // it may have been done (RFC 9111 §4.4 demands nothing)
	}
	for _, c := range e.v.Match {
		may, _ := m.ref.StandsIn(e.after, c, 0)
		if why := m.same(e, c); why == "" {
			if !may {
				return "allowed: a stale answer stood in that must not (RFC 9111 §4.2.4)"
			}
			m.stood++
			return ""
		}
	}
	for _, c := range e.v.Match {
		if _, should := m.ref.StandsIn(e.after, c, 0); should && len(e.v.Match) == 1 && e.v.Want != refcache.Open && a.plan.fault == closes && e.r.Method == "GET" {
			return "expected: what is stored stands in while the origin cannot be asked"
		}
	}
	if a.plan.fault == cuts && e.r.Method == "HEAD" && e.x.status == a.answer.Status {
		return "" // it has all it asked for
	}
	if a.plan.fault == cuts && (e.x.aborted || e.x.status == 502) {
		m.ref.Drop(e.r.URL) // its header may have shown that what is stored is out of date
		return ""
	}
	if e.x.status == 502 || e.x.status == 504 {
		return ""
	}
	return fmt.Sprintf("allowed: the origin failed (%d), the answer is %d", a.plan.fault, e.x.status)
}

// judgeRenewed is for a 304 to the proxy's own question.
func (m *model) judgeRenewed(e *event, a *asked) string {
	r := e.r
	r.Method = a.method
	m.renewed++
	e.before = a.at
	why, all := "", m.validated(e, a)
	for _, old := range all {
		if why = m.sameRenewed(e, m.ref.Renewed(r, *a.answer, old)); why != "" {
			continue
		}
		if len(all) > 1 && e.x.status == 304 { // does not tell which
			for _, old := range all {
				m.ref.MayRenew(r, *a.answer, old)
			}
			return ""
		}
		m.ref.Learn(r, *a.answer, old)
		return ""
	}
	return "allowed: after a 304: " + why
}

// sameRenewed compares an answer with a renewed one. The client that asked may
// also get the fields that are withheld from others.
func (m *model) sameRenewed(e *event, c *refcache.Entry) string {
	why := m.same(e, c)
	if why == "" || e.x.status != c.Answer.Status || e.x.out.String() != c.Answer.Body && e.r.Method != "HEAD" {
		return why
	}
	if differ(c.Answer.Fields, e.x.fields()) == "" {
		return m.sameAge(e, c)
	}
	return why
}

// judgeForwarded is for an answer of the origin that is passed on.
func (m *model) judgeForwarded(e *event, a *asked) string {
	if status := a.answer.Status; status >= 500 && (e.r.Method == "GET" || e.r.Method == "HEAD") {
		if why, done := m.judge5xx(e, status); done {
			return why
		}
	}
	r := e.r
	r.Method = a.method
	m.ref.Learn(r, *a.answer, nil)
	if e.x.status == 304 && a.answer.Status != 304 {
		if !m.ref.Read(r, *a.answer).NotModified(e.r.Fields, e.before) {
			return "allowed: 304, but the client does not have it (RFC 9110 §13.2.2)"
		}
		return ""
	}
	switch {
	case e.x.status != a.answer.Status:
		return fmt.Sprintf("allowed: status %d, the origin's is %d", e.x.status, a.answer.Status)
	case e.r.Method == "HEAD" && e.x.out.Len() == 0 && !e.x.aborted:
	case e.x.out.String() != a.answer.Body || e.x.aborted:
		return fmt.Sprintf("allowed: body %q, the origin's is %q", e.x.out.String(), a.answer.Body)
	}
	if why := differ(a.answer.Fields.EndToEnd(), e.x.fields()); why != "" {
		return "allowed: as the origin sent it: " + why
	}
	return ""
}

// judge5xx says whether something stored stood in for an answer of this status,
// and if that was right.
func (m *model) judge5xx(e *event, status int) (string, bool) {
	for _, c := range e.v.Match {
		may, should := m.ref.StandsIn(e.after, c, status)
		if m.same(e, c) == "" {
			if !may {
				return fmt.Sprintf("allowed: a stale answer stood in for %d (RFC 5861 §4)", status), true
			}
			m.stood++
			m.ref.Drop(e.r.URL)
			return "", true
		}
		if should && len(e.v.Match) == 1 && e.v.Want != refcache.Open && e.r.Method == "GET" {
			return fmt.Sprintf("expected: stale-if-error stands in for %d", status), true
		}
	}
	return "", false
}
