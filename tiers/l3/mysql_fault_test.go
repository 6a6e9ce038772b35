package l3_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

// A cutter is a proxy before a server that can cut the connection of the next
// COMMIT, before the server hears of it or after it has answered, or hold it.
type cutter struct {
	t      testing.TB
	listen net.Listener
	to     string
	cut    atomic.Int32 // cutBefore, cutAfter, hold
	cuts   atomic.Int32
	held   chan struct{} // hears of a COMMIT that is held
	goOn   chan struct{} // lets it through
	done   chan struct{}
	group  sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

const (
	cutBefore = 1
	cutAfter  = 2
	hold      = 3
)

func newCutter(t testing.TB, to string) *cutter {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{t: t, listen: listen, to: to, held: make(chan struct{}), goOn: make(chan struct{}), done: make(chan struct{})}
	c.group.Go(c.accept)
	t.Cleanup(func() {
		listen.Close()
		close(c.done)
		c.mu.Lock()
		for _, conn := range c.conns {
			conn.Close()
		}
		c.mu.Unlock()
		c.group.Wait()
	})
	return c
}

func (c *cutter) accept() {
	for {
		client, err := c.listen.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.to)
		if err != nil {
			client.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, client, server)
		c.mu.Unlock()
		cutting := new(atomic.Bool) // swallow the answer
		c.group.Go(func() { c.requests(client, server, cutting) })
		c.group.Go(func() {
			defer client.Close()
			defer server.Close()
			b := make([]byte, 64<<10)
			for {
				n, err := server.Read(b)
				if err != nil || cutting.Load() {
					return
				}
				if _, err := client.Write(b[:n]); err != nil {
					return
				}
			}
		})
	}
}

// requests passes on the packets of the client: three bytes of length, a number,
// and what they say (0x03 and the text for a query).
func (c *cutter) requests(client, server net.Conn, cutting *atomic.Bool) {
	defer client.Close()
	defer server.Close()
	head := make([]byte, 4)
	for {
		if _, err := io.ReadFull(client, head); err != nil {
			return
		}
		packet := make([]byte, 4+binary.LittleEndian.Uint32([]byte{head[0], head[1], head[2], 0}))
		copy(packet, head)
		if _, err := io.ReadFull(client, packet[4:]); err != nil {
			return
		}
		if string(packet[4:]) == "\x03COMMIT" {
			switch c.cut.Swap(0) {
			case cutBefore:
				c.cuts.Add(1)
				return
			case cutAfter:
				c.cuts.Add(1)
				cutting.Store(true)
			case hold:
				for _, step := range [...]chan struct{}{c.held, c.goOn} {
					select {
					case step <- struct{}{}:
					case <-c.done:
						return
					}
				}
			}
		}
		if _, err := server.Write(packet); err != nil {
			return
		}
		if cutting.Load() {
			_, _ = io.ReadFull(client, head) // it hangs up when the answer is cut
			return
		}
	}
}

