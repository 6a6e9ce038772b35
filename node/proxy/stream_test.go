package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A heldOrigin sends the header and the first bytes of each answer and the rest
// when it is released.
type heldOrigin struct {
	began   chan struct{}
	release chan struct{}
	first   int
	whole   func(r *http.Request) string
}

func hold(w *world, first int, whole func(r *http.Request) string) *heldOrigin {
	h := &heldOrigin{make(chan struct{}, 100), make(chan struct{}), first, whole}
	w.does(h.answer)
	return h
}

func (h *heldOrigin) answer(c net.Conn, r *http.Request) {
	raw := h.whole(r)
	at := strings.Index(raw, "\r\n\r\n") + 4 + h.first
	io.WriteString(c, raw[:min(at, len(raw))])
	h.began <- struct{}{}
	<-h.release
	io.WriteString(c, raw[min(at, len(raw)):])
}

// C23 through a chunk: a purge comes while a big object is filled. Whoever asks
// after it gets nothing of the older fetch, then or later.
func TestC23_PurgeDuringAFillInSegments(t *testing.T) {
	eachEngine(t, testC23_PurgeDuringAFillInSegments)
}

func testC23_PurgeDuringAFillInSegments(t *testing.T, on opener) {
	const target = "/a/b?c=d"
	old, young := pattern(5000), strings.Repeat("y", 5000)
	for name, purge := range purges {
		for _, lines := range []string{cacheable, cacheable + "\nVary: Foo"} {
			t.Run(name+lines[len(lines)-3:], func(t *testing.T) {
				w := newWorld(t, on(t), chunked(1000))
				lines += "\nSurrogate-Key: k1"
				h := hold(w, 2500, w.ranged(lines, `"e"`, old))
				before := make(chan *exchange, 1)
				go func() { before <- w.get(target) }()
				<-h.began
				w.untilFilled(target, 2500) // two segments are stored
				purge(w)
				w.says(w.ranged(lines, `"f"`, young))
				w.expect(w.get(target), 200, young, "fwd=")
				close(h.release)
				// It asked before the purge: it gets what it asked for, or is cut where a
				// segment has gone that the origin does not have any more.
				x := <-before
				if got := x.out.String(); !strings.HasPrefix(old, got) || len(got) < len(old) && !x.aborted {
					t.Errorf("got %d bytes, aborted %v", len(got), x.aborted)
				}
				w.p.tasks.Wait()
				w.expect(w.get(target), 200, young, "hit")
				w.expect(w.get(target, "Range: bytes=100-3000"), 206, young[100:3001], "hit")
			})
		}
	}
}

// A soft purge during a fill makes what it brings stale.
func TestSoftPurgeOfABigObject(t *testing.T) { eachWay(t, testSoftPurgeOfABigObject) }

