package tiers

import (
	"context"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// L3 does not have the dead letters. So a rule by tag finds there what they have
// replaced: where that has the tag and the letter has not, the row would become a
// tombstone of the rule's version, newer than the letter, which L3 would never
// take then. Before L3 looks at its rows, such a row becomes a tombstone of the
// letter's own version: of two contents of one version, the put wins.

// errLetterWaits keeps a rule from L3's rows: a letter changes only the metadata
// of a row that the rule would remove.
var errLetterWaits = errors.New("tiers: a dead letter takes the item out of the rule, and its content is in L3; retry or drop the letter")

// shieldBuried makes room for the dead letters that r does not cover.
func (e *Engine) shieldBuried(ctx context.Context, r *item.Rule) error {
	if e.dead.Backlog().Records == 0 {
		return nil
	}
	letters := e.lettersBefore(r.Version)
	for len(letters) > 0 {
		page := letters[:min(len(letters), 100)]
		letters = letters[len(page):]
		ops, err := e.shieldOps(ctx, r, page)
		if err != nil {
			return err
		}
		for _, op := range ops { // alone: L3 may refuse one
			if _, err := e.l3.Apply(ctx, []l3.Op{op}, nil, make([]l3.Outcome, 1)); err != nil {
				return fmt.Errorf("tiers: row that a dead letter has replaced: %w", err)
			}
		}
	}
	return nil
}

// A letter is a dead letter of an id.
type letter struct {
	key item.Key
	at  pendingRecord
}

// lettersBefore returns the dead letters older than a version that hold an item.
func (e *Engine) lettersBefore(version item.Version) (list []letter) {
	for i := range e.pending.stripes {
		s := &e.pending.stripes[i]
		s.mu.Lock()
		for _, p := range s.ids {
			if r := p.deadLocked(); r != nil && r.kind != item.KindTombstone && r.version < version {
				list = append(list, letter{item.Key(p.key), *r})
			}
		}
		s.mu.Unlock()
	}
	return list
}

// shieldOps returns what L3 is to be told before r is applied to the rows of
// letters.
func (e *Engine) shieldOps(ctx context.Context, r *item.Rule, letters []letter) (ops []l3.Op, err error) {
	keys := make([]item.Key, len(letters))
	for i := range letters {
		keys[i] = letters[i].key
	}
	var failed error
	err = e.readManyL3(ctx, keys, func(i int, row item.View) {
		if row.Kind() != item.KindPut || !r.Covers(row) {
			return
		}
		v, err := e.recordBytes(nil, letters[i].at, nil)
		switch {
		case errors.Is(err, errMoved): // it is no letter any more
		case err != nil:
			failed = err
		case v.Kind() == item.KindMetadata && !r.Covers(mergeMetadata(row, v)):
			failed = fmt.Errorf("%w: id %q", errLetterWaits, letters[i].key.ID())
		case v.Kind() == item.KindPut && !r.Covers(v):
			ops = append(ops, l3.Op{
				Record: tombstoneOf(v, v.ContentVersion()),
				If:     func(head item.View) bool { return head != nil && r.Covers(head) },
			})
		}
	})
	return ops, errors.Join(err, failed)
}
