package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
)

// L2 holds copies. What it holds is believed only while it is trusted (see
// trust.go): then no copy is older than what this node has acknowledged and let
// go of. Writes reach it in three ways, one at a time under l2Tier.writing: the
// flusher, after the commit in L3 (l2flush.go); the copier, for what lives
// outside L3 and for what reads have found (l2copies.go); and the walk along the
// change sequence, which drops what is out of date (trust.go).

// An l2Tier is L2 as the engine sees it.
type l2Tier struct {
	store    L2Store
	evict    evicter     // the store itself, if it can; else nil
	waker    waker       // likewise
	streamer streamer    // likewise
	shadow   shadowStore // likewise
	backend  *backend
	copies   copyQueue
	own      ownWrites

	// token is 0 while L2 is not trusted, else a number that no earlier trust
	// had. generation is the one of the store for which it holds.
	token, tokens atomic.Uint64
	generation    atomic.Uint64
	faults        atomic.Uint64          // writes to L2 that failed
	walked        atomic.Uint64          // the last change that a walk has applied
	owes          atomic.Bool            // the file that says so is there
	unmarked      atomic.Bool            // the mark says nothing: changes before it are not what they were
	nearlyFull    atomic.Bool            // the last probe found a limit of memory that is in sight
	evicts        atomic.Pointer[string] // maxmemory-policy, if by it the server evicts by itself
	lossLog       seldom
	trustLog      seldom
	troubleLog    seldom
	compareLog    seldom

	wake     chan struct{} // capacity 1: the trust has work
	sweeping contextLock   // one sweep for rules at a time
	sweepAt  atomic.Int64  // Unix ms from which the next may begin, if nobody waits for it

	// writing orders what this node writes to L2. It is held during I/O of L2 of
	// at most RedisTimeout, and by the last step to trust during a read of L3.
	// It stands below flusherState.mu and above the stripes' locks.
	writing sync.Mutex
	seq     uint64 // the change up to which L2 is right; only while trusted
	marked  uint64 // what the mark in L2 says
	last    lastChange
	id      string // of the L3 that seq belongs to; of the goroutine of the trust
	checked uint64 // walked, when id was last compared; likewise
}

// openL2 makes the client. It does no I/O: L2 may be down.
func (e *Engine) openL2() error {
	o := &e.options
	if o.RedisURL == "" && o.OpenL2 == nil {
		return nil
	}
	var store L2Store
	var err error
	if o.OpenL2 != nil {
		store, err = o.OpenL2()
	} else {
		store, err = e.openRedis()
	}
	if err != nil {
		return fmt.Errorf("tiers: L2: %w", err)
	}
	evict, _ := store.(evicter)
	waker, _ := store.(waker)
	streamer, _ := store.(streamer)
	shadow, _ := store.(shadowStore)
	if o.WrapL2 != nil {
		store = o.WrapL2(store)
	}
	e.l2 = &l2Tier{store: store, evict: evict, waker: waker, streamer: streamer, shadow: shadow, backend: e.newBackend("l2"), wake: make(chan struct{}, 1), sweeping: newContextLock()}
	e.l2.copies.init(o.L2QueueBytes)
	if _, err := os.Stat(e.oweFile()); err == nil {
		e.l2.owes.Store(true)
		e.l2.copies.forgot(true)
	}
	return nil
}

// trusted returns the present trust, and false if there is none.
func (t *l2Tier) trusted() (token uint64, ok bool) {
	token = t.token.Load()
	return token, token != 0 && t.holds(token)
}

// holds reports whether the trust called token holds still: asked after an
// answer of L2 has come, it says whether the answer counts.
func (t *l2Tier) holds(token uint64) bool {
	return t.token.Load() == token && t.store.Generation() == t.generation.Load()
}

// lag returns how many changes of L3, whose last is the given one, L2 has not
// been walked over yet.
func (t *l2Tier) lag(last uint64) uint64 {
	done := t.walked.Load()
	return max(last, done) - done
}

// distrust makes every read pass L2 by until it is caught up.
func (e *Engine) distrust(reason string, err error) {
	if e.l2.token.Swap(0) != 0 {
		e.metrics.distrusts.Inc()
		if kept, ok := e.l2.lossLog.now(e.clock.UnixMilli()); ok {
			e.logger.Warn("L2 is not trusted until it has caught up", "reason", reason, "err", err, "since_last_line", kept)
		}
	}
	signal(e.l2.wake)
}

