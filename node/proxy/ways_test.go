package proxy

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// What holds for an answer holds alike wherever it was kept. eachWay runs a test
// four times; newWorld finds in the name of the test which way it is:
//
//	cold       the store is a map that was never used; the quickest. Answers are
//	           stored in the compact form, and share all their lines that they may
//	l1         the engine, whose answers come from memory
//	emptied    the engine, with nothing in L1 before each request: all is read
//	           from SQL
//	restarted  proxy and engine are closed and opened again before each request
//
// The test's requests come one after the other. It does not look at w.engine,
// and an answer's detail tells the tier.
func eachWay(t *testing.T, test func(t *testing.T)) {
	for _, way := range []string{wayCold, wayL1, wayEmptied, wayRestarted} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			if way != wayCold {
				openShared(t)
			}
			test(t)
		})
	}
}

// A sharedEngine serves the worlds of one test and way one after the other, since
// to open an engine takes longer than most cases. Each world finds it empty, and
// has its own clock.
type sharedEngine struct {
	engine *tiers.Engine
	dir    string
	busy   atomic.Bool
	clock  atomic.Pointer[func() int64] // of the world that has it
}

// shared has the sharedEngines by the names of their tests.
var shared sync.Map

func openShared(t *testing.T) {
	s := &sharedEngine{dir: t.TempDir()}
	begin := func() int64 { return startMilli }
	s.clock.Store(&begin)
	s.open(t)
	shared.Store(t.Name(), s)
	t.Cleanup(func() {
		shared.Delete(t.Name())
		s.close(t)
	})
}

func (s *sharedEngine) open(t testing.TB) {
	s.engine = openEngine(t, s.dir, func() int64 { return (*s.clock.Load())() })
}

func (s *sharedEngine) close(t testing.TB) {
	if err := s.engine.Close(context.Background()); err != nil {
		t.Error(err)
	}
}

// sharedFor returns the engine for a new world of a test; nil if it needs one of
// its own.
func sharedFor(t testing.TB, now func() int64) *sharedEngine {
	name := t.Name()
	at := strings.Index(name, "way=")
	if at < 0 {
		return nil
	}
	if end := strings.IndexByte(name[at:], '/'); end >= 0 {
		name = name[:at+end]
	}
	v, ok := shared.Load(name)
	if !ok || v.(*sharedEngine).busy.Swap(true) {
		return nil
	}
	s := v.(*sharedEngine)
	s.clock.Store(&now)
	return s
}

// giveBack empties the engine for the next world.
func (s *sharedEngine) giveBack(t testing.TB) {
	if _, err := s.engine.Purge(context.Background(), tiers.Purge{Match: item.MatchAll, Namespaces: item.InSites}); err != nil {
		t.Error(err)
	}
	s.busy.Store(false)
}

const (
	wayCold      = "way=cold"
	wayL1        = "way=l1"
	wayEmptied   = "way=emptied"
	wayRestarted = "way=restarted"
)

// wayOf returns the way of a test by its name, "" if it has none.
func wayOf(t testing.TB) string {
	for part := range strings.SplitSeq(t.Name(), "/") {
		if strings.HasPrefix(part, "way=") {
			return part
		}
	}
	return ""
}

// A reopener closes and opens what a world stands on.
type reopener struct {
	way string
	dir string

	options Options
	engine  *tiers.Engine // nil for the map
	shared  *sharedEngine // nil if the engine is the world's own
	used    bool          // since it was opened
}

// open fills in the store of the options.
func (r *reopener) open(t testing.TB) {
	if r.dir == "" {
		return
	}
	if r.shared = sharedFor(t, r.options.Now); r.shared != nil {
		r.engine = r.shared.engine
	} else {
		r.engine = openEngine(t, r.dir, r.options.Now)
	}
	r.options.Engine = r.engine
	if r.way == wayEmptied {
		r.options.Engine = belowL1{r.engine}
	}
}

func (r *reopener) close(t testing.TB) {
	if r.engine == nil {
		return
	}
	if r.shared != nil {
		r.shared.giveBack(t)
	} else if err := r.engine.Close(context.Background()); err != nil {
		t.Error(err)
	}
	r.engine = nil
}

// reopen closes the engine and opens it again.
func (r *reopener) reopen(t testing.TB) {
	if r.shared == nil {
		r.close(t)
		r.open(t)
		return
	}
	r.shared.close(t)
	r.shared.open(t)
	r.engine, r.options.Engine = r.shared.engine, r.shared.engine
}

// belowL1 is an engine in whose L1 there is never a stored answer.
type belowL1 struct{ *tiers.Engine }

func (e belowL1) Get(ctx context.Context, key item.Key, o tiers.ReadOptions) (tiers.Hit, bool, error) {
	if err := e.Flush(ctx); err != nil {
		return tiers.Hit{}, false, err
	}
	return e.Engine.Get(ctx, key, o)
}

func (e belowL1) Submit(ctx context.Context, w *tiers.Write) (tiers.Receipt, error) {
	below := *w
	below.Tiers &^= item.L1
	return e.Engine.Submit(ctx, &below)
}

// restart closes proxy and engine and opens them again, unless a request is
// under way or a fetch that outlives its request.
func (w *world) restart() {
	w.p.mu.Lock()
	busy := len(w.p.flights) > 0
	w.p.mu.Unlock()
	if busy {
		return
	}
	w.p.tasks.Wait() // what was begun is stored
	w.p.Close()
	w.reopen(w)
	p, err := New(w.options)
	if err != nil {
		w.Fatal(err)
	}
	w.p, w.store = p, w.options.Engine
}

// enter counts a request in and restarts before it where the way says so.
func (w *world) enter() *Proxy {
	w.gate.Lock()
	defer w.gate.Unlock()
	if w.active == 0 && w.way == wayRestarted && w.used {
		w.restart()
	}
	w.used = true
	w.active++
	return w.p
}

func (w *world) leave() {
	w.gate.Lock()
	w.active--
	w.gate.Unlock()
}
