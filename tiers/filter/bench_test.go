package filter_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/edgenode/edgenode/tiers/filter"
	"github.com/edgenode/edgenode/tiers/item"
)

// counted is a ground truth of n made-up keys in their order, without changes.
type counted int

func (c counted) LastSeq(context.Context) (uint64, error) { return 0, nil }

func (c counted) Changes(context.Context, uint64, int, func(filter.Change) error) error { return nil }

func (c counted) Keys(_ context.Context, after item.Key, limit int, fn func(item.Key) error) error {
	next := 0
	if after != nil {
		_, _ = fmt.Sscanf(string(after), "ishop/item:%09d", &next)
		next++
	}
	buf := []byte("ishop/item:000000000")
	for ; next < int(c) && limit > 0; next, limit = next+1, limit-1 {
		for i, n := len(buf)-1, next; i >= len(buf)-9; i, n = i-1, n/10 {
			buf[i] = '0' + byte(n%10)
		}
		if err := fn(buf); err != nil {
			return err
		}
	}
	return nil
}

func numbered(n int) item.Key { return fmt.Appendf(nil, "ishop/item:%09d", n) }

func BenchmarkFilter(b *testing.B) {
	sizes := []int{10_000, 1_000_000}
	if soak {
		sizes = append(sizes, 10_000_000)
	}
	for _, n := range sizes {
		f := open(b, func(o *filter.Options) { o.MinItems = 0 })
		b.Run(fmt.Sprintf("warm/%d", n), func(b *testing.B) {
			for b.Loop() {
				if err := f.Warm(b.Context(), counted(n), uint64(n)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "ids/s")
			st := f.Stats()
			b.ReportMetric(float64(st.Bytes)/float64(st.Items), "B/id")
			b.ReportMetric(st.FalsePositives*1e6, "fp/1e6")
		})
		ask := func(name string, key func(i int) item.Key, want bool) {
			keys := make([]item.Key, 1<<16)
			for i := range keys {
				keys[i] = key(i)
			}
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				wrong := 0
				for i := 0; b.Loop(); i++ {
					if f.MightExist(keys[i&(1<<16-1)]) != want {
						wrong++
					}
				}
				b.ReportMetric(float64(wrong)/float64(b.N)*1e6, "wrong/1e6")
			})
		}
		ask("hit", func(i int) item.Key { return numbered(i * 7919 % n) }, true)
		ask("miss", func(i int) item.Key { return fmt.Appendf(nil, "iother:%d", i) }, false)
		b.Run(fmt.Sprintf("seen-new/%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				if err := f.Seen(fmt.Appendf(nil, "inew:%d", i)); err != nil {
					b.Fatal(err)
				}
			}
		})
		snapshot := snapshot(b, f)
		b.Run(fmt.Sprintf("restore/%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(snapshot)))
			for b.Loop() {
				f := open(b)
				if err := f.ReadSnapshot(bytes.NewReader(snapshot)); err != nil {
					b.Fatal(err)
				}
				if err := f.CatchUp(b.Context(), counted(0)); err != nil || !f.Trusted() {
					b.Fatal(err)
				}
			}
		})
	}
}
