package l3

import (
	"bytes"
	"cmp"
	"database/sql/driver"
	"slices"
	"sort"

	"github.com/edgenode/edgenode/tiers/item"
)

// States of a mapping. Its row is kept when it is gone, so that the greatest
// version of all rows never goes back: it tells every change of the set.
const (
	mapFilling  = 1 // rows are moved into its table, where new ones go
	mapSettled  = 2
	mapDraining = 3 // rows are moved out again; new ones go where they are moved
	mapGone     = 4
)

// A mapped is a row of the mappings.
type mapped struct {
	table    string
	version  int64 // the epoch that its last change began
	prefix   []byte
	state    int64
	position []byte // the last key moved
}

func (m *mapped) moving() bool { return m.state == mapFilling || m.state == mapDraining }

// A tableSet says where rows are, as of a version of the mappings. The keys are
// cut into segments, in order and without gap, each with one table as its home:
// that of the longest prefix. While a mapping fills or drains, rows of its
// segments may still be in their source; they are updated there, but a new row
// goes home, so that the source only loses rows. At most one mapping moves at a
// time. A set is never changed.
type tableSet struct {
	loaded   bool
	epoch    int64 // of the rules, as writers see it
	version  int64
	all      []mapped
	segments []segment
	tables   []string // that may hold rows, a source first
	source   string   // that of the move under way
	isMoving bool
}

// A segment is a stretch of storage keys, [from, to).
type segment struct {
	from, to []byte
	home     string
	source   string // for one that is moving
	moving   bool
}

var maxKey = []byte{0xff, 0xff, 0xff, 0xff} // above every key

func (ts *tableSet) forget() { *ts = tableSet{} }

// load reads the mappings.
func (ts *tableSet) load(ses *session) error {
	rows, err := readMappings(ses)
	if err == nil {
		*ts = newTableSet(rows)
	}
	return err
}

// loadAt is load for writers, unless ts is of this epoch.
func (ts *tableSet) loadAt(ses *session, epoch int64) error {
	if ts.loaded && ts.epoch == epoch {
		return nil
	}
	err := ts.load(ses)
	ts.epoch = epoch
	return err
}

func readMappings(ses *session) (rows []mapped, err error) {
	err = ses.query(stmtMappings, func(row []driver.Value) error {
		rows = append(rows, mapped{
			table: string(bytesOf(row[0])), version: intOf(row[1]), prefix: bytesOf(row[2]), state: intOf(row[3]), position: bytesOf(row[4]),
		})
		return nil
	})
	return rows, err
}

func newTableSet(rows []mapped) tableSet {
	ts := tableSet{loaded: true, all: rows}
	var active []mapped
	for _, m := range rows {
		ts.version = max(ts.version, m.version)
		if m.state != mapGone {
			active = append(active, m)
		}
	}
	slices.SortFunc(active, func(a, b mapped) int { return bytes.Compare(a.prefix, b.prefix) })
	ts.cut(active, segment{from: []byte{}, to: maxKey, home: baseTable})
	if ts.isMoving {
		ts.tables = append(ts.tables, ts.source)
	}
	for _, name := range append([]string{baseTable}, names(active)...) {
		if !slices.Contains(ts.tables, name) {
			ts.tables = append(ts.tables, name)
		}
	}
	return ts
}

func names(list []mapped) (names []string) {
	for _, m := range list {
		names = append(names, m.table)
	}
	return names
}

// cut appends the segments of within, less those of the mappings that begin
// list and whose prefixes are in it, which it appends in their place. It returns
// the rest of list.
func (ts *tableSet) cut(list []mapped, within segment) []mapped {
	from := within.from
	add := func(to []byte) {
		if bytes.Compare(from, to) < 0 {
			s := within
			s.from, s.to = from, to
			ts.segments = append(ts.segments, s)
		}
	}
	for len(list) > 0 && bytes.Compare(list[0].prefix, within.to) < 0 {
		m := list[0]
		sub := segment{from: m.prefix, to: upperBound(m.prefix), home: m.table}
		if m.moving() {
			sub.moving, sub.source = true, within.home
			if m.state == mapDraining {
				sub.home, sub.source = sub.source, sub.home
			}
			ts.isMoving, ts.source = true, sub.source
		}
		add(sub.from)
		list = ts.cut(list[1:], sub)
		from = sub.to
	}
	add(within.to)
	return list
}

