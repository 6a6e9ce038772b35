//go:build !race

package proxy

import (
	"context"
	"io"
	"net/netip"
	"testing"
	"time"
)

// A quietExchange is a request whose answer is thrown away, without allocation.
type quietExchange struct {
	target, host []byte
	names        [][]byte
	values       [][]byte
	sent         int
}

func (x *quietExchange) Method() string { return "GET" }
func (x *quietExchange) Target() []byte { return x.target }
func (x *quietExchange) Host() []byte   { return x.host }
func (x *quietExchange) Scheme() string { return "https" }
func (x *quietExchange) Header(string) []byte {
	return nil
}
func (x *quietExchange) Fields(yield func(name, value []byte) bool) {
	for i := range x.names {
		if !yield(x.names[i], x.values[i]) {
			return
		}
	}
}
func (x *quietExchange) ContentLength() int64            { return 0 }
func (x *quietExchange) Body() io.Reader                 { return nil }
func (x *quietExchange) Client() netip.Addr              { return netip.Addr{} }
func (x *quietExchange) Peer() netip.Addr                { return netip.Addr{} }
func (x *quietExchange) HTTP10() bool                    { return false }
func (x *quietExchange) Context() context.Context        { return context.Background() }
func (x *quietExchange) Informational(int, []byte) error { return nil }
func (x *quietExchange) Status(int)                      {}
func (x *quietExchange) Add(_, _ string)                 {}
func (x *quietExchange) AddBlock(b []byte)               { x.sent += len(b) }
func (x *quietExchange) Send(b []byte) error             { x.sent += len(b); return nil }
func (x *quietExchange) SendSized(int64) error           { return nil }
func (x *quietExchange) Stream(int64) (io.Writer, error) { return nil, nil }
func (x *quietExchange) Abort()                          {}
func (x *quietExchange) CloseAfter()                     {}

func quiet(target string) *quietExchange {
	x := &quietExchange{target: []byte(target), host: []byte("Shop.example")}
	for _, f := range [][2]string{
		{"Host", "Shop.example"}, {"User-Agent", "test/1"}, {"Accept", "*/*"}, {"Accept-Encoding", "gzip, br;q=0.5"},
		{"Accept-Language", "en"}, {"Cookie", "a=b"},
	} {
		x.names, x.values = append(x.names, []byte(f[0])), append(x.values, []byte(f[1]))
	}
	return x
}

func warm(t testing.TB, vary string, change ...func(*Options)) (*world, *quietExchange) {
	w := newWorld(t, change...)
	w.always(w.ok("Cache-Control: max-age=600\nETag: \"e\"\nContent-Type: text/html"+vary, "body"))
	x := quiet("/some/path?x=1")
	first := w.request("GET", "/some/path?x=1", "Accept-Encoding: br, gzip")
	first.scheme = "https"
	w.serve(first)
	return w, x
}

func TestHitDoesNotAllocate(t *testing.T) {
	for _, vary := range []string{"", "\nVary: Accept-Encoding"} {
		w, x := warm(t, vary, policy(rules{})) // a policy that decides nothing adds nothing
		if got := testing.AllocsPerRun(1000, func() { w.p.Serve(x) }); got != 0 {
			t.Errorf("a hit with %q allocates %v times", vary, got)
		}
		if got, want := w.requests(), 1; got != want || x.sent == 0 {
			t.Errorf("origin saw %d requests, want %d", got, want)
		}
	}
}

// A hit allocates nothing either where what is hot is refreshed ahead: with time
// left, near the end of what is not hot, and of what was refreshed and brought
// nothing.
func TestHitDoesNotAllocateAhead(t *testing.T) {
	w, x := warm(t, "", refreshing(time.Minute))
	x.names, x.values = x.names[:5], x.values[:5] // no cookie
	f := func(what string) {
		t.Helper()
		w.p.Serve(x)
		w.p.tasks.Wait()
		if got := testing.AllocsPerRun(1000, func() { w.p.Serve(x) }); got != 0 {
			t.Errorf("a hit %s allocates %v times", what, got)
		}
	}
	f("with time left")
	w.pass(550 * time.Second)
	f("near the end of what is not hot")
	if n := w.requests(); n != 1 {
		t.Errorf("origin saw %d requests, want 1", n)
	}
	w.always(w.status(500, "", ""))
	w.engine.mu.Lock()
	w.engine.hot = map[string]uint64{}
	for key := range w.engine.items {
		w.engine.hot[key] = 100
	}
	w.engine.mu.Unlock()
	w.pass(2 * time.Second)
	f("on what was refreshed in vain")
	if n := w.requests(); n != 2 {
		t.Errorf("origin saw %d requests, want 2", n)
	}
}

func BenchmarkHit(b *testing.B) {
	for _, vary := range []string{"", "\nVary: Accept-Encoding"} {
		b.Run("vary="+vary, func(b *testing.B) {
			w, x := warm(b, vary)
			b.ReportAllocs()
			for b.Loop() {
				w.p.Serve(x)
			}
		})
	}
	for _, side := range []string{"request", "response"} {
		b.Run("edit="+side, func(b *testing.B) {
			list := edits(side + " X-Edited value")
			w, x := warm(b, "\nVary: Accept-Encoding", policy(rules{route: func(_ *RouteInput, out *RouteDecision) { out.Edits = list }}))
			b.ReportAllocs()
			for b.Loop() {
				w.p.Serve(x)
			}
		})
	}
}
