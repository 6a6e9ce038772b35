package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// at renders a date n seconds after the beginning of the tests' clock.
func at(n int64) string { return httpDate(startMilli + n*1000) }

// reusedAfter tells whether an answer with these lines serves a second request
// after wait.
func reusedAfter(t *testing.T, status int, lines string, wait time.Duration, change ...func(*Options)) bool {
	t.Helper()
	w := newWorld(t, change...)
	raw := w.status(status, lines, "body")
	if strings.HasPrefix(lines, "!") { // without Date
		raw = strings.Replace(w.status(status, lines[1:], "body"), "Date: "+w.date()+"\r\n", "", 1)
	}
	w.always(raw)
	w.get("/a")
	w.pass(wait)
	w.get("/a")
	return w.requests() == 1
}

// RFC 9111 §4.2: whether an answer is fresh, and how old it is.
func TestRFC9111Section42Freshness(t *testing.T) {
	f := func(lines string, wait time.Duration, want bool) {
		t.Helper()
		if got := reusedAfter(t, 200, lines, wait); got != want {
			t.Errorf("%q after %v: reused %v, want %v", lines, wait, got, want)
		}
	}
	const s = time.Second
	const cc = "Cache-Control: "
	// §4.2: fresh if the lifetime is greater than the age.
	f(cc+"max-age=10", 9*s, true)
	f(cc+"max-age=10", 10*s, false)
	f(cc+"max-age=0", 0, false)
	// §5.2.2.1, §1.2.2: what is a number.
	f(cc+"MaX-aGe=10", 9*s, true)
	f(cc+`max-age="10"`, 9*s, true)
	f(cc+`max-age="10"`, 10*s, false)
	f(cc+"max-age='10'", 0, false)
	f(cc+"max-age =10", 0, false)
	f(cc+"max-age= 10", 0, false)
	f(cc+"max-age=10.0", 0, false)
	f(cc+"max-age=-10", 0, false)
	f(cc+"max-age=+10", 0, false)
	f(cc+"max-age=10a", 0, false)
	f(cc+"max-age=a10", 0, false)
	f(cc+"max-age=0x10", 0, false)
	f(cc+"max-age=1e3", 0, false)
	f(cc+"max-age", 0, false)
	f(cc+"max-age=", 0, false)
	f(cc+"max-age=;10", 0, false)
	f(cc+"max-age:10", 0, false)
	f(cc+"max-age=0010", 9*s, true)
	f(cc+"max-age=2147483647", time.Hour, true)
	f(cc+"max-age=2147483648", time.Hour, true)
	f(cc+"max-age=99999999999999999999999", time.Hour, true)
	// §5.2: lists, quotes, what is unknown.
	f(cc+"public,max-age=10", 9*s, true)
	f(cc+" , ,\tmax-age=10 ,,", 9*s, true)
	f(cc+"x, max-age=10", 9*s, true)
	f(cc+"x\n"+cc+"max-age=10", 9*s, true)
	f(cc+`x="max-age=10"`, 0, false)
	f(cc+`x="a, max-age=0, no-store", max-age=10`, 9*s, true)
	f(cc+`x="a\", max-age=0", max-age=10`, 9*s, true)
	f(cc+"max-age=10, x='no-store'", 9*s, true)
	f(cc+"maxage=10", 0, false)
	f(cc+"max-age=10, no-storex, xno-store, private-x", 9*s, true)
	// §4.2.1: of several values the least counts: it is the first, or makes stale.
	f(cc+"max-age=10, max-age=20", 15*s, false)
	f(cc+"max-age=20, max-age=10", 15*s, false)
	f(cc+"max-age=20\n"+cc+"max-age=20", 15*s, true)
	f(cc+"max-age=20, max-age=x", 0, false)
	f(cc+"max-age=10, no-cache", 0, false)
	f(cc+"s-maxage=10, max-age=1", 9*s, true)
	f(cc+"s-maxage=1, max-age=10", 1*s, false)
	f(cc+"s-maxage=x, max-age=10", 0, false)
	f(cc+"S-MaxAge=10", 9*s, true)
	// §5.3: Expires.
	f("Expires: "+at(10), 9*s, true)
	f("Expires: "+at(10), 10*s, false)
	f("Expires: "+strings.ToLower(at(10)), 9*s, true)
	f("Expires: "+strings.ToUpper(at(10)), 9*s, true)
	f("Expires: Sunday, 06-Nov-44 09:00:00 GMT", 9*s, true)
	f("Expires: Sun Nov  6 09:00:00 2044", 9*s, true)
	f("Expires: Mon, 06 Nov 2044 09:00:00 GMT", 9*s, true) // the day's name decides nothing
	for _, bad := range []string{
		"0", "-1", "", "never", "Sun, 06 Nov 2044 09:00:00 UTC", "Sun, 06 Nov 2044 09:00:00 +0000", "Sun, 06 Nov 2044 09:00:00 EST",
		"Sun, 06 Nov 2044 09:00:00", "Sun, 06-Nov-2044 09:00:00 GMT", "Sun, 6 Nov 2044 09:00:00 GMT", "Sun, 06 Nov 44 09:00:00 GMT",
		"Sun 06 Nov 2044 09:00:00 GMT", "Sun, 06 Nov 2044 9:00:00 GMT", "Sun, 06 Nov 2044  09:00:00 GMT", "06 Nov 2044 09:00:00 GMT",
		"2044-11-06T09:00:00Z", "2362266000", `"` + at(10) + `"`, at(10) + ", " + at(10), "Sun, 06 Nov 2044 09.00.00 GMT",
	} {
		f("Expires: "+bad, 0, false)
		f("Last-Modified: "+at(-1e6)+"\nExpires: "+bad, 0, false) // §4.2.2: no guess where there is a word
	}
	f("Expires: "+at(10)+"\nExpires: "+at(20), 0, false)
	f("Expires: "+at(10)+"\n"+cc+"max-age=1", 1*s, false)
	f("Expires: 0\n"+cc+"max-age=10", 9*s, true)
	f("Expires: "+at(100)+"\n"+cc+"max-age=x", 0, false)
	f("Expires: "+at(100)+"\nDate: "+at(90), 9*s, true) // the origin's clock is ahead
	f("Expires: "+at(100)+"\nDate: "+at(90), 10*s, false)
	f("Expires: "+at(100)+"\nDate: "+at(-20), 100*s, false) // age 20 on arrival, lifetime 120
	f("Expires: "+at(100)+"\nDate: "+at(-20), 99*s, true)
	f("Expires: "+at(100)+"\nDate: yesterday", 99*s, true)
	f("!Expires: "+at(100), 99*s, true)
	// §4.2.2: heuristics.
	f("Last-Modified: "+at(-1000), 99*s, true)
	f("Last-Modified: "+at(-1000), 100*s, false)
	f("Last-Modified: "+at(1000), 0, false)
	f("Last-Modified: then", 0, false)
	f("Last-Modified: "+at(-1000)+"\n"+cc+"public", 99*s, true)
	f("Last-Modified: "+at(-1e9), 23*time.Hour, true)
	f("Last-Modified: "+at(-1e9), 24*time.Hour, false)
	// §4.2.3, §5.1: Age.
	const day = cc + "max-age=10\nAge: "
	f(day+"5", 4*s, true)
	f(day+"5", 5*s, false)
	f(day+"10", 0, false)
	f(day+"5\nAge: 9", 4*s, true)
	f(day+"9\nAge: 0", 1*s, false)
	f(day+"0, 9", 9*s, true)
	f(day+"9, 0", 1*s, false)
	f(day+"0009", 1*s, false)
	f(day+"99999999999999999999", 0, false)
	for _, ignored := range []string{"-1", "-20", "20.0", "+20", "20s", "x20", `"20"`, "20;x=y", "", "x, 20", "2 0"} {
		f(day+ignored, 9*s, true)
	}
	f("Age: 9\n"+cc+"max-age=10\nDate: "+at(-5), 1*s, false)
	f("Age: 5\n"+cc+"max-age=10\nDate: "+at(-9), 1*s, false)
	f("Age: 5\n"+cc+"max-age=10\nDate: "+at(3600), 4*s, true)
	f("!"+cc+"max-age=10\nAge: 5", 4*s, true)
}

