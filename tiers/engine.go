package tiers

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/l1"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// An Engine is one node's tiers. It is safe for concurrent use.
type Engine struct {
	options  Options
	logger   *slog.Logger
	metrics  *engineMetrics
	identity Identity
	seed     maphash.Seed

	clock     *item.Clock
	clockFile *clockFile
	dir       *journal.DirLock
	journal   *journal.Journal
	dead      *journal.Journal // dead letters
	l1        *l1.Cache
	l1Saved   *os.File // of the process before, until it is read; or nil
	restoring atomic.Pointer[restoring]
	l3        Store
	l3Durable func() (ok bool, reason string) // whether a commit survives a power loss
	l3Payload func() int64                    // the greatest content that it takes
	l3Backend *backend
	l2        *l2Tier     // nil if not configured
	filter    *filterTier // nil if it is off

	loading contextLock
	loaded  atomic.Bool // what L3 knows has been taken over

	node       registration
	followed   atomic.Uint64 // the last change of L3 that the follower, or watch, has seen
	followedAt atomic.Int64  // Unix ms: of all changes before; 0: not known yet
	// followedLast is that change, once the follower, whose it is, has read it.
	followedLast lastChange
	history      history       // what was told of the changes
	mine         ownWrites     // what this node wrote to a shared L3
	feed         feedWatch     // for those who wait for a change
	tree         *treeKeeper   // nil if L3 keeps no tree
	shadow       *shadowKeeper // nil if L2 keeps no copy of it
	// Both of capacity 1: this node has written to a shared L3; another one has.
	wrote, followNow chan struct{}
	// What forget knows: changes up to trimmed are gone, so many stay.
	trimmed, keptChanges uint64
	treeLeft             seldom // told that changes go which the tree lacks

	pending  pendingTable
	dirty    *dirtyQueue
	rules    ruleSet
	fills    flights
	inserts  keyedLocks
	buffers  bufferPool
	flusher  flusherState
	sweep    chan struct{} // capacity 1: rules to apply
	sweeping contextLock

	// reserved is what pending has taken from L1's budget.
	reserveMu sync.Mutex
	reserved  int64

	// What Reload can change.
	defaultDurability atomic.Int32
	maxPayload        atomic.Int64 // the least of what configuration, journal and L3 take
	configuredPayload atomic.Int64
	thresholds        atomic.Pointer[pressure.Thresholds]
	batch             atomic.Pointer[batchLimits]

	l3Timeout       atomic.Int64 // as time.Duration, like those below
	applyTimeout    atomic.Int64
	l3WaitMax       atomic.Int64
	redisTimeout    atomic.Int64
	followInterval  atomic.Int64
	expirySweep     atomic.Int64
	retention       atomic.Int64
	maxLifetime     atomic.Int64
	deadLetterTries atomic.Int64
	filterInterval  atomic.Int64
	filterChanges   atomic.Int64

	maxWaiters int

	state   stateMachine
	gate    sync.RWMutex // held for reading by every call under way below L1
	closed  atomic.Bool  // no new calls; set under gate
	closing chan struct{}
	stop    context.CancelCauseFunc
	ctx     context.Context // of background work
	tasks   sync.WaitGroup

	closeOnce sync.Once
	closeErr  error
}