// l2Failed notes that a write to L2 failed: what it holds may be out of date.
func (e *Engine) l2Failed(err error) {
	e.l2.faults.Add(1)
	e.l2.backend.circuit.Record(err)
	e.distrust("a write to it failed", err)
}

func (e *Engine) l2Context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.ctx, time.Duration(e.redisTimeout.Load()))
}

// An l2Verdict is what L2 says about a key.
type l2Verdict byte

const (
	l2Unknown l2Verdict = iota // nothing: not configured, not trusted, down, or no copy
	l2Hit
	l2Gone // the item was deleted
)

// readL2 asks L2 for key. Only a trusted L2 is asked, and its answer counts only
// if the trust still holds when it is there.
func (e *Engine) readL2(key item.Key) (item.View, l2Verdict) {
	t := e.l2
	if t == nil {
		return nil, l2Unknown
	}
	token, ok := t.trusted()
	if !ok || !t.backend.circuit.Allow() {
		e.metrics.l2Skipped.Inc()
		return nil, l2Unknown
	}
	ctx, cancel := e.l2Context()
	defer cancel()
	b, found, err := t.store.Get(ctx, key, nil)
	t.backend.circuit.Record(err)
	switch {
	case err != nil:
		e.metrics.l2Errors.Inc()
		return nil, l2Unknown
	case !found || !t.holds(token):
		return nil, l2Unknown
	}
	return e.judgeL2(key, item.View(b))
}

// readManyL2 calls fn with what L2 knows of keys, tombstones included, in one
// round trip.
func (e *Engine) readManyL2(keys []item.Key, fn func(i int, v item.View)) {
	t := e.l2
	if t == nil || len(keys) == 0 {
		return
	}
	token, ok := t.trusted()
	if !ok || !t.backend.circuit.Allow() {
		e.metrics.l2Skipped.Inc()
		return
	}
	ctx, cancel := e.l2Context()
	defer cancel()
	type answer struct {
		i int
		v item.View
	}
	var answers []answer
	kept := 0
	err := t.store.GetMany(ctx, keys, func(i int, v item.View) error {
		if kept += len(v); kept <= prefetchBytes {
			answers = append(answers, answer{i, append(item.View(nil), v...)})
		}
		return nil
	})
	t.backend.circuit.Record(err)
	if err != nil {
		e.metrics.l2Errors.Inc()
		return
	}
	if !t.holds(token) {
		return
	}
	for _, a := range answers {
		if v, verdict := e.judgeL2(keys[a.i], a.v); verdict != l2Unknown {
			fn(a.i, v)
		}
	}
}

// judgeL2 says what the copy v, held under key, is worth. A copy that is over,
// that a rule covers, or that this node knows to be out of date, is none: L3
// decides.
func (e *Engine) judgeL2(key item.Key, v item.View) (item.View, l2Verdict) {
	if !bytes.Equal(v.Key(), key) || e.l2.copies.overtaken(key, v.Version()) {
		return nil, l2Unknown
	}
	if v.Kind() == item.KindTombstone {
		return v, l2Gone
	}
	c := e.rules.covers(v, everyRule)
	if v.Kind() != item.KindPut || v.Expired(e.clock.UnixMilli()) || c.deleted || c.purged || c.stale && !refetchable(v) {
		return nil, l2Unknown
	}
	return v, l2Hit
}

// dropCorrupt removes the copy of key that L2 holds in version.
func (e *Engine) dropCorrupt(key item.Key, version item.Version) {
	e.l2.tell(l2Copy{key: string(key), hash: e.hash(key), version: version + 1}, e)
}

// applyL2 writes ops to L2, within RedisTimeout. It reports an error if the call
// as a whole failed; what one op came to is in the result. writing is held.
func (e *Engine) applyL2(ops []l2.Op) ([]l2.Outcome, error) {
	t := e.l2
	if len(ops) == 0 {
		return nil, nil
	}
	if !t.backend.circuit.Allow() {
		return nil, errOpen
	}
	ctx, cancel := e.l2Context()
	defer cancel()
	out := make([]l2.Outcome, len(ops))
	start := time.Now()
	err := t.store.Apply(ctx, ops, out)
	e.metrics.l2Seconds.Update(time.Since(start).Seconds())
	if err != nil {
		e.metrics.l2WriteErrors.Inc()
		return nil, err
	}
	t.backend.circuit.Record(nil)
	e.metrics.l2Writes.Add(len(ops))
	return out, nil
}

