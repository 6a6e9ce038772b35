package tiers_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

var modelSeed = flag.Uint64("model.seed", 0, "run the model with this seed only")

const (
	modelOps      = 60 // operations per seed
	modelPerStore = 25 // seeds that share one data directory
)

// A modelItem is what an item must be.
type modelItem struct {
	content, state string
	tags           []string
	version        item.Version
}

func (m *modelItem) etag() item.ETag {
	return item.ETagOf("application/octet-stream", []byte(m.content))
}

func (m *modelItem) String() string {
	return fmt.Sprintf("%s state=%q tags=%q", m.content, m.state, m.tags)
}

// A world is an engine whose journal may lose its power and whose L3 may be
// away, and the plain map that says what the engine must answer.
type world struct {
	*testing.T
	dir   string
	fs    *crashfs.FS
	store *tiertest.Store
	e     *tiers.Engine
	batch time.Duration

	rng   *rand.Rand
	seed  uint64
	down  bool
	items map[string]*modelItem // by id, of this seed
	log   []string
	n     int // contents written
}

// TestModel compares the engine with a plain map: random operations from a
// seed, outages of L3, kills and power cuts. An error is right where L3 is
// needed and away; a wrong answer is never right.
func TestModel(t *testing.T) {
	// By turns only an explicit flush moves anything, and everything moves at
	// once.
	batch := func(seed uint64) time.Duration {
		return []time.Duration{1 << 40, time.Millisecond}[(seed-1)/modelPerStore%2]
	}
	if seed := *modelSeed; seed != 0 {
		newWorld(t, batch(seed)).run(seed)
		return
	}
	seeds := scale(50_000, 150)
	if raceEnabled {
		seeds = scale(5_000, 50) // one goroutine drives it: the plain run has the size
	}
	for first := uint64(1); first <= uint64(seeds); first += modelPerStore {
		w := newWorld(t, batch(first))
		for seed := first; seed < first+modelPerStore; seed++ {
			w.run(seed)
		}
		w.e.Close(context.Background())
	}
}

func newWorld(t *testing.T, batch time.Duration) *world {
	w := &world{T: t, dir: t.TempDir(), fs: crashfs.New(), batch: batch}
	w.start()
	t.Cleanup(func() { w.e.Close(context.Background()) })
	return w
}