// RFC 9111 §3, RFC 9110 §15.1: every final status may be stored with explicit
// freshness, some without.
func TestRFC9110Section15Statuses(t *testing.T) {
	for _, status := range []int{
		200, 201, 202, 203, 204, 205, 207, 226, 299, 300, 301, 302, 303, 305, 307, 308, 399, 400, 401, 403, 404, 405, 406, 410, 414,
		415, 418, 421, 425, 429, 451, 499, 500, 501, 502, 503, 504, 505, 511, 599,
	} {
		if status != 204 && status != 205 && !reusedAfter(t, status, "Cache-Control: max-age=60", time.Second) {
			t.Errorf("%d with max-age was not reused", status)
		}
		if reusedAfter(t, status, "X: y", time.Second) {
			t.Errorf("%d without freshness was reused", status)
		}
		want := heuristicStatus(status)
		if got := reusedAfter(t, status, "Last-Modified: "+at(-1e6), time.Second); got != want {
			t.Errorf("%d with Last-Modified: reused %v, want %v", status, got, want)
		}
		if !reusedAfter(t, status, "Cache-Control: public\nLast-Modified: "+at(-1e6), time.Second) {
			t.Errorf("%d public with Last-Modified was not reused", status)
		}
	}
}

// RFC 9213 §2: a targeted field replaces the others, whole.
func TestRFC9213Section2Targeted(t *testing.T) {
	f := func(lines string, wait int, want bool) {
		t.Helper()
		if got := reusedAfter(t, 200, lines, time.Duration(wait)*time.Second); got != want {
			t.Errorf("%q after %d s: reused %v, want %v", lines, wait, got, want)
		}
	}
	const cdn = "CDN-Cache-Control: "
	f(cdn+"max-age=10\nCache-Control: max-age=1", 9, true)
	f(cdn+"max-age=10\nCache-Control: no-store", 9, true)
	f(cdn+"max-age=10\nCache-Control: private, s-maxage=1", 9, true)
	f(cdn+"max-age=10\nExpires: "+at(1), 9, true)
	f(cdn+"max-age=1\nCache-Control: s-maxage=10", 1, false)
	f(cdn+"max-age=10, s-maxage=1", 1, false)
	f(cdn+"no-store\nCache-Control: max-age=10", 0, false)
	f(cdn+"private\nCache-Control: max-age=10", 0, false)
	f(cdn+"no-cache\nCache-Control: max-age=10", 0, false)
	f(cdn+"must-revalidate\nCache-Control: max-age=10", 0, false) // no lifetime of its own
	f(cdn+"public\nExpires: "+at(10), 0, false)
	f(cdn+"\nCache-Control: max-age=10", 9, true)
	f(cdn+"max-age=10, \nCache-Control: max-age=1", 1, false)
	f(cdn+"max-age=10, &&&\nCache-Control: max-age=1", 1, false)
	f(cdn+"max-age= 10\nCache-Control: max-age=1", 1, false)
	f(cdn+"max-age=\"10\"\nCache-Control: max-age=1", 1, false)
	f(cdn+"max-age=\"1\"\nCache-Control: max-age=10", 9, true)
	f(cdn+"max-age=-1\nCache-Control: max-age=10", 0, false)
	f(cdn+"max-age=10;a=b;c\nCache-Control: max-age=1", 9, true)
	f(cdn+"unknown=(a b);c, max-age=10", 9, true)
	f(cdn+"a\n"+cdn+"max-age=10", 9, true)
	f(cdn+"max-age=10\nAge: 5", 5, false)
	f("Edgenode-Cache-Control: max-age=1\n"+cdn+"max-age=10", 1, false)
	f("Edgenode-Cache-Control: &\n"+cdn+"max-age=10\nCache-Control: no-store", 9, true)
	f("Other-Cache-Control: max-age=10", 0, false)
}

