package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// pattern returns n bytes none of which is where another could be.
func pattern(n int) string {
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = append(strconv.AppendInt(b, int64(len(b)), 10), ',')
	}
	return string(b[:n])
}

// ranged answers as an origin does that knows ranges and If-Range.
func (w *world) ranged(lines, etag, body string) func(r *http.Request) string {
	return func(r *http.Request) string {
		lines := lines
		if etag != "" {
			lines += "\nETag: " + etag
		}
		if etag != "" && r.Header.Get("If-None-Match") == etag {
			return w.status(304, lines, "")
		}
		field := r.Header.Get("Range")
		if cond := r.Header.Get("If-Range"); field == "" || cond != "" && cond != etag {
			return w.ok(lines, body)
		}
		spans, ok := parseRanges([]byte(field), int64(len(body)))
		switch {
		case !ok || len(spans) > 1:
			return w.ok(lines, body)
		case len(spans) == 0:
			return w.status(416, fmt.Sprintf("Content-Range: bytes */%d", len(body)), "")
		}
		s := spans[0]
		return w.status(206, fmt.Sprintf("%s\nContent-Range: bytes %d-%d/%d", lines, s.first, s.last, len(body)), body[s.first:s.last+1])
	}
}

// chunked is a site whose answers are stored in segments of n bytes.
func chunked(n int64) func(o *Options) {
	return site1(func(s *Site) { s.ChunkBytes = n })
}

const cacheable = "Cache-Control: max-age=600\nContent-Type: text/plain"

// What is larger than a segment is stored in segments and served like any other
// answer: whole, by ranges, by conditions (http-cache.md section 7).
func TestBigObjectFromSegments(t *testing.T) { eachWay(t, testBigObjectFromSegments) }

