package tiers_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cespare/xxhash/v2"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run the simulation with this seed only, and print what it does")
	simSeeds = flag.Uint64("sim.seeds", 0, "run so many seeds of the simulation; 0 is as many as the build tags say")
)

const (
	simOps          = 46 // operations of a seed
	simRedisTimeout = 300 * time.Millisecond
)

// TestSimulation runs the engine on a disk, an SQL server and a clock that are
// not real, each seed in a bubble of its own: random operations, outages, slow
// and lying answers, failing disks, kills and power cuts, against a map that
// knows the rules of durability. An error is right where a fault excuses it; a
// wrong answer is never right, and five seconds after the last fault nothing is
// excused any more.
//
// One goroutine drives, and lets everything else come to rest after each step;
// so a seed does the same again, see TestSimulationReplays.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		s := runSim(t, simDir(t), *simSeed)
		t.Logf("seed %d: trace %016x\n%s", *simSeed, s.trace.Sum64(), strings.Join(s.log, "\n"))
		return
	}
	seeds := uint64(scale(1_000_000, 2_000))
	if raceEnabled {
		seeds /= 20 // too few to meet every fault
	}
	if *simSeeds != 0 {
		seeds = *simSeeds
	}
	totals := simCounters{}
	var mu sync.Mutex
	var next atomic.Uint64
	t.Run("seeds", func(t *testing.T) {
		for worker := range runtime.GOMAXPROCS(0) {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				dir := simDir(t)
				for seed := next.Add(1); seed <= seeds && !t.Failed(); seed = next.Add(1) {
					s := runSim(t, dir, seed)
					mu.Lock()
					totals.add(s.counts)
					mu.Unlock()
				}
			})
		}
	})
	if !t.Failed() && !raceEnabled {
		totals.check(t)
	}
}

