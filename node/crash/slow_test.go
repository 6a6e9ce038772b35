package crash_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

// A slowProxy stands before a server and, while it is slow, holds back each of its
// answers.
type slowProxy struct {
	listener net.Listener
	server   string
	delay    atomic.Int64 // of what the server says, as time.Duration
	over     chan struct{}
	tasks    sync.WaitGroup
}

func startSlowProxy(t *testing.T, server string) *slowProxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &slowProxy{listener: listener, server: server, over: make(chan struct{})}
	p.tasks.Go(p.accept)
	t.Cleanup(func() {
		close(p.over)
		_ = listener.Close() // accept ends
		p.tasks.Wait()
	})
	return p
}

func (p *slowProxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.tasks.Go(func() { // ends with either side, or the proxy
			stop := make(chan struct{})
			p.tasks.Go(func() {
				select {
				case <-stop:
				case <-p.over:
				}
				_, _ = client.Close(), server.Close()
			})
			done := make(chan struct{}, 2)
			p.tasks.Go(func() { _, _ = io.Copy(server, client); done <- struct{}{} })
			p.tasks.Go(func() { p.back(client, server); done <- struct{}{} })
			<-done
			close(stop)
		})
	}
}

// back passes on what the server says, late.
func (p *slowProxy) back(client, server net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := server.Read(buf)
		if d := time.Duration(p.delay.Load()); d > 0 && n > 0 {
			late := time.NewTimer(d)
			select {
			case <-late.C:
			case <-p.over:
				late.Stop()
				return
			}
		}
		if _, werr := client.Write(buf[:n]); err != nil || werr != nil {
			return
		}
	}
}

// residentBytes returns the memory of a process.
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("the system does not tell the memory of a process")
	return 0
}

// median returns the middle of how long n requests took.
func median(t *testing.T, n int, ask func()) time.Duration {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		begin := time.Now()
		ask()
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return took[n/2]
}

// TestD4_SlowSQL: SQL that answers after 30 s, while writers write: memory stays
// below its limit, what is in memory is served as before, health answers at once
// and names SQL, and all of it reaches SQL when that is well again.
func TestD4_SlowSQL(t *testing.T) {
	sql := mariadbtest.Start(t, mariadbtest.Options{})
	proxy := startSlowProxy(t, sql.Addr())
	settings := append(onServer(t, proxy.listener.Addr().String(), sql.Database(t)),
		"EDGENODE_SQL_BATCH_TIMEOUT=5s", "EDGENODE_L1_MAX_BYTES=16MiB", "EDGENODE_INFLIGHT_MAX_BYTES=16MiB", "EDGENODE_MAX_PAYLOAD_BYTES=1MiB", "EDGENODE_JOURNAL_MAX_BYTES=256MiB")
	p := start(t, t.TempDir(), settings...)
	p.must("PUT", "/v1/items/hot", "hot", written)
	hit := func() { p.must("GET", "/v1/items/hot", "", ok) }
	before := median(t, 201, hit)

	proxy.delay.Store(int64(30 * time.Second))
	if took := p.awaitHealth(degraded); took > inTime(4*time.Second) {
		t.Errorf("health named SQL after %v", took)
	}
	ctx, cancel := context.WithCancel(t.Context())
	content := strings.Repeat("x", 8<<10)
	var writers sync.WaitGroup
	var acknowledged atomic.Int64
	for w := range 4 {
		writers.Go(func() {
			for i := 0; ctx.Err() == nil && i < slowWrites/4; i++ {
				a, err := p.ask(ctx, "PUT", fmt.Sprintf("/v1/items/w%d/%d", w, i), content, "Edge-Durability", "journal")
				if err == nil && a.status < 300 {
					acknowledged.Add(1)
				}
			}
		})
	}
	during := median(t, 401, hit)
	answered := median(t, 21, func() { p.must("GET", p.admin+"/healthz", "", ok) })
	writers.Wait()
	cancel()
	const limit = 16<<20 + 96<<20 + 16<<20
	if rss := residentBytes(t, p.cmd.Process.Pid); rss > limit {
		t.Errorf("%d MiB resident, the limit is %d", rss>>20, int64(limit)>>20)
	}
	if acknowledged.Load() != slowWrites/4*4 {
		t.Errorf("%d of %d writes were acknowledged", acknowledged.Load(), slowWrites)
	}
	// The writers take their share of the machine: what is to be seen is a wait
	// for SQL, which would be of seconds.
	if during > inTime(2*before+20*time.Millisecond) {
		t.Errorf("a hit took %v, before %v", during, before)
	}
	if answered > inTime(100*time.Millisecond) {
		t.Errorf("health took %v", answered)
	}
	t.Logf("hit %v, before %v; health %v; %d writes", during, before, answered, acknowledged.Load())

	proxy.delay.Store(0)                           // what is under way is given up after sql_batch_timeout
	for left := int64(slowWrites + 1); left > 0; { // however slow the machine is, some are written again and again
		p.awaitHealth(func(h *health) bool {
			fewer := int64(h.Journal.Pending) < left && (h.Journal.Pending > 0 || h.L3.OK)
			if fewer {
				left = int64(h.Journal.Pending)
			}
			return fewer
		})
	}
	p.stop()
}