func testSoftPurgeOfABigObject(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(5000)
	w.says(w.ranged(cacheable, `"e"`, body))
	w.get("/a")
	_, v, _ := w.p.PurgeURL("http://shop.example/a")
	if _, err := w.store.Purge(context.Background(), tiers.Purge{Soft: true, Namespaces: item.InSites, Match: item.MatchTag, Values: v}); err != nil {
		t.Fatal(err)
	}
	w.expect(w.get("/a"), 200, body, "fwd=stale;fwd-status=304")
	w.expect(w.get("/a"), 200, body, "hit")
	if got, want := w.requests(), 2; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

// A hard purge takes parts and segments.
func TestPurgeOfParts(t *testing.T) { eachWay(t, testPurgeOfParts) }

func testPurgeOfParts(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(5000)
	w.says(w.ranged(cacheable, `"e"`, body))
	w.get("/a", "Range: bytes=0-1999")
	w.expect(w.get("/a", "Range: bytes=5-9"), 206, body[5:10], "hit")
	p, v, err := w.p.PurgeURL("http://shop.example/a")
	w.purge(p, v, err)
	w.expect(w.get("/a", "Range: bytes=5-9"), 206, body[5:10], "fwd=uri-miss")
}

// Variants of a big object are apart.
func TestVariantsOfBigObjects(t *testing.T) { eachWay(t, testVariantsOfBigObjects) }

func testVariantsOfBigObjects(t *testing.T) {
	w := newWorld(t, chunked(1000))
	bodies := map[string]string{"1": pattern(3000), "2": strings.Repeat("2", 3000)}
	w.says(func(r *http.Request) string {
		foo := r.Header.Get("Foo")
		return w.ranged(cacheable+"\nVary: Foo", `"`+foo+`"`, bodies[foo])(r)
	})
	for _, cache := range []string{"fwd=", "hit"} {
		for foo, body := range bodies {
			w.expect(w.get("/a", "Foo: "+foo), 200, body, cache)
			w.expect(w.get("/a", "Foo: "+foo, "Range: bytes=900-1100"), 206, body[900:1101], "hit")
			w.expect(w.get("/part", "Foo: "+foo, "Range: bytes=900-1100"), 206, body[900:1101], cache)
		}
	}
}

// A range of an object that is being filled follows the fill if it is near, and
// goes to the origin by itself if it is far.
func TestRangesDuringAFill(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(9000)
	h := hold(w, 2500, w.ranged(cacheable, `"e"`, body))
	whole := make(chan *exchange, 1)
	go func() { whole <- w.get("/a") }()
	<-h.began
	w.untilFilled("/a", 2500)
	w.expect(w.get("/a", "Range: bytes=100-2000"), 206, body[100:2001], "fwd=uri-miss;fwd-status=200;collapsed")
	near := make(chan *exchange, 1)
	go func() { near <- w.get("/a", "Range: bytes=2600-2700") }()
	w.untilWaiters(1)
	far := make(chan *exchange, 1)
	go func() { far <- w.get("/a", "Range: bytes=8000-8009") }()
	<-h.began
	if got, want := w.lastRequest().Header.Get("Range"), "bytes=8000-8009"; got != want {
		t.Errorf("Range = %q, want %q", got, want)
	}
	close(h.release)
	w.expect(<-near, 206, body[2600:2701], "fwd=uri-miss;fwd-status=200;collapsed")
	w.expect(<-far, 206, body[8000:8010], "fwd=uri-miss;fwd-status=206")
	w.expect(<-whole, 200, body, "fwd=uri-miss")
	if got, want := w.requests(), 2; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
}

// untilFilled returns when the fill for a target has brought n bytes.
func (w *world) untilFilled(target string, n int64) {
	w.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		w.p.mu.Lock()
		for _, fl := range w.p.flights {
			if strings.HasSuffix(fl.r.url, target) && fl.position() >= n {
				w.p.mu.Unlock()
				return
			}
		}
		w.p.mu.Unlock()
		if time.Now().After(deadline) {
			w.Fatal("nothing was filled")
		}
	}
}

func (fl *flight) position() int64 {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if fl.pack != nil {
		return fl.pack.at()
	}
	return fl.off + int64(len(fl.body))
}

// An answer of unknown length with a strong entity tag is followed from its first
// byte, and stored in segments when it has outgrown one.
func TestUnknownLengthInSegments(t *testing.T) { eachWay(t, testUnknownLengthInSegments) }

func testUnknownLengthInSegments(t *testing.T) {
	for _, size := range []int{0, 900, 1000, 1001, 70_000} {
		w := newWorld(t, chunked(1000))
		body := pattern(size)
		w.does(func(c net.Conn, r *http.Request) {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nDate: %s\r\nCache-Control: max-age=60\r\nETag: \"e\"\r\nTransfer-Encoding: chunked\r\n\r\n", w.date())
			for rest := body; rest != ""; {
				n := min(len(rest), 333)
				fmt.Fprintf(c, "%x\r\n%s\r\n", n, rest[:n])
				rest = rest[n:]
			}
			io.WriteString(c, "0\r\n\r\n")
		})
		w.expect(w.get("/a"), 200, body, "fwd=uri-miss")
		w.expect(w.get("/a"), 200, body, "hit")
		if size > 500 {
			w.expect(w.get("/a", "Range: bytes=400-499"), 206, body[400:500], "hit")
		}
	}
}