// Open starts an engine in o.DataDir: it locks the directory, opens L3, indexes
// what the journal holds, and returns when it can answer and take writes. What
// the journal holds is flushed in the background.
//
// It starts the goroutines that Close ends: flusher, sweeper, and keeper (clock
// file, probe of L3, registration among its nodes); the one that restores L1, if there
// is a snapshot of it; the one that
// follows the changes of a shared L3, or watches over those of its own; the filter's keeper, unless it is off; with L2 also its
// keeper, the one that knows whether L2 may be trusted, the one that writes copies,
// the one that keeps a copy of the tree of hashes, and the one that writes the stream
// of changes; with both two that tell and hear
// of writes; with Options.MerkleCalc the one that keeps the tree of hashes up. While
// changes are waited for there is one more.
//
// It fails if another node that is alive has this one's identity.
func Open(ctx context.Context, o Options) (*Engine, error) {
	o.fillDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	e := &Engine{
		options: o, logger: o.Logger, seed: maphash.MakeSeed(), maxWaiters: o.MaxWaiters,
		closing: make(chan struct{}), sweep: make(chan struct{}, 1), sweeping: newContextLock(), loading: newContextLock(), keptChanges: keptChanges,
		wrote: make(chan struct{}, 1), followNow: make(chan struct{}, 1),
	}
	e.pending.init()
	e.applyReloadable(o)
	e.dirty = newDirtyQueue(e.batchFull)
	e.ctx, e.stop = context.WithCancelCause(context.Background())
	if err := e.open(ctx); err != nil {
		return nil, errors.Join(err, e.closeParts())
	}
	e.tasks.Go(e.runFlusher)
	e.tasks.Go(e.runSweeper)
	e.tasks.Go(e.runKeeper)
	if file := e.l1Saved; file != nil {
		e.l1Saved = nil
		if o.L3Shared {
			e.restoring.Store(&restoring{shown: map[uint64]struct{}{}})
		}
		e.tasks.Go(func() { e.runL1Restore(file) })
	}
	if o.L3Shared {
		e.tasks.Go(e.runFollower)
	} else {
		e.tasks.Go(e.runWatch)
	}
	if e.tree != nil && o.MerkleCalc {
		e.tasks.Go(e.runTree)
	}
	if e.filter != nil {
		e.tasks.Go(e.runFilter)
	}
	if e.l2 != nil {
		e.tasks.Go(e.runL2Keeper)
		e.tasks.Go(e.runTrust)
		e.tasks.Go(e.runCopier)
		if e.shadow != nil {
			e.tasks.Go(e.runShadow)
		}
		if s := e.l2.streamer; s != nil && o.CDCEnabled {
			w, err := newCDCWriter(e, s)
			if err != nil {
				return nil, errors.Join(err, e.Close(ctx))
			}
			e.tasks.Go(w.run)
		}
		if w := e.l2.waker; w != nil && o.L3Shared {
			e.tasks.Go(func() { e.runAnnouncer(w) })
			e.tasks.Go(func() { e.runListener(w) })
		}
	}
	e.state.set(StateRunning)
	return e, nil
}

func (e *Engine) open(ctx context.Context) error {
	o := &e.options
	e.state.set(StateConnecting)
	var err error
	if e.identity, e.dir, err = openDataDir(o.DataDir, o.NodeName); err != nil {
		return err
	}
	if e.clockFile, err = openClockFile(filepath.Join(o.DataDir, "clock")); err != nil {
		return err
	}
	e.clock = item.NewClock(e.clockFile.bound, o.Now)
	e.l3Backend = e.newBackend("l3")
	e.openRegistration()
	if err := e.openFilter(); err != nil {
		return err
	}
	if err := e.openL2(); err != nil {
		return err
	}
	if err := e.openL3(ctx); err != nil {
		return err
	}
	if err := e.openTree(); err != nil {
		return err
	}
	e.openShadow()
	if e.l1, err = e.openL1(); err != nil {
		return err
	}
	if err := e.l1.SetNamespaces(e.options.namespaces()); err != nil {
		return err
	}
	e.l1Saved = e.takeL1Snapshot()
	e.state.set(StateDrainingJournal)
	e.journal, err = journal.Open(journal.Options{
		Dir: filepath.Join(o.DataDir, "journal"), FS: o.JournalFS, MaxBytes: o.journalQuota(),
		Logger: o.Logger, Metrics: o.Metrics,
	})
	if err != nil {
		return err
	}
	e.maxPayload.Store(e.payloadLimit(o.MaxPayloadBytes))
	if err := e.openDeadLetters(); err != nil {
		return err
	}
	e.metrics = newEngineMetrics(o.Metrics, e) // its gauges look at all parts
	if err := e.replay(); err != nil {
		return err
	}
	if err := e.clockFile.advance(e.clock.Last()); err != nil {
		return err
	}
	e.state.set(StateSyncingL2)
	if e.l2 != nil {
		signal(e.l2.wake) // for the goroutine that Open starts
	}
	e.state.set(StateWarmingUp)
	e.state.set(StateReady)
	return nil
}