// RFC 9111 §4.1: what Vary nominates.
func TestRFC9111Section41Syntax(t *testing.T) {
	f := func(vary, first, second string, want bool) {
		t.Helper()
		w := newWorld(t)
		w.always(w.ok("Cache-Control: max-age=60\n"+vary, "x"))
		ask := func(lines string) {
			if lines == "" {
				w.get("/a")
				return
			}
			w.get("/a", strings.Split(lines, "\n")...)
		}
		ask(first)
		ask(second)
		if got := w.requests() == 1; got != want {
			t.Errorf("%q, %q then %q: reused %v, want %v", vary, first, second, got, want)
		}
	}
	f("Vary: A", "A: 1", "A: 1", true)
	f("Vary: A", "A: 1", "a: 1", true)
	f("Vary: A", "A: 1", "A: 2", false)
	f("Vary: A", "A: 1", "", false)
	f("Vary: A", "", "A: 1", false)
	f("Vary: A", "", "A:", false)
	f("Vary: A", "", "B: 1", true)
	f("Vary: a", "A: 1", "A: 2", false)
	f("Vary: B, A", "A: 1\nB: 2", "A: 1\nB: 3", false)
	f("Vary: B\nVary: A", "A: 1\nB: 2", "A: 2\nB: 2", false)
	f("Vary: B\nVary: A", "A: 1\nB: 2", "B: 2\nA: 1", true)
	f("Vary: , ,A ,", "A: 1", "A: 2", false)
	f("Vary: A, A", "A: 1", "A: 1", true)
	f("Vary:", "A: 1", "A: 2", true)
	for _, star := range []string{"*", "*, *", "A, *", "*, A", ", *", "A\nVary: *", "*\nVary: A", "\nVary: *", "A,*"} {
		f("Vary: "+star, "A: 1", "A: 1", false)
	}
	f("Vary: **", "A: 1", "A: 1", true) // a token, and no star
	f("Vary: A B", "A: 1", "A: 1", false)
	// Values: lists by meaning.
	f("Vary: A", "A: 1, 2", "A: 1,2", true)
	f("Vary: A", "A: 1, 2", "A: 1\nA: 2", true)
	f("Vary: A", "A: 1, 2", "A:  1 ,\t2 ", true)
	f("Vary: A", "A: 1, 2", "A: 2, 1", false)
	f("Vary: A", "A: a", "A: A", false)
	f("Vary: A", `A: "1, 2"`, `A: "1,2"`, false)
	f("Vary: Accept-Language", "Accept-Language: en, de", "Accept-Language: EN ,de", true)
	f("Vary: Accept-Language", "Accept-Language: en, de", "Accept-Language: de, en", true)
	f("Vary: Accept-Language", "Accept-Language: en, de;q=0.5", "Accept-Language: de;q=0.50,en;q=1", true)
	f("Vary: Accept-Language", "Accept-Language: en, de;q=0.5", "Accept-Language: en, de;q=0.6", false)
	f("Vary: Accept-Encoding", "Accept-Encoding: gzip, br", "Accept-Encoding: br;q=0.8,GZIP", true)
	f("Vary: Cookie", "Cookie: a=1; b=2", "Cookie: a=1;b=2", false)
	f("Vary: User-Agent", "User-Agent: x/1", "User-Agent: x/2", false)
	f("Vary: Host", "A: 1", "A: 2", true)
}

