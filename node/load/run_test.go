package load_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/load"
)

// store is a server that keeps what is put.
type store struct {
	mu     sync.Mutex
	values map[string][]byte
}

func (s *store) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPut {
		s.values[r.URL.Path], _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if v, ok := s.values[r.URL.Path]; ok {
		_, _ = w.Write(v)
		return
	}
	http.NotFound(w, r)
}

func newStore(t *testing.T) (*store, string) {
	s := &store{values: map[string][]byte{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, server.URL
}

// run runs o against one target, with short times.
func run(t *testing.T, target string, o load.Options) *load.Report {
	t.Helper()
	o.Targets = append(o.Targets, target)
	if o.Duration == 0 {
		o.Duration = 50 * time.Millisecond
	}
	if o.Connections == 0 {
		o.Connections = 4
	}
	r, err := load.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// good fails the test unless all went well.
func good(t *testing.T, r *load.Report) *load.Report {
	t.Helper()
	if r.Requests == 0 || r.Failed > 0 || r.FirstError != "" || r.Latency.P50 <= 0 || r.Latency.Max < r.Latency.P50 || r.PerSecond <= 0 {
		t.Fatalf("%+v", r)
	}
	return r
}

func TestClosedLoop(t *testing.T) {
	s, url := newStore(t)
	r := good(t, run(t, url, load.Options{Keys: 50, Sizes: []int{10, 2000}, Fill: true, Writes: 0.5, Warmup: 10 * time.Millisecond, Duration: 300 * time.Millisecond}))
	if len(s.values) != 50 || r.Loop != "closed" || r.Service != nil || r.Reads.Misses > 0 ||
		r.Reads.Requests == 0 || r.Writes.Requests == 0 || r.Reads.Bytes == 0 || r.Writes.Bytes == 0 ||
		r.Statuses["200"] != r.Reads.Requests || r.Statuses["204"] != r.Writes.Requests {
		t.Errorf("%d values; %+v", len(s.values), r)
	}
	good(t, run(t, url, load.Options{Keys: 50, Pipeline: 8}))
	sum := 0
	for _, v := range s.values {
		sum += len(v)
	}
	if sum <= 50*10 || sum >= 50*2000 {
		t.Errorf("%d bytes are kept", sum)
	}
}

// TestTrace: a trace is played to its end, once; what is missed is put.
func TestTrace(t *testing.T) {
	s, url := newStore(t)
	trace := &load.Trace{IDs: []uint32{0, 1, 0, 2, 1, 0}, Millis: []int64{0, 10, 20, 30, 40, 50}, Sizes: []uint32{5, 6, 7}}
	r := good(t, run(t, url+"/x/{key}/{size}", load.Options{Trace: trace, PutMisses: true, Connections: 1, Duration: time.Minute}))
	if r.Reads.Requests != 6 || r.Reads.Misses != 3 || r.Writes.Requests != 3 || len(s.values["/x/2/7"]) != 7 || r.Seconds >= 60 {
		t.Errorf("%+v", r)
	}
	r = good(t, run(t, url+"/x/{key}/{size}", load.Options{Trace: trace, Speed: 0.5, Connections: 2, Duration: time.Minute}))
	if r.Reads.Requests != 6 || r.Reads.Misses != 0 || r.Seconds < 0.1 || r.Loop != "open" {
		t.Errorf("at half speed: %+v", r)
	}
}

// TestStallCounts: while a server stalls, requests become due. They count with
// the time since then, although each was answered at once when it was sent.
func TestStallCounts(t *testing.T) {
	const stall = 300 * time.Millisecond
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if n.Add(1) == 10 {
			<-time.After(stall)
		}
	}))
	defer server.Close()
	r := good(t, run(t, server.URL+"/", load.Options{Rate: 100, Duration: 600 * time.Millisecond, Connections: 1}))
	if r.Requests+r.NotSent != 60 || r.Service == nil {
		t.Fatalf("%+v", r)
	}
	// 30 requests of 60 were due in the stall, evenly.
	if most := float64(stall.Microseconds()); r.Latency.Max < most || r.Latency.P90 < most/3 || r.Service.P90 > r.Latency.P90 {
		t.Errorf("latency %+v, service %+v", r.Latency, r.Service)
	}
}