// TestSimulationReplays: a seed does the same when it is run again: the same
// operations, answers, versions, faults, times and rows after each step. On one
// processor, that is: where flusher and sweeper wake together, as after a start,
// two processors may let either be the first. With the race detector the runtime
// draws who goes first by chance, and nothing is the same again: that run only
// looks for races.
func TestSimulationReplays(t *testing.T) {
	if raceEnabled {
		runSim(t, simDir(t), 1)
		return
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	dir := simDir(t)
	for seed := uint64(1); seed <= uint64(scale(1000, 25)); seed++ {
		first, second := runSim(t, dir, seed), runSim(t, dir, seed)
		if first.trace.Sum64() != second.trace.Sum64() {
			for i := range min(len(first.log), len(second.log)) {
				if first.log[i] != second.log[i] {
					t.Fatalf("seed %d goes two ways:\n%s\n%s\nafter\n%s", seed, first.log[i], second.log[i], strings.Join(first.log[max(0, i-30):i], "\n"))
				}
			}
			t.Fatalf("seed %d goes two ways, with %d and %d lines", seed, len(first.log), len(second.log))
		}
	}
}

// simDir returns a directory for what is not simulated: the lock, the clock file
// and the identity. In memory, where there is one, since they are synced.
func simDir(t *testing.T) string {
	if st, err := os.Stat("/dev/shm"); err != nil || !st.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "edgenode-sim-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// simCounters say how often each operation was done and each fault struck.
type simCounters map[string]int

func (c simCounters) add(more simCounters) {
	for name, n := range more {
		c[name] += n
	}
}

// check demands that every operation and every fault was met.
func (c simCounters) check(t *testing.T) {
	t.Helper()
	names := []string{}
	for _, step := range simSteps {
		names = append(names, step.name)
	}
	for _, name := range append(names, simMustHit...) {
		if c[name] == 0 {
			t.Errorf("never met: %s", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		t.Logf("%9d %s", c[name], name)
	}
}

// A sim is one seed: an engine, what is under it, and what it must answer.
type sim struct {
	*testing.T
	seed uint64
	rng  *rand.Rand

	dir     string
	options tiers.Options
	disk    *crashfs.FS
	fault   *simDiskFault
	sql     *memstore.L3
	redis   *memstore.L2 // nil in some seeds
	e       *tiers.Engine

	ids      map[string]*simID
	flights  []*simFlight
	n        int   // contents written
	excused  int64 // Unix ms until which errors of backends and disk are excused
	rejects  bool  // SQL refuses some rows
	rejected bool  // it did so at some time: there may be dead letters

	log    []string
	trace  *xxhash.Digest
	counts simCounters
}

// runSim does the operations of one seed and checks everything at the end.
func runSim(t *testing.T, dir string, seed uint64) *sim {
	s := &sim{seed: seed, dir: dir, rng: rand.New(rand.NewPCG(seed, 7)), ids: map[string]*simID{}, counts: simCounters{}, trace: xxhash.New()}
	synctest.Test(t, func(t *testing.T) {
		s.T = t
		s.run()
	})
	return s
}

func (s *sim) run() {
	s.disk, s.sql = crashfs.New(), memstore.NewL3(nil)
	s.sql.OnWrite(s.rowChanges)
	s.freshDir()
	s.drawOptions()
	s.start()
	s.Cleanup(s.giveUp)
	for range simOps {
		s.step()
	}
	s.finish()
}

// freshDir makes the directory that of a new node, always the same.
func (s *sim) freshDir() {
	identity := `{"format":1,"id":"01890a5d-ac96-774b-bcce-b302099a8057","name":"sim"}` + "\n"
	err := os.WriteFile(filepath.Join(s.dir, "identity.json"), []byte(identity), 0o600)
	if err == nil {
		err = errors.Join(removeAny(filepath.Join(s.dir, "clock")), removeAny(filepath.Join(s.dir, "filter.snapshot")))
	}
	if err != nil {
		s.Fatal(err)
	}
}

// removeAny removes a file that may be there.
func removeAny(path string) error {
	if err := os.Remove(path); !os.IsNotExist(err) {
		return err
	}
	return nil
}

func simPick[T any](s *sim, list ...T) T { return list[s.rng.IntN(len(list))] }

// drawOptions makes the seed one of many kinds of node.
func (s *sim) drawOptions() {
	s.options = tiers.Options{
		DataDir: s.dir, NodeName: "sim", L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 16 << 20,
		Logger: slog.New(slog.DiscardHandler), L3Timeout: time.Second, DeadLetterTries: 2,
		BatchFlush:         simPick(s, 1<<40, time.Millisecond, 100*time.Millisecond, 700*time.Millisecond),
		BatchFlushCount:    simPick(s, 2, 1000),
		ExpirySweep:        simPick(s, time.Second, time.Hour),
		TombstoneRetention: simPick(s, time.Second, 24*time.Hour),
		MaxLifetime:        simPick(s, time.Second, 24*time.Hour),
		L3ApplyTimeout:     2 * time.Second, L3WaitMax: 3 * time.Second, FilterMinItems: 64,
		WrapStore: func(real tiers.Store) tiers.Store {
			if err := real.Close(); err != nil {
				s.Error(err)
			}
			return &simStore{L3: s.sql, simRest: simRest{real}}
		},
	}
	if s.rng.IntN(3) == 0 {
		return
	}
	s.redis = memstore.NewL2(nil)
	s.options.OpenL2 = func() (tiers.L2Store, error) { return s.redis, nil }
	s.options.RedisTimeout, s.redis.FenceTTL = simRedisTimeout, 2*simRedisTimeout
	s.options.FollowInterval = simPick(s, 20*time.Millisecond, time.Second)
	s.redis.MaxTTL = simPick(s, 2*time.Second, time.Hour)
	s.options.L2MaxTTL = s.redis.MaxTTL
}

// A simStore is memstore's L3 for the engine. Methods that it lacks are those
// of the real store, which is closed.
type simStore struct {
	*memstore.L3
	simRest
}

type simRest struct{ tiers.Store }

// start opens the engine. A disk that fails meanwhile is one more crash.
func (s *sim) start() {
	s.Helper()
	for range 8 {
		s.options.JournalFS, s.options.Metrics = s.disk, metrics.NewSet()
		e, err := tiers.Open(context.Background(), s.options)
		if err == nil {
			s.e = e
			synctest.Wait()
			return
		}
		if !s.troubled() {
			s.fail("open: %v", err)
		}
		s.note("open fails: %v", err)
		s.counts["open fails"]++
		s.landDisk()
		s.fault = nil
		s.disk = s.crashImage()
		s.lose(item.DurabilitySync)
	}
	s.fail("the engine does not open any more")
}

// giveUp ends what a failed run has left.
func (s *sim) giveUp() {
	s.sql.Heal()
	if s.redis != nil {
		s.redis.Heal()
	}
	for _, f := range s.flights {
		f.cancel()
		<-f.done
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s.e.Close(ctx)
}

// fail ends the test and says how to see it again.
func (s *sim) fail(format string, args ...any) {
	s.Helper()
	s.Fatalf("%s\nagain: go test -run 'TestSimulation$' ./tiers -sim.seed=%d\nthe last operations:\n%s",
		fmt.Sprintf(format, args...), s.seed, strings.Join(s.log[max(0, len(s.log)-80):], "\n"))
}

// now is the time that the engine sees, in Unix ms.
func (s *sim) now() int64 { return time.Now().UnixMilli() }

// note adds a line to the log and to the trace.
func (s *sim) note(format string, args ...any) {
	line := fmt.Sprintf("%3d +%.3f ", len(s.log), float64(s.now()-946_684_800_000)/1000) + fmt.Sprintf(format, args...)
	s.log = append(s.log, line)
	s.trace.WriteString(line)
}

// pause lets everything come to rest that does not wait for time, and adds what
// SQL and Redis hold to the trace.
func (s *sim) pause() {
	synctest.Wait()
	s.land()
	rows := xxhash.New()
	var b []byte
	for _, it := range s.sql.Rows() {
		if it.Key.Namespace() == item.NamespaceInternal {
			continue // the engine's own, which is drawn by chance
		}
		b = it.AppendTo(b[:0])
		rows.Write(b)
	}
	if s.redis != nil {
		for _, v := range s.redis.Values() {
			rows.Write(v)
		}
	}
	s.note("     … SQL and Redis hold %016x after change %d", rows.Sum64(), s.sql.LastSeq())
	denied := s.options.Metrics.GetOrCreateCounter(`edgenode_filter_checks_total{outcome="missing"}`).Get()
	s.counts["filter denies"] = max(s.counts["filter denies"], int(denied))
	for k := memstore.Before; k <= memstore.Down; k++ {
		if n := s.sql.Hits(k); n > 0 {
			s.counts["L3 "+k.String()] = n
		}
		if s.redis != nil && s.redis.Hits(k) > 0 {
			s.counts["L2 "+k.String()] = s.redis.Hits(k)
		}
	}
}

// trouble excuses errors for so long, and five seconds more.
func (s *sim) trouble(d time.Duration) {
	s.excused = max(s.excused, s.now()+d.Milliseconds()+5_000)
}

func (s *sim) troubled() bool { return s.now() <= s.excused || s.disk.IsCut() }

// step does one operation and what a cut of the disk by it asks for.
func (s *sim) step() {
	sum := 0
	for _, step := range simSteps {
		sum += step.weight
	}
	at := s.rng.IntN(sum)
	for _, step := range simSteps {
		if at -= step.weight; at < 0 {
			s.counts[step.name]++
			step.do(s)
			break
		}
	}
	s.pause()
	if s.disk.IsCut() {
		s.afterCut()
	}
}

// finish ends all faults, and then asks for everything, from this engine and
// from the next one. From here on nothing is excused.
func (s *sim) finish() {
	s.heal()
	s.restart() // dead letters are tried again
	s.sleep(6 * time.Second)
	s.excused = 0
	s.checkAll()
	s.flushAll()
	s.checkAll()
	s.checkRows()
	s.restart()
	s.checkAll()
	if err := s.e.Close(context.Background()); err != nil {
		s.fail("close: %v", err)
	}
}

// rowChanges sees every write to SQL: versions of an id never go back there.
func (s *sim) rowChanges(before, after *item.Item) {
	if before != nil && after != nil && after.Version < before.Version {
		s.Errorf("row of %s goes from version %s to %s", after.Key.ID(), before.Version, after.Version)
	}
}
