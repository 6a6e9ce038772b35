package crash_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const termination = syscall.SIGTERM

// unflushed are settings with which nothing goes to SQL before the shutdown.
var unflushed = []string{"EDGENODE_BATCH_FLUSH_MS=60000", "EDGENODE_BATCH_FLUSH_COUNT=100000", "EDGENODE_BATCH_FLUSH_BYTES=256MiB"}

// TestA2_Terminate: what waits for its flush when SIGTERM comes is in SQL
// afterwards, and the metric of what was written is the number of rows.
func TestA2_Terminate(t *testing.T) {
	for _, n := range []int{1, 999} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := t.TempDir()
			p := start(t, dir, unflushed...)
			p.batch("put", lines(n, `"text":"content"`), n)
			if got := p.metric("edgenode_pending_items"); got != fmt.Sprint(n) {
				t.Errorf("pending items = %s, want %d", got, n)
			}
			p.signal(termination)
			if code := p.end(); code != 0 || !strings.Contains(p.log(), "msg=stopped") {
				t.Fatalf("SIGTERM: exit code %d\n%s", code, p.log())
			}
			p = start(t, dir)
			if !strings.Contains(p.log(), `msg="journal opened"`) || !strings.Contains(p.log(), "clean=true records=0") {
				t.Errorf("the journal was not closed clean and empty:\n%s", p.log())
			}
			p.countIs(n)
			p.batch("delete", lines(n, ""), n, "Edge-Durability", "l3")
			p.batch("put", lines(n, `"text":"again"`), n, "Edge-Durability", "l3")
			if got := p.metric("edgenode_flush_items_total"); got != fmt.Sprint(2*n) {
				t.Errorf("flushed items = %s, want %d deletes and as many rows", got, n)
			}
			p.countIs(n)
		})
	}
}

// lines are n lines of a batch, each with the given members beside its id.
func lines(n int, members string) string {
	var b strings.Builder
	if members != "" {
		members = "," + members
	}
	for i := range n {
		fmt.Fprintf(&b, "{\"id\":\"a/%d\"%s}\n", i, members)
	}
	return b.String()
}

// batch sends lines and demands that all n of them succeed.
func (p *process) batch(verb, lines string, n int, header ...string) {
	p.tb.Helper()
	a := p.must("POST", "/v1/items:"+verb, lines, ok, header...)
	if end := fmt.Sprintf("{\"end\":true,\"ok\":%d,\"failed\":0}\n", n); !strings.HasSuffix(a.body, end) {
		p.tb.Fatalf("batch %s of %d lines ended with %.500s", verb, n, a.body[max(0, len(a.body)-500):])
	}
}

// countIs demands that the node counts n items.
func (p *process) countIs(n int) {
	p.tb.Helper()
	var out struct{ Count int }
	a := p.must("GET", "/v1/items:count", "", ok)
	if err := json.Unmarshal([]byte(a.body), &out); err != nil || out.Count != n {
		p.tb.Errorf("count = %s, %v; want %d", a.body, err, n)
	}
}

// metric returns the value of one metric as it is written.
func (p *process) metric(name string) string {
	p.tb.Helper()
	for line := range strings.Lines(p.must("GET", p.admin+"/metrics", "", ok).body) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == name {
			return value
		}
	}
	p.tb.Fatalf("there is no metric %s", name)
	return ""
}

