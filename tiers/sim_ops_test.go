package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A simStep is a kind of operation with its share.
type simStep struct {
	name   string
	weight int
	do     func(*sim)
}

var simSteps = []simStep{
	{"put", 20, (*sim).put},
	{"put of several", 3, (*sim).putMany},
	{"put that waits for L3", 4, (*sim).putInL3},
	{"delete", 8, (*sim).delete},
	{"delete of several", 2, (*sim).deleteMany},
	{"change", 10, (*sim).change},
	{"compare and submit", 8, (*sim).conditional},
	{"get or insert", 3, (*sim).getOrInsert},
	{"get", 12, (*sim).get},
	{"get while others go on", 5, (*sim).getLate},
	{"get many", 4, (*sim).getMany},
	{"list", 6, (*sim).list},
	{"count", 4, (*sim).count},
	{"status", 3, (*sim).status},
	{"bulk delete", 4, (*sim).bulkDelete},
	{"delete by state", 2, (*sim).deleteByState},
	{"purge", 2, (*sim).purge},
	{"flush", 4, (*sim).flush},
	{"work during a slow flush", 2, (*sim).slowFlush},
	{"time passes", 10, (*sim).timePasses},
	{"backend fault", 8, (*sim).planFault},
	{"Redis fault", 5, (*sim).planRedisFault},
	{"outage", 2, (*sim).outage},
	{"heal", 3, (*sim).heal},
	{"disk fault", 2, (*sim).planDiskFault},
	{"power goes during a write", 1, (*sim).planCut},
	{"kill", 1, (*sim).kill},
	{"power cut", 1, (*sim).powerCut},
	{"restart", 1, (*sim).restart},
}

// simWriteErrors are what a write may fail with while something is wrong,
// without any effect.
var simWriteErrors = []error{
	tiers.ErrUnavailable, tiers.ErrStateUnknown, tiers.ErrFull, tiers.ErrRefused, tiers.ErrPressure, tiers.ErrBusy,
}

// outcome judges the error of an operation. It reports whether the operation
// took place, and whether it may have.
func (s *sim) outcome(err error) (done, perhaps bool) {
	s.Helper()
	if err == nil {
		return true, true
	}
	s.note("     … %v", simErrorKind(err))
	if !s.troubled() {
		s.fail("unexpected error: %v", err)
	}
	if s.disk.IsCut() || errors.Is(err, tiers.ErrUnknownFate) || errors.Is(err, tiers.ErrReadOnly) {
		return false, true
	}
	for _, x := range simWriteErrors {
		if errors.Is(err, x) {
			return false, false
		}
	}
	s.fail("an error that no fault explains: %v", err)
	return false, false
}

// simErrorKind is what of an error is the same in each run.
func simErrorKind(err error) string {
	for _, x := range append([]error{
		tiers.ErrUnknownFate, tiers.ErrReadOnly, tiers.ErrPrecondition, tiers.ErrNoItem, tiers.ErrClosed, tiers.ErrShuttingDown,
	}, simWriteErrors...) {
		if errors.Is(err, x) {
			return x.Error()
		}
	}
	return "other error"
}

// read judges the error of a read and reports whether there is an answer.
func (s *sim) answered(err error) bool {
	s.Helper()
	if err == nil {
		return true
	}
	s.note("     … %v", simErrorKind(err))
	if !s.troubled() {
		s.fail("unexpected error: %v", err)
	}
	if !s.disk.IsCut() && !errors.Is(err, tiers.ErrUnavailable) {
		s.fail("an error that no fault explains: %v", err)
	}
	return false
}

func (s *sim) id() string {
	return simPick(s, "a", "b", "b/c") + fmt.Sprintf("/%d", s.rng.IntN(4))
}

func (s *sim) simID(id string) *simID {
	d := s.ids[id]
	if d == nil {
		d = newSimID()
		s.ids[id] = d
	}
	return d
}

func (s *sim) key(id string) item.Key { return item.AppendKey(nil, item.NamespaceItem, id) }

func (s *sim) tags() (tags []string) {
	for _, t := range []string{"t1", "t2", "t3"} {
		if s.rng.IntN(3) == 0 {
			tags = append(tags, t)
		}
	}
	return tags
}

