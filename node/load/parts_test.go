package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestHistogram: quantiles are those of the sorted durations, at most 1.6 % too
// high and never too low, whatever is merged.
func TestHistogram(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var all, part histogram
	var sorted []time.Duration
	for i := range 100_000 {
		d := time.Duration(math.Exp(r.Float64() * math.Log(float64(2*time.Minute)))) // every size alike
		sorted = append(sorted, d)
		if part.add(d); i%1000 == 0 {
			all.merge(&part)
			part = histogram{}
		}
	}
	all.merge(&part)
	slices.Sort(sorted)
	for _, q := range []float64{0.0001, 0.01, 0.5, 0.9, 0.99, 0.999, 1} {
		want := sorted[max(0, int(q*float64(len(sorted))+0.5)-1)]
		if got := all.quantile(q); got < want || float64(got) > 1.016*float64(want) {
			t.Errorf("quantile %g is %v, want %v", q, got, want)
		}
	}
	if got, want := all.quantile(1), sorted[len(sorted)-1]; got != want {
		t.Errorf("the highest is %v, want %v", got, want)
	}
	for _, v := range []uint64{0, 1, 127, 128, 129, 255, 256, 1 << 20, 1<<42 - 1, 1 << 42, 1 << 63} {
		b := bucketOf(v)
		if v = min(v, 1<<42-1); edgeOf(b) < v || b > 0 && edgeOf(b-1) >= v {
			t.Errorf("%d is in bucket %d, which ends at %d", v, b, edgeOf(b))
		}
	}
	if bucketOf(math.MaxUint64) != topBucket {
		t.Errorf("the last bucket is %d, want %d", bucketOf(math.MaxUint64), topBucket)
	}
	if got := new(histogram).latency(); got != (Latency{}) {
		t.Errorf("nothing took %+v", got)
	}
}

// TestZipf: the first ranks come as often as they should, for every kind of
// exponent.
func TestZipf(t *testing.T) {
	const keys, draws = 1000, 200_000
	for _, theta := range []float64{0.5, 0.99, 1, 1.5} {
		p := newPlan(&Options{Dist: Zipf, Keys: keys, Theta: theta, Sizes: []int{1}})
		sum := 0.0
		for k := 1; k <= keys; k++ {
			sum += math.Pow(float64(k), -theta)
		}
		counts := make([]int, keys)
		for i := range uint64(draws) {
			j, _ := p.job(i)
			counts[j.key]++ // panics if it is outside
		}
		for k := range 10 {
			want := draws * math.Pow(float64(k+1), -theta) / sum
			if diff := math.Abs(float64(counts[k]) - want); diff > 5*math.Sqrt(want) {
				t.Errorf("theta %g: rank %d came %d times, want %.0f", theta, k, counts[k], want)
			}
		}
	}
}

// TestPlan: shares and sizes are as asked for, and the same in every run.
func TestPlan(t *testing.T) {
	o := &Options{Dist: Uniform, Keys: 100, Sizes: []int{10, 1000}, Writes: 0.25, Rate: 1000, Seed: 3}
	p, same := newPlan(o), newPlan(o)
	writes, large, seen := 0, 0, map[uint64]int{}
	const n = 40_000
	for i := range uint64(n) {
		j, ok := p.job(i)
		if again, _ := same.job(i); again != j || !ok {
			t.Fatalf("request %d is %+v and %+v", i, j, again)
		}
		if j.write {
			writes++
		}
		if size, known := seen[j.key]; known && size != j.size {
			t.Fatalf("key %d has %d and %d bytes", j.key, size, j.size)
		}
		if seen[j.key] = j.size; j.size == 1000 {
			large++
		}
		if want := time.Duration(i) * time.Millisecond; j.due != want {
			t.Fatalf("request %d is due at %v, want %v", i, j.due, want)
		}
	}
	if math.Abs(float64(writes)/n-0.25) > 0.02 || math.Abs(float64(large)/n-0.5) > 0.2 || len(seen) != 100 || p.largest() != 1000 {
		t.Errorf("%d writes, %d large ones, %d keys", writes, large, len(seen))
	}
	tr := newPlan(&Options{Trace: &Trace{IDs: []uint32{1, 0}, Millis: []int64{0, 500}, Sizes: []uint32{7, 9}}, Speed: 10, Dist: Uniform})
	if j, ok := tr.job(1); !ok || j != (job{key: 0, size: 7, due: 50 * time.Millisecond}) {
		t.Errorf("the second of a trace is %+v", j)
	}
	if _, ok := tr.job(2); ok || tr.keys() != 2 || tr.largest() != 9 {
		t.Error("the trace has no end")
	}
}

// reader returns a connection on which text comes in.
func reader(text string) *conn {
	return &conn{in: bufio.NewReaderSize(strings.NewReader(text), readBuffer)}
}

