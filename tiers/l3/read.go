package l3

import (
	"context"
	"database/sql/driver"

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
	record = dst
	err = s.read(ctx, func(ses *session) error {
		stored := key.StorageKey()
		there := false // a row, of this key or of another with its storage key
		each := func(row []driver.Value) error {
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
		if ses.dialect.server() {
			if err := ses.query(stmtGetRow, each, stored); err != nil || there {
				return err
			}
		}
		return ses.query(stmtGet, each, stored, stored)
	})
	if err != nil {
		return dst, false, s.wrap("get", err)
	}
	return record, found, nil
}

// GetMany calls fn for each of the keys that has a row or a tombstone, with its
// index in keys; the order is not that of keys. What is returned is as for Get.
// v is valid during the call only. An error of fn ends GetMany and is returned.
// A key given twice is reported twice.
//
// Cost: one statement, which is one snapshot, for every 500 keys. A connection
// is in use while fn runs, so fn must not call the store.
func (s *Store) GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	if len(keys) == 0 {
		return nil
	}
	err := s.read(ctx, func(ses *session) error {
		for from := 0; from < len(keys); from += maxWidth {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := getPart(ses, keys, from, min(from+maxWidth, len(keys)), fn); err != nil {
				return err
			}
		}
		return nil
	})
	return s.wrap("get many", err)
}

func getPart(ses *session, keys []item.Key, from, to int, fn func(i int, v item.View) error) error {
	stored, indexes := make([][]byte, 0, to-from), make(map[string][]int, to-from)
	for i := from; i < to; i++ {
		key := keys[i].StorageKey()
		if len(indexes[string(key)]) == 0 {
			stored = append(stored, key)
		}
		indexes[string(key)] = append(indexes[string(key)], i)
	}
	var record []byte
	return eachList(ses, stmtGetManyIn, 2, stored, func(row []driver.Value) error {
		head, err := parseHead(row[1])
		if err != nil {
			return err
		}
		record = appendRecord(record[:0], head, bytesOf(row[2]))
		for _, i := range indexes[string(bytesOf(row[0]))] {
			if string(head.Key()) != string(keys[i]) {
				continue // another key of the same storage key
			}
			if err := fn(i, item.View(record)); err != nil {
				return err
			}
		}
		return nil
	})
}
