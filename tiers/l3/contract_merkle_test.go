package l3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// merkleRows: the state is compared before anything is written, and all of a
// batch is written or nothing.
func merkleRows(t *testing.T, s *l3.Store) {
	ctx := context.Background()
	commit := func(want error, b l3.MerkleBatch) {
		t.Helper()
		if err := s.MerkleCommit(ctx, b); !errors.Is(err, want) {
			t.Errorf("commit over %q: %v, want %v", b.Was, err, want)
		}
	}
	want := func(values map[string]string) {
		t.Helper()
		keys := []string{"absent"}
		for k := range values {
			keys = append(keys, k, k)
		}
		got, err := s.MerkleRows(ctx, keys)
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range keys {
			if v, there := values[k]; (got[i] != nil) != (there && v != "-") || v != "-" && string(got[i]) != v {
				t.Errorf("row %q is %q, want %q", k, got[i], v)
			}
		}
	}
	seq := s.LastSeq()
	long := strings.Repeat("k", 1199) + "\x00"
	commit(l3.ErrMerkleMoved, l3.MerkleBatch{Was: []byte("none"), State: []byte("x"), Puts: []l3.MerkleRow{{Key: "a", Value: []byte("1")}}})
	want(map[string]string{"": "-", "a": "-"})
	commit(nil, l3.MerkleBatch{State: []byte("s1"), Puts: []l3.MerkleRow{
		{Key: "b\x00", Value: []byte{0, '\'', 0xff}}, {Key: "a", Value: []byte("1")}, {Key: "A", Value: []byte("2")}, {Key: long, Value: bytes.Repeat([]byte("v"), 20_000)},
	}})
	want(map[string]string{"": "s1", "a": "1", "A": "2", "b\x00": "\x00'\xff", "b": "-", long: strings.Repeat("v", 20_000)})
	commit(l3.ErrMerkleMoved, l3.MerkleBatch{State: []byte("s2"), Deletes: []string{"a"}})
	commit(l3.ErrMerkleMoved, l3.MerkleBatch{Was: []byte("s"), State: []byte("s2"), Deletes: []string{"a"}})
	commit(nil, l3.MerkleBatch{Was: []byte("s1"), State: []byte("s2"), Puts: []l3.MerkleRow{{Key: "a", Value: []byte("new")}}, Deletes: []string{"A", long, "absent"}})
	want(map[string]string{"": "s2", "a": "new", "A": "-", long: "-"})
	commit(l3.ErrRejected, l3.MerkleBatch{Was: []byte("s2"), State: []byte("s3"), Puts: []l3.MerkleRow{{Key: long + "k"}}})
	commit(l3.ErrRejected, l3.MerkleBatch{Was: []byte("s2")})

	many := l3.MerkleBatch{Was: []byte("s2"), State: []byte("s3")}
	values := map[string]string{"": "s3"}
	for i := range 1234 {
		r := l3.MerkleRow{Key: fmt.Sprintf("many/%d", i), Value: fmt.Appendf(nil, "%d %s", i, strings.Repeat("x", i))}
		many.Puts, values[r.Key] = append(many.Puts, r), string(r.Value)
	}
	commit(nil, many)
	want(values)
	clear := func(was string, limit, wantN int, wantErr error) {
		t.Helper()
		if n, err := s.MerkleClear(ctx, []byte(was), limit); n != wantN || !errors.Is(err, wantErr) {
			t.Errorf("clear: %d, %v", n, err)
		}
	}
	clear("s2", 1000, 0, l3.ErrMerkleMoved)
	clear("s3", 1000, 1000, nil)
	clear("s3", 1000, 236, nil)
	clear("s3", 1000, 0, nil)
	want(map[string]string{"": "s3", "a": "-", "many/7": "-"})
	if s.LastSeq() != seq {
		t.Errorf("the tree took numbers of the change sequence: %d, then %d", seq, s.LastSeq())
	}
	merkleRace(t, s)
}

// merkleRace: of writers that start from one state, one goes on.
func merkleRace(t *testing.T, s *l3.Store) {
	const writers, rounds = 4, 10
	for round := range rounds {
		rows, err := s.MerkleRows(context.Background(), []string{""})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		results := make([]error, writers)
		for i := range writers {
			wg.Go(func() {
				results[i] = s.MerkleCommit(context.Background(), l3.MerkleBatch{
					Was: rows[0], State: fmt.Appendf(nil, "race %d %d", round, i), Puts: []l3.MerkleRow{{Key: "race", Value: fmt.Append(nil, i)}},
				})
			})
		}
		wg.Wait()
		won := -1
		for i, err := range results {
			switch {
			case err == nil && won < 0:
				won = i
			case !errors.Is(err, l3.ErrMerkleMoved):
				t.Fatalf("round %d: writer %d: %v, %d has won", round, i, err, won)
			}
		}
		rows, err = s.MerkleRows(context.Background(), []string{"", "race"})
		if err != nil || won < 0 || string(rows[0]) != fmt.Sprintf("race %d %d", round, won) || string(rows[1]) != fmt.Sprint(won) {
			t.Fatalf("round %d: %d has won, rows are %q, %v", round, won, rows, err)
		}
	}
}

// heads: rows without their contents, whether or not they are over.
func heads(t *testing.T, s *l3.Store) {
	apply(t, s, put("a", 7<<16, "content", state("done")), put("over", 8<<16, "x", expires(now-1)), tombstone("gone", 9<<16))
	keys := []item.Key{idKey("gone"), idKey("over"), idKey("a"), idKey("absent"), idKey("a")}
	got := make([]string, len(keys))
	err := s.Heads(context.Background(), keys, func(i int, v item.View) error {
		got[i] += fmt.Sprintf("%s %s %d %d", v.Key().ID(), v.State(), v.Version()>>16, len(v.Content()))
		return nil
	})
	if want := []string{"", "over  8 0", "a done 7 0", "", "a done 7 0"}; err != nil || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got  %q, %v\nwant %q", got, err, want)
	}
}