func TestRead(t *testing.T) {
	f := func(text string, want answer) {
		t.Helper()
		c := reader(text + "rest")
		if want.last {
			c = reader(text)
		}
		got, err := c.read()
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
		if rest, _ := io.ReadAll(c.in); !want.last && string(rest) != "rest" {
			t.Errorf("%q: %q is left", text, rest)
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", answer{200, 3, false})
	f("HTTP/1.1 200 OK\r\nCONTENT-LENGTH:3\r\nConnection: Close\r\n\r\nabc", answer{200, 3, true})
	f("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", answer{204, 0, false})
	f("HTTP/1.1 304 Not Modified\r\n\r\n", answer{304, 0, false})
	f("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n", answer{404, 0, false})
	f("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3;a=b\nabc\r\nA\r\n0123456789\r\n0\r\nT: x\r\n\r\n", answer{200, 13, false})
	f("HTTP/1.0 200 OK\r\n\r\nabc", answer{200, 3, true})

	bad := func(text string, want error) {
		t.Helper()
		if a, err := reader(text).read(); !errors.Is(err, want) {
			t.Errorf("%.40q: %+v, %v; want %v", text, a, err, want)
		}
	}
	bad("", io.ErrUnexpectedEOF)
	bad("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", io.ErrUnexpectedEOF)
	bad("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", io.ErrUnexpectedEOF)
	bad("SSH-2.0-OpenSSH\r\n", errAnswer)
	bad("HTTP/1.1 20x OK\r\n\r\n", errAnswer)
	bad("HTTP/1.1 099 OK\r\n\r\n", errAnswer)
	bad("HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n", errAnswer)
	bad("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", errAnswer)
	bad("HTTP/1.1 200 OK\r\nA: "+strings.Repeat("a", readBuffer)+"\r\n\r\n", errAnswer)
	bad("HTTP/1.1 200 OK\r\n"+strings.Repeat("A: b\r\n", maxFields)+"\r\n", errAnswer)
}

// FuzzRead: whatever a server sends gives an answer or an error.
func FuzzRead(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := reader(text).read()
		if err == nil && (a.status < 200 || a.status > 999 || a.bytes < 0 || a.bytes > int64(len(text))) {
			t.Errorf("%q is %+v", text, a)
		}
	})
}

func TestTarget(t *testing.T) {
	f := func(url string, o Options, j job, address, want string) {
		t.Helper()
		target, err := newTarget(t.Context(), url, &o)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(target.appendRequest(nil, &j, []byte("value"))); got != want || target.address != address {
			t.Errorf("%s on %s, want %s on %s", got, target.address, want, address)
		}
	}
	f("http://127.0.0.1:81", Options{}, job{key: 7}, "127.0.0.1:81", "GET /v1/items/bench/7 HTTP/1.1\r\nHost: 127.0.0.1:81\r\n\r\n")
	f("http://[::1]/a/{key}?s={size}#x", Options{Headers: []string{"HOST: shop.example", "X-A:  b "}, Token: "t"}, job{key: 1, size: 2}, "[::1]:80",
		"GET /a/1?s=2 HTTP/1.1\r\nHost: shop.example\r\nX-A: b\r\nAuthorization: Bearer t\r\n\r\n")
	f("https://127.0.0.1?q", Options{Durability: "l3"}, job{size: 3, write: true}, "127.0.0.1:443",
		"PUT /?q HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\nEdge-Durability: l3\r\nContent-Length: 3\r\n\r\nval")
	for _, url := range []string{"127.0.0.1:80", "ftp://127.0.0.1", "http://", "http://u@127.0.0.1", "http://127.0.0.1/a b"} {
		if _, err := newTarget(t.Context(), url, &Options{}); !errors.Is(err, ErrOptions) {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := newTarget(t.Context(), "http://192.0.2.1", &Options{}); !errors.Is(err, ErrElsewhere) {
		t.Errorf("another machine: %v", err)
	}
	if _, err := newTarget(t.Context(), "http://192.0.2.1", &Options{Anywhere: true}); err != nil {
		t.Errorf("another machine that is allowed: %v", err)
	}
}

// canned is a connection that always has the same answer.
type canned struct {
	net.Conn
	answer []byte
	at     int
}

func (c *canned) Read(b []byte) (int, error) {
	n := copy(b, c.answer[c.at:])
	c.at = (c.at + n) % len(c.answer)
	return n, nil
}
func (*canned) Write(b []byte) (int, error) { return len(b), nil }
func (*canned) SetDeadline(time.Time) error { return nil }
func (*canned) Close() error                { return nil }
func cannedWorker(t testing.TB, o Options) *worker {
	o.fill()
	g := &generator{o: &o, plan: newPlan(&o), blob: blob(DefaultSize), start: time.Now()}
	target, err := newTarget(t.Context(), "http://127.0.0.1:1", &o)
	if err != nil {
		t.Fatal(err)
	}
	wire := &canned{answer: fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 1024\r\n\r\n%s", g.blob)}
	c := conn{ctx: t.Context(), target: target, timeout: o.Timeout, wire: wire, in: bufio.NewReaderSize(wire, readBuffer)}
	c.release = func() bool { return true }
	return &worker{g: g, ctx: context.Background(), tally: newTally(&o), conn: c}
}

// TestRequestsDoNotAllocate: the client takes no more of the machine than it has
// to.
func TestRequestsDoNotAllocate(t *testing.T) {
	w := cannedWorker(t, Options{Keys: 1000, Dist: Zipf, Writes: 0.5})
	i := uint64(0)
	if got := testing.AllocsPerRun(1000, func() {
		j, _ := w.g.plan.job(i)
		i++
		w.jobs = append(w.jobs[:0], j)
		w.exchange(0, true)
	}); got != 0 {
		t.Errorf("%g allocations per request", got)
	}
	if w.tally.failed > 0 || w.tally.statuses[200] == 0 {
		t.Errorf("%d failed: %v", w.tally.failed, w.tally.firstError)
	}
}

func BenchmarkRequest(b *testing.B) {
	w := cannedWorker(b, Options{Keys: 100_000, Dist: Zipf})
	b.ReportAllocs()
	for i := range uint64(b.N) {
		j, _ := w.g.plan.job(i)
		w.jobs = append(w.jobs[:0], j)
		w.exchange(0, true)
	}
}
