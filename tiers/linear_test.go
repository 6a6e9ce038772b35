package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

// Histories of concurrent clients on a few ids, through restarts, kills and power
// cuts, are linearizable: some order of the calls, each between its begin and
// its end, explains every answer. A write whose fate is not known may take place
// at any time after its begin, or never.

const (
	linearClients = 4
	linearIDs     = 5
)

// A linearOp is one call.
type linearOp struct {
	id, kind string // put, get, delete, cas
	content  string // written
	from     string // cas: the content it replaces
}

// A linearResult is its answer.
type linearResult struct {
	got     string // get: the content, empty for none
	failed  bool   // cas: the condition did not hold
	unknown bool   // it may have taken place
}

// linearRegister is one id; its state is the content. Ids are independent.
var linearRegister = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, o := range history {
			id := o.Input.(linearOp).id
			by[id] = append(by[id], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range by {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out, s := input.(linearOp), output.(linearResult), state.(string)
		switch {
		case in.kind == "get":
			return out.got == s, s
		case in.kind == "put":
			return true, in.content
		case in.kind == "delete":
			return true, ""
		case out.unknown && s != in.from:
			return true, s
		case out.failed:
			return s != in.from, s
		}
		return s == in.from, in.content
	},
	Equal: func(a, b any) bool { return a == b },
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v: %+v", input, output)
	},
}

// A linearRun is one history.
type linearRun struct {
	*testing.T
	seed    uint64
	options tiers.Options
	disk    *crashfs.FS
	sql     *memstore.L3 // nil: SQLite
	start   time.Time

	e *tiers.Engine

	mu       sync.Mutex
	history  []porcupine.Operation
	unknown  int
	restarts int
}

// TestLinearizableThroughRestarts: on SQLite, with durability sync.
func TestLinearizableThroughRestarts(t *testing.T) {
	histories, ops := scale(1000, 50), scale(10_000, 2_000)
	if raceEnabled {
		histories = scale(100, 5)
	}
	linearHistories(t, histories, func(seed uint64) *linearRun { return newLinearRun(t, seed, nil) }, ops)
}

// TestLinearizableUnderFaults: on memstore's SQL and Redis, which fail, lie about
// what they did, and are slow.
func TestLinearizableUnderFaults(t *testing.T) {
	histories, ops := scale(300, 15), scale(10_000, 1_000)
	if raceEnabled {
		histories = scale(30, 2)
	}
	linearHistories(t, histories, func(seed uint64) *linearRun {
		r := newLinearRun(t, seed, memstore.NewL3(nil))
		redis := memstore.NewL2(nil)
		r.options.OpenL2 = func() (tiers.L2Store, error) { return redis, nil }
		r.options.RedisTimeout, redis.FenceTTL = 50*time.Millisecond, 100*time.Millisecond
		r.options.FollowInterval = 5 * time.Millisecond
		r.options.L3Timeout = 100 * time.Millisecond
		return r
	}, ops)
}