// RFC 5861 and RFC 9111 §4.2.4: how long, and for what, a stale answer serves.
func TestRFC5861Windows(t *testing.T) {
	f := func(cc string, wait int, origin int, want string) {
		t.Helper()
		w := newWorld(t)
		w.always(w.ok("Cache-Control: "+cc, "old"))
		w.get("/a")
		w.pass(time.Duration(wait) * time.Second)
		w.does(func(c net.Conn, _ *http.Request) {
			if origin == 0 {
				c.Close()
				return
			}
			fmt.Fprint(c, w.status(origin, "", "new"))
		})
		x := w.get("/a")
		if got := fmt.Sprint(x.status, x.out.String()); got != want && !(want == "502" && x.status == 502) {
			t.Errorf("%q after %d s, origin %d: got %q, want %q", cc, wait, origin, got, want)
		}
		w.p.tasks.Wait()
	}
	const sie = "max-age=10, stale-if-error=20"
	for _, status := range []int{500, 502, 503, 504} {
		f(sie, 29, status, "200old")
		f(sie, 30, status, fmt.Sprint(status, "new"))
	}
	for _, status := range []int{400, 404, 501, 505, 599} {
		f(sie, 29, status, fmt.Sprint(status, "new"))
	}
	f(sie, 29, 0, "200old")
	f(sie, 30, 0, "200old") // the site's own hour
	f("max-age=10", 3609, 0, "200old")
	f("max-age=10", 3610, 0, "502")
	f(sie, 11, 200, "200new")
	const swr = "max-age=10, stale-while-revalidate=20"
	f(swr, 29, 200, "200old")
	f(swr, 30, 200, "200new")
	f(swr+", must-revalidate", 11, 200, "200new")
	f(swr+", proxy-revalidate", 11, 200, "200new")
	f(swr+", no-cache", 0, 200, "200new")
	f("s-maxage=10, stale-while-revalidate=20", 11, 200, "200new")
	f("max-age=10, stale-while-revalidate=x", 11, 200, "200new")
	f("max-age=10, stale-while-revalidate=\"20\"", 29, 200, "200old")
	f("stale-while-revalidate=20", 1, 200, "200new") // no lifetime
}