// next draws a new version of an item and the write that stores it.
func (s *sim) next(id string) (*simItem, *tiers.Write) {
	s.n++
	m := &simItem{content: fmt.Sprintf("content %d", s.n), state: simPick(s, "", "new", "done"), tags: s.tags()}
	if s.rejects && s.rng.IntN(3) == 0 {
		m.content += simPoison
	}
	if s.rng.IntN(40) == 0 {
		m.content += strings.Repeat("x", 150_000) // a journal has several segments
	}
	w := &tiers.Write{Key: s.key(id), Content: []byte(m.content), State: m.state, Tags: m.tags}
	if s.rng.IntN(6) == 0 {
		w.TTL = time.Duration(1+s.rng.IntN(3000)) * time.Millisecond
		m.expires = s.now() + w.TTL.Milliseconds()
	}
	switch s.rng.IntN(12) {
	case 0:
		w.Durability = item.DurabilityMemory
	case 1:
		w.Durability = item.DurabilityJournal
	case 2:
		w.Tiers, w.Durability, m.cache = item.L1|item.L2, item.DurabilityMemory, true
	case 3:
		w.Tiers = item.L3 // never in L1
	case 4:
		w.Tiers = item.L2 | item.L3
	case 5:
		if s.redis != nil {
			w.Tiers, w.Durability, m.cache = item.L2, item.DurabilityMemory, true
		}
	}
	return m, w
}

// simLevel is what a write with that durability survives.
func simLevel(d item.Durability) item.Durability {
	if d == item.DurabilityDefault {
		return item.DurabilitySync
	}
	return d
}

// wrote takes over a write: m is the new state, nil if it was a delete.
func (s *sim) wrote(id string, m *simItem, d item.Durability, r tiers.Receipt, err error) {
	s.Helper()
	id0 := s.simID(id)
	done, perhaps := s.outcome(err)
	if !perhaps {
		return
	}
	if done {
		s.checkReceipt(id, r)
		if m != nil {
			m.version = r.Version
		}
		s.note("     … %s %v", r.Version, r.Existed)
	}
	id0.add(simState{item: m, level: simLevel(d), sure: done})
	if !done {
		id0.states[len(id0.states)-1].level = item.DurabilityMemory
	}
	s.changed(id)
}

// checkReceipt compares what a receipt says of the time before it.
func (s *sim) checkReceipt(id string, r tiers.Receipt) {
	s.Helper()
	before, known := s.simID(id).known()
	if before != nil && before.version >= r.Version {
		s.fail("%s: version %s after %s", id, r.Version, before.version)
	}
	if !known || s.flying(id) || r.Existed == tiers.ExistedUnknown {
		return
	}
	if r.Existed == tiers.ExistedYes && !before.live(s.now()) || r.Existed == tiers.ExistedNo && !before.mayLack(s.now()) {
		s.fail("%s: the receipt says existed %v, but it was %v", id, r.Existed, before)
	}
}

func (s *sim) put() {
	id := s.id()
	m, w := s.next(id)
	s.note("put %s %v, %v", id, m, w.Durability)
	r, err := s.e.Submit(s.Context(), w)
	s.wrote(id, m, w.Durability, r, err)
}

func (s *sim) putMany() {
	var ids []string
	var items []*simItem
	var writes []*tiers.Write
	for range 2 + s.rng.IntN(4) {
		id := s.id()
		m, w := s.next(id)
		s.note("put of several: %s %v, %v", id, m, w.Durability)
		ids, items, writes = append(ids, id), append(items, m), append(writes, w)
	}
	out := make([]tiers.Receipt, len(writes))
	s.e.SubmitMany(s.Context(), writes, out)
	for i, r := range out {
		r.Existed = tiers.ExistedUnknown // they go at once
		s.wrote(ids[i], items[i], writes[i].Durability, r, r.Err)
	}
}

func (s *sim) delete() {
	id := s.id()
	s.note("delete %s", id)
	r, err := s.e.Delete(s.Context(), s.key(id), nil, 0)
	s.wrote(id, nil, 0, r, err)
}

func (s *sim) deleteMany() {
	ids := []string{s.id(), s.id(), s.id()}
	keys := []item.Key{s.key(ids[0]), s.key(ids[1]), s.key(ids[2])}
	s.note("delete %v", ids)
	out := make([]tiers.Receipt, len(keys))
	s.e.DeleteMany(s.Context(), keys, 0, out)
	for i, r := range out {
		r.Existed = tiers.ExistedUnknown
		s.wrote(ids[i], nil, 0, r, r.Err)
	}
}

// single returns the state of id for an operation that depends on it. Where
// there are several it reads; it gives up where that does not tell, or where a
// write is under way.
func (s *sim) single(id string) (*simItem, bool) {
	if s.flying(id) {
		return nil, false
	}
	if _, known := s.simID(id).known(); !known || s.simID(id).possible()[0].item.mayBeGone() {
		s.read(id)
	}
	m, known := s.simID(id).known()
	return m, known && !m.mayBeGone()
}