func testBigObjectFromSegments(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(4321)
	w.says(w.ranged(cacheable, `"e"`, body))
	w.expect(w.get("/a"), 200, body, "fwd=uri-miss;fwd-status=200")
	w.expect(w.get("/a"), 200, body, "hit")
	f := func(status int, want string, lines ...string) *exchange {
		t.Helper()
		x := w.get("/a", lines...)
		w.expect(x, status, want, "hit")
		if x.aborted {
			t.Errorf("%v: cut", lines)
		}
		return x
	}
	f(206, body[:1], "Range: bytes=0-0")
	f(206, body[999:1001], "Range: bytes=999-1000")
	f(206, body[1000:], "Range: bytes=1000-")
	f(206, body[4000:], "Range: bytes=-321")
	f(206, body, "Range: bytes=-9999")
	if got, want := f(206, body[1500:3500], "Range: bytes=1500-3499", `If-Range: "e"`).line("Content-Range"), "bytes 1500-3499/4321"; got != want {
		t.Errorf("Content-Range = %q, want %q", got, want)
	}
	f(200, body, "Range: bytes=0-1", `If-Range: "other"`)
	if got, want := f(416, "", "Range: bytes=4321-").line("Content-Range"), "bytes */4321"; got != want {
		t.Errorf("Content-Range = %q, want %q", got, want)
	}
	f(304, "", `If-None-Match: "e"`)
	f(412, "", `If-Match: "x"`)
	x := w.get("/a", "Range: bytes=10-19,2000-2009,-1")
	_, boundary, _ := strings.Cut(x.line("Content-Type"), "boundary=")
	part := func(at string, content string) string {
		return "\r\n--" + boundary + "\r\nContent-Type: text/plain\r\nContent-Range: bytes " + at + "/4321\r\n\r\n" + content
	}
	want := part("10-19", body[10:20]) + part("2000-2009", body[2000:2010]) + part("4320-4320", body[4320:]) + "\r\n--" + boundary + "--\r\n"
	w.expect(x, 206, want, "hit")
	if int(x.stream) != len(want) {
		t.Errorf("multipart announces %d bytes, has %d", x.stream, len(want))
	}
	x = w.serve(w.request("HEAD", "/a"))
	w.expect(x, 200, "", "hit")
	if x.sized != 4321 {
		t.Errorf("HEAD announces %d", x.sized)
	}
	if got, want := w.requests(), 1; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

// A 304 renews a big object as it does a small one; its segments stay.
func TestBigObjectIsRenewed(t *testing.T) { eachWay(t, testBigObjectIsRenewed) }

func testBigObjectIsRenewed(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(3500)
	w.says(w.ranged("Cache-Control: max-age=60, stale-while-revalidate=60", `"e"`, body))
	w.get("/a")
	w.pass(200 * time.Second)
	w.expect(w.get("/a"), 200, body, "fwd=stale;fwd-status=304;ttl=60;stored")
	w.expect(w.get("/a", "Range: bytes=1-2"), 206, body[1:3], "hit")
	w.pass(200 * time.Second)
	w.expect(w.get("/a", "Range: bytes=1-2"), 206, body[1:3], "fwd=stale;fwd-status=304;ttl=60")
	w.pass(70 * time.Second) // stale, and renewed behind the answer
	w.expect(w.get("/a"), 200, body, "hit;ttl=-10")
	w.p.tasks.Wait()
	w.expect(w.get("/a"), 200, body, "hit;ttl=60")
	w.pass(200 * time.Second)
	w.does(func(c net.Conn, _ *http.Request) { c.Close() })
	w.expect(w.get("/a"), 200, body, "fwd=stale") // stands in
	if got, want := w.lastRequest().Header.Get("If-None-Match"), `"e"`; got != want {
		t.Errorf("If-None-Match = %q, want %q", got, want)
	}
}

// RFC 9111 §3.3, §3.4: a part is stored, serves what lies in it, is combined with
// others under the same strong entity tag, and completed.
func TestRFC9111Section34Parts(t *testing.T) { eachWay(t, testRFC9111Section34Parts) }

func testRFC9111Section34Parts(t *testing.T) {
	for _, chunk := range []int64{7, 100, 1000} {
		w := newWorld(t, chunked(chunk))
		body := pattern(300)
		w.says(w.ranged(cacheable, `"e"`, body))
		w.expect(w.get("/a", "Range: bytes=100-149"), 206, body[100:150], "fwd=uri-miss;fwd-status=206")
		w.expect(w.get("/a", "Range: bytes=110-120"), 206, body[110:121], "hit")
		w.expect(w.get("/a", "Range: bytes=110-120,130-140"), 206, "", "hit", anyBody)
		w.serveStatus(304, "GET", "/a", `If-None-Match: "e"`)
		if chunk < 300 { // a small one is asked for whole
			w.expect(w.get("/a", "Range: bytes=150-199"), 206, body[150:200], "fwd=partial;fwd-status=206")
			w.expect(w.get("/a", "Range: bytes=120-180"), 206, body[120:181], "hit")
			w.expect(w.get("/a", "Range: bytes=-30"), 206, body[270:], "fwd=partial;fwd-status=206")
			w.expect(w.get("/a", "Range: bytes=290-"), 206, body[290:], "hit")
			w.expect(w.get("/a", "Range: bytes=0-119"), 206, body[:120], "fwd=partial;fwd-status=206")
		}
		x := w.get("/a")
		w.expect(x, 200, body, "fwd=partial;fwd-status=20")
		if x.line("Content-Range") != "" {
			t.Errorf("Content-Range of a 200: %q", x.line("Content-Range"))
		}
		if r := w.lastRequest(); chunk < 300 && (r.Header.Get("Range") != "bytes=200-269" || r.Header.Get("If-Range") != `"e"`) {
			t.Errorf("chunk %d completed by Range %q, If-Range %q", chunk, r.Header.Get("Range"), r.Header.Get("If-Range"))
		}
		before := w.requests()
		w.expect(w.get("/a"), 200, body, "hit")
		w.expect(w.get("/a", "Range: bytes=5-295"), 206, body[5:296], "hit")
		if got := w.requests(); got != before {
			t.Errorf("chunk %d: origin saw %d requests more", chunk, got-before)
		}
	}
}

// RFC 9111 §3.4: without the same strong entity tag nothing is combined.
func TestRFC9111Section34NeverMixed(t *testing.T) { eachWay(t, testRFC9111Section34NeverMixed) }

func testRFC9111Section34NeverMixed(t *testing.T) {
	old, young := pattern(300), strings.ToUpper(strings.Repeat("x", 300))
	f := func(name, tag1, tag2, lines string) {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, chunked(50))
			w.says(w.ranged(cacheable+lines, tag1, old))
			w.expect(w.get("/a", "Range: bytes=0-99"), 206, old[:100], "fwd=uri-miss")
			w.expect(w.get("/a", "Range: bytes=0-99"), 206, old[:100], "hit")
			w.says(w.ranged(cacheable+lines, tag2, young))
			w.expect(w.get("/a", "Range: bytes=100-199"), 206, young[100:200], "fwd=partial")
			if x := w.get("/a", "Range: bytes=50-149"); x.out.String() != young[50:150] {
				t.Errorf("mixed: %q", x.out.String())
			}
			w.expect(w.get("/a"), 200, young, "")
			w.expect(w.get("/a"), 200, young, "hit")
		})
	}
	f("changed", `"1"`, `"2"`, "")
	f("weak", `W/"1"`, `W/"1"`, "")
	f("none", "", "", "")
	f("date", "", "", "\nLast-Modified: Sun, 06 Nov 2022 08:49:37 GMT")
}