// TestOverload: what cannot be sent is said, and has waited.
func TestOverload(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-time.After(20 * time.Millisecond) }))
	defer server.Close()
	r := run(t, server.URL+"/", load.Options{Rate: 1000, Duration: 200 * time.Millisecond, Connections: 1})
	if r.Requests+r.NotSent != 200 || r.NotSent < 180 || r.Latency.P50 < 50_000 {
		t.Errorf("%+v", r)
	}
}

// TestErrors: each kind of failure is counted as what it is.
func TestErrors(t *testing.T) {
	f := func(kind string, serve func(net.Conn)) {
		t.Helper()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := listener.Accept()
				if err != nil {
					return
				}
				wg.Go(func() { defer c.Close(); serve(c) })
			}
		})
		defer wg.Wait()
		defer listener.Close()
		if kind == load.KindConnect {
			_ = listener.Close()
		}
		o := load.Options{Duration: 30 * time.Millisecond, Connections: 1}
		if kind == load.KindTimeout {
			o.Timeout = 20 * time.Millisecond
		}
		r := run(t, "http://"+listener.Addr().String()+"/", o)
		if r.Errors[kind] == 0 || len(r.Errors) != 1 || r.Failed != r.Errors[kind] || r.Requests != 0 || r.FirstError == "" {
			t.Errorf("%s: %+v", kind, r)
		}
		if kind == load.KindTimeout && r.Latency.P50 < 20_000 {
			t.Errorf("a timeout took %+v", r.Latency)
		}
	}
	f(load.KindConnect, nil)
	f(load.KindCut, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) })
	f(load.KindAnswer, func(c net.Conn) { _, _ = io.WriteString(c, "220 smtp\r\n") })
	f(load.KindTimeout, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })

	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer bad.Close()
	r := run(t, bad.URL+"/", load.Options{})
	if r.Statuses["418"] == 0 || r.Failed != r.Requests || len(r.Errors) != 0 {
		t.Errorf("%+v", r)
	}
	_, err := load.Run(t.Context(), load.Options{Targets: []string{bad.URL}, Fill: true, Keys: 5})
	if !errors.Is(err, load.ErrFill) || !strings.Contains(err.Error(), "418") {
		t.Errorf("fill: %v", err)
	}
}

// TestClosingServer: a server that closes connections loses no request.
func TestClosingServer(t *testing.T) {
	var n atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%3 == 0 {
			w.Header().Set("Connection", "close")
		}
	}))
	defer server.Close()
	good(t, run(t, server.URL+"/", load.Options{Connections: 2}))
	good(t, run(t, server.URL+"/", load.Options{Connections: 2, Pipeline: 2}))
}

// TestInterrupted: the end of the context ends a run at once, whatever hangs.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("enough")
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel(why); <-hang }))
	defer server.Close()
	defer close(hang)
	o := load.Options{Targets: []string{server.URL + "/"}, Timeout: time.Hour, Duration: time.Hour, Rate: 10, Connections: 3}
	if _, err := load.Run(ctx, o); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

func TestOptions(t *testing.T) {
	f := func(o load.Options, faults ...string) {
		t.Helper()
		_, err := load.Run(t.Context(), o)
		if !errors.Is(err, load.ErrOptions) {
			t.Errorf("%+v: %v", o, err)
			return
		}
		for _, want := range faults {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is missing in %v", want, err)
			}
		}
	}
	at := []string{"http://127.0.0.1:1"}
	f(load.Options{}, "no URL")
	f(load.Options{Targets: at, Connections: -1, Keys: -1, Dist: "often", Writes: 2, Durability: "ever", Sizes: []int{-1}},
		"connections", "keys", "often", "writes", "ever", "-1 bytes")
	f(load.Options{Targets: at, Pipeline: 2, Rate: 1}, "pipelines")
	f(load.Options{Targets: at, Speed: 1}, "traces with times")
	f(load.Options{Targets: at, Headers: []string{"a\r\nb: c"}}, "header field")
	f(load.Options{Targets: at, Token: "a\nb"}, "line break")
	f(load.Options{Targets: at, Trace: &load.Trace{IDs: []uint32{1}, Sizes: []uint32{1}}}, "damaged")
}