// openL3 opens the SQL store and learns from it the highest version it holds.
func (e *Engine) openL3(ctx context.Context) error {
	o := &e.options
	store, err := l3.Open(ctx, l3.Options{
		Path: o.SQLitePath, URL: o.SQLURL, Password: o.SQLPassword, WriteConns: o.SQLWriteConcurrency,
		Timeout: max(o.L3ApplyTimeout, l3.MinTimeout), WALMax: o.SQLiteWALMax, Logger: o.Logger, Metrics: o.Metrics, Clock: e.clock.UnixMilli,
	})
	if err != nil {
		return err
	}
	e.l3 = store
	e.l3Durable, e.l3Payload = durableOf(store), payloadOf(store)
	if o.WrapStore != nil {
		e.l3 = o.WrapStore(store)
	}
	if err := e.load(ctx); err != nil {
		// Down at start: the journal and the clock file are enough to serve.
		e.l3Backend.circuit.Probe(err)
		e.logger.Warn("L3 does not answer; serving from the journal until it does", "err", err)
		return nil
	}
	if e.filter != nil {
		// Before the first write: a new L3 begins with its name.
		if _, err := e.nameOfL3(ctx); err != nil {
			e.logger.Debug("L3 has not said its name yet", "err", err)
		}
	}
	return e.join(ctx)
}

// durableOf returns the question whether store keeps what it has committed.
func durableOf(store any) func() (bool, string) {
	if s, ok := store.(interface{ Durable() (bool, string) }); ok {
		return s.Durable
	}
	return func() (bool, string) { return true, "" }
}

// payloadOf returns the question how much content store takes.
func payloadOf(store any) func() int64 {
	if s, ok := store.(interface{ MaxPayload() int64 }); ok {
		return s.MaxPayload
	}
	return func() int64 { return l3.MaxPayload }
}

// load takes over what L3 knows, once: the clock's floor and the rules. Nothing
// may be read from L3 before: a rule that has not reached all rows hides some.
func (e *Engine) load(ctx context.Context) error {
	if e.loaded.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	if err := e.loading.lock(ctx); err != nil {
		return fmt.Errorf("tiers: others are making contact with L3: %w", err)
	}
	defer e.loading.unlock()
	if e.loaded.Load() {
		return nil
	}
	begin := e.clock.UnixMilli()
	if err := e.l3.Ping(ctx); err != nil { // makes contact: what follows is known then
		return err
	}
	e.followed.Store(e.l3.LastSeq()) // nothing was read from it before
	rules, err := e.l3.Rules(ctx)
	if err != nil {
		return err
	}
	highest := e.l3.MaxVersion()
	if err := e.clock.Observe(highest, e.options.ClockSkewMax); err != nil {
		e.logger.Error("versions in L3 are ahead of this clock; set the clock", "err", err)
		e.clock.Observe(highest, 1<<62)
	}
	e.maxPayload.Store(e.payloadLimit(e.configuredPayload.Load()))
	for _, r := range rules {
		// While L1 is empty, nothing in it is covered.
		e.rules.add(&liveRule{Rule: r.Rule, inL3: true, sweptL1: e.l1 == nil, sweptL2: true, sweptL3: r.Swept})
	}
	e.followedAt.Store(begin)
	e.loaded.Store(true)
	signal(e.sweep)
	return nil
}