// RFC 9111 §3.4: a 200 that comes when a range was asked for replaces the parts.
func TestRFC9111Section34Replaced(t *testing.T) { eachWay(t, testRFC9111Section34Replaced) }

func testRFC9111Section34Replaced(t *testing.T) {
	w := newWorld(t, chunked(50))
	w.says(w.ranged(cacheable, `"1"`, pattern(300)))
	w.get("/a", "Range: bytes=0-99")
	young := strings.Repeat("y", 200)
	w.says(w.ranged(cacheable, `"2"`, young))
	w.expect(w.get("/a"), 200, young, "fwd=partial;fwd-status=200")
	w.expect(w.get("/a"), 200, young, "hit")
	w.expect(w.get("/a", "Range: bytes=60-69"), 206, young[60:70], "hit")
}

// What is no part of a known object is passed on and not stored.
func TestRFC9110Section144BadParts(t *testing.T) {
	f := func(contentRange, body string) {
		t.Helper()
		w := newWorld(t)
		w.always(w.status(206, cacheable+"\nETag: \"e\"\n"+contentRange, body))
		w.expect(w.get("/a", "Range: bytes=0-4"), 206, body, "fwd=uri-miss;fwd-status=206")
		if w.engine.submits != 0 {
			t.Errorf("%q with %d bytes was stored", contentRange, len(body))
		}
	}
	f("X-None: 1", "01234")
	f("Content-Range: bytes 0-5/10", "01234") // another length
	f("Content-Range: bytes 0-4/4", "01234")
	f("Content-Range: bytes 4-0/10", "01234")
	f("Content-Range: bytes */10", "01234")
	f("Content-Range: lines 0-4/10", "01234")
	f("Content-Range: bytes 0-4/x", "01234")
	f("Content-Range: bytes 0-4/10\nContent-Range: bytes 0-4/10", "01234")
}

// Without the complete length only what is named whole is served.
func TestPartOfUnknownLength(t *testing.T) { eachWay(t, testPartOfUnknownLength) }

func testPartOfUnknownLength(t *testing.T) {
	w := newWorld(t)
	w.always(w.status(206, cacheable+"\nETag: \"e\"\nContent-Range: bytes 0-4/*", "01234"))
	w.get("/a", "Range: bytes=0-4")
	x := w.get("/a", "Range: bytes=1-3")
	w.expect(x, 206, "123", "hit")
	if got, want := x.line("Content-Range"), "bytes 1-3/*"; got != want {
		t.Errorf("Content-Range = %q, want %q", got, want)
	}
	w.expect(w.get("/a", "Range: bytes=-3"), 206, "01234", "fwd=partial")
	w.expect(w.get("/a", "Range: bytes=1-"), 206, "01234", "fwd=partial")
}

