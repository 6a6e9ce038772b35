package tiers_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"syscall"
	"testing/synctest"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

// simPoison marks contents that SQL refuses while it is told to.
const simPoison = " poison"

// simMustHit are the faults and mishaps that the default run must meet.
var simMustHit = []string{
	"L2 error before", "L2 error after", "L2 slow", "L2 late", "L2 later", "L2 reject", "L2 empty", "L2 stale", "L2 down",
	"L3 error before", "L3 error after", "L3 slow", "L3 late", "L3 swallow", "L3 reject", "L3 down",
	"disk sync fails", "disk write fails", "disk is full", "disk create fails",
	"power cut in the midst", "kill in the midst", "open fails", "late read", "filter denies", "L3 slow for a batch", "late write", "late write done",
}

// planFault has one of the next calls to SQL go wrong.
func (s *sim) planFault() {
	if s.rng.IntN(6) == 0 {
		s.note("SQL refuses some rows from now on")
		s.rejects, s.rejected = true, true
		s.sql.RejectRows(func(record []byte) bool { return bytes.Contains(record, []byte(simPoison)) })
		s.trouble(0)
		return
	}
	call := simPick(s, "Apply", "Apply", "Apply", "Get", "Get", "GetMany", "Scan", "SweepRule", "Rules", "Expire", "Ping", "PurgeTombstones", "DropRules")
	f := memstore.Fault{Kind: simPick(s, memstore.Before, memstore.After)}
	switch {
	case call == "Apply" && s.rng.IntN(3) == 0:
		f.Kind = memstore.Swallow
	case call == "Apply", call == "GetMany", call == "Rules":
		// Some lock of the engine is held meanwhile, and who waits for one keeps
		// the clock of a bubble from going on. See slowFlush.
	default:
		f.Kind = simPick(s, f.Kind, memstore.Slow, memstore.Late)
		f.Delay = simPick(s, 10*time.Millisecond, 300*time.Millisecond, 5*time.Second)
	}
	s.note("the next %s: %v, %v", call, f.Kind, f.Delay)
	s.sql.Plan(call, f)
	s.trouble(time.Hour) // whenever it strikes; healing ends that
}

// slowFlush has SQL take its time for a batch, and does what needs not wait for
// the flusher meanwhile.
func (s *sim) slowFlush() {
	if s.troubled() || s.options.BatchFlush > time.Hour {
		return
	}
	s.flush() // a rule that waits would be applied meanwhile, by a lock: see planFault
	kind := simPick(s, memstore.Slow, memstore.Late, memstore.After)
	s.note("SQL will take 600ms for a batch: %v", kind)
	s.sql.Plan("Apply", memstore.Fault{Kind: kind, Delay: 600 * time.Millisecond})
	s.trouble(0)
	before := s.sql.Calls("Apply")
	s.put()
	s.sleep(s.options.BatchFlush + time.Millisecond)
	s.pause()
	if s.sql.Calls("Apply") > before {
		s.counts["L3 slow for a batch"]++
		for range 4 {
			simPick(s, (*sim).put, (*sim).put, (*sim).delete, (*sim).get, (*sim).change, (*sim).conditional)(s)
			s.pause()
		}
	}
	s.sleep(time.Second)
	s.sql.Unplan("Apply")
	s.pause()
}

// planRedisFault has Redis go wrong. None of it excuses an error of an item with
// L3 as long as SQL is well; but a few reads may be slow.
func (s *sim) planRedisFault() {
	r := s.redis
	if r == nil {
		return
	}
	switch s.rng.IntN(9) {
	case 0:
		s.note("Redis goes down")
		r.SetDown(true)
	case 1:
		s.note("Redis saves its data")
		r.Save()
	case 2:
		s.note("Redis is wiped")
		r.Replace(memstore.Empty)
	case 3:
		s.note("Redis is restored from an old copy")
		r.Replace(memstore.Stale)
	case 4:
		s.note("Redis refuses some rows from now on")
		r.RejectRows(func(record []byte) bool { return bytes.HasSuffix(item.View(record).Content(), []byte("1")) })
	default:
		call := simPick(s, "Apply", "Apply", "Apply", "Get", "Get", "GetMany", "Probe", "ReadMark", "WriteMark", "Sweep")
		f := memstore.Fault{Kind: simPick(s, memstore.Before, memstore.After)}
		switch call {
		case "Apply": // no delays: see planFault
			if s.rng.IntN(2) == 0 {
				f = memstore.Fault{Kind: memstore.Later, Delay: simPick(s, time.Millisecond, simRedisTimeout)}
			}
		case "Get", "Probe", "GetMany":
			f.Kind = simPick(s, f.Kind, memstore.Slow, memstore.Late)
			f.Delay = simPick(s, 10*time.Millisecond, 250*time.Millisecond, time.Second)
		}
		s.note("the next %s of Redis: %v, %v", call, f.Kind, f.Delay)
		r.Plan(call, f)
	}
}