// A waiter on a body of unknown length that comes slowly goes to the origin by
// itself when its time is up; it does not get 504.
func TestWaiterOnASlowBody(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pools[0].FirstByteTimeout = 50 * time.Millisecond })
	release := make(chan struct{})
	began := make(chan struct{}, 1)
	var once sync.Once
	w.does(func(c net.Conn, r *http.Request) {
		slow := false
		once.Do(func() { slow = true })
		io.WriteString(c, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		if slow {
			began <- struct{}{}
			<-release
		}
		io.WriteString(c, "0\r\n\r\n")
	})
	first := make(chan *exchange, 1)
	go func() { first <- w.get("/a") }()
	<-began
	w.untilFilled("/a", 3)
	w.expect(w.get("/a"), 200, "abc", "fwd=uri-miss")
	close(release)
	w.expect(<-first, 200, "abc", "fwd=uri-miss")
}

// Big answers that come from below L1 count while their clients read, and are
// refused when there is no room.
func TestHeavyHitsAreBounded(t *testing.T) {
	t.Run(wayEmptied, func(t *testing.T) {
		const size = 200_000
		w := newWorld(t, func(o *Options) { o.MaxFillBytes = 2*size + 10 })
		w.always(w.ok("Cache-Control: max-age=60", strings.Repeat("x", size)))
		w.get("/a")
		var counted int64
		var again *exchange
		x := w.request("GET", "/a")
		x.onSend = func() {
			if counted == 0 {
				counted = w.p.fillBytes.Load()
				w.p.fillBytes.Add(size) // another's
				again = w.get("/a")
				w.p.fillBytes.Add(-size)
			}
		}
		w.expect(w.serve(x), 200, strings.Repeat("x", size), "hit")
		if counted != size {
			t.Errorf("%d bytes counted, want %d", counted, size)
		}
		if again.status != 503 || again.line("Retry-After") == "" {
			t.Errorf("got %d when there is no room, want 503 with Retry-After", again.status)
		}
		if got := w.p.fillBytes.Load(); got != 0 {
			t.Errorf("%d bytes counted after the last client", got)
		}
	})
}

// Ten thousand (manyWaiters) wait for one slow object: one origin request, all complete, and the
// memory beside their own is that of one fetch.
func TestTenThousandWaiters(t *testing.T) {
	const n, size = manyWaiters, 200_000
	w := newWorld(t, chunked(64<<10))
	body := pattern(size)
	release := make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		<-release
		io.WriteString(c, w.ranged(cacheable, `"e"`, body)(r))
	})
	var good atomic.Int64
	var done sync.WaitGroup
	for range n {
		done.Add(1)
		go func() {
			defer done.Done()
			x := w.request("GET", "/a")
			check := &compared{exchange: x, want: body}
			w.p.Serve(check)
			if x.status == 200 && check.at == size && !check.wrong && !x.aborted {
				good.Add(1)
			}
		}()
	}
	w.untilWaiters(n - 1)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	close(release)
	done.Wait()
	runtime.ReadMemStats(&after)
	if got := good.Load(); got != n {
		t.Errorf("%d of %d complete", got, n)
	}
	if got, want := w.requests(), 1; got != want {
		t.Errorf("origin saw %d requests, want %d", got, want)
	}
	t.Logf("heap while waiting %d KiB, %d KiB per waiter; system memory in all %d MiB", before.HeapAlloc>>10, before.HeapAlloc>>10/n, after.Sys>>20)
}