// RFC 9111 §3.3: an answer that broke off is stored as a part, and completed.
func TestRFC9111Section33Truncated(t *testing.T) { eachWay(t, testRFC9111Section33Truncated) }

func testRFC9111Section33Truncated(t *testing.T) {
	for _, chunk := range []int64{100, 10_000} {
		w := newWorld(t, chunked(chunk))
		body := pattern(1000)
		whole := w.ranged(cacheable, `"e"`, body)
		w.does(func(c net.Conn, r *http.Request) {
			raw := whole(r)
			if r.Header.Get("Range") != "" {
				c.Close() // nor can it be taken up at once
				return
			}
			io.WriteString(c, raw[:len(raw)-460])
			c.Close()
		})
		w.get("/a")
		w.says(whole)
		w.expect(w.get("/a", "Range: bytes=10-499"), 206, body[10:500], "hit")
		w.expect(w.get("/a"), 200, body, "fwd=partial;fwd-status=206")
		if got, want := w.lastRequest().Header.Get("Range"), "bytes=540-"; got != want {
			t.Errorf("Range = %q, want %q", got, want)
		}
		w.expect(w.get("/a"), 200, body, "hit")
	}
}

// A fill that breaks off is taken up where it ended; nobody notices.
func TestBrokenFillIsTakenUp(t *testing.T) { eachWay(t, testBrokenFillIsTakenUp) }

func testBrokenFillIsTakenUp(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(9000)
	whole := w.ranged(cacheable, `"e"`, body)
	w.does(func(c net.Conn, r *http.Request) {
		raw := whole(r)
		io.WriteString(c, raw[:min(len(raw), 3000)])
		c.Close()
	})
	x := w.get("/a")
	w.expect(x, 200, body, "fwd=uri-miss")
	if x.aborted || w.requests() < 3 {
		t.Errorf("aborted %v after %d requests", x.aborted, w.requests())
	}
	w.expect(w.get("/a"), 200, body, "hit")
}

// If the validator changes midway the answer is cut, and never mixed.
func TestChangedMidwayIsCut(t *testing.T) {
	w := newWorld(t, chunked(1000))
	first := w.ranged(cacheable, `"1"`, pattern(9000))
	second := w.ranged(cacheable, `"2"`, strings.Repeat("z", 9000))
	w.does(func(c net.Conn, r *http.Request) {
		if w.requests() == 1 {
			io.WriteString(c, first(r)[:4000])
			c.Close()
			return
		}
		io.WriteString(c, second(r))
	})
	x := w.get("/a")
	if got := x.out.String(); !x.aborted || got != pattern(9000)[:len(got)] {
		t.Errorf("aborted %v, %d bytes", x.aborted, len(got))
	}
	w.expect(w.get("/a"), 200, strings.Repeat("z", 9000), "fwd=partial;fwd-status=200")
}

// A reader whose next segment is gone goes on by a range request of its own, or
// is cut where the object has no strong validator any more.
func TestSegmentsThatAreGone(t *testing.T) {
	body := pattern(9000)
	for _, lost := range []string{"first", "middle", "changed"} {
		w := newWorld(t, chunked(1000))
		w.says(w.ranged(cacheable, `"e"`, body))
		w.get("/a")
		key, man := w.manifest("/a")
		at := int64(4000)
		if lost == "first" {
			at = 0
		}
		w.engine.forget(segmentKey(nil, key, man.gen, at))
		if lost == "changed" {
			w.says(w.ranged(cacheable, `"new"`, strings.Repeat("z", 9000)))
		}
		x := w.get("/a")
		switch lost {
		case "first":
			w.expect(x, 200, body, "fwd=partial;fwd-status=206")
		case "middle":
			w.expect(x, 200, body, "hit")
			if got, want := w.lastRequest().Header.Get("Range"), "bytes=4000-4999"; got != want {
				t.Errorf("Range = %q, want %q", got, want)
			}
		case "changed":
			if !x.aborted || x.out.String() != body[:4000] {
				t.Errorf("aborted %v, %d bytes", x.aborted, x.out.Len())
			}
			continue
		}
		before := w.requests()
		w.expect(w.get("/a"), 200, body, "hit") // stored again
		if got := w.requests(); got != before {
			t.Errorf("%s: the segment was not stored again", lost)
		}
	}
}