func (w *world) start() {
	w.Helper()
	w.store = &tiertest.Store{}
	w.store.SetDown(w.down)
	e, err := tiers.Open(context.Background(), tiers.Options{
		DataDir: w.dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 32 << 20, BatchFlush: w.batch,
		ExpirySweep: time.Hour, JournalFS: w.fs, WrapStore: w.store.Wrap, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		w.fail("open: %v", err)
	}
	w.e = e
}

// fail ends the test and says how to see it again.
func (w *world) fail(format string, args ...any) {
	w.Helper()
	w.Fatalf("%s\nagain: go test -run TestModel ./tiers -model.seed=%d\noperations:\n%s",
		fmt.Sprintf(format, args...), w.seed, strings.Join(w.log, "\n"))
}

func (w *world) note(format string, args ...any) {
	away := ""
	if w.down {
		away = "(L3 away) "
	}
	w.log = append(w.log, fmt.Sprintf("%3d %s", len(w.log), away)+fmt.Sprintf(format, args...))
}

// run does the operations of one seed and then checks everything.
func (w *world) run(seed uint64) {
	w.seed, w.rng, w.items, w.log, w.n = seed, rand.New(rand.NewPCG(seed, 1)), map[string]*modelItem{}, nil, 0
	steps := []struct {
		weight int
		do     func()
	}{
		{16, w.put}, {8, w.delete}, {12, w.change}, {8, w.conditional}, {12, w.get}, {4, w.getMany},
		{8, w.list}, {5, w.count}, {4, w.bulkDelete}, {1, w.bulkDeleteHalf}, {2, w.deleteByState}, {3, w.status},
		{5, w.flush}, {3, w.outage}, {1, w.kill}, {1, w.powerCut}, {1, w.restart},
	}
	sum := 0
	for _, s := range steps {
		sum += s.weight
	}
	for range modelOps {
		at := w.rng.IntN(sum)
		for _, s := range steps {
			if at -= s.weight; at < 0 {
				s.do()
				break
			}
		}
	}
	if w.down {
		w.outage()
	}
	w.checkAll()
	w.flush()
	w.checkAll()
	w.restart()
	w.checkAll()
}

// outcome judges an error: none is allowed but those that an outage excuses. It
// reports whether the operation took place.
func (w *world) outcome(err error, excused ...error) bool {
	w.Helper()
	if err == nil {
		return true
	}
	for _, x := range excused {
		if w.down && errors.Is(err, x) {
			w.note("     … %v", err)
			return false
		}
	}
	w.fail("unexpected error: %v", err)
	return false
}

func (w *world) prefix() string { return fmt.Sprintf("s%d/", w.seed) }

func (w *world) id() string {
	return w.prefix() + []string{"a", "b", "b/c"}[w.rng.IntN(3)] + fmt.Sprintf("/%d", w.rng.IntN(4))
}

func (w *world) key(id string) item.Key {
	k, err := item.IDKey(id)
	if err != nil {
		w.fail("%v", err)
	}
	return k
}

func (w *world) state() string { return []string{"", "new", "done"}[w.rng.IntN(3)] }

func (w *world) tags() (tags []string) {
	for _, t := range []string{"t1", "t2", "t3"} {
		if w.rng.IntN(3) == 0 {
			tags = append(tags, t)
		}
	}
	return tags
}

func (w *world) next() *modelItem {
	w.n++
	return &modelItem{content: fmt.Sprintf("content %d of %d", w.n, w.seed), state: w.state(), tags: w.tags()}
}

func (w *world) write(id string, m *modelItem) *tiers.Write {
	return &tiers.Write{Key: w.key(id), Content: []byte(m.content), State: m.state, Tags: m.tags}
}

// stored takes over an acknowledged write and checks its receipt.
func (w *world) stored(id string, m *modelItem, r tiers.Receipt) {
	w.Helper()
	before := w.items[id]
	if want := map[bool]tiers.Existence{true: tiers.ExistedYes, false: tiers.ExistedNo}[before != nil]; r.Existed != tiers.ExistedUnknown && r.Existed != want {
		w.fail("%s: the receipt says existed %v, want %v", id, r.Existed, want)
	}
	if before != nil && r.Version <= before.version {
		w.fail("%s: version %v after %v", id, r.Version, before.version)
	}
	if m == nil {
		delete(w.items, id)
		return
	}
	m.version = r.Version
	w.items[id] = m
}

func (w *world) put() {
	id, m := w.id(), w.next()
	wr := w.write(id, m)
	if !w.down && w.rng.IntN(6) == 0 {
		wr.Durability = item.DurabilityL3
	}
	w.note("put %s %v, %v", id, m, wr.Durability)
	r, err := w.e.Submit(w.Context(), wr)
	if wr.Durability == item.DurabilityL3 && errors.Is(err, tiers.ErrUnavailable) {
		w.note("     … %v", err) // not probed yet since the outage
		return
	}
	if w.outcome(err) {
		w.stored(id, m, r)
	}
}

func (w *world) delete() {
	id := w.id()
	w.note("delete %s", id)
	r, err := w.e.Delete(w.Context(), w.key(id), nil, 0)
	if w.outcome(err) {
		w.stored(id, nil, r)
	}
}

func (w *world) change() {
	id, c, had := w.id(), tiers.MetadataChange{}, w.items
	var m modelItem
	if had[id] != nil {
		m = *had[id]
	}
	if w.rng.IntN(2) == 0 {
		m.state = w.state()
		c.State = &m.state
	}
	if c.State == nil || w.rng.IntN(2) == 0 {
		m.tags = w.tags()
		c.Tags = &m.tags
	}
	w.note("change %s to %v", id, &m)
	r, err := w.e.Change(w.Context(), w.key(id), c)
	switch {
	case errors.Is(err, tiers.ErrNoItem) && had[id] == nil:
	case w.outcome(err, tiers.ErrStateUnknown):
		if had[id] == nil {
			w.fail("%s: changed what does not exist", id)
		}
		w.stored(id, &m, r)
	}
}

// condition draws a condition on id and says whether it holds.
func (w *world) condition(id string) (c tiers.Condition, holds bool) {
	now := w.items[id]
	switch w.rng.IntN(6) {
	case 0:
		return tiers.Condition{NoneAny: true}, now == nil
	case 1:
		return tiers.Condition{MatchAny: true}, now != nil
	case 2:
		return tiers.Condition{Match: []item.ETag{{1}}}, false
	}
	if now == nil {
		return tiers.Condition{Version: 7}, false
	}
	switch w.rng.IntN(3) {
	case 0:
		return tiers.Condition{Match: []item.ETag{{1}, now.etag()}}, true
	case 1:
		return tiers.Condition{NoneMatch: []item.ETag{now.etag()}}, false
	}
	return tiers.Condition{Version: now.version}, true
}

func (w *world) conditional() {
	id, m := w.id(), w.next()
	c, holds := w.condition(id)
	var r tiers.Receipt
	var err error
	if w.rng.IntN(4) == 0 {
		w.note("delete %s if %+v, which is %v", id, c, holds)
		m = nil
		r, err = w.e.Delete(w.Context(), w.key(id), &c, 0)
	} else {
		w.note("put %s %v if %+v, which is %v", id, m, c, holds)
		r, err = w.e.CompareAndSubmit(w.Context(), &c, w.write(id, m))
	}
	switch {
	case errors.Is(err, tiers.ErrPrecondition) && !holds:
	case w.outcome(err, tiers.ErrStateUnknown):
		if !holds {
			w.fail("%s: written although the condition does not hold", id)
		}
		w.stored(id, m, r)
	}
}

// compare checks one answer.
func (w *world) compare(id string, v item.View, found bool) {
	w.Helper()
	want := w.items[id]
	if !found || want == nil {
		if found || want != nil {
			got := "nothing"
			if found {
				got = viewed(v).String()
			}
			w.fail("%s is %s, want %v", id, got, want)
		}
		return
	}
	if got := viewed(v); got.String() != want.String() || got.version != want.version {
		w.fail("%s is %v of version %v, want %v of %v", id, got, got.version, want, want.version)
	}
}

func viewed(v item.View) *modelItem {
	m := &modelItem{content: string(v.Content()), state: v.State(), version: v.Version()}
	for t := range v.Tags {
		m.tags = append(m.tags, t)
	}
	return m
}

func (w *world) get() {
	id := w.id()
	w.note("get %s", id)
	w.read(id)
}

func (w *world) read(id string) {
	w.Helper()
	h, ok, err := w.e.GetVerified(w.Context(), w.key(id))
	if w.outcome(err, tiers.ErrUnavailable) {
		w.compare(id, h.View, ok)
		h.Release()
	}
}

func (w *world) getMany() {
	var ids []string
	var keys []item.Key
	for range 1 + w.rng.IntN(8) {
		ids = append(ids, w.id())
		keys = append(keys, w.key(ids[len(ids)-1]))
	}
	w.note("get many %v", ids)
	w.e.GetMany(w.Context(), keys, tiers.ReadOptions{}, func(i int, h *tiers.Hit, ok bool, err error) {
		if w.outcome(err, tiers.ErrUnavailable) {
			w.compare(ids[i], h.View, ok)
		}
	})
}

func (w *world) query() tiers.Query {
	q := tiers.Query{Prefix: w.prefix() + []string{"", "a/", "b", "b/c", "none"}[w.rng.IntN(5)]}
	switch w.rng.IntN(4) {
	case 0:
		q.State = []string{"new", "done"}[w.rng.IntN(2)]
	case 1:
		q.Tag = []string{"t1", "t2", "t3"}[w.rng.IntN(3)]
	}
	return q
}

// selected returns the ids that q selects, ascending.
func (w *world) selected(q tiers.Query) (ids []string) {
	for id, m := range w.items {
		if strings.HasPrefix(id, q.Prefix) && strings.HasPrefix(id, q.Scope) &&
			(q.State == "" || m.state == q.State) && (q.Tag == "" || slices.Contains(m.tags, q.Tag)) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// named writes a query without what is empty.
func named(q tiers.Query) string {
	return fmt.Sprintf("prefix=%q state=%q tag=%q scope=%q limit=%d", q.Prefix, q.State, q.Tag, q.Scope, q.Limit)
}

func (w *world) list() {
	q := w.query()
	q.Limit = 1 + w.rng.IntN(6)
	w.note("list %s", named(q))
	w.walk(q)
}

func (w *world) walk(q tiers.Query) {
	w.Helper()
	var got []string
	for {
		next, err := w.e.List(w.Context(), q, func(v item.View) error {
			id := v.Key().ID()
			got = append(got, id)
			w.compare(id, v, true)
			return nil
		})
		if !w.outcome(err, tiers.ErrUnavailable) {
			return
		}
		if next == "" {
			break
		}
		q.Cursor = next
	}
	if want := w.selected(q); !slices.Equal(got, want) {
		w.fail("list %s gives %v, want %v", named(q), got, want)
	}
}

func (w *world) count() {
	q := w.query()
	w.note("count %s", named(q))
	n, exact, err := w.e.Count(w.Context(), q)
	if w.outcome(err, tiers.ErrUnavailable) {
		if want := w.selected(q); !exact || n != int64(len(want)) {
			w.fail("count %s is %d (%v), want %d", named(q), n, exact, len(want))
		}
	}
}

func (w *world) bulkDelete() {
	q := tiers.Query{Scope: w.prefix()}
	if w.rng.IntN(2) == 0 {
		q.Tag = []string{"t1", "t2", "t3"}[w.rng.IntN(3)]
	} else {
		q.Prefix = w.prefix() + []string{"a/", "b/c", "b/1", ""}[w.rng.IntN(4)]
	}
	w.note("bulk delete %s", named(q))
	r, err := w.e.DeleteMatching(w.Context(), q, 0)
	if w.outcome(err) {
		if r.Complete && w.down {
			w.fail("complete while L3 is away")
		}
		w.deleted(q)
	}
}

func (w *world) deleted(q tiers.Query) {
	for _, id := range w.selected(q) {
		delete(w.items, id)
	}
}

// bulkDeleteHalf is a bulk delete during which L3 goes away, right after it has
// taken the rule and before any row is swept.
func (w *world) bulkDeleteHalf() {
	if w.down {
		w.outage()
	}
	w.store.OnApply(nil, func(ops []l3.Op) {
		if len(ops) == 0 {
			w.store.SetDown(true)
		}
	})
	w.note("L3 goes away as soon as it has the next rule")
	w.bulkDelete()
	w.store.OnApply(nil, nil)
	w.store.SetDown(true)
	w.down = true
}

func (w *world) deleteByState() {
	q := tiers.Query{Scope: w.prefix(), State: []string{"new", "done"}[w.rng.IntN(2)]}
	if w.down {
		return // it is resolved to ids first, which needs L3
	}
	w.note("bulk delete %s", named(q))
	_, err := w.e.DeleteMatching(w.Context(), q, 0)
	if w.outcome(err) {
		w.deleted(q)
	}
}

func (w *world) status() {
	id := w.id()
	w.note("status %s", id)
	st, err := w.e.Status(w.Context(), w.key(id))
	if !w.outcome(err, tiers.ErrUnavailable) {
		return
	}
	there := st.Where != tiers.StatusMissing && !st.Tombstone
	if want := w.items[id]; there != (want != nil) || there && st.Version != want.version {
		w.fail("%s: status %+v, want %v", id, st, want)
	}
}

func (w *world) flush() {
	w.note("flush")
	if err := w.e.Flush(w.Context()); w.outcome(err, tiers.ErrUnavailable, l3.ErrUnavailable) && w.batch > time.Hour {
		if n := w.e.PendingItems(); n != 0 {
			w.fail("%d ids pending after a flush", n)
		}
	}
}

func (w *world) outage() {
	w.note("L3 away: %v", !w.down)
	w.down = !w.down
	w.store.SetDown(w.down)
	if !w.down {
		w.e.ProbeL3()
	}
}

func (w *world) kill() {
	w.note("kill")
	if err := w.e.CloseAbruptly(); err != nil {
		w.fail("%v", err)
	}
	w.start()
}

// powerCut loses what the journal did not sync. L3 gets nothing after the cut.
func (w *world) powerCut() {
	w.note("power cut")
	w.fs.Cut()
	w.store.SetDown(true)
	w.e.Close(context.Background()) // fails: the disk is gone
	w.fs = w.fs.Crash(w.rng)
	w.start()
}

func (w *world) restart() {
	w.note("restart")
	if err := w.e.Close(context.Background()); err != nil {
		w.fail("%v", err)
	}
	w.start()
}

// checkAll asks for every id, and lists and counts everything.
func (w *world) checkAll() {
	w.Helper()
	w.note("check everything")
	for _, group := range []string{"a", "b", "b/c"} {
		for i := range 4 {
			w.read(w.prefix() + fmt.Sprintf("%s/%d", group, i))
		}
	}
	for _, q := range []tiers.Query{{}, {State: "new"}, {State: "done"}, {Tag: "t1"}, {Tag: "t2"}, {Tag: "t3"}} {
		q.Prefix = w.prefix()
		w.walk(q)
		if n, _, err := w.e.Count(w.Context(), q); err != nil || n != int64(len(w.selected(q))) {
			w.fail("count %s is %d, %v, want %d", named(q), n, err, len(w.selected(q)))
		}
	}
}
