package l3

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
)

// A ChangeOp says what happened. Its numbers are stored.
type ChangeOp int64

// Kinds of changes.
const (
	ChangePut      ChangeOp = 1 // content, and with it perhaps metadata
	ChangeMetadata ChangeOp = 2 // metadata only
	ChangeDelete   ChangeOp = 3 // a tombstone was stored
	ChangeExpire   ChangeOp = 4 // the row is gone, without tombstone
	ChangeRule     ChangeOp = 5 // a rule was stored
)

// A Change is one entry of the change sequence.
type Change struct {
	Seq     uint64
	At      int64 // Unix ms of the commit's begin, by the store's clock
	Op      ChangeOp
	Version item.Version // what the row held after it
	Key     item.Key     // nil for a rule
	Rule    *item.Rule   // for ChangeRule only
}

// Changes calls fn for up to limit changes after the number after, in order and
// without gap. A change is there when its transaction is, so no lower number
// can appear later. It fails with ErrChangesGone if changes after that number
// are missing. fn owns c; an error of fn ends Changes and is returned.
func (s *Store) Changes(ctx context.Context, after uint64, limit int, fn func(c Change) error) error {
	list, err := s.changes(ctx, after, max(limit, 1))
	if err != nil {
		return s.wrap(fmt.Sprintf("changes after %d", after), err)
	}
	for _, c := range list {
		if err := fn(c); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) changes(ctx context.Context, after uint64, limit int) (list []Change, err error) {
	if after > uint64(maxStored) {
		return nil, ErrChangesGone
	}
	err = s.read(ctx, func(ses *session) error {
		err := ses.query(stmtChanges, func(row []driver.Value) error {
			c, err := changeOf(row)
			list = append(list, c)
			return err
		}, int64(after), int64(limit))
		if err != nil {
			return err
		}
		if len(list) > 0 {
			return continuous(list, after)
		}
		m, err := readMeta(ses, stmtMeta)
		if err == nil && (m.trimmedSeq > after || m.lastSeq < after) {
			err = fmt.Errorf("%w: kept are %d to %d", ErrChangesGone, m.trimmedSeq+1, m.lastSeq)
		}
		return err
	})
	return list, err
}

// continuous fails if the list does not begin right after the number, or has a
// gap.
func continuous(list []Change, after uint64) error {
	if list[0].Seq != after+1 {
		return fmt.Errorf("%w: the first one kept is %d", ErrChangesGone, list[0].Seq)
	}
	for i := range list {
		if list[i].Seq != after+1+uint64(i) {
			return fmt.Errorf("%w: change %d follows %d", ErrCorrupt, list[i].Seq, list[i-1].Seq)
		}
	}
	return nil
}

func changeOf(row []driver.Value) (Change, error) {
	c := Change{
		Seq: uint64(intOf(row[0])), At: intOf(row[1]), Op: ChangeOp(intOf(row[2])),
		Version: item.Version(intOf(row[3])), Key: bytesOf(row[4]),
	}
	if c.Op == ChangeRule {
		rule, err := item.ParseRule(bytesOf(row[5]))
		if err != nil {
			return c, fmt.Errorf("%w: rule of change %d: %w", ErrCorrupt, c.Seq, err)
		}
		c.Rule = &rule
	}
	return c, nil
}

// TrimChanges forgets the changes up to and including the number upTo, at most
// limit of them. It returns how many; fewer than limit means that none is left.
func (s *Store) TrimChanges(ctx context.Context, upTo uint64, limit int) (n int, err error) {
	_, err = s.write(ctx, func(w *work) error {
		n = 0
		m, err := w.lock()
		if err != nil {
			return err
		}
		to := min(upTo, m.lastSeq, m.trimmedSeq+uint64(max(limit, 1)))
		if to <= m.trimmedSeq {
			return nil
		}
		trimmed, err := w.ses.exec(stmtTrimChanges, int64(to))
		if err != nil {
			return err
		}
		n = int(trimmed)
		_, err = w.ses.exec(stmtSetTrimmed, int64(to))
		return err
	})
	if err != nil {
		return 0, s.wrap("trim changes", err)
	}
	return n, nil
}

// abandonPage is how many changes one transaction of AbandonChanges removes.
const abandonPage = 2000

// AbandonChanges gives up all changes up to now, and their numbers: it is for
// sequences of which some had been read, up to the number seen, that are lost. The
// sequence goes on above both seen and the present end, so that whoever goes on from
// any number before finds ErrChangesGone. Rows, tombstones and rules stay. It does
// nothing if seen is behind what is kept: then somebody has done so, and
// abandoned is false. A call that failed may have removed some changes; the next one
// goes on. Cost: a transaction for each 2,000 changes, and one for all behind seen.
func (s *Store) AbandonChanges(ctx context.Context, seen uint64) (abandoned bool, err error) {
	if seen >= uint64(maxStored) {
		return false, s.wrap("abandon the changes", fmt.Errorf("%w: number %d", ErrRejected, seen))
	}
	for more := true; more && err == nil; {
		_, err = s.write(ctx, func(w *work) error {
			abandoned, more = false, false
			m, err := w.lock()
			if err != nil || m.trimmedSeq > seen {
				return err
			}
			if to := m.trimmedSeq + abandonPage; to < min(seen, m.lastSeq) {
				more = true
				return w.trimTo(to)
			}
			abandoned = true
			m.lastSeq = max(m.lastSeq, seen) + 1
			if _, err := w.ses.exec(stmtSetMeta, int64(m.lastSeq), int64(m.maxVersion), m.rulesEpoch); err != nil {
				return err
			}
			return w.trimTo(m.lastSeq)
		})
	}
	if err != nil {
		return false, s.wrap("abandon the changes", err)
	}
	return abandoned, nil
}

// trimTo removes the changes up to a number; the counters are locked.
func (w *work) trimTo(to uint64) error {
	if _, err := w.ses.exec(stmtTrimChanges, int64(to)); err != nil {
		return err
	}
	_, err := w.ses.exec(stmtSetTrimmed, int64(to))
	return err
}