// find returns the segment of a storage key.
func (ts *tableSet) find(key []byte) *segment {
	if len(ts.segments) == 1 {
		return &ts.segments[0]
	}
	n := sort.Search(len(ts.segments), func(i int) bool { return bytes.Compare(ts.segments[i].from, key) > 0 })
	return &ts.segments[max(n, 1)-1]
}

// at returns the segment in which from lies, cut to [from, to).
func (ts *tableSet) at(from, to []byte) segment {
	s := *ts.find(from)
	s.from = from
	if bytes.Compare(to, s.to) < 0 {
		s.to = to
	}
	return s
}

// places returns the tables in which rows of the segment may be, a source first.
func (s *segment) places() []string {
	if s.moving {
		return []string{s.source, s.home}
	}
	return []string{s.home}
}

// A keyGroup is what is to be asked of one table.
type keyGroup struct {
	table string
	keys  [][]byte
}

// groups divides storage keys by the tables in which their rows may be, keeping
// their order; a source comes first. So whoever asks them in this order misses
// no row that is moved meanwhile.
func (ts *tableSet) groups(keys [][]byte) []keyGroup {
	if len(ts.segments) == 1 {
		return []keyGroup{{ts.segments[0].home, keys}}
	}
	list := make([]keyGroup, len(ts.tables))
	for i, name := range ts.tables {
		list[i].table = name
	}
	for _, key := range keys {
		s := ts.find(key)
		for _, name := range s.places() {
			g := &list[slices.Index(ts.tables, name)]
			g.keys = append(g.keys, key)
		}
	}
	return slices.DeleteFunc(list, func(g keyGroup) bool { return len(g.keys) == 0 })
}

// consistently runs fn with the tables as ses knows them, and again if they were
// others by the time it was done; fn begins anew each time. sure says that what
// fn found is right in any case. So a session learns of a new mapping no later
// than when that matters. Cost: one statement, none if sure.
func consistently(ses *session, fn func(ts *tableSet) (sure bool, err error)) error {
	for {
		if err := ses.reopen(); err != nil {
			return err
		}
		if !ses.tables.loaded {
			if err := ses.tables.load(ses); err != nil {
				return err
			}
		}
		ts := ses.tables // what the session knows is gone with its connection
		sure, err := fn(&ts)
		if err != nil || sure {
			return err
		}
		if err := ses.reopen(); err != nil {
			return err
		}
		same, err := ts.current(ses)
		if err != nil || same {
			return err
		}
		ses.tables.forget()
	}
}

// reopen connects again after an answer that was not read to its end.
func (s *session) reopen() error {
	if s.conn != nil {
		return nil
	}
	return s.use(s.ctx)
}

// current reports whether the mappings are still those of ts.
func (ts *tableSet) current(ses *session) (same bool, err error) {
	err = ses.query(stmtMapVersion, func(row []driver.Value) error {
		same = intOf(row[0]) == ts.version
		return nil
	})
	return same, err
}

// A Mapping is a prefix of keys whose items have a table of their own.
type Mapping struct {
	Prefix item.Key // with its namespace
	Table  string   // as given to MapPrefix
	Name   string   // of the table in the database
	// Moving says that not all rows are where they belong yet; Leaving, that they
	// belong elsewhere: the prefix is unmapped.
	Moving, Leaving bool
	// Version is the number of the mapping's last change, in the order of all.
	Version int64
}

func (ts *tableSet) mappings(d dialect) (list []Mapping) {
	for _, m := range ts.all {
		if m.state != mapGone {
			list = append(list, Mapping{
				Prefix: m.prefix, Table: m.table, Name: d.tableName(m.table), Moving: m.moving(), Leaving: m.state == mapDraining, Version: m.version,
			})
		}
	}
	slices.SortFunc(list, func(a, b Mapping) int {
		return cmp.Or(bytes.Compare(a.Prefix, b.Prefix), cmp.Compare(a.Table, b.Table))
	})
	return list
}