func linearHistories(t *testing.T, n int, make func(seed uint64) *linearRun, ops int) {
	unknown, restarts, total := 0, 0, 0
	for seed := range uint64(n) {
		r := make(seed)
		r.run(ops)
		unknown, restarts, total = unknown+r.unknown, restarts+r.restarts, total+len(r.history)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d calls in %d histories, %d of unknown fate, %d restarts", total, n, unknown, restarts)
	if restarts < n || unknown == 0 {
		t.Errorf("%d restarts, %d calls of unknown fate: want both", restarts, unknown)
	}
}

func newLinearRun(t *testing.T, seed uint64, sql *memstore.L3) *linearRun {
	r := &linearRun{T: t, seed: seed, disk: crashfs.New(), sql: sql, start: time.Now()}
	dir := simDir(t)
	t.Cleanup(func() { os.RemoveAll(dir) })
	r.options = tiers.Options{
		DataDir: dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 32 << 20,
		BatchFlush: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	}
	if sql != nil {
		r.options.WrapStore = func(real tiers.Store) tiers.Store {
			if err := real.Close(); err != nil {
				t.Error(err)
			}
			return &simStore{L3: sql, simRest: simRest{real}}
		}
	}
	return r
}

func (r *linearRun) open() {
	r.Helper()
	r.options.JournalFS = r.disk
	e, err := tiers.Open(context.Background(), r.options)
	if err != nil {
		r.Fatalf("seed %d: open: %v", r.seed, err)
	}
	r.e = e
}

// run makes a history of ops calls in rounds; between two rounds the engine is
// restarted in some way, while the clients of the first still call.
func (r *linearRun) run(ops int) {
	const rounds = 5
	rng := rand.New(rand.NewPCG(r.seed, 3))
	r.open()
	for round := range rounds {
		r.round(rng, ops/rounds/linearClients, round)
	}
	r.final()
	if err := r.e.Close(context.Background()); err != nil {
		r.Errorf("seed %d: close: %v", r.seed, err)
	}
	switch porcupine.CheckOperationsTimeout(linearRegister, r.history, time.Minute) {
	case porcupine.Illegal:
		r.Fatalf("history %d of %d calls is not linearizable; its file: %s", r.seed, len(r.history), r.draw())
	case porcupine.Unknown:
		r.Fatalf("history %d of %d calls, %d of them unknown: not decided in a minute", r.seed, len(r.history), r.unknown)
	}
}

// draw writes what porcupine found to a page.
func (r *linearRun) draw() string {
	_, info := porcupine.CheckOperationsVerbose(linearRegister, r.history, time.Minute)
	path := fmt.Sprintf("%s/edgenode-history-%d.html", os.TempDir(), r.seed)
	if err := porcupine.VisualizePath(linearRegister, info, path); err != nil {
		return err.Error()
	}
	return path
}

// round has all clients call, and ends the engine in the midst of it.
func (r *linearRun) round(rng *rand.Rand, ops, round int) {
	var wg sync.WaitGroup
	var done atomic.Int64
	half := make(chan struct{})
	var once sync.Once
	e := r.e
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for client := range linearClients {
		own := rand.New(rand.NewPCG(r.seed, uint64(100*round+client+1)))
		wg.Go(func() {
			for i := range ops {
				if !r.call(ctx, e, own, client, fmt.Sprintf("%d.%d.%d", round, client, i)) {
					return
				}
				if done.Add(1) >= int64(ops*linearClients*3/4) {
					once.Do(func() { close(half) })
				}
				if r.sql != nil && own.IntN(20) == 0 {
					r.fault(own)
				}
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	select {
	case <-half:
	case <-finished:
	}
	r.end(rng, cancel)
	wg.Wait()
	r.restarts++
	r.open()
}

// end restarts the engine: closed, killed, or without power.
func (r *linearRun) end(rng *rand.Rand, cancel context.CancelFunc) {
	if r.sql != nil {
		r.sql.Heal()
	}
	switch rng.IntN(3) {
	case 0:
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		if err := r.e.Close(ctx); err != nil {
			r.Errorf("seed %d: close: %v", r.seed, err)
		}
	case 1:
		r.disk.Cut() // from here on nothing is acknowledged
		image := r.disk.Clone()
		cancel()
		r.e.Close(context.Background())
		r.disk = image
	case 2:
		r.disk.Cut()
		image := r.disk.Crash(rng)
		cancel()
		r.e.Close(context.Background())
		r.disk = image
	}
}

// fault has SQL misbehave for a call.
func (r *linearRun) fault(rng *rand.Rand) {
	f := memstore.Fault{
		Kind:  []memstore.Kind{memstore.Before, memstore.After, memstore.Slow, memstore.Late}[rng.IntN(4)],
		Delay: time.Duration(rng.IntN(3000)) * time.Microsecond,
	}
	call := []string{"Apply", "Get", "Get"}[rng.IntN(3)]
	if call == "Apply" && rng.IntN(3) == 0 {
		f.Kind = memstore.Swallow
	}
	r.sql.Plan(call, f)
}

// call does one call and notes it. It reports whether the client goes on: not with an
// engine that is gone, nor after a write whose fate is not known, of which a
// history can hold a few only.
func (r *linearRun) call(ctx context.Context, e *tiers.Engine, rng *rand.Rand, client int, content string) bool {
	in := linearOp{
		id: fmt.Sprintf("k%d", rng.IntN(linearIDs)), kind: []string{"put", "get", "get", "delete", "cas", "cas"}[rng.IntN(6)], content: content,
	}
	key := item.AppendKey(nil, item.NamespaceItem, in.id)
	if in.kind == "cas" {
		h, ok, err := e.Get(ctx, key, tiers.ReadOptions{})
		if err != nil {
			return !simIs(err, tiers.ErrClosed, tiers.ErrShuttingDown)
		}
		if ok {
			in.from = string(h.View.Content())
		}
		h.Release()
	}
	begin := time.Since(r.start)
	out, err := linearDo(ctx, e, key, in)
	r.note(client, in, out, begin, err)
	return !simIs(err, tiers.ErrClosed, tiers.ErrShuttingDown, tiers.ErrUnknownFate, tiers.ErrReadOnly)
}

func linearDo(ctx context.Context, e *tiers.Engine, key item.Key, in linearOp) (out linearResult, err error) {
	switch in.kind {
	case "get":
		h, ok, err := e.Get(ctx, key, tiers.ReadOptions{})
		defer h.Release()
		if ok {
			out.got = string(h.View.Content())
		}
		return out, err
	case "put":
		_, err = e.Submit(ctx, &tiers.Write{Key: key, Content: []byte(in.content)})
	case "delete":
		_, err = e.Delete(ctx, key, nil, 0)
	case "cas":
		c := tiers.Condition{NoneAny: in.from == ""}
		if in.from != "" {
			c.Match = []item.ETag{item.ETagOf("application/octet-stream", []byte(in.from))}
		}
		_, err = e.CompareAndSubmit(ctx, &c, &tiers.Write{Key: key, Content: []byte(in.content)})
		if errors.Is(err, tiers.ErrPrecondition) {
			return linearResult{failed: true}, nil
		}
	}
	return out, err
}

// note adds a call to the history. A read that failed says nothing, nor does a
// write that was refused before it was begun.
func (r *linearRun) note(client int, in linearOp, out linearResult, begin time.Duration, err error) {
	end := int64(time.Since(r.start))
	switch {
	case err == nil:
	case in.kind == "get",
		simIs(err, tiers.ErrClosed, tiers.ErrShuttingDown, tiers.ErrStateUnknown) && !errors.Is(err, tiers.ErrUnknownFate):
		return
	default:
		out.unknown, end = true, math.MaxInt64
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if out.unknown {
		r.unknown++
		client = linearClients + r.unknown // it goes on for ever: its client is another one from now on
	}
	r.history = append(r.history, porcupine.Operation{ClientId: client, Input: in, Call: int64(begin), Output: out, Return: end})
}

// final reads every id at the end, from tiers that have come to rest.
func (r *linearRun) final() {
	if r.sql != nil {
		r.sql.Heal()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for r.e.Flush(ctx) != nil && ctx.Err() == nil {
		r.Log("flush again")
	}
	for i := range linearIDs {
		in := linearOp{id: fmt.Sprintf("k%d", i), kind: "get"}
		begin := time.Since(r.start)
		out, err := linearDo(ctx, r.e, item.AppendKey(nil, item.NamespaceItem, in.id), in)
		if err != nil {
			r.Errorf("seed %d: at the end: %v", r.seed, err)
		}
		r.note(0, in, out, begin, err)
	}
}
