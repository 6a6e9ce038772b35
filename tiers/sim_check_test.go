package tiers_test

import (
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func simIs(err error, of ...error) bool {
	for _, x := range of {
		if errors.Is(err, x) {
			return true
		}
	}
	return false
}

// checkAll asks for every id in every way.
func (s *sim) checkAll() {
	s.Helper()
	s.note("check everything")
	for _, group := range []string{"a", "b", "b/c"} {
		for i := range 4 {
			s.read(fmt.Sprintf("%s/%d", group, i))
		}
	}
	for _, q := range []tiers.Query{{}, {State: "new"}, {State: "done"}, {Tag: "t1"}, {Tag: "t2"}, {Tag: "t3"}, {Prefix: "b/"}} {
		s.walk(q)
		n, exact, err := s.e.Count(s.Context(), q)
		sure, perhaps := s.span(&q)
		if err != nil || !exact || n < int64(len(sure)) || n > int64(len(perhaps)) {
			s.fail("count %s is %d, %v, %v, want all of %v and at most those of %v", named(q), n, exact, err, sure, perhaps)
		}
	}
}

// flushAll flushes, and then nothing may be pending or in the journal.
func (s *sim) flushAll() {
	if err := s.e.Flush(s.Context()); err != nil {
		s.fail("flush at the end: %v", err)
	}
	s.flushed()
	if n := s.e.PendingItems(); n != 0 {
		s.fail("%d ids pending after the flush at the end", n)
	}
	if h := s.e.Health(s.Context()); h.Verdict != "ok" || h.JournalRecords != 0 {
		s.fail("health at the end: %+v", h)
	}
}

// checkRows compares what SQL holds with what it must hold: every item with L3,
// and nothing else that lives.
func (s *sim) checkRows() {
	now := s.now()
	rows := map[string]item.View{}
	for _, it := range s.sql.Rows() {
		if it.Key.Namespace() == item.NamespaceItem && it.Kind == item.KindPut && !it.Expired(now) {
			rows[it.Key.ID()] = it.AppendTo(nil)
		}
	}
	for id, d := range s.ids {
		v := rows[id]
		delete(rows, id)
		m, known := d.known()
		switch {
		case !known:
		case m.mayBeGone() && v != nil:
			s.fail("SQL has %v of %s, which lives outside", simViewed(v), id)
		case m.mayBeGone():
		case v == nil && m.live(now), v != nil && !m.is(v):
			s.fail("SQL has %v of %s, want %s", v != nil, id, d.wanted(now))
		}
	}
	for id, v := range rows {
		s.fail("SQL has %s, which never was: %v", id, simViewed(v))
	}
}
