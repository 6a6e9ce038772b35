package tiers

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/pressure"
)

// A replica stores what its hub has, with the hub's versions: many records at a
// time, each as Repair stores one, and all of them wait together for the disk.

// L3Name returns the identity of L3. It is made once and goes where the data go: all
// nodes of one L3 find the same, and a database that was made anew has another. It
// reads one row. It fails with ErrUnavailable.
func (e *Engine) L3Name(ctx context.Context) (string, error) {
	if err := e.enterRead(); err != nil {
		return "", err
	}
	defer e.leave()
	return e.nameOfL3(ctx)
}

// Rows calls fn for each of keys of which L3 holds a live record, over or not, or a
// tombstone, with its index in keys, in no order, and with nil for the others after
// them. pending says that writes of the key are on the way. v is valid during the
// call only, during which fn must not ask the engine. An error of fn ends Rows and is
// returned. It fails with ErrUnavailable and ErrInvalid.
func (e *Engine) Rows(ctx context.Context, keys []item.Key, fn func(i int, v item.View, pending bool) error) error {
	if err := e.enterRead(); err != nil {
		return err
	}
	defer e.leave()
	pending := make([]bool, len(keys))
	for i, key := range keys {
		if err := key.Check(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		_, pending[i] = e.copyPending(e.hash(key), key)
	}
	found := make([]bool, len(keys))
	var failed error
	err := e.readManyL3(ctx, keys, func(i int, v item.View) {
		if found[i] = true; failed == nil {
			failed = fn(i, v, pending[i])
		}
	})
	if err = errors.Join(failed, err); err != nil {
		return err
	}
	for i := range keys {
		if !found[i] {
			if err := fn(i, nil, pending[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// RepairMany stores records of another node as Repair does, and fills out, which has
// their length; out[i].Err says what became of vs[i]. They wait together for
// durability sync. No two of them are of one key. It keeps nothing of vs.
func (e *Engine) RepairMany(ctx context.Context, vs []item.View, out []Receipt) {
	if err := e.enterWrite(); err != nil {
		refuseAll(out, err)
		return
	}
	defer e.leave()
	rows, err := e.headsOf(ctx, vs)
	if err != nil {
		refuseAll(out, err)
		return
	}
	g := group{e: e, ctx: ctx, out: out}
	g.run(len(vs), func(i int) (underway, Receipt, error) {
		wr, err := e.repairOver(ctx, vs[i], rows[i])
		if errors.Is(err, errTied) {
			g.settle()
			r, err := e.repairTied(ctx, vs[i])
			return underway{}, r, err
		}
		return wr, Receipt{}, err
	})
}

// headsOf returns what L3 has of the keys of vs, without contents.
func (e *Engine) headsOf(ctx context.Context, vs []item.View) ([]item.View, error) {
	rows, keys := make([]item.View, len(vs)), make([]item.Key, len(vs))
	for i, v := range vs {
		keys[i] = v.Key()
	}
	err := e.readManyL3(ctx, keys, func(i int, v item.View) { rows[i] = v.AppendHead(nil) })
	return rows, err
}

// errTied says that what is pending of a key has the version of the record, and is
// another one: L3 knows which of them wins.
var errTied = errors.New("tiers: pending has the same version")

// repairOver carries v to where it waits for its level, unless row, which may lack
// its content, is newer.
func (e *Engine) repairOver(ctx context.Context, v, row item.View) (underway, error) {
	if err := e.checkRepair(v); err != nil {
		return underway{}, err
	}
	if v.Kind() == item.KindPut {
		if err := e.admit(pressure.Put); err != nil {
			return underway{}, err
		}
		if e.rules.covers(v, everyRule).deleted {
			return underway{}, ErrPurged
		}
	}
	if row != nil && row.ContentVersion() > v.ContentVersion() && row.Kind() == item.KindPut {
		var err error
		if row, _, err = e.readL3(ctx, v.Key()); err != nil { // its content may be needed
			return underway{}, err
		}
	}
	tied := e.pendingTie(v)
	if v = merged(v, row); v == nil {
		return underway{}, ErrSuperseded
	}
	if tied {
		return underway{}, errTied
	}
	it := v.Item()
	it.Key, it.Durability = append(item.Key(nil), it.Key...), item.DurabilitySync
	if it.Kind == item.KindTombstone {
		it.Tiers = item.AllTiers // of an item that left L3 it names those where it lives on, there
	}
	return e.beginRepair(&it)
}

// pendingTie reports whether the newest that is pending of v's key is of the same
// version, and one of both is a tombstone.
func (e *Engine) pendingTie(v item.View) bool {
	c, pending := e.copyPending(e.hash(v.Key()), v.Key())
	return pending && c.newest.version == v.Version() && (c.newest.kind == item.KindTombstone) != (v.Kind() == item.KindTombstone)
}

// repairTied is Repair once what is pending is in L3.
func (e *Engine) repairTied(ctx context.Context, v item.View) (Receipt, error) {
	if err := e.flushOlder(ctx, v.Version()+1); err != nil {
		return Receipt{}, e.l3Error(ctx, err)
	}
	row, _, err := e.readL3(ctx, v.Key())
	if err != nil {
		return Receipt{}, err
	}
	wr, err := e.repairOver(ctx, v, row)
	if err != nil {
		return Receipt{}, err
	}
	return e.complete(ctx, wr)
}