func (s *sim) outage() {
	s.note("SQL goes down")
	s.sql.SetDown(true)
	s.trouble(time.Hour)
}

// heal ends the faults of SQL and of the disk.
func (s *sim) heal() {
	s.note("all heals")
	s.sql.Heal()
	if s.redis != nil {
		s.redis.Heal()
	}
	s.fault = nil
	s.rejects = false
	s.disk.OnCall(nil)
	s.disk.CutAt(0)
	s.disk.SetCapacity(0)
	s.excused = s.now() + 5_000
}

// A simDiskFault is a fault of the disk that is to come.
type simDiskFault struct {
	op    crashfs.Op
	after int // calls of that kind before it
	fault crashfs.Fault
	hits  atomic.Int32
}

// planDiskFault has one of the next calls to the disk fail, or the disk fill.
func (s *sim) planDiskFault() {
	if s.rng.IntN(4) == 0 {
		used := int64(0)
		for _, name := range s.disk.Names() {
			b, err := s.disk.ReadFile(name)
			if err != nil {
				s.fail("%v", err)
			}
			used += int64(len(b))
		}
		s.note("the disk is full")
		s.counts["disk is full"]++
		s.disk.SetCapacity(used)
		s.trouble(time.Hour)
		return
	}
	f := &simDiskFault{
		op: simPick(s, crashfs.Sync, crashfs.Sync, crashfs.Write, crashfs.Create, crashfs.SyncDir, crashfs.Allocate), after: s.rng.IntN(3),
		fault: crashfs.Fault{Err: simPick[error](s, syscall.EIO, syscall.ENOSPC), Short: s.rng.IntN(2) == 0},
	}
	s.note("the disk fails at a %v", f.op)
	s.fault = f
	s.armDisk()
	s.trouble(time.Hour)
}

func (s *sim) armDisk() {
	f := s.fault
	if f == nil {
		return
	}
	s.disk.OnCall(func(op crashfs.Op, _ string) *crashfs.Fault {
		if op != f.op || f.hits.Load() > 0 {
			return nil
		}
		if f.after--; f.after >= 0 {
			return nil
		}
		f.hits.Add(1)
		return &f.fault
	})
}

// landDisk counts a fault of the disk that has struck.
func (s *sim) landDisk() {
	if f := s.fault; f != nil && f.hits.Load() > 0 {
		s.note("the disk failed at a %v", f.op)
		s.counts["disk "+f.op.String()+" fails"]++
		s.fault = nil
	}
}

// planCut has the power go in the midst of what comes.
func (s *sim) planCut() {
	n := 1 + s.rng.IntN(8)
	s.note("the disk will stop at change %d", n)
	s.disk.CutAt(n)
}

// afterCut goes on where the disk stopped by itself: that was a power cut, or
// the process was killed at that call.
func (s *sim) afterCut() {
	if s.rng.IntN(2) == 0 {
		s.note("power cut in the midst")
		s.counts["power cut in the midst"]++
		s.powerCut()
		return
	}
	s.note("kill in the midst")
	s.counts["kill in the midst"]++
	s.kill()
}

// kill ends the engine as kill -9 does: what it wrote stays, what it knew is
// gone, and SQL gets nothing more from it.
func (s *sim) kill() {
	s.note("kill")
	s.landFlights(true)
	image := s.disk.Clone()
	s.end()
	s.disk = image
	s.lose(item.DurabilityJournal)
	s.revive()
}

// powerCut is kill, and the disk loses what was not synced.
func (s *sim) powerCut() {
	s.note("power cut")
	s.landFlights(true)
	s.disk.Cut()
	image := s.crashImage()
	s.end()
	s.disk = image
	s.lose(item.DurabilitySync)
	s.revive()
}