// manifest returns the key and the manifest of what is stored for a target.
func (w *world) manifest(target string) ([]byte, manifest) {
	w.Helper()
	key := []byte("sshop\x00http://shop.example" + target)
	v, ok := w.engine.items[string(key)]
	man, parted := parseManifest(v.Content())
	if !ok || !parted {
		w.Fatalf("%s is not stored in parts", target)
	}
	return key, man
}

// forget loses an item, as an eviction does.
func (e *fakeEngine) forget(key []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.items, string(key))
}

// Many follow one fill, each at its own pace; the fill is not ahead of the
// fastest by more than a window.
func TestManyFollowOneFill(t *testing.T) { eachEngine(t, testManyFollowOneFill) }

func testManyFollowOneFill(t *testing.T, on opener) {
	const size, chunk = followedBytes, 64 << 10
	w := newWorld(t, on(t), chunked(chunk))
	body := pattern(size)
	var once sync.Once
	began, release := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		once.Do(func() { close(began) })
		<-release
		io.WriteString(c, w.ranged(cacheable, `"e"`, body)(r))
	})
	const n = 20
	out := make(chan *exchange, n)
	go func() { out <- w.get("/a") }()
	<-began
	for range n - 1 {
		go func() { out <- w.get("/a") }()
	}
	w.untilWaiters(n - 1)
	close(release)
	for range n {
		if x := <-out; x.status != 200 || x.out.String() != body || x.aborted {
			t.Errorf("got %d with %d bytes, aborted %v", x.status, x.out.Len(), x.aborted)
		}
	}
	if got := w.p.fillBytes.Load(); got != 0 {
		t.Errorf("%d fill bytes left", got)
	}
	if got, want := w.requests(), 1; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

// A follower who waits for the next bytes does not take those that come at that
// moment for bytes that are gone.
func TestFollowersMeetTheFill(t *testing.T) {
	const size, followers = 400_000, 4
	w := newWorld(t)
	fl := &flight{p: w.p, phase: phaseBody, length: size}
	fl.cond.L = &fl.mu
	fl.pack = newPacker(w.p, item.Key("sshop\x00k"), manifest{size: size, chunk: 2 * size}, tiers.Write{}, 0) // nothing is stored
	var all sync.WaitGroup
	for range followers {
		all.Go(func() {
			for pos, buf := int64(0), make([]byte, size); pos < size; {
				b, found := fl.look(t.Context(), pos, buf)
				if found != lookBytes {
					t.Errorf("at %d: got %v, want bytes", pos, found)
					return
				}
				pos += int64(len(b))
			}
		})
	}
	for b := []byte(pattern(10)); fl.pack.at() < size; {
		for range 10 {
			fl.pack.write(b)
			runtime.Gosched() // the followers catch up
		}
		fl.mu.Lock()
		fl.cond.Broadcast()
		fl.mu.Unlock()
	}
	all.Wait()
}

// A client that leaves ends the fetch, unless little is missing; what came is
// kept.
func TestFinishFill(t *testing.T) {
	body := pattern(2 << 20)
	f := func(finish int64, complete bool) {
		t.Helper()
		w := newWorld(t, site1(func(s *Site) { s.ChunkBytes, s.FinishFillBytes = 64<<10, finish }))
		w.says(w.ranged(cacheable, `"e"`, body))
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		x := w.request("GET", "/a")
		x.ctx = ctx
		x.onWrite = func(total int) {
			if total > 1<<20 {
				cancel()
			}
		}
		w.p.Serve(x)
		w.p.tasks.Wait()
		_, man := w.manifest("/a")
		if got := man.complete(); got != complete || man.reach(0) < 1<<20 {
			t.Errorf("finish %d: complete %v with %d bytes, want %v", finish, got, man.reach(0), complete)
		}
	}
	f(1<<19, false)
	f(1<<20, true)
}
