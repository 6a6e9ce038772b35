package refcache_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/proxy/refcache"
)

// What an origin may do wrong.
const (
	none   = iota
	closes // before a byte of the answer
	cuts   // in the middle of the body
)

// A plan is what the origin does at the next request.
type plan struct {
	status  int
	fields  refcache.Fields
	body    string
	fault   int
	delay   time.Duration // by the clock, before it answers
	confirm bool          // 304 if the request's conditions allow it
}

// A resource is what the origin has under a URL.
type resource struct {
	etag, modified string
	version        int
}

type generator struct {
	*rand.Rand
	w         *world
	n         int
	resources map[string]*resource
	tags      map[string]bool // every URL and tag that there was
}

func pick[T any](g *generator, all ...T) T { return all[g.IntN(len(all))] }

// sometimes is true once in n.
func (g *generator) sometimes(n int) bool { return g.IntN(n) == 0 }

var targets = []string{"/a", "/b", "/c?x=1", "/c?x=2"}

func absolute(target string) string { return "http://shop.example" + target }

// request makes a client's request.
func (g *generator) request() (refcache.Request, string) {
	target := pick(g, targets...)
	r := refcache.Request{Method: "GET", URL: absolute(target)}
	if g.sometimes(14) {
		r.Method = "HEAD"
	} else if g.sometimes(25) {
		r.Method = pick(g, "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FROB")
	}
	add := func(name, value string) { r.Fields = append(r.Fields, refcache.Field{Name: name, Value: value}) }
	switch g.IntN(6) {
	case 0:
		add("X-Class", pick(g, "one", "two"))
	case 1:
		add("X-Class", pick(g, "one, two", "one,two", "one ,\ttwo"))
	case 2:
		add("x-class", "one")
		add("X-Other", "1")
		add("X-Class", "two")
	case 3:
		add("X-Other", pick(g, "1", "2", ""))
	}
	if g.sometimes(14) {
		add("Authorization", "Bearer "+pick(g, "a", "b"))
	}
	if g.sometimes(5) {
		add("Cookie", "id="+pick(g, "1", "2"))
	}
	if g.sometimes(8) {
		add("Cache-Control", pick(g, "no-cache", "max-age=0", "max-stale", "max-stale=100", "min-fresh=10"))
	}
	if g.sometimes(30) {
		add("Cache-Control", "only-if-cached")
	}
	if g.sometimes(20) {
		add("Pragma", "no-cache")
	}
	if r.Method == "GET" || r.Method == "HEAD" {
		g.conditions(r, add)
	}
	return r, target
}

func (g *generator) conditions(r refcache.Request, add func(name, value string)) {
	res := g.resource(r.URL)
	if g.sometimes(12) {
		tag := res.etag
		if tag == "" {
			tag = `"none"`
		}
		add("If-None-Match", pick(g, tag, tag, "W/"+strings.TrimPrefix(tag, "W/"), `"x", `+tag, `"x,y"`, "*", strings.ReplaceAll(tag, "v", "V")))
	}
	if g.sometimes(12) {
		t, _ := http.ParseTime(res.modified)
		if res.modified == "" {
			t = g.w.now().Add(-time.Hour)
		}
		add("If-Modified-Since", pick(g, g.date(t), g.date(t.Add(time.Second)), g.date(t.Add(-time.Second)), "yesterday"))
	}
}

func (g *generator) resource(url string) *resource {
	if g.resources[url] == nil {
		g.resources[url] = &resource{}
		g.change(url)
	}
	return g.resources[url]
}

// change gives a resource another version.
func (g *generator) change(url string) {
	r := g.resources[url]
	r.version++
	r.etag, r.modified = "", ""
	if !g.sometimes(3) {
		r.etag = fmt.Sprintf(`%s"v%d"`, pick(g, "", "", "W/"), g.n+r.version)
	}
	g.tags[url+r.etag] = true
	if g.sometimes(2) {
		r.modified = g.w.now().Add(-time.Duration(g.IntN(4000)) * time.Second).Format(http.TimeFormat)
	}
	g.n++
}

// date writes t in one of the three forms.
func (g *generator) date(t time.Time) string {
	switch t = t.UTC(); g.IntN(8) {
	case 0:
		return t.Format("Monday, 02-Jan-06 15:04:05 GMT")
	case 1:
		return t.Format(time.ANSIC)
	case 2:
		return strings.ToLower(t.Format(http.TimeFormat))
	}
	return t.Format(http.TimeFormat)
}

