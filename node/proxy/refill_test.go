package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// When a segment is gone and the object has changed at the origin, one client is
// cut: the next ones get the new object.
func TestChangedObjectIsNotSentAgain(t *testing.T) {
	for _, etag := range []string{`"new"`, ""} {
		w := newWorld(t, chunked(1000))
		body, young := pattern(9000), strings.Repeat("z", 8000)
		w.says(w.ranged(cacheable, `"e"`, body))
		w.get("/a")
		key, man := w.manifest("/a")
		w.engine.forget(segmentKey(nil, key, man.gen, 4000))
		w.says(w.ranged(cacheable, etag, young))
		if x := w.get("/a"); !x.aborted || x.out.String() != body[:4000] {
			t.Errorf("aborted %v, %d bytes", x.aborted, x.out.Len())
		}
		w.expect(w.get("/a"), 200, young, "fwd=stale;fwd-status=200")
		w.expect(w.get("/a"), 200, young, "hit")
	}
}

// An origin that does not know ranges sends all of it again: what is not missing
// is skipped, if it is still the same object.
func TestMissingSegmentOfAnOriginWithoutRanges(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(9000)
	w.always(w.ok(cacheable+"\nETag: \"e\"", body))
	w.get("/a")
	key, man := w.manifest("/a")
	w.engine.forget(segmentKey(nil, key, man.gen, 4000))
	x := w.get("/a")
	w.expect(x, 200, body, "hit")
	if x.aborted {
		t.Error("cut")
	}
	before := w.requests()
	w.expect(w.get("/a"), 200, body, "hit")
	if got := w.requests(); got != before {
		t.Error("the segment was not stored again")
	}
}

// A range that ends within a segment that is gone does not leave a part of it in
// its place.
func TestMissingSegmentAndRange(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(8500)
	w.says(w.ranged(cacheable, `"e"`, body))
	w.get("/a")
	key, man := w.manifest("/a")
	for _, at := range []int64{4000, 8000} {
		w.engine.forget(segmentKey(nil, key, man.gen, at))
		w.expect(w.get("/a", itoaRange(at-100, at+200)), 206, body[at-100:at+201], "hit")
		w.expect(w.get("/a"), 200, body, "hit")
		before := w.requests()
		w.expect(w.get("/a"), 200, body, "hit")
		if got := w.requests(); got != before {
			t.Errorf("segment %d: the whole was asked for %d times more", at, got-before)
		}
	}
}

func itoaRange(first, last int64) string { return fmt.Sprintf("Range: bytes=%d-%d", first, last) }

// Nor does a fill that broke off need ranges to be taken up.
func TestBrokenFillWithoutRanges(t *testing.T) {
	w := newWorld(t, chunked(1000))
	body := pattern(9000)
	w.does(func(c net.Conn, r *http.Request) {
		raw := w.ok(cacheable+"\nETag: \"e\"", body)
		if w.requests() == 1 {
			raw = raw[:4000]
		}
		io.WriteString(c, raw)
		c.Close()
	})
	x := w.get("/a")
	w.expect(x, 200, body, "fwd=uri-miss")
	if x.aborted {
		t.Error("cut")
	}
	w.expect(w.get("/a"), 200, body, "hit")
}

// Many whose next segment is gone get it by one request.
func TestMissingSegmentIsAskedForOnce(t *testing.T) {
	const n = 50
	w := newWorld(t, chunked(1000))
	body := pattern(8500)
	w.says(w.ranged(cacheable, `"e"`, body))
	w.get("/a")
	key, man := w.manifest("/a")
	for _, at := range []int64{4000, 5000, 7000, 8000} {
		w.engine.forget(segmentKey(nil, key, man.gen, at))
	}
	out := make(chan *exchange, n)
	for range n {
		go func() { out <- w.get("/a") }()
	}
	for range n {
		if x := <-out; x.out.String() != body || x.aborted {
			t.Errorf("got %d bytes, aborted %v", x.out.Len(), x.aborted)
		}
	}
	if got, most := w.requests()-1, 6; got > most {
		t.Errorf("origin saw %d requests for 4 segments, want at most %d", got, most)
	}
	before := w.requests()
	w.expect(w.get("/a"), 200, body, "hit")
	if got := w.requests(); got != before {
		t.Errorf("%d segments were not stored again", got-before)
	}
	if n := len(w.p.refills); n != 0 {
		t.Errorf("%d claims are left", n)
	}
}

// A client that reads slowly does not hold up the others for long.
func TestSlowRefillHoldsNobodyUp(t *testing.T) {
	w := newWorld(t, chunked(100_000))
	body := pattern(300_000)
	w.says(w.ranged(cacheable, `"e"`, body))
	w.get("/a")
	key, man := w.manifest("/a")
	w.engine.forget(segmentKey(nil, key, man.gen, 100_000))
	w.p.refillPatience = 20 * time.Millisecond
	slow := w.request("GET", "/a")
	reads, goOn := make(chan struct{}), make(chan struct{})
	slow.onWrite = func(total int) {
		if total > 100_000 && reads != nil {
			close(reads)
			reads = nil
			<-goOn
		}
	}
	held := reads
	out := make(chan *exchange, 1)
	go func() { out <- w.serve(slow) }()
	<-held
	other := w.request("GET", "/a")
	ctx, stop := context.WithTimeout(context.Background(), time.Minute) // of failures alone
	defer stop()
	other.ctx = ctx
	w.expect(w.serve(other), 200, body, "hit")
	close(goOn)
	w.expect(<-out, 200, body, "hit")
}

// An answer of unknown length with an entity tag outgrows its room while two read
// it, one of them slowly: the slow one goes on by a range request.
func TestSlowFollowerOfAnAnswerThatSpills(t *testing.T) {
	const size = 900_000
	w := newWorld(t, func(o *Options) {
		o.MaxFillBytes = 200_000
		o.Sites[0].ChunkBytes = 100_000 // two do not fit any more
	})
	body := pattern(size)
	first, rest := make(chan struct{}), make(chan struct{})
	w.does(func(c net.Conn, r *http.Request) {
		if r.Header.Get("Range") != "" {
			io.WriteString(c, w.ranged(cacheable, `"e"`, body)(r))
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nDate: %s\r\nCache-Control: max-age=60\r\nETag: \"e\"\r\nTransfer-Encoding: chunked\r\n\r\n", w.date())
		for at := 0; at < size; at += 10_000 {
			if at == 20_000 {
				close(first)
				<-rest
			}
			n := min(10_000, size-at)
			fmt.Fprintf(c, "%x\r\n%s\r\n", n, body[at:at+n])
		}
		io.WriteString(c, "0\r\n\r\n")
	})
	fast := make(chan *exchange, 1)
	lead := w.request("GET", "/a")
	go func() { fast <- w.serve(lead) }()
	<-first
	w.untilFilled("/a", 20_000)
	slow := w.request("GET", "/a")
	reads, goOn := make(chan struct{}), make(chan struct{})
	once := false
	slow.onWrite = func(int) {
		if !once {
			once = true
			close(reads)
			<-goOn
		}
	}
	out := make(chan *exchange, 1)
	go func() { out <- w.serve(slow) }()
	<-reads
	close(rest)
	w.expect(<-fast, 200, body, "fwd=uri-miss")
	close(goOn)
	w.expect(<-out, 200, body, "fwd=uri-miss")
	if slow.aborted || lead.aborted {
		t.Errorf("cut: %v, %v", lead.aborted, slow.aborted)
	}
	w.p.tasks.Wait()
	if got := w.p.fillBytes.Load(); got != 0 {
		t.Errorf("%d fill bytes left", got)
	}
}
