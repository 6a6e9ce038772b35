package l3

import (
	"context"
	"database/sql/driver"
	"slices"
	"strconv"

	"github.com/edgenode/edgenode/tiers/item"
)

// Get appends the record of key to dst and returns the extended slice and true,
// or dst as it was and false if there is neither a row nor a tombstone. A
// deleted item has a record of kind tombstone, so that its version is known;
// expired items are returned as they are, and so are items that a rule covers
// which has yet to be swept. The record satisfies item.Parse.
//
// Cost: one statement, one to three look-ups; on a server a second one for a key
// that has no live row. It copies the content twice.
func (s *Store) Get(ctx context.Context, key item.Key, dst []byte) (record []byte, found bool, err error) {
	err = s.read(ctx, func(ses *session) error {
		record, found, err = getOne(ses, key, dst)
		return err
	})
	if err != nil {
		return dst, false, s.wrap("get", err)
	}
	return record, found, nil
}

// getOne looks where the row must be. A row or tombstone that is found is right
// whatever has become of the mappings; one that is not is looked for again if
// they are others now, which the last statement tells too.
func getOne(ses *session, key item.Key, dst []byte) (record []byte, found bool, err error) {
	record = dst
	stored := key.StorageKey()
	there, version := false, int64(0) // a row, of this key or of another with its storage key
	each := func(row []driver.Value) error {
		if row[0] == nil {
			version = numberOf(row[1])
			return nil
		}
		there = true
		head, err := parseHead(row[0])
		if err != nil {
			return err
		}
		if string(head.Key()) == string(key) {
			record, found = appendRecord(dst, head, bytesOf(row[1])), true
		}
		return errStop
	}
	for {
		if !ses.tables.loaded {
			if err := ses.tables.load(ses); err != nil {
				return dst, false, err
			}
		}
		seg := ses.tables.find(stored)
		if !seg.moving && ses.dialect.server() {
			if err := ses.queryIn(seg.home, stmtGetRow, each, stored); err != nil || there {
				return record, found, err
			}
		}
		if seg.moving {
			if err := ses.queryIn(seg.source, stmtGet, each, stored, stored); err != nil || there {
				return record, found, err
			}
		}
		if err := ses.queryIn(seg.home, stmtGet, each, stored, stored); err != nil || there || version == ses.tables.version {
			return record, found, err
		}
		ses.tables.forget()
	}
}

// numberOf reads a number that a union gives as text.
func numberOf(v driver.Value) int64 {
	if b := bytesOf(v); b != nil {
		n, _ := strconv.ParseInt(string(b), 10, 64) // what is none equals no version
		return n
	}
	return intOf(v)
}

// GetMany calls fn for each of the keys that has a row or a tombstone, with its
// index in keys; the order is not that of keys. What is returned is as for Get.
// v is valid during the call only. An error of fn ends GetMany and is returned.
// A key given twice is reported twice.
//
// Cost: one statement, which is one snapshot, for every 500 keys of each table. A connection
// is in use while fn runs, so fn must not call the store.
func (s *Store) GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	return s.many(ctx, keys, manyRecords, fn)
}

// A manyQuery is a statement for many keys, which it has repeat times.
type manyQuery struct {
	st     statement
	repeat int
}

var (
	manyRecords = manyQuery{stmtGetManyIn, 2}
	manyHeads   = manyQuery{stmtHeadsIn, 1}
)

func (s *Store) many(ctx context.Context, keys []item.Key, q manyQuery, fn func(i int, v item.View) error) error {
	if len(keys) == 0 {
		return nil
	}
	err := s.read(ctx, func(ses *session) error {
		for from := 0; from < len(keys); from += maxWidth {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := getPart(ses, q, keys[from:min(from+maxWidth, len(keys))], from, fn); err != nil {
				return err
			}
		}
		return nil
	})
	return s.wrap("get many", err)
}

// getPart reads keys, the first of which has the index first. What is missing is
// looked for again if the mappings have changed.
func getPart(ses *session, q manyQuery, keys []item.Key, first int, fn func(i int, v item.View) error) error {
	stored, indexes := make([][]byte, 0, len(keys)), make(map[string][]int, len(keys))
	for i := range keys {
		key := keys[i].StorageKey()
		if len(indexes[string(key)]) == 0 {
			stored = append(stored, key)
		}
		indexes[string(key)] = append(indexes[string(key)], i)
	}
	var record []byte
	each := func(row []driver.Value) error {
		key := string(bytesOf(row[0]))
		list := indexes[key]
		delete(indexes, key) // in a table that rows are moved from and in the other, it comes once
		head, err := parseHead(row[1])
		if err != nil {
			return err
		}
		record = append(record[:0], head...)
		if len(row) > 2 {
			record = appendRecord(record[:0], head, bytesOf(row[2]))
		}
		for _, i := range list {
			if string(head.Key()) != string(keys[i]) {
				continue // another key of the same storage key
			}
			if err := fn(first+i, item.View(record)); err != nil {
				return err
			}
		}
		return nil
	}
	return consistently(ses, func(ts *tableSet) (sure bool, err error) {
		stored = slices.DeleteFunc(stored, func(key []byte) bool { return indexes[string(key)] == nil })
		for _, g := range ts.groups(stored) {
			if err := eachList(ses, g.table, q.st, q.repeat, g.keys, each); err != nil {
				return false, err
			}
		}
		return len(indexes) == 0, nil
	})
}