// seconds writes an argument, mostly good.
func (g *generator) seconds() string {
	if g.sometimes(12) {
		return pick(g, "-1", "1.5", "abc", "", `"10"`, "99999999999999999999", "000030", "0")
	}
	return fmt.Sprint(pick(g, 0, 1, 5, 10, 30, 60, 100, 1000))
}

// spell changes the case of a name now and then.
func (g *generator) spell(name string) string {
	switch g.IntN(6) {
	case 0:
		return strings.ToUpper(name)
	case 1:
		return strings.ToUpper(name[:1]) + name[1:]
	}
	return name
}

// control makes the members of a Cache-Control.
func (g *generator) control() []string {
	var all []string
	add := func(d string) { all = append(all, d) }
	if !g.sometimes(4) {
		add(g.spell("max-age") + "=" + g.seconds())
	}
	odd := func(n int, d string) {
		if g.sometimes(n) {
			add(g.spell(d))
		}
	}
	if g.sometimes(7) {
		add(g.spell("s-maxage") + "=" + g.seconds())
	}
	if g.sometimes(4) {
		add(g.spell("stale-while-revalidate") + "=" + fmt.Sprint(pick(g, 5, 20, 100)))
	}
	if g.sometimes(4) {
		add(g.spell("stale-if-error") + "=" + fmt.Sprint(pick(g, 20, 100, 5000)))
	}
	odd(6, "public")
	odd(14, "private")
	odd(14, "no-store")
	odd(12, "no-cache")
	odd(12, "must-revalidate")
	odd(16, "proxy-revalidate")
	odd(16, "must-understand")
	odd(10, "immutable")
	odd(16, `private="x-two"`)
	odd(16, `no-cache="X-Two, x-three"`)
	odd(8, `ext="no-store, private"`)
	odd(12, "max-age-not=0")
	g.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// freshness makes the fields that say how long an answer lives.
func (g *generator) freshness(date time.Time) refcache.Fields {
	var f refcache.Fields
	add := func(name, value string) { f = append(f, refcache.Field{Name: name, Value: value}) }
	switch members := g.control(); {
	case g.sometimes(8) || len(members) == 0:
	case g.sometimes(3):
		for _, m := range members {
			add(pick(g, "Cache-Control", "cache-control"), m)
		}
	default:
		add("Cache-Control", strings.Join(members, pick(g, ", ", ",", " , ,", ",\t")))
	}
	if g.sometimes(4) {
		t := date.Add(time.Duration(pick(g, -10, 0, 1, 30, 100, 3600)) * time.Second)
		add("Expires", pick(g, g.date(t), g.date(t), g.date(t), "0", "-1", "soon", t.Format(time.RFC3339), t.Format("Mon, 2 Jan 2006 15:04:05 GMT")+" x"))
	}
	if g.sometimes(8) {
		name := pick(g, "CDN-Cache-Control", "Edgenode-Cache-Control", "cdn-cache-control")
		add(name, pick(g, "max-age=20", "max-age=20;x=1, must-revalidate", "no-store", "private", "max-age=20, public", "max-age=", "MAX-AGE=20", "", "max-age=20,", `ext="a, b", max-age=50, stale-if-error=100`, "s-maxage=15"))
	}
	if g.sometimes(6) {
		add("Age", pick(g, "0", "3", "15", "15, 90", "x", "-3", "", "3.5", "99999999999999999999"))
	}
	if f.Has("Cache-Control") && g.sometimes(15) {
		add("Pragma", "no-cache")
	}
	return f
}

// plan makes what the origin answers next.
func (g *generator) plan(url string) *plan {
	g.n++
	if g.sometimes(3) {
		g.resource(url)
		g.change(url)
	}
	p := &plan{status: 200, confirm: !g.sometimes(8), body: fmt.Sprintf("body-%d", g.n)}
	if g.sometimes(5) {
		p.delay = time.Duration(g.IntN(9000)) * time.Millisecond
	}
	if g.sometimes(6) {
		p.status = pick(g, 500, 502, 503, 504, 404, 404, 410, 301, 302, 307, 204, 203, 299, 400, 403, 501, 599)
	}
	if g.sometimes(14) {
		p.fault = pick(g, closes, closes, cuts)
	}
	if p.status == 204 {
		p.body = ""
	}
	return p
}

// answer is the origin's handler: it decides between the planned answer and 304.
func (g *generator) answer(p *plan, url string, a *asked, q *http.Request) {
	g.w.pass(p.delay)
	a.plan, a.came = p, g.w.now()
	if p.fields == nil {
		g.fill(p, url)
	}
	res := g.resource(url)
	answer := &refcache.Answer{Status: p.status, Fields: p.fields, Body: p.body, Asked: a.at, Came: a.came}
	// What breaks off has no validator: with one it may be stored as a part (RFC
	// 9111 §3.3), which the reference does not know.
	if p.fault != cuts && (p.status == 200 || p.status == 203 || p.status == 404) {
		if res.etag != "" {
			answer.Fields = append(answer.Fields[:len(answer.Fields):len(answer.Fields)], refcache.Field{Name: "ETag", Value: res.etag})
		}
		if res.modified != "" {
			answer.Fields = append(answer.Fields[:len(answer.Fields):len(answer.Fields)], refcache.Field{Name: "Last-Modified", Value: res.modified})
		}
	}
	if p.status == 200 && res.etag != "" {
		answer.Body = fmt.Sprintf("%s version %d", url, res.version)
	}
	if p.confirm && p.status == 200 && (q.Method == "GET" || q.Method == "HEAD") && res.confirms(q.Header) {
		answer.Status, answer.Body = 304, ""
	}
	if q.Method == "HEAD" {
		answer.Body = ""
	}
	a.answer = answer
}

// confirms reports whether the request's conditions name this version.
func (r *resource) confirms(h http.Header) bool {
	if tags := h.Values("If-None-Match"); tags != nil {
		return r.etag != "" && strings.Contains(strings.Join(tags, ","), strings.TrimPrefix(r.etag, "W/"))
	}
	return r.modified != "" && h.Get("If-Modified-Since") == r.modified
}

// wire renders the answer.
func (a *asked) wire() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d X\r\n", a.answer.Status)
	for _, f := range a.answer.Fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	length := len(a.answer.Body)
	if a.plan.fault == cuts {
		length += 10
	}
	if a.answer.Status != 204 && a.answer.Status != 304 && a.method != "HEAD" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", length)
	}
	return []byte(b.String() + "\r\n" + a.answer.Body)
}