// mayBeGone reports whether m is cache.
func (m *simItem) mayBeGone() bool { return m != nil && m.cache }

func (s *sim) change() {
	id := s.id()
	now, ok := s.single(id)
	if !ok {
		return
	}
	var m simItem
	if now != nil {
		m = *now
		m.version = 0
	}
	var c tiers.MetadataChange
	switch s.rng.IntN(4) {
	case 0:
		ttl := time.Duration(s.rng.IntN(2)*(1+s.rng.IntN(3000))) * time.Millisecond
		c.TTL, m.expires = &ttl, 0
		if ttl > 0 {
			m.expires = s.now() + ttl.Milliseconds()
		}
	case 1:
		m.tags = s.tags()
		c.Tags = &m.tags
	default:
		m.state = simPick(s, "", "new", "done")
		c.State = &m.state
	}
	c.Durability = simPick(s, 0, 0, item.DurabilityMemory, item.DurabilityJournal)
	s.note("change %s to %v, %v", id, &m, c.Durability)
	r, err := s.e.Change(s.Context(), s.key(id), c)
	if c.TTL != nil && *c.TTL > 0 {
		m.expires = s.now() + c.TTL.Milliseconds() // it begins when the item has been read
	}
	if errors.Is(err, tiers.ErrNoItem) {
		s.note("     … no such item")
		if now.live(s.now()) {
			s.fail("%s: no such item, want %v", id, now)
		}
		return
	}
	if err == nil && !now.live(s.now()) {
		s.fail("%s: changed what does not exist", id)
	}
	s.wrote(id, &m, c.Durability, r, err)
}

// condition draws a condition and says whether it holds for now.
func (s *sim) condition(now *simItem) (c tiers.Condition, holds bool) {
	live := now.live(s.now())
	switch s.rng.IntN(6) {
	case 0:
		return tiers.Condition{NoneAny: true}, !live
	case 1:
		return tiers.Condition{MatchAny: true}, live
	case 2:
		return tiers.Condition{Match: []item.ETag{{1}}}, false
	}
	if !live {
		return tiers.Condition{Version: 7}, false
	}
	switch s.rng.IntN(3) {
	case 0:
		return tiers.Condition{Match: []item.ETag{{1}, now.etag()}}, true
	case 1:
		return tiers.Condition{NoneMatch: []item.ETag{now.etag()}}, false
	}
	return tiers.Condition{Version: now.version}, true
}

func (s *sim) conditional() {
	id := s.id()
	now, ok := s.single(id)
	if !ok {
		return
	}
	c, holds := s.condition(now)
	m, w := s.next(id)
	var r tiers.Receipt
	var err error
	if s.rng.IntN(4) == 0 {
		s.note("delete %s if %+v, which is %v", id, c, holds)
		m, w.Durability = nil, 0
		r, err = s.e.Delete(s.Context(), s.key(id), &c, 0)
	} else {
		s.note("put %s %v if %+v, which is %v", id, m, c, holds)
		r, err = s.e.CompareAndSubmit(s.Context(), &c, w)
	}
	if errors.Is(err, tiers.ErrPrecondition) {
		s.note("     … %v", err)
		if holds && !(now != nil && !now.live(s.now())) {
			s.fail("%s: precondition failed, but it holds for %v", id, now)
		}
		return
	}
	if err == nil && !holds && now.live(s.now()) {
		s.fail("%s: written although the condition does not hold for %v", id, now)
	}
	s.wrote(id, m, w.Durability, r, err)
}

func (s *sim) getOrInsert() {
	id := s.id()
	now, ok := s.single(id)
	if !ok {
		return
	}
	m, w := s.next(id)
	w.TTL, m.expires = 0, 0 // it must be there right after
	s.note("get or insert %s %v", id, m)
	h, inserted, err := s.e.GetOrInsert(s.Context(), w.Key, func(context.Context) (*tiers.Write, error) { return w, nil })
	defer h.Release()
	switch {
	case err != nil:
		// The insert itself may have gone well, and the read after it not.
		s.outcome(err)
		s.simID(id).add(simState{item: m, level: item.DurabilityMemory})
		s.changed(id)
	case inserted:
		if now.live(s.now()) {
			s.fail("%s: inserted over %v", id, now)
		}
		if !m.is(h.View) {
			s.fail("%s: inserted %v, got %v", id, m, simViewed(h.View))
		}
		m.version = h.View.Version()
		s.simID(id).add(simState{item: m, level: simLevel(w.Durability), sure: true})
		s.changed(id)
	default:
		s.judge(id, h.View, true, h.Stale)
	}
}