// end gets rid of the engine, which is dead already for disk and SQL.
func (s *sim) end() {
	s.disk.Cut()
	s.sql.SetDown(true)
	s.e.CloseAbruptly() // fails: the disk is gone
	synctest.Wait()
}

// revive ends the outage that end made, unless there was one before, and starts
// an engine on what the disk holds.
func (s *sim) revive() {
	s.sql.SetDown(false)
	if s.rng.IntN(4) == 0 {
		s.note("SQL is down at the start")
		s.sql.SetDown(true)
		s.trouble(time.Hour)
	}
	if s.rng.IntN(4) == 0 {
		n := 1 + s.rng.IntN(20)
		s.note("the disk will stop at change %d of the start", n)
		s.disk.CutAt(n)
	}
	s.fault = nil
	if s.rng.IntN(6) == 0 {
		s.note("the disk will fail at a create")
		s.fault = &simDiskFault{op: crashfs.Create, fault: crashfs.Fault{Err: syscall.EIO}}
		s.armDisk()
	}
	s.trouble(0)
	s.start()
}

// restart closes the engine in order.
func (s *sim) restart() {
	s.note("restart")
	s.disk.CutAt(0)
	s.landFlights(true) // Close waits for calls by a lock: see planFault
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := s.e.Close(ctx); err != nil && !s.troubled() {
		s.fail("close: %v", err)
	}
	if s.troubled() || s.rejects {
		s.lose(item.DurabilityJournal)
	} else {
		s.flushed()
	}
	s.start()
}

// lose takes from the model what is not as durable as level. Items without L3
// may be gone as well.
func (s *sim) lose(level item.Durability) {
	for id, d := range s.ids {
		d.crash(level)
		s.changed(id)
	}
}

// crashImage is the disk after a power cut, drawn block by block. crashfs draws
// one too, but in the order of a map: this one is the same in each run.
func (s *sim) crashImage() *crashfs.FS {
	names := s.rng.Uint64()
	durable := s.disk.Crash(rand.New(&simSource{first: names, then: 0}))
	full := s.disk.Crash(rand.New(&simSource{first: names, then: 1}))
	keep := simPick(s, 0, 1, s.rng.Float64(), s.rng.Float64())
	image := crashfs.New()
	list := durable.Names()
	slices.Sort(list)
	for _, name := range list {
		a, errA := durable.ReadFile(name)
		b, errB := full.ReadFile(name)
		if errA != nil || errB != nil {
			s.fail("crash image of %s: %v, %v", name, errA, errB)
		}
		image.WriteFile(name, s.mix(a, b, keep))
	}
	return image
}

// mix returns what a file is after a crash: a is what was synced, b what was
// written. One block is torn.
func (s *sim) mix(a, b []byte, keep float64) []byte {
	out := slices.Clone(a)
	if len(a) != len(b) && s.rng.Float64() < keep {
		out = make([]byte, len(b))
		copy(out, a)
	}
	torn := s.rng.IntN(8) == 0
	for from := 0; from < min(len(out), len(b)); from += crashfs.BlockBytes {
		to := min(from+crashfs.BlockBytes, len(out), len(b))
		if bytes.Equal(out[from:to], b[from:to]) {
			continue
		}
		switch {
		case torn:
			torn = false
			to = from + s.rng.IntN(to-from)
			fallthrough
		case s.rng.Float64() < keep:
			copy(out[from:to], b[from:to])
		}
	}
	return out
}

// A simSource makes crashfs draw two extremes with the same names: all that was
// not synced is lost (then 0), or kept (then 1).
type simSource struct {
	first, then uint64
	drawn       bool
}

// Uint64 is rand.Source's.
func (r *simSource) Uint64() uint64 {
	if !r.drawn {
		r.drawn = true
		return r.first
	}
	return r.then
}

// A simFlight is a call that goes on while the driver does other things.
type simFlight struct {
	id     string
	put    *simItem // nil: a read
	cancel context.CancelFunc
	done   chan struct{}

	// Of a read: what it may find, all that the id has been since it began.
	allowed []*simItem

	// Set before done is closed.
	at      int64 // Unix ms
	cut     bool  // the disk had stopped by then
	receipt tiers.Receipt
	hit     *simItem
	stale   bool
	err     error
}

// flying reports whether a write of id is under way.
func (s *sim) flying(id string) bool {
	return slices.ContainsFunc(s.flights, func(f *simFlight) bool { return f.put != nil && f.id == id })
}

