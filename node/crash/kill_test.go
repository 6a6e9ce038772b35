package crash_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestA1_KillNine kills the node again and again while writers write, sometimes
// while it starts, and demands after each start on the same directory that every
// acknowledged write is there or a later one is, that nothing acknowledged as
// deleted is back, and that versions go on rising.
//
// EDGENODE_SEED replays the draws; the moment of the kill is never the same.
func TestA1_KillNine(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("EDGENODE_SEED"), 10, 64); err == nil {
		seed = s
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	dir, l, total := t.TempDir(), newLedger(), 0
	for cycle := range killCycles {
		if cycle%5 == 4 {
			p := launch(t, dir)
			p.awaitLines(1 + rng.IntN(4))
			p.kill()
		}
		// Flush at once, often, never: the kill hits a write to SQL, or all is in
		// the journal alone.
		settings := []string{"EDGENODE_BATCH_FLUSH_MS=" + []string{"1", "20", "60000"}[cycle%3]}
		if cycle%3 == 2 {
			settings = append(settings, "EDGENODE_BATCH_FLUSH_COUNT=100000", "EDGENODE_BATCH_FLUSH_BYTES=256MiB")
		}
		p := start(t, dir, settings...)
		if err := l.check(p); err != nil {
			t.Fatalf("cycle %d, seed %d: after a restart: %v\n%s", cycle, seed, err, p.log())
		}
		n, err := killUnderLoad(p, l, rng, 1+rng.IntN(600))
		if err != nil {
			t.Fatalf("cycle %d, seed %d: %v\n%s", cycle, seed, err, p.log())
		}
		total += n
	}
	p := start(t, dir)
	if err := l.check(p); err != nil {
		t.Fatalf("seed %d: after the last restart: %v\n%s", seed, err, p.log())
	}
	p.signal(termination)
	if code := p.end(); code != 0 {
		t.Errorf("SIGTERM: exit code %d\n%s", code, p.log())
	}
	t.Logf("%d cycles, %d acknowledgements, %d ids", killCycles, total, len(l.last))
}

// killUnderLoad lets ten writers write and kills the node at about the given
// number of acknowledgements. It returns how many there were.
func killUnderLoad(p *process, l *ledger, rng *rand.Rand, after int) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var acks atomic.Int64
	reached := make(chan struct{})
	acked := func() {
		if acks.Add(1) == int64(after) {
			close(reached)
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, 10)
	for i := range errs {
		w := &writer{name: fmt.Sprintf("w%d", i), p: p, l: l, acked: acked, rng: rand.New(rand.NewPCG(rng.Uint64(), 0))}
		if w.shared = i >= 8; w.shared {
			w.name = "shared"
			w.n = i * 1_000_000_000
		}
		wg.Go(func() {
			if errs[i] = w.run(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	select {
	case <-reached:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		errs = append(errs, context.Cause(ctx))
	}
	p.kill()
	wg.Wait()
	return int(acks.Load()), errors.Join(errs...)
}