// judge compares an answer with what is possible.
func (s *sim) judge(id string, v item.View, found, stale bool) {
	s.Helper()
	wrong := ""
	if found {
		s.note("     … %s is version %s", id, v.Version())
		wrong = s.simID(id).found(v, true, stale, s.now())
	} else {
		s.note("     … %s is nothing", id)
		wrong = s.simID(id).absent(s.now())
	}
	if wrong != "" {
		s.fail("%s %s", id, wrong)
	}
}

func (s *sim) read(id string) {
	s.Helper()
	h, ok, err := s.e.Get(s.Context(), s.key(id), tiers.ReadOptions{Verify: s.rng.IntN(2) == 0})
	defer h.Release()
	if s.answered(err) {
		s.judge(id, h.View, ok, h.Stale)
	}
}

func (s *sim) get() {
	id := s.id()
	s.note("get %s", id)
	s.read(id)
}

func (s *sim) getMany() {
	var ids []string
	var keys []item.Key
	for range 1 + s.rng.IntN(8) {
		id := s.id()
		ids, keys = append(ids, id), append(keys, s.key(id))
	}
	s.note("get many %v", ids)
	s.e.GetMany(s.Context(), keys, tiers.ReadOptions{}, func(i int, h *tiers.Hit, ok bool, err error) {
		if s.answered(err) {
			s.judge(ids[i], h.View, ok, h.Stale)
		}
	})
}

func (s *sim) query() tiers.Query {
	q := tiers.Query{Prefix: simPick(s, "", "a/", "b", "b/c", "none"), WithoutContent: s.rng.IntN(3) == 0}
	switch s.rng.IntN(4) {
	case 0:
		q.State = simPick(s, "new", "done")
	case 1:
		q.Tag = simPick(s, "t1", "t2", "t3")
	}
	return q
}

func simSelects(q *tiers.Query, id string, m *simItem, now int64) bool {
	return m.live(now) && strings.HasPrefix(id, q.Prefix) && (q.State == "" || m.state == q.State) &&
		(q.Tag == "" || slices.Contains(m.tags, q.Tag))
}

// span returns the ids that q selects for sure, and those that it may select.
// Items without L3 are in no list once they are not pending any more.
func (s *sim) span(q *tiers.Query) (sure, perhaps []string) {
	for id, d := range s.ids {
		all, some := true, false
		for _, state := range d.possible() {
			selected := simSelects(q, id, state.item, s.now())
			some = some || selected
			all = all && selected && !state.item.cache
		}
		if some {
			perhaps = append(perhaps, id)
		}
		if all {
			sure = append(sure, id)
		}
	}
	slices.Sort(sure)
	slices.Sort(perhaps)
	return sure, perhaps
}

func (s *sim) list() {
	q := s.query()
	q.Limit = 1 + s.rng.IntN(6)
	s.note("list %s", named(q))
	s.walk(q)
}

func (s *sim) walk(q tiers.Query) {
	s.Helper()
	var got []string
	for {
		next, err := s.e.List(s.Context(), q, func(v item.View) error {
			id := v.Key().ID()
			got = append(got, id)
			if wrong := s.simID(id).found(v, !q.WithoutContent, true, s.now()); wrong != "" {
				s.fail("in a list, %s %s", id, wrong)
			}
			return nil
		})
		if !s.answered(err) {
			return
		}
		if next == "" {
			break
		}
		q.Cursor = next
	}
	s.note("     … %v", got)
	sure, perhaps := s.span(&q)
	for _, id := range sure {
		if !slices.Contains(got, id) {
			s.fail("%s is not in the list %v, want %s", id, got, s.simID(id).wanted(s.now()))
		}
	}
	for i, id := range got {
		if !slices.Contains(perhaps, id) || i > 0 && got[i-1] >= id {
			s.fail("%s is in the list %v out of order, twice, or wrongly: %s", id, got, s.simID(id).wanted(s.now()))
		}
	}
}

func (s *sim) count() {
	q := s.query()
	s.note("count %s", named(q))
	s.sql.Unplan("Get") // it holds up the flusher by a lock: see planFault
	n, exact, err := s.e.Count(s.Context(), q)
	if !s.answered(err) {
		return
	}
	s.note("     … %d %v", n, exact)
	sure, perhaps := s.span(&q)
	if exact && (n < int64(len(sure)) || n > int64(len(perhaps))) {
		s.fail("count %s is %d, want all of %v and at most those of %v", named(q), n, sure, perhaps)
	}
}

