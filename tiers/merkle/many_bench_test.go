package merkle_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"testing"

	"github.com/edgenode/edgenode/tiers/merkle"
)

// A made source is n siblings that are made up as they are asked for, and their
// changes.
type made struct {
	n       int
	log     []int32
	changed map[int]int
}

func (m *made) id(i int) []byte { return fmt.Appendf(nil, "uk.shop/%08d", i) }

func (m *made) leaf(i int) merkle.Hash {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(i))
	binary.BigEndian.PutUint64(b[8:], uint64(m.changed[i]))
	return sha256.Sum256(b[:])
}

func (m *made) change(i int) {
	m.changed[i]++
	m.log = append(m.log, int32(i))
}

func (m *made) LastSeq(context.Context) (uint64, error) { return uint64(len(m.log)), nil }

func (m *made) Changes(_ context.Context, after uint64, limit int, fn func(seq uint64, id []byte) error) error {
	for i := int(after); i < min(len(m.log), int(after)+limit); i++ {
		if err := fn(uint64(i+1), m.id(int(m.log[i]))); err != nil {
			return err
		}
	}
	return nil
}

func number(id []byte) (int, error) { return strconv.Atoi(string(id[len("uk.shop/"):])) }

func (m *made) Leaves(_ context.Context, ids [][]byte, fn func(i int, leaf merkle.Hash)) error {
	for i, id := range ids {
		n, err := number(id)
		if err != nil {
			return err
		}
		fn(i, m.leaf(n))
	}
	return nil
}

func (m *made) Scan(_ context.Context, after []byte, limit int, fn func(id []byte, leaf merkle.Hash) error) error {
	next := 0
	if after != nil {
		n, err := number(after)
		if err != nil {
			return err
		}
		next = n + 1
	}
	for ; next < m.n && limit > 0; next, limit = next+1, limit-1 {
		if err := fn(m.id(next), m.leaf(next)); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkTreeOfMany is D15: the cost of a change among 10³ and 10⁶ siblings, and
// in the long run 10⁷, in batches and alone: time, and rows read and written.
func BenchmarkTreeOfMany(b *testing.B) {
	sizes := []int{1000, 1_000_000}
	if soak {
		sizes = append(sizes, 10_000_000)
	}
	for _, n := range sizes {
		src, s := &made{n: n, changed: map[int]int{}}, newStore()
		tree, err := merkle.New(merkle.Options{Store: s, Source: src, BatchItems: 100_000})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("build/%d", n), func(b *testing.B) {
			for b.Loop() {
				if err := tree.Rebuild(b.Context()); err != nil {
					b.Fatal(err)
				}
				settle(b, tree)
			}
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "leaves/s")
			bytes := 0
			for k, v := range s.rows {
				bytes += len(k) + len(v)
			}
			b.ReportMetric(float64(bytes)/float64(n), "B/leaf")
		})
		tree.Close()
		for _, batch := range []int{1000, 1} {
			tree, err := merkle.New(merkle.Options{Store: s, Source: src, BatchItems: 1000})
			if err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("batch=%d/%d", batch, n), func(b *testing.B) {
				s.reads, s.writes = 0, 0
				i := 0
				for b.Loop() {
					for range batch {
						i++
						src.change(i * 7919 % n)
					}
					settle(b, tree)
				}
				changes := float64(b.N * batch)
				b.ReportMetric(changes/b.Elapsed().Seconds(), "changes/s")
				b.ReportMetric(float64(s.reads)/changes, "reads/change")
				b.ReportMetric(float64(s.writes)/changes, "writes/change")
			})
			tree.Close()
		}
	}
}
