package l3

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/edgenode/edgenode/tiers/item"
)

// A tree of hashes over the items is kept beside them, in a table of rows with a
// key and a value. What they mean is its business (package merkle), but that the
// row of the empty key is its state, which every change of other rows names.

const (
	maxMerkleKey   = 1200      // bytes: 1,024 of an id, and the places below its branches
	maxMerkleValue = 1<<24 - 1 // bytes, of MEDIUMBLOB
	merkleArgBytes = 512 << 10 // keys and values in one statement
)

// ErrMerkleMoved is returned by MerkleCommit and MerkleClear if the state is not
// the expected one. Nothing was changed.
var ErrMerkleMoved = errors.New("l3: the state of the tree is another one")

// A MerkleRow is a row of the tree.
type MerkleRow struct {
	Key   string // 1 to 1,200 bytes
	Value []byte
}

// A MerkleBatch is what one transaction does to the tree.
type MerkleBatch struct {
	Was, State []byte // the state as it must be, nil for none, and as it becomes
	Puts       []MerkleRow
	Deletes    []string
}

// MerkleRows returns the values of keys in their order, nil for those that are
// not there, from one snapshot. Cost: a statement for every 500 keys.
func (s *Store) MerkleRows(ctx context.Context, keys []string) (values [][]byte, err error) {
	places := make(map[string][]int, len(keys))
	list := make([][]byte, 0, len(keys))
	for i, k := range keys {
		if places[k] == nil {
			list = append(list, []byte(k))
		}
		places[k] = append(places[k], i)
	}
	err = s.read(ctx, func(ses *session) error {
		values = make([][]byte, len(keys))
		if len(list) > maxWidth {
			if err := ses.snapshot(); err != nil {
				return err
			}
			defer ses.rollback() // it wrote nothing
		}
		return eachList(ses, baseTable, stmtMerkleIn, 1, list, func(row []driver.Value) error {
			for _, i := range places[string(bytesOf(row[0]))] {
				values[i] = notNil(bytesOf(row[1]))
			}
			return nil
		})
	})
	if err != nil {
		return nil, s.wrap(fmt.Sprintf("read %d rows of the tree", len(keys)), err)
	}
	return values, nil
}

// MerkleCommit writes b in one transaction, or fails with ErrMerkleMoved if the
// state is not b.Was. It takes no number of the change sequence, and keeps nothing
// of b. The state is locked first: of several nodes one goes on.
func (s *Store) MerkleCommit(ctx context.Context, b MerkleBatch) error {
	err := b.check()
	if err == nil {
		_, err = s.write(ctx, func(w *work) error { return b.write(w.ses) })
	}
	return s.wrap(fmt.Sprintf("write %d rows of the tree", len(b.Puts)+len(b.Deletes)+1), err)
}

func (b *MerkleBatch) check() error {
	if len(b.State) == 0 {
		return fmt.Errorf("%w: the tree has no state", ErrRejected)
	}
	for i := range b.Puts {
		if r := &b.Puts[i]; len(r.Key) < 1 || len(r.Key) > maxMerkleKey || len(r.Value) > maxMerkleValue {
			return fmt.Errorf("%w: row of the tree with a key of %d and a value of %d bytes", ErrRejected, len(r.Key), len(r.Value))
		}
	}
	return nil
}

func (b *MerkleBatch) write(ses *session) error {
	if err := expectMerkle(ses, b.Was); err != nil {
		return err
	}
	puts := slices.Clone(b.Puts)
	slices.SortFunc(puts, func(a, b MerkleRow) int { return bytes.Compare([]byte(a.Key), []byte(b.Key)) })
	deletes := make([][]byte, len(b.Deletes))
	for i, k := range b.Deletes {
		deletes[i] = []byte(k)
	}
	slices.SortFunc(deletes, bytes.Compare)
	if err := writeList(ses, baseTable, stmtMerkleDropIn, deletes); err != nil {
		return err
	}
	for len(puts) > 0 {
		n, size := 0, 0
		for n < len(puts) && (n == 0 || size <= merkleArgBytes) {
			size += len(puts[n].Key) + len(puts[n].Value)
			n++
		}
		if err := writeRows(ses, baseTable, stmtMerklePutIn, puts[:n], appendMerkle); err != nil {
			return err
		}
		puts = puts[n:]
	}
	return writeRows(ses, baseTable, stmtMerklePutIn, []MerkleRow{{Value: b.State}}, appendMerkle)
}

func appendMerkle(args []driver.Value, r MerkleRow) []driver.Value {
	return append(args, []byte(r.Key), notNil(r.Value))
}

// expectMerkle locks the state, and fails unless it is was.
func expectMerkle(ses *session, was []byte) error {
	var state []byte
	err := ses.query(stmtMerkleState, func(row []driver.Value) error {
		state = notNil(bytesOf(row[0]))
		return errStop
	})
	if err == nil && ((state == nil) != (was == nil) || !bytes.Equal(state, was)) {
		err = ErrMerkleMoved
	}
	return err
}

// MerkleClear deletes up to limit rows but the state, in the order of keys, or
// fails with ErrMerkleMoved if the state is not was. It returns how many there
// were; fewer than limit means that none is left.
func (s *Store) MerkleClear(ctx context.Context, was []byte, limit int) (n int, err error) {
	_, err = s.write(ctx, func(w *work) error {
		if err := expectMerkle(w.ses, was); err != nil {
			return err
		}
		changed, err := w.ses.exec(stmtMerkleClear, int64(max(limit, 1)))
		n = int(changed)
		return err
	})
	if err != nil {
		return 0, s.wrap("clear the tree", err)
	}
	return n, nil
}

// Heads calls fn for each of the keys that has a row, with its index in keys; the
// order is not that of keys. v has no content, and is valid during the call only;
// tombstones are left out, expired items are not. An error of fn ends Heads and is
// returned. Otherwise it is like GetMany.
func (s *Store) Heads(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	return s.many(ctx, keys, manyHeads, fn)
}