// replay makes every record of the journal pending. What L3 holds already is
// found out when it is flushed; until then reads of such an id ask L3 too.
func (e *Engine) replay() error {
	records := 0
	err := e.journal.Replay(func(pos journal.Pos, record []byte) error {
		records++
		return e.replayRecord(pos, record)
	})
	if err != nil {
		return fmt.Errorf("tiers: replay: %w", err)
	}
	if records > 0 {
		e.logger.Info("journal replayed", "records", records, "ids", e.pending.ids.Load())
	}
	return nil
}

func (e *Engine) replayRecord(pos journal.Pos, record []byte) error {
	kind, err := item.RecordKind(record)
	if err == nil && kind == item.KindRule {
		return e.replayRule(pos, record)
	}
	return e.replayItem(pos, record, false)
}

// replayItem makes a record found at start pending.
func (e *Engine) replayItem(pos journal.Pos, record []byte, dead bool) error {
	v, err := item.Parse(record)
	if err != nil {
		return fmt.Errorf("record at %v: %w", pos, err)
	}
	e.observe(v.Version())
	hash := e.hash(v.Key())
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.pending.epoch(hash).Add(1) // no older copy is restored, also once this is flushed
	p := e.pending.addLocked(s, hash, v.Key(), pendingRecord{
		version: v.Version(), content: v.ContentVersion(), pos: pos, size: uint32(len(record)),
		kind: v.Kind(), tiers: v.Tiers(), phase: visible, dead: dead,
		alive: v.Version().UnixMilli() - e.options.ClockSkewMax.Milliseconds(), // versions may run ahead of time
	})
	p.replayed = true
	e.enqueueLocked(p)
	return nil
}

func (e *Engine) replayRule(pos journal.Pos, record []byte) error {
	r, err := item.ParseRule(record)
	if err != nil {
		return fmt.Errorf("rule at %v: %w", pos, err)
	}
	e.observe(r.Version)
	e.rules.add(&liveRule{Rule: r, sweptL1: true, sweptL2: e.l2 == nil, pos: pos, logged: true})
	signal(e.dirty.wake)
	return nil
}

// observe lifts the clock above a version of this node's own past, however far
// ahead it is.
func (e *Engine) observe(v item.Version) {
	if e.clock.Observe(v, e.options.ClockSkewMax) != nil {
		e.clock.Observe(v, 1<<62)
	}
}

// Close refuses new calls, flushes what was accepted as far as ctx and L3
// allow, and ends the goroutines that Open started; when ctx ends, so does their
// work in L3. What could not be flushed stays in the journal. Close may be
// called more than once.
func (e *Engine) Close(ctx context.Context) error {
	e.closeOnce.Do(func() {
		e.state.set(StateShuttingDown)
		close(e.closing) // waits for L3 end; no new writes
		e.pending.wakeSettled()
		defer context.AfterFunc(ctx, func() { e.stop(ErrClosed) })()
		e.gate.Lock() // every call under way has ended
		e.closed.Store(true)
		e.gate.Unlock()
		if err := e.flushAll(ctx); err != nil && e.pending.ids.Load() > 0 {
			e.logger.Warn("closed with writes that L3 does not have; they stay in the journal",
				"ids", e.pending.ids.Load(), "err", err)
		}
		e.payBeforeClose()
		e.stop(ErrClosed)
		e.tasks.Wait()
		e.saveFilterAtEnd(ctx)
		e.saveL1AtEnd(ctx)
		e.leaveNodes()
		e.closeErr = e.closeParts()
		e.state.set(StateClosed)
		e.logger.Info("engine closed", "seconds", e.state.seconds(StateShuttingDown))
	})
	return e.closeErr
}