func (s *sim) status() {
	id := s.id()
	s.note("status %s", id)
	st, err := s.e.Status(s.Context(), s.key(id))
	if !s.answered(err) {
		return
	}
	s.note("     … %+v", st)
	m, known := s.simID(id).known()
	if !known || s.flying(id) || m.mayBeGone() {
		return
	}
	there := st.Where != tiers.StatusMissing && !st.Tombstone
	if there != m.live(s.now()) || there && st.Version != m.version {
		s.fail("%s: status %+v, want %s", id, st, s.simID(id).wanted(s.now()))
	}
}

func (s *sim) bulkDelete() {
	q := tiers.Query{}
	if s.rng.IntN(2) == 0 {
		q.Tag = simPick(s, "t1", "t2", "t3")
	} else {
		q.Prefix = simPick(s, "a/", "b/c", "b/1", "b")
	}
	d := simPick(s, 0, 0, item.DurabilityL3)
	s.note("bulk delete %s, %v", named(q), d)
	r, err := s.e.DeleteMatching(s.Context(), q, d)
	done, perhaps := s.outcome(err)
	if perhaps {
		s.note("     … %v", r.Complete)
		s.removed(func(id string, m *simItem) bool { return m != nil && simSelects(&q, id, m, 0) }, done)
	}
}

// removed says that a rule removes what matches, or perhaps does. It speaks of all
// that the id was before, also of what comes up when something newer is lost.
func (s *sim) removed(matches func(id string, m *simItem) bool, done bool) {
	for id, d := range s.ids {
		any := false
		for i, state := range d.states {
			if !matches(id, state.item) {
				continue
			}
			if any = true; done {
				d.states[i].item = nil
			}
		}
		if any && !done {
			d.add(simState{level: item.DurabilityMemory})
		}
		if any {
			s.changed(id)
		}
	}
}

func (s *sim) deleteByState() {
	q := tiers.Query{State: simPick(s, "new", "done"), Prefix: simPick(s, "", "a/", "b")}
	s.note("bulk delete %s", named(q))
	_, err := s.e.DeleteMatching(s.Context(), q, 0)
	done, _ := s.outcome(err)
	// An error may come after some of them.
	now := s.now()
	matches := func(id string, m *simItem) bool { return simSelects(&q, id, m, now) }
	for id, d := range s.ids {
		matching, open := false, len(d.possible()) > 1
		for _, state := range d.possible() {
			open = open || state.item.mayBeGone()
			matching = matching || matches(id, state.item)
		}
		if !matching {
			continue
		}
		state := simState{level: item.DurabilityMemory}
		if done && !open { // else it was listed, or was not
			state = simState{level: item.DurabilitySync, sure: true}
		}
		d.add(state)
		s.changed(id)
	}
}

// purge removes copies. Of items that live in L3 nothing is to be seen.
func (s *sim) purge() {
	tag := simPick(s, "t1", "t2", "t3")
	p := tiers.Purge{Soft: s.rng.IntN(2) == 0, Namespaces: item.InItems, Match: item.MatchTag, Values: []string{tag}}
	s.note("purge of tag %s, soft %v", tag, p.Soft)
	_, err := s.e.Purge(s.Context(), p)
	done, perhaps := s.outcome(err)
	if !perhaps {
		return
	}
	matches := func(_ string, m *simItem) bool { return m.mayBeGone() && slices.Contains(m.tags, tag) }
	if !p.Soft {
		s.removed(matches, done)
	} else if done {
		for id, d := range s.ids {
			for _, state := range d.possible() {
				if matches(id, state.item) {
					state.item.soft = true
				}
			}
		}
	}
}

func (s *sim) flush() {
	s.note("flush")
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Second)
	defer cancel()
	err := s.e.Flush(ctx)
	if err == nil {
		s.flushed()
		return
	}
	s.note("     … flush fails")
	if !s.troubled() {
		s.fail("flush: %v", err)
	}
}

// flushed says that all that was acknowledged is in L3, or among the dead
// letters, which are synced.
func (s *sim) flushed() {
	for id, d := range s.ids {
		if !s.flying(id) {
			d.stored()
		}
	}
}

// timePasses lets the clock go on, and with it all that waits for time.
func (s *sim) timePasses() {
	s.sleep(simPick(s, time.Millisecond, 40*time.Millisecond, 300*time.Millisecond, 1100*time.Millisecond,
		4*time.Second, 20*time.Second, 70*time.Second))
}

func (s *sim) sleep(d time.Duration) {
	s.note("%v pass", d)
	time.Sleep(d)
}