// compared is an exchange that compares its body instead of keeping it.
type compared struct {
	*exchange
	want  string
	at    int
	wrong bool
}

func (c *compared) Stream(length int64) (io.Writer, error) {
	c.exchange.Stream(length)
	return c, nil
}

func (c *compared) Write(b []byte) (int, error) {
	c.wrong = c.wrong || c.at+len(b) > len(c.want) || c.want[c.at:c.at+len(b)] != string(b)
	c.at += len(b)
	return len(b), nil
}

// A big object that streams through holds a bounded piece of memory, however
// long it is.
func TestMemoryOfABigObject(t *testing.T) {
	peak := streamThrough(t, 128<<20)
	if limit := int64(48 << 20); peak > limit {
		t.Errorf("heap grew by %d MiB, want at most %d", peak>>20, limit>>20)
	}
	t.Logf("128 MiB streamed through 16 MiB of L1: heap grew by %d MiB at most", peak>>20)
}

// BenchmarkGibibyte streams 1 GiB through an engine with 16 MiB of L1.
func BenchmarkGibibyte(b *testing.B) {
	for b.Loop() {
		b.SetBytes(1 << 30)
		b.ReportMetric(float64(streamThrough(b, 1<<30))/(1<<20), "MiB-heap")
	}
}

// streamThrough returns by how much the live heap grew at most, L1 included.
func streamThrough(t testing.TB, size int64) (peak int64) {
	dir := t.TempDir()
	w := newWorld(t, func(o *Options) { o.Engine = realEngine(t, dir, o.Now) })
	block := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	w.does(func(c net.Conn, r *http.Request) {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nDate: %s\r\n%s\r\nETag: \"e\"\r\nContent-Length: %d\r\n\r\n", w.date(), strings.ReplaceAll(cacheable, "\n", "\r\n"), size)
		for left := size; left > 0; left -= int64(len(block)) {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	})
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base, got, next := int64(m.HeapAlloc), int64(0), int64(0)
	x := &metered{exchange: w.request("GET", "/big"), onBytes: func(n int) {
		if got += int64(n); got < next {
			return
		}
		next = got + 8<<20
		runtime.GC() // what is live counts, not when it was last collected
		runtime.ReadMemStats(&m)
		peak = max(peak, int64(m.HeapAlloc)-base)
	}}
	w.p.Serve(x)
	if got != size || x.aborted {
		t.Errorf("%d of %d bytes, aborted %v", got, size, x.aborted)
	}
	return peak
}

// metered is an exchange that counts its body instead of keeping it.
type metered struct {
	*exchange
	onBytes func(n int)
}

func (m *metered) Stream(length int64) (io.Writer, error) {
	m.exchange.Stream(length)
	return m, nil
}

func (m *metered) Write(b []byte) (int, error) {
	m.onBytes(len(b))
	return len(b), nil
}

// BenchmarkFirstByte measures from the origin's first byte of the body to the
// client's, for a big object of which nothing more has come.
func BenchmarkFirstByte(b *testing.B) {
	w := newWorld(b)
	body := pattern(2 << 20)
	sent := make(chan time.Time, 1)
	release := make(chan struct{}, 1)
	w.does(func(c net.Conn, r *http.Request) {
		raw := w.ranged(cacheable, `"e"`, body)(r)
		at := strings.Index(raw, "\r\n\r\n") + 5
		sent <- time.Now()
		io.WriteString(c, raw[:at])
		<-release
		io.WriteString(c, raw[at:])
	})
	var sum time.Duration
	i := 0
	for b.Loop() {
		i++
		first := true
		w.p.Serve(&metered{exchange: w.request("GET", fmt.Sprintf("/%d", i)), onBytes: func(int) {
			if first {
				first = false
				sum += time.Since(<-sent)
				release <- struct{}{}
			}
		}})
	}
	b.ReportMetric(float64(sum.Microseconds())/float64(i), "µs-first-byte")
}