// TestA3_WritesDuringShutdown: a write that meets the shutdown is refused with
// 503, or its connection is closed, or it is acknowledged and kept.
func TestA3_WritesDuringShutdown(t *testing.T) {
	dir, l := t.TempDir(), newLedger()
	p := start(t, dir, "EDGENODE_LISTEN_DATA_DRAIN_DELAY=100ms")
	half := openHalf(t, p)

	var acks sync.WaitGroup // the first 50 acknowledgements
	acks.Add(50)
	var mu sync.Mutex
	left, refused := 50, 0
	var wg sync.WaitGroup
	for i := range 8 {
		rng := rand.New(rand.NewPCG(uint64(i), 0))
		w := &writer{name: fmt.Sprintf("w%d", i), p: p, l: l, rng: rng, acked: func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left >= 0 {
				acks.Done()
			}
		}}
		wg.Go(func() {
			for {
				id, r := fmt.Sprintf("%s/k%d", w.name, w.rng.IntN(12)), record{content: w.content()}
				lost, err := w.send(context.Background(), id, r, "PUT", "/v1/items/"+id, r.content, w.durability(), 503)
				if err != nil {
					t.Error(err)
				}
				if lost || err != nil {
					mu.Lock()
					defer mu.Unlock()
					refused++
					return
				}
			}
		})
	}
	acks.Wait()
	p.signal(termination)
	p.awaitDraining()
	half.finish(l)
	wg.Wait()
	if code := p.end(); code != 0 {
		t.Errorf("SIGTERM: exit code %d\n%s", code, p.log())
	}
	if refused != 8 {
		t.Errorf("%d of 8 writers were told", refused)
	}
	p = start(t, dir)
	if err := l.check(p); err != nil {
		t.Fatalf("after the restart: %v\n%s", err, p.log())
	}
}

// awaitDraining returns when both listeners know of the shutdown: the admin
// listener is told last, and then ends its connections.
func (p *process) awaitDraining() {
	p.tb.Helper()
	for begin := time.Now(); time.Since(begin) < patience; {
		if a := p.must("GET", p.admin+"/readyz", "", []int{200, 503}); a.status == 503 && a.close {
			return
		}
	}
	p.tb.Fatalf("the node does not drain after %v:\n%s", patience, p.log())
}

// A half is a write of which the node has the header and the first byte.
type half struct {
	t    *testing.T
	conn net.Conn
}

func openHalf(t *testing.T, p *process) *half {
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.data, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "PUT /v1/items/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nh"); err != nil {
		t.Fatal(err)
	}
	return &half{t, conn}
}

// finish sends the rest and notes the answer: a request that began before the
// shutdown is finished.
func (h *half) finish(l *ledger) {
	h.t.Helper()
	r := record{content: "half"}
	l.ask("half", r)
	if _, err := io.WriteString(h.conn, "alf"); err != nil {
		h.t.Errorf("a write under way was cut: %v", err)
		return
	}
	resp, err := http.ReadResponse(bufio.NewReader(h.conn), nil)
	if err != nil {
		h.t.Errorf("a write under way was cut: %v", err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		var text bytes.Buffer
		text.ReadFrom(resp.Body)
		h.t.Errorf("a write under way = %d %s", resp.StatusCode, text.String())
		l.settled("half", r)
		return
	}
	if !resp.Close {
		h.t.Error("the answer during the shutdown does not say Connection: close")
	}
	fmt.Sscan(resp.Header.Get("Edge-Version"), &r.version)
	l.settled("half", r)
}

// TestA20_SecondProcess: a data directory belongs to one process; the second one
// ends at once and says who has it.
func TestA20_SecondProcess(t *testing.T) {
	dir := t.TempDir()
	first := start(t, dir, "EDGENODE_NODE_NAME=edge-first")
	first.must("PUT", "/v1/items/a", "1", written)
	second := launch(t, dir, "EDGENODE_NODE_NAME=edge-second")
	if code := second.end(); code != 1 {
		t.Errorf("the second process ended with %d, want 1", code)
	}
	for _, want := range []string{fmt.Sprintf("pid %d", first.cmd.Process.Pid), "edge-first", "data_dir"} {
		if !strings.Contains(second.log(), want) {
			t.Errorf("the second process does not say %q:\n%s", want, second.log())
		}
	}
	if a := first.must("GET", "/v1/items/a", "", ok); a.body != "1" {
		t.Errorf("the first process says %q", a.body)
	}
	first.kill() // the lock ends with its holder
	third := start(t, dir)
	if a := third.must("GET", "/v1/items/a", "", ok); a.body != "1" {
		t.Errorf("the third process says %q", a.body)
	}
}