// RFC 9110 §7.6.2: OPTIONS counts down; TRACE never goes further.
func TestRFC9110Section762MaxForwards(t *testing.T) {
	w := newWorld(t)
	w.always(w.ok("", "x"))
	for sent, got := range map[string]string{"5": "4", "1": "0", "x": "x"} {
		w.serveStatus(200, "OPTIONS", "/a", "Max-Forwards: "+sent)
		if h := w.lastRequest().Header.Get("Max-Forwards"); h != got {
			t.Errorf("Max-Forwards %s became %q, want %q", sent, h, got)
		}
	}
	w.serveStatus(200, "GET", "/a", "Max-Forwards: 0")
	n := w.requests()
	x := w.serveStatus(204, "OPTIONS", "/a", "Max-Forwards: 0")
	if w.requests() != n || x.line("Allow") == "" {
		t.Errorf("Max-Forwards 0 went upstream, or Allow is missing: %q", x.head.String())
	}
}

// RFC 9110 §13.1: client conditions, answered from what is stored and from what
// was just fetched alike.
func TestRFC9110Section131Conditions(t *testing.T) {
	modified := at(-1000)
	f := func(stored, lines string, want int) {
		t.Helper()
		for _, warm := range []bool{false, true} {
			w := newWorld(t)
			w.always(w.ok("Cache-Control: max-age=60\n"+stored, "x"))
			if warm {
				w.get("/a")
			}
			for _, method := range []string{"GET", "HEAD"} {
				if method == "HEAD" && !warm {
					continue
				}
				if x := w.serve(w.request(method, "/a", strings.Split(lines, "\n")...)); x.status != want {
					t.Errorf("%s warm %v, stored %q, asked %q: %d, want %d", method, warm, stored, lines, x.status, want)
				}
			}
		}
	}
	const inm = "If-None-Match: "
	f(`ETag: "a"`, inm+`"a"`, 304)
	f(`ETag: "a"`, inm+`W/"a"`, 304)
	f(`ETag: W/"a"`, inm+`"a"`, 304)
	f(`ETag: "a"`, inm+`"b"`, 200)
	f(`ETag: "a"`, inm+`"A"`, 200)
	f(`ETag: "a"`, inm+`"b", "a"`, 304)
	f(`ETag: "a"`, inm+`"b"`+"\n"+inm+`"a"`, 304)
	f(`ETag: "a"`, inm+`"x,y" , W/"a" ,`, 304)
	f(`ETag: "a,b"`, inm+`"a,b"`, 304)
	f(`ETag: "a"`, inm+`junk, "a"`, 304)
	f(`ETag: "a"`, inm+"*", 304)
	f("X: y", inm+"*", 304)
	f(`ETag: ""`, inm+`""`, 304)
	f(`ETag: a`, inm+"a", 304)
	f(`ETag: "a"`, inm+"a", 200)
	f("ETag: \"\xe4\"", inm+"\"\xe4\"", 304)
	f("X: y", inm+`"a"`, 200)
	f("Last-Modified: "+modified, inm+`"a"`+"\nIf-Modified-Since: "+modified, 200)
	const ims = "If-Modified-Since: "
	f("Last-Modified: "+modified, ims+modified, 304)
	f("Last-Modified: "+modified, ims+at(-999), 304)
	f("Last-Modified: "+modified, ims+at(-1001), 200)
	f("Last-Modified: "+modified, ims+"Sunday, 06-Nov-44 08:49:37 GMT", 304)
	f("Last-Modified: "+modified, ims+"x", 200)
	f("Last-Modified: "+modified, ims+modified+"\n"+ims+modified, 200)
	f("X: y", ims+at(0), 304) // §13.1.3: by Date, where there is no Last-Modified
	f("X: y", ims+at(-1), 200)
	f(`ETag: "a"`, `If-Match: "a"`, 200)
	f(`ETag: "a"`, `If-Match: "b"`, 412)
	f(`ETag: "a"`, `If-Match: *`, 200)
	f("Last-Modified: "+modified, "If-Unmodified-Since: "+modified, 200)
	f("Last-Modified: "+modified, "If-Unmodified-Since: "+at(-1001), 412)
}