// changed tells reads under way of what id has become.
func (s *sim) changed(id string) {
	for _, f := range s.flights {
		if f.put == nil && f.id == id {
			f.allow(s.simID(id))
		}
	}
}

func (f *simFlight) allow(d *simID) {
	for _, state := range d.possible() {
		f.allowed = append(f.allowed, state.item)
	}
}

func (s *sim) fly(f *simFlight, call func(ctx context.Context)) {
	var ctx context.Context
	ctx, f.cancel = context.WithCancel(context.Background())
	f.done = make(chan struct{})
	disk := s.disk
	s.flights = append(s.flights, f)
	go func() {
		defer close(f.done)
		call(ctx)
		f.at, f.cut = s.now(), disk.IsCut()
	}()
}

// getLate reads through an SQL server that takes its time.
func (s *sim) getLate() {
	f := &simFlight{id: s.id()}
	delay := simPick(s, 30*time.Millisecond, 400*time.Millisecond)
	s.note("get %s, while SQL takes %v", f.id, delay)
	s.sql.Unplan("Get")
	s.sql.Plan("Get", memstore.Fault{Kind: memstore.Late, Delay: delay})
	s.trouble(time.Hour)
	f.allow(s.simID(f.id))
	e := s.e
	s.fly(f, func(ctx context.Context) {
		h, ok, err := e.Get(ctx, s.key(f.id), tiers.ReadOptions{})
		if ok {
			f.hit, f.stale = simViewed(h.View), h.Stale
		}
		h.Release()
		f.err = err
	})
}

// putInL3 writes with durability l3, and does not wait.
func (s *sim) putInL3() {
	id := s.id()
	if s.flying(id) {
		return
	}
	m, w := s.next(id)
	if m.cache {
		return
	}
	w.Durability = item.DurabilityL3
	s.note("put %s %v, l3", id, m)
	f := &simFlight{id: id, put: m}
	s.simID(id).add(simState{item: m, level: item.DurabilityMemory})
	s.changed(id)
	e := s.e
	s.fly(f, func(ctx context.Context) { f.receipt, f.err = e.Submit(ctx, w) })
}

// land takes over the calls that have come back.
func (s *sim) land() {
	s.landDisk()
	s.landFlights(false)
}

// landFlights takes over what calls under way have brought; all of them if all
// is set, which ends those that still wait.
func (s *sim) landFlights(all bool) {
	var left []*simFlight
	flights := s.flights
	for _, f := range flights {
		if all {
			f.cancel()
			<-f.done
		}
		select {
		case <-f.done:
			f.cancel()
			s.landed(f)
		default:
			left = append(left, f)
		}
	}
	s.flights = left
	if all {
		synctest.Wait()
	}
}

func (s *sim) landed(f *simFlight) {
	if f.put == nil {
		s.counts["late read"]++
		s.landedRead(f)
		return
	}
	s.counts["late write"]++
	d := s.simID(f.id)
	i := slices.IndexFunc(d.states, func(state simState) bool { return state.item == f.put })
	switch {
	case f.err == nil:
		s.counts["late write done"]++
		s.note("%s: the put is in L3, version %s", f.id, f.receipt.Version)
		if i < 0 {
			return // something newer is there
		}
		f.put.version = f.receipt.Version
		d.states[i].sure, d.states[i].level = true, item.DurabilityL3
	default:
		s.note("%s: the put for L3 fails: %s", f.id, simErrorKind(f.err))
		canceled := context.Canceled
		if f.at <= s.excused || f.cut || s.rejected && simIs(f.err, tiers.ErrRefused) || simIs(f.err, canceled, tiers.ErrShuttingDown) {
			return // it stays possible
		}
		s.fail("put of %s with durability l3: %v", f.id, f.err)
	}
}

func (s *sim) landedRead(f *simFlight) {
	if f.err != nil {
		s.note("the late get of %s fails: %s", f.id, simErrorKind(f.err))
		if f.at > s.excused && !f.cut && !simIs(f.err, context.Canceled, tiers.ErrClosed) {
			s.fail("late get of %s: %v", f.id, f.err)
		}
		return
	}
	s.note("the late get of %s brings %v", f.id, f.hit)
	for _, m := range f.allowed {
		if f.hit == nil && m.mayLack(s.now()) || f.hit != nil && m != nil && m.content == f.hit.content {
			return
		}
	}
	s.fail("the late get of %s brings %v, which it was not at any time since", f.id, f.hit)
}