// fill adds the fields of an answer that leaves at now.
func (g *generator) fill(p *plan, url string) {
	var f refcache.Fields
	add := func(name, value string) { f = append(f, refcache.Field{Name: name, Value: value}) }
	date := g.w.now()
	if g.sometimes(10) {
		date = date.Add(time.Duration(pick(g, -20, -5, 5)) * time.Second)
	}
	if !g.sometimes(15) {
		add("Date", date.Format(http.TimeFormat))
	}
	f = append(f, g.freshness(date)...)
	add("X-Id", fmt.Sprint(g.n))
	add("X-Two", pick(g, "a", "b", `q"u, o"te`))
	if g.sometimes(3) {
		add("x-three", "1")
		add("X-Two", "again")
		add("X-Three", "2 ,3")
	}
	if g.sometimes(6) {
		add("Connection", "X-Hop, x-three")
		add("X-Hop", "1")
	}
	if g.sometimes(8) {
		add("Surrogate-Key", "k1 k2")
		add("Cache-Tag", "k3")
		add("Keep-Alive", "timeout=5")
	}
	if g.sometimes(14) {
		add("Set-Cookie", "id=1")
		add("Set-Cookie", "b=2")
	}
	switch odd := g.sometimes(25); {
	case odd:
		add("Vary", pick(g, "*", "X-Class, *", "x-other", "X-Class"))
	case strings.HasSuffix(url, "/b"):
		add("Vary", pick(g, "X-Class", "x-class", "X-Class, X-Class"))
	case strings.HasSuffix(url, "2"):
		add("Vary", "X-Other,x-class")
	}
	if g.sometimes(6) {
		add("Content-Location", pick(g, url, "/a", "/b", "http://elsewhere.example/a"))
	}
	if g.sometimes(10) {
		add("Location", pick(g, "/b", "/a", "http://elsewhere.example/b", "//shop.example/c?x=1"))
	}
	p.fields = append(f, p.fields...)
}

// step returns how far the clock goes before the next request.
func (g *generator) step() time.Duration {
	switch g.IntN(12) {
	case 0:
		return time.Duration(g.IntN(120_000)) * time.Millisecond
	case 1:
		return time.Duration(g.IntN(7200)) * time.Second
	case 2:
		return time.Duration(pick(g, 1, 5, 10, 15, 20, 30, 60, 100, 1000)) * time.Second
	case 3:
		if g.sometimes(8) {
			return time.Duration(g.IntN(40)) * time.Hour
		}
	case 4, 5, 6:
		return time.Duration(g.IntN(8000)) * time.Millisecond
	}
	return 0
}