// closeParts closes what is open, in the order in which one needs the other:
// the journal first, since its end mark says that all before was released
// rightly; the directory's lock last.
func (e *Engine) closeParts() error {
	var errs []error
	for _, j := range []*journal.Journal{e.journal, e.dead} {
		if j != nil {
			errs = append(errs, j.Close())
		}
	}
	if e.l2 != nil {
		errs = append(errs, e.l2.store.Close())
		e.l2.backend.circuit.Close()
	}
	e.closeTree()
	if e.l3 != nil {
		errs = append(errs, e.l3.Close())
	}
	if e.l3Backend != nil {
		e.l3Backend.circuit.Close()
	}
	if e.clockFile != nil && e.clock != nil {
		if err := e.clockFile.close(e.clock.Last()); err != nil {
			// What the file says is ahead of every stamp: the next start only
			// begins a little later.
			e.logger.Warn("clock file not written at the end", "err", err)
		}
	}
	if e.metrics != nil {
		e.metrics.unregister()
	}
	if e.filter != nil {
		e.filter.Close()
	}
	if e.l1 != nil {
		e.l1.Close()
	}
	if e.l1Saved != nil {
		errs = append(errs, e.l1Saved.Close())
	}
	if e.dir != nil {
		errs = append(errs, e.dir.Unlock())
	}
	return errors.Join(errs...)
}

// enterRead lets a call below L1 in, until leave.
func (e *Engine) enterRead() error {
	e.gate.RLock()
	if e.closed.Load() {
		e.gate.RUnlock()
		return ErrClosed
	}
	return nil
}

// enterWrite is enterRead for writes, which end when Close begins.
func (e *Engine) enterWrite() error {
	if e.isClosing() {
		if e.closed.Load() {
			return ErrClosed
		}
		return ErrShuttingDown
	}
	return e.enterRead()
}

func (e *Engine) leave() { e.gate.RUnlock() }

func (e *Engine) isClosing() bool {
	select {
	case <-e.closing:
		return true
	default:
		return false
	}
}

func (e *Engine) hash(key item.Key) uint64 { return maphash.Bytes(e.seed, key) }

// Stamp returns a version for a request to an origin that is about to leave:
// see Write.Version.
func (e *Engine) Stamp() item.Version { return e.clock.Stamp() }

// Identity returns who this node is.
func (e *Engine) Identity() Identity { return e.identity }

// reserveQuantum is by how much pending takes from L1's budget at a time.
const reserveQuantum = 256 << 10

// reserve makes sure that the pending table's bytes, and more that are about to
// come, are part of L1's budget.
func (e *Engine) reserve(more int64) error {
	used := e.pending.bytes() + more
	e.reserveMu.Lock()
	defer e.reserveMu.Unlock()
	for e.reserved < used {
		if !e.l1.Reserve(reserveQuantum) {
			return &Refusal{Level: pressure.Shutdown.String(), Pressure: e.Pressure(), RetryAfter: pressure.RetryAfter}
		}
		e.reserved += reserveQuantum
	}
	e.giveBackLocked(used)
	return nil
}

// giveBack returns to L1 what pending does not need any more.
func (e *Engine) giveBack() {
	e.reserveMu.Lock()
	defer e.reserveMu.Unlock()
	e.giveBackLocked(e.pending.bytes())
}

func (e *Engine) giveBackLocked(used int64) {
	for e.reserved-used > 4*reserveQuantum {
		e.l1.Unreserve(reserveQuantum)
		e.reserved -= reserveQuantum
	}
}

// Crowded reports whether the pressure has reached its first level: what need not
// be done is better left.
func (e *Engine) Crowded() bool { return e.Thresholds().Level(e.Pressure()) > pressure.Normal }

// Pressure returns how full the node is with what cannot be dropped: 0 is
// empty, 1 the budget or the quota.
func (e *Engine) Pressure() float64 {
	memory := float64(e.pending.bytes()) / float64(e.l1.MaxBytes())
	b := e.journal.Backlog()
	return max(memory, float64(b.UsedBytes)/float64(b.QuotaBytes))
}