// A client's condition and a stale answer: the origin is asked about ours, the
// client answered about its own (RFC 9111 §4.3.2).
func TestRFC9111Section432Stale(t *testing.T) { eachWay(t, testRFC9111Section432Stale) }

func testRFC9111Section432Stale(t *testing.T) {
	f := func(name, asked string, origin string, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.always(w.ok("Cache-Control: max-age=1\nETag: \"a\"", "old"))
			w.get("/a")
			w.pass(2 * time.Second)
			w.says(func(r *http.Request) string {
				if r.Header.Get("If-None-Match") != `"a"` {
					t.Errorf("the origin was asked about %q", r.Header.Get("If-None-Match"))
				}
				if origin == `"a"` {
					return w.status(304, "Cache-Control: max-age=60\nETag: \"a\"", "")
				}
				return w.ok("Cache-Control: max-age=60\nETag: "+origin, "new")
			})
			x := w.get("/a", "If-None-Match: "+asked)
			if got := fmt.Sprint(x.status, " ", x.out.String(), x.line("ETag")); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			w.get("/a")
			if got := w.requests(); got != 2 {
				t.Errorf("origin saw %d requests, want 2", got)
			}
		})
	}
	f("same", `"a"`, `"a"`, `304 "a"`)
	f("client has another", `"b"`, `"a"`, `200 old"a"`)
	f("new", `"a"`, `"b"`, `200 new"b"`)
	f("client has the new", `"b"`, `"b"`, `304 "b"`)
}