// ownWrites remembers what this node has written to L3 lately, and whether L2
// got it too, so that the walk along the changes need not undo it. It forgets;
// what it forgot is treated like a change of another node.
type ownWrites struct {
	mu           sync.Mutex
	fresh, older map[uint64]bool // hash of key and version: L2 is right
}

const ownWritesMax = 32 << 10

func (o *ownWrites) note(hash uint64, v item.Version, inL2 bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.fresh) >= ownWritesMax || o.fresh == nil {
		o.older, o.fresh = o.fresh, make(map[uint64]bool)
	}
	o.fresh[mixVersion(hash, v)] = inL2
}

func (o *ownWrites) find(hash uint64, v item.Version) (own, inL2 bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if inL2, own = o.fresh[mixVersion(hash, v)]; own {
		return own, inL2
	}
	inL2, own = o.older[mixVersion(hash, v)]
	return own, inL2
}

func mixVersion(hash uint64, v item.Version) uint64 {
	return hash ^ uint64(v)*0x9e3779b97f4a7c15
}

// runL2Keeper knows whether L2 is there.
func (e *Engine) runL2Keeper() {
	t := e.l2
	for {
		recovered, err := e.probeL2()
		if recovered || err == nil && t.token.Load() == 0 {
			signal(t.wake)
		}
		e.noteOwing()
		if !e.pause(t.backend.interval(), nil) {
			return
		}
	}
}

// probeL2 asks L2 once.
func (e *Engine) probeL2() (recovered bool, err error) {
	return e.l2.backend.probe(e.ctx, func(ctx context.Context) error {
		server, err := e.l2.store.Probe(ctx)
		if err == nil {
			e.noteServer(server)
		}
		return err
	})
}

// noteServer looks at what a probe has found.
func (e *Engine) noteServer(s l2.Server) {
	t := e.l2
	t.nearlyFull.Store(s.MaxMemory > 0 && s.UsedMemory > s.MaxMemory/4)
	if s.MaxMemory == 0 || s.Policy == "" || s.Policy == "noeviction" {
		t.evicts.Store(nil)
	} else if old := t.evicts.Swap(&s.Policy); old == nil || *old != s.Policy {
		e.logger.Warn("Redis evicts by itself, also what keeps older copies out: set maxmemory-policy to noeviction", "policy", s.Policy)
	}
	if t.token.Load() != 0 && t.store.Generation() != t.generation.Load() {
		e.distrust("another server or a new connection", errors.New(s.ID))
	}
}

// openRedis makes the client of RedisURL.
func (e *Engine) openRedis() (L2Store, error) {
	o := &e.options
	return l2.Open(l2.Options{
		URL: o.RedisURL, Password: o.RedisPassword, SentinelPassword: o.RedisSentinelPassword, Prefix: o.RedisPrefix,
		Timeout: o.RedisTimeout, L2MaxTTL: o.L2MaxTTL, MaxTTL: o.MaxLifetime,
		EvictionStart: o.RedisEvictionStart, EvictionTarget: o.RedisEvictionTarget,
		Clock: e.clock.UnixMilli, Logger: o.Logger, Metrics: o.Metrics,
	})
}

// An evicter is an L2Store that makes room in its server before that has to.
type evicter interface {
	Evict(ctx context.Context, rank l2.Scorer) (l2.Eviction, error)
	Reload(l l2.Limits) error
}

// evictL2 lets the lowest ranked copies leave a server that is nearly full. They
// are ranked as L1 ranks.
func (e *Engine) evictL2(ctx context.Context) error {
	if e.l2.evict == nil || !e.l2.nearlyFull.Load() {
		return nil
	}
	done, err := e.l2.evict.Evict(ctx, rankings[e.options.Eviction])
	if err != nil {
		return fmt.Errorf("tiers: evict from L2: %w", err)
	}
	e.logger.Debug("evicted from L2", "result", done)
	return nil
}