// A connection lost at COMMIT leaves the fate of the batch unknown, which is
// said; to repeat it gives the same outcome and changes nothing that is there.
func TestCutAtCommit(t *testing.T) {
	server := mariadbtest.Shared(t)
	name := server.Database(t)
	proxy := newCutter(t, server.Addr())
	s := openURL(t, server.URLAt(proxy.listen.Addr().String(), name))
	apply(t, s, put("old", 1, "x"))
	for i, cut := range []int32{cutBefore, cutAfter} {
		version := item.Version(10 * (i + 1))
		ops := opsOf([]item.View{put("k", version, fmt.Sprint(i), tags("t")), tombstone("old", version)})
		out := make([]l3.Outcome, 2)
		before := s.LastSeq()
		proxy.cut.Store(cut)
		if _, err := s.Apply(context.Background(), ops, nil, out); !errors.Is(err, l3.ErrUnavailable) {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if err := s.Load(context.Background()); err != nil {
			t.Fatal(err)
		}
		if got, want := s.LastSeq()-before, uint64(cut-cutBefore)*2; got != want {
			t.Errorf("cut %d: %d changes, want %d", cut, got, want)
		}
		if _, err := s.Apply(context.Background(), ops, nil, out); err != nil || !out[0].Won || !out[1].Won || out[0].Version != version {
			t.Errorf("again: %+v, %v", out, err)
		}
		if got := s.LastSeq() - before; got != 2 {
			t.Errorf("cut %d: %d changes after the repetition, want 2", cut, got)
		}
		if live(t, s, "k") != fmt.Sprint(i) || live(t, s, "old") != "-" {
			t.Errorf("cut %d: wrong rows", cut)
		}
	}
	if proxy.cuts.Load() != 2 {
		t.Errorf("%d commits cut", proxy.cuts.Load())
	}
}

// A server of the test's own is absent, killed, stopped and set otherwise.
func TestServerFaults(t *testing.T) {
	server := mariadbtest.Start(t, mariadbtest.Options{})
	url := server.URL(server.Database(t))
	t.Run("down at start", func(t *testing.T) { downAtStart(t, server, url) })
	t.Run("killed", func(t *testing.T) { serverKilled(t, server, url) })
	t.Run("stopped", func(t *testing.T) { serverStopped(t, server, url) })
	t.Run("settings", func(t *testing.T) { serverSettings(t, server, url) })
}

func downAtStart(t *testing.T, server *mariadbtest.Server, url string) {
	apply(t, openURL(t, url), put("k", 7<<16, "x"))
	server.Kill()
	s := openURL(t, url)
	if err := s.Load(context.Background()); !errors.Is(err, l3.ErrUnavailable) || s.MaxVersion() != 0 {
		t.Errorf("got %v, max version %s", err, s.MaxVersion())
	}
	if _, _, err := s.Get(context.Background(), idKey("k"), nil); !errors.Is(err, l3.ErrUnavailable) {
		t.Errorf("Get: %v", err)
	}
	if _, err := s.Apply(context.Background(), nil, nil, nil); !errors.Is(err, l3.ErrUnavailable) {
		t.Errorf("Apply: %v", err)
	}
	if ok, reason := s.Durable(); ok || reason == "" {
		t.Errorf("durable before the first contact: %t, %q", ok, reason)
	}
	server.Restart(t)
	if err := s.Load(context.Background()); err != nil || s.MaxVersion() != 7<<16 || live(t, s, "k") != "x" {
		t.Errorf("after the start: %v, max version %s", err, s.MaxVersion())
	}
}

// serverKilled: batches go on while the server is killed. Each batch is there as
// a whole or not at all, and each that was acknowledged is there; what failed is
// applied again and is there then.
func serverKilled(t *testing.T, server *mariadbtest.Server, url string) {
	const rows = 50
	s := openURL(t, url)
	batch := func(n int) []item.View {
		var records []item.View
		for i := range rows {
			records = append(records, put(fmt.Sprintf("b/%d/%d", n, i), item.Version(1+n), strings.Repeat("x", 500), tags(fmt.Sprint("batch", n))))
		}
		return records
	}
	for cycle := range 2 {
		acknowledged, running := make(chan int, 1000), make(chan int)
		go func() {
			n := cycle * 1000
			for ; ; n++ {
				if _, err := s.Apply(context.Background(), opsOf(batch(n)), nil, make([]l3.Outcome, rows)); err != nil {
					if !errors.Is(err, l3.ErrUnavailable) {
						t.Error(err)
					}
					break
				}
				acknowledged <- n
			}
			close(acknowledged)
			running <- n // in flight when the server died
		}()
		for range 5 + cycle {
			<-acknowledged
		}
		server.Kill()
		failed := <-running
		server.Restart(t)
		for n := cycle * 1000; n <= failed; n++ {
			got := len(ids(t, s, l3.ScanQuery{Prefix: idKey(fmt.Sprintf("b/%d/", n))}))
			tagged := len(ids(t, s, l3.ScanQuery{Tag: fmt.Sprint("batch", n)}))
			if got != rows && (n < failed || got != 0) || tagged != got {
				t.Errorf("batch %d of %d has %d rows, %d tagged", n, failed, got, tagged)
			}
		}
		for _, o := range apply(t, s, batch(failed)...) {
			if !o.Won {
				t.Fatalf("the batch again: %+v", o)
			}
		}
		if err := s.Verify(context.Background()); err != nil {
			t.Error(err)
		}
		changes(t, s, 0) // without a gap
	}
}

// serverStopped: no call outlasts its context, or the limit of the store, and
// when the server goes on so do calls.
func serverStopped(t *testing.T, server *mariadbtest.Server, url string) {
	o := urlOptions(url)
	o.Timeout = 300 * time.Millisecond
	s := openWith(t, o)
	apply(t, s, put("s", 1, "x"))
	if live(t, s, "s") != "x" {
		t.Fatal("no row")
	}
	server.Stop(t)
	f := func(name string, limit time.Duration, call func(ctx context.Context) error) {
		t.Helper()
		for _, bound := range []time.Duration{0, 50 * time.Millisecond} {
			ctx, cancel := context.Background(), context.CancelFunc(func() {})
			if bound > 0 {
				ctx, cancel = context.WithTimeout(ctx, bound)
			}
			start := time.Now()
			err := call(ctx)
			cancel()
			if took := time.Since(start); !errors.Is(err, l3.ErrUnavailable) || took > limit {
				t.Errorf("%s: %v after %v", name, err, took)
			}
		}
	}
	const limit = time.Minute // the store's is 300 ms; this is for a busy machine
	f("Apply", limit, func(ctx context.Context) error {
		_, err := s.Apply(ctx, opsOf([]item.View{put("s", 2, "y")}), nil, make([]l3.Outcome, 1))
		return err
	})
	f("Get", limit, func(ctx context.Context) error { _, _, err := s.Get(ctx, idKey("s"), nil); return err })
	f("Ping", limit, s.Ping)
	f("Scan", limit, func(ctx context.Context) error {
		return s.Scan(ctx, l3.ScanQuery{}, func(item.View) error { return nil })
	})
	cancelled, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := s.Ping(cancelled); !errors.Is(err, context.Canceled) || errors.Is(err, l3.ErrUnavailable) {
		t.Errorf("a caller that left: %v", err) // says nothing of the server
	}
	server.Cont(t)
	if out := apply(t, s, put("s", 3, "z")); !out[0].Won || live(t, s, "s") != "z" {
		t.Errorf("when it goes on: %+v", out)
	}
}

func serverSettings(t *testing.T, server *mariadbtest.Server, url string) {
	f := func(want string, args ...string) {
		t.Helper()
		server.Restart(t, args...)
		s := openURL(t, url)
		ok, reason := s.Durable()
		if ok != (want == "") || !strings.Contains(reason, want) {
			t.Errorf("%q: %t, %q", args, ok, reason)
		}
	}
	f("innodb_flush_log_at_trx_commit of the SQL server is 2, set it to 1", "--innodb-flush-log-at-trx-commit=2")
	f("sync_binlog of the SQL server is 0, set it to 1", "--log-bin=binlog", "--sync-binlog=0")
	f("", "--max-allowed-packet=2M")
	s := openURL(t, url)
	limit := s.MaxPayload()
	if limit > 2<<20 || limit < 2<<20-128<<10 {
		t.Errorf("MaxPayload is %d", limit)
	}
	big := put("big", 1<<40, strings.Repeat("\x00", int(limit)), response(strings.Repeat("r", 50<<10)))
	apply(t, s, big)
	if got := get(t, s, idKey("big")); string(got) != string(big) {
		t.Errorf("the greatest item comes back with %d bytes, want %d", len(got), len(big))
	}
	for _, tooBig := range []item.View{
		put("big", 1<<41, strings.Repeat("x", int(limit)+1)),
		put("big", 1<<41, strings.Repeat("x", int(limit)), response(strings.Repeat("r", 100<<10))),
		put("big", 1<<41, "x", tags(strings.Repeat("t", 2001))),
	} {
		_, err := s.Apply(context.Background(), opsOf([]item.View{tooBig}), nil, make([]l3.Outcome, 1))
		var op *l3.OpError
		if !errors.As(err, &op) || !errors.Is(err, item.ErrTooLarge) {
			t.Errorf("got %v", err)
		}
	}
}
