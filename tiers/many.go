package tiers

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// GetMany calls fn with the answer for each key, in order. Hits are valid until
// fn returns. What is not in memory or pending is read from L2 in one round trip,
// and the rest from L3 in one query per 500 keys.
func (e *Engine) GetMany(ctx context.Context, keys []item.Key, o ReadOptions, fn func(i int, h *Hit, ok bool, err error)) {
	if err := e.enterRead(); err != nil {
		for i := range keys {
			fn(i, nil, false, err)
		}
		return
	}
	m := e.prefetch(ctx, keys, o)
	e.leave() // fn may be slow, and must not hold up Close
	m.each(ctx, keys, o, e.get, fn)
}

// many is what one query has brought of several keys.
type many struct {
	e      *Engine
	rows   []fetchedRow
	failed error // of the query
}

// each calls fn for each key: with the row that was fetched, unless something
// was published for its hash since, else with what read says.
func (m *many) each(ctx context.Context, keys []item.Key, o ReadOptions,
	read func(context.Context, item.Key, ReadOptions) (Hit, bool, error), fn func(i int, h *Hit, ok bool, err error)) {
	for i, key := range keys {
		h, ok, err := m.fetched(key, o, m.rows[i])
		if errors.Is(err, errNotFetched) {
			h, ok, err = read(ctx, key, o)
		}
		m.e.metrics.read(&h, ok, err)
		fn(i, &h, ok, err)
		if ok {
			h.Release()
		}
	}
}

// errNotFetched says that a key is to be read by itself.
var errNotFetched = errors.New("tiers: not fetched")

func (m *many) fetched(key item.Key, o ReadOptions, f fetchedRow) (Hit, bool, error) {
	hash := m.e.hash(key)
	if f.record != nil {
		if err := m.e.awaitPublished(hash, key, f.record); err != nil {
			return Hit{}, false, err
		}
	}
	switch {
	case f.wanted && f.source == FromL3 && !f.absent && m.failed != nil:
		return Hit{}, false, m.failed
	case !f.wanted || m.e.pending.epoch(hash).Load() != f.epoch:
		return Hit{}, false, errNotFetched
	}
	h, ok, err := m.e.useFetched(hash, key, f)
	switch {
	case errors.Is(err, errHidden):
		return Hit{}, false, errNotFetched
	case !ok:
		return Hit{}, false, err
	}
	if f.source == FromL2 && !m.e.satisfies(hash, &h, o) {
		return Hit{}, false, errNotFetched
	}
	return m.e.demand(hash, h, o)
}

// getInside is get for a caller that has entered.
func (e *Engine) getInside(ctx context.Context, hash uint64, key item.Key, o ReadOptions) (Hit, bool, error) {
	if h, ok := e.fromL1(hash, key, e.clock.UnixMilli()); ok {
		return h, true, nil
	}
	return e.below(ctx, hash, key, o)
}

// A fetchedRow is what the one query brought for a key.
type fetchedRow struct {
	wanted bool      // neither in L1 nor pending when asked
	source Source    // that was asked last: L2 has said something, or L3 was asked
	absent bool      // the filter says that L3 has none; it was not asked
	record item.View // nil if there is no row
	epoch  uint32
	asked  moment // before L3 was
}

// prefetchBytes is how much prefetch keeps; rows beyond it are read when it is
// their turn.
const prefetchBytes = 8 << 20

// prefetch reads the rows of the keys that neither L1 nor pending hold.
func (e *Engine) prefetch(ctx context.Context, keys []item.Key, o ReadOptions) *many {
	m := &many{e: e, rows: make([]fetchedRow, len(keys))}
	var wanted []item.Key
	var at []int
	asked := e.rules.now()
	for i, key := range keys {
		hash := e.hash(key)
		if h, ok := e.fromL1(hash, key, e.clock.UnixMilli()); ok {
			h.Release()
			continue
		}
		if c, pending := e.copyPending(hash, key); !pending && (readsL3(key, o) || e.l2 != nil) {
			m.rows[i] = fetchedRow{epoch: c.epoch, asked: asked}
			wanted, at = append(wanted, key), append(at, i)
		}
	}
	if len(wanted) < 2 {
		return m
	}
	for _, i := range at {
		m.rows[i].wanted = true
	}
	e.readManyL2(wanted, func(i int, v item.View) {
		m.rows[at[i]].source, m.rows[at[i]].record = FromL2, v
	})
	wanted, at = m.notIn(wanted, at, o)
	kept := 0
	m.failed = e.readManyL3(ctx, wanted, func(i int, v item.View) {
		row := &m.rows[at[i]]
		if row.wanted = kept+len(v) <= prefetchBytes; row.wanted {
			kept += len(v)
			row.record = append(item.View(nil), v...)
		}
	})
	return m
}

