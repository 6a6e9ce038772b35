//go:build !race

package api_test

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"testing"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// quiet is an exchange that allocates nothing itself.
type quiet struct {
	method       string
	target, host []byte
	fields       [][2][]byte
	out          []byte
	code         int
}

func (q *quiet) Method() string           { return q.method }
func (q *quiet) Target() []byte           { return q.target }
func (q *quiet) Host() []byte             { return q.host }
func (q *quiet) Scheme() string           { return "http" }
func (q *quiet) ContentLength() int64     { return 0 }
func (q *quiet) Body() io.Reader          { return nil }
func (q *quiet) Client() netip.Addr       { return netip.Addr{} }
func (q *quiet) Local() bool              { return true }
func (q *quiet) Context() context.Context { return context.Background() }
func (q *quiet) Fields(yield func(name, value []byte) bool) {
	for i := range q.fields {
		if !yield(q.fields[i][0], q.fields[i][1]) {
			return
		}
	}
}
func (q *quiet) Status(code int)                 { q.code = code; q.out = q.out[:0] }
func (q *quiet) Add(name, value string)          { q.out = append(append(q.out, name...), value...) }
func (q *quiet) AddBlock(block []byte)           { q.out = append(q.out, block...) }
func (q *quiet) AddUndated(block []byte)         { q.out = append(q.out, block...) }
func (q *quiet) Send(body []byte) error          { q.out = append(q.out, body...); return nil }
func (q *quiet) SendSized(int64) error           { return nil }
func (q *quiet) Stream(int64) (io.Writer, error) { return nil, io.ErrClosedPipe }
func (q *quiet) Abort()                          {}
func (q *quiet) CloseAfter()                     {}

// one is an engine with one item.
type one struct {
	*store
	hit tiers.Hit
	key []byte
}

func (o *one) Get(_ context.Context, key item.Key, _ tiers.ReadOptions) (tiers.Hit, bool, error) {
	return o.hit, bytes.Equal(key, o.key), nil
}

func hotPath(t testing.TB, change ...func(*api.Options)) (*api.API, *quiet) {
	t.Helper()
	s := newStore()
	it := item.Item{
		Kind: item.KindPut, Key: item.Key("iuk/shop/product:1234567890"), Version: item.VersionAt(testTime), ContentVersion: item.VersionAt(testTime),
		MIME: "application/json", State: "fresh", ExpiresAt: testTime + 60_000, Content: bytes.Repeat([]byte("x"), 1024),
	}
	it.Seal()
	s.put(&it)
	o := api.Options{Engine: &one{store: s, hit: tiers.Hit{View: s.items[string(it.Key)], Source: tiers.FromL1}, key: it.Key}, Now: func() int64 { return testTime }}
	for _, f := range change {
		f(&o)
	}
	a, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	x := &quiet{method: "GET", target: []byte("/v1/items/uk/shop/product%3A1234567890"), host: []byte("localhost:8080"), out: make([]byte, 0, 4096)}
	for _, f := range [][2]string{{"Host", "localhost:8080"}, {"User-Agent", "wrk"}, {"Accept", "*/*"}, {"Accept-Encoding", "gzip"}} {
		x.fields = append(x.fields, [2][]byte{[]byte(f[0]), []byte(f[1])})
	}
	return a, x
}

// TestHitDoesNotAllocate holds the promise of the package: a hit in memory
// costs no allocation, with or without tokens, whole, as a part, or as 304.
func TestHitDoesNotAllocate(t *testing.T) {
	f := func(name string, code int, a *api.API, x *quiet) {
		t.Helper()
		if n := testing.AllocsPerRun(200, func() { a.Serve(x) }); n != 0 || x.code != code {
			t.Errorf("%s: %v allocations, status %d", name, n, x.code)
		}
	}
	a, x := hotPath(t)
	f("local", 200, a, x)
	target := x.target
	x.target = []byte("/v1/items/absent")
	f("absent", 404, a, x)
	x.target = target
	x.method = "HEAD"
	f("HEAD", 200, a, x)
	x.method = "GET"
	etag := x.out[bytes.Index(x.out, []byte("ETag: "))+6:][:34]
	x.fields = append(x.fields, [2][]byte{[]byte("If-None-Match"), bytes.Clone(etag)})
	f("304", 304, a, x)
	x.fields[len(x.fields)-1] = [2][]byte{[]byte("Range"), []byte("bytes=10-19")}
	f("range", 206, a, x)

	a, x = hotPath(t, withTokens(token("reader", api.ScopeRead)))
	x.fields = append(x.fields, [2][]byte{[]byte("Authorization"), []byte("Bearer reader")})
	f("token", 200, a, x)
	a, x = hotPath(t, func(o *api.Options) { o.Policy = &policy{} })
	f("policy", 200, a, x)
}

func BenchmarkHit(b *testing.B) {
	a, x := hotPath(b)
	b.ReportAllocs()
	for b.Loop() {
		a.Serve(x)
	}
}

func BenchmarkHitWithToken(b *testing.B) {
	a, x := hotPath(b, withTokens(token("reader", api.ScopeRead)))
	x.fields = append(x.fields, [2][]byte{[]byte("Authorization"), []byte("Bearer reader")})
	b.ReportAllocs()
	for b.Loop() {
		a.Serve(x)
	}
}