// notIn returns the keys that L2 has said nothing about and that L3 may hold.
func (m *many) notIn(keys []item.Key, at []int, o ReadOptions) (rest []item.Key, of []int) {
	for j, i := range at {
		if m.rows[i].source == FromL2 {
			continue
		}
		m.rows[i].source = FromL3
		switch {
		case !readsL3(keys[j], o):
		case m.e.missing(keys[j], o):
			m.rows[i].absent = true
		default:
			rest, of = append(rest, keys[j]), append(of, i)
		}
	}
	return rest, of
}

// useFetched turns a row into a hit, unless there is none, it is over or hidden.
// The error is errHidden if it is to be read again. Nothing was published for its
// hash since it was asked for.
func (e *Engine) useFetched(hash uint64, key item.Key, f fetchedRow) (h Hit, ok bool, err error) {
	if f.record == nil {
		return Hit{}, false, nil
	}
	if f.source == FromL2 {
		if h, ok = e.answer(f.record, FromL2, everyRule); ok {
			e.seenInL2(h.View)
		}
	} else {
		h, ok, err = e.answerL3(f.record, f.asked)
	}
	if ok {
		e.promote(hash, key, h.View, f.epoch)
		if f.source == FromL3 && !h.Stale {
			e.fillL2(hash, h.View, f.epoch)
		}
	}
	return h, ok, err
}

// SubmitMany stores every item of ws and fills out, which has their length, in
// order; out[i].Err says what became of ws[i]. Writes without condition wait
// together for the disk.
func (e *Engine) SubmitMany(ctx context.Context, ws []*Write, out []Receipt) {
	if err := e.enterWrite(); err != nil {
		refuseAll(out, err)
		return
	}
	defer e.leave()
	g := group{e: e, ctx: ctx, out: out}
	g.run(len(ws), func(i int) (underway, Receipt, error) {
		it, err := e.itemOf(ws[i])
		if err != nil {
			return underway{}, Receipt{}, err
		}
		if !ws[i].If.None() {
			g.settle() // what came before may be the same id
			r, err := e.submitIf(ctx, it, ws[i].If)
			return underway{}, r, err
		}
		if err := e.admit(pressure.Put); err != nil {
			return underway{}, Receipt{}, err
		}
		if livesInMemory(it) {
			r, err := e.cache(it)
			return underway{}, r, err
		}
		wr, err := e.begin(it)
		return wr, Receipt{}, err
	})
}

// DeleteMany deletes every key and fills out, which has their length, in order;
// out[i].Err says what became of keys[i].
func (e *Engine) DeleteMany(ctx context.Context, keys []item.Key, d item.Durability, out []Receipt) {
	if err := e.enterWrite(); err != nil {
		refuseAll(out, err)
		return
	}
	defer e.leave()
	e.deleteMany(ctx, keys, d, out)
}

func refuseAll(out []Receipt, err error) {
	for i := range out {
		out[i].Err = err
	}
}

// deleteMany is DeleteMany for a caller that has entered.
func (e *Engine) deleteMany(ctx context.Context, keys []item.Key, d item.Durability, out []Receipt) {
	existed := make([]Existence, len(keys))
	inside := func(ctx context.Context, key item.Key, o ReadOptions) (Hit, bool, error) {
		return e.getInside(ctx, e.hash(key), key, o)
	}
	o := ReadOptions{Sure: e.options.L3Shared}
	e.prefetch(ctx, keys, o).each(ctx, keys, o, inside, func(i int, _ *Hit, ok bool, err error) {
		switch {
		case err != nil:
		case ok:
			existed[i] = ExistedYes
		default:
			existed[i] = ExistedNo
		}
	})
	g := group{e: e, ctx: ctx, out: out}
	g.run(len(keys), func(i int) (underway, Receipt, error) {
		if err := keys[i].Check(); err != nil {
			return underway{}, Receipt{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		wr, err := e.begin(e.tombstone(keys[i], d))
		return wr, Receipt{}, err
	})
	for i := range out {
		if out[i].Existed == ExistedUnknown {
			out[i].Existed = existed[i]
		}
	}
}

// A group is many writes of one call. They are stamped one after the other and
// wait together, so that one fdatasync serves all; at most groupBytes of
// records wait at a time.
type group struct {
	e   *Engine
	ctx context.Context
	out []Receipt

	waiting []waitingWrite
	bytes   int
}

type waitingWrite struct {
	i  int
	wr underway
}

const groupBytes = 4 << 20

// run calls begin for each of n writes; what it leaves under way is completed.
// The caller has entered.
func (g *group) run(n int, begin func(i int) (underway, Receipt, error)) {
	for i := range n {
		wr, r, err := begin(i)
		if err != nil || wr.it == nil {
			g.out[i], g.out[i].Err = r, err
			continue
		}
		g.waiting = append(g.waiting, waitingWrite{i: i, wr: wr})
		if g.bytes += len(wr.record); g.bytes >= groupBytes {
			g.settle()
		}
	}
	g.settle()
}

// settle completes what waits.
func (g *group) settle() {
	for _, w := range g.waiting {
		r, err := g.e.complete(g.ctx, w.wr)
		g.out[w.i], g.out[w.i].Err = r, err
	}
	g.waiting, g.bytes = g.waiting[:0], 0
}
