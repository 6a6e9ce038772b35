package l2_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l2"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

const benchBatch = 100

// BenchmarkApply writes 1 KiB in batches of 100: "store" by Apply, "plain" the
// same bytes by a pipeline of SET with PX. One op is one item.
func BenchmarkApply(b *testing.B) {
	server := redistest.Start(b, redistest.Options{})
	s, c := benchStore(b, server)
	content := strings.Repeat("c", 1024)
	batches := func(b *testing.B, over bool) [][]l2.Op {
		list := make([][]l2.Op, 200) // 20,000 items, again and again
		for n := range list {
			for i := range benchBatch {
				id := fmt.Sprintf("bench/item/of/some/forty/bytes/%09d", n*benchBatch+i)
				if over {
					id = fmt.Sprintf("bench/item/of/some/forty/bytes/%09d", i)
				}
				list[n] = append(list[n], putOp(put(id, item.Version(n+1), content)))
			}
		}
		return list
	}
	run := func(name string, over bool, f func(ops []l2.Op)) {
		b.Run(name, func(b *testing.B) {
			list := batches(b, over)
			server.Do("FLUSHALL")
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += benchBatch {
				if at := n / benchBatch % len(list); at == 0 && n > 0 {
					b.StopTimer()
					server.Do("FLUSHALL")
					b.StartTimer()
					f(list[at])
				} else {
					f(list[at])
				}
			}
		})
	}
	out := make([]l2.Outcome, benchBatch)
	store := func(ops []l2.Op) {
		if err := s.Apply(ctx, ops, out); err != nil || !out[0].Won {
			b.Fatal(err, out[0])
		}
	}
	plain := func(ops []l2.Op) {
		pipe := c.Pipeline()
		for _, op := range ops {
			pipe.Set(ctx, string(op.Record.Key()), []byte(op.Record), time.Hour)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			b.Fatal(err)
		}
	}
	run("new/plain", false, plain)
	run("new/store", false, store)
	run("over/plain", true, plain)
	run("over/store", true, store)
}

// BenchmarkGetMany reads 100 items of 1 KiB at a time: "plain" by a pipeline of
// GET. One op is one item.
func BenchmarkGetMany(b *testing.B) {
	server := redistest.Start(b, redistest.Options{})
	s, c := benchStore(b, server)
	var keys []item.Key
	var names []string
	var ops []l2.Op
	for i := range benchBatch {
		k := key(fmt.Sprintf("bench/item/of/some/forty/bytes/%09d", i))
		keys, names = append(keys, k), append(names, "edgenode:{"+string(k)+"}")
		ops = append(ops, putOp(put(k.ID(), 1, strings.Repeat("c", 1024))))
	}
	apply(b, s, ops...)
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; n < b.N; n += benchBatch {
			pipe := c.Pipeline()
			for _, k := range names {
				pipe.Get(ctx, k)
			}
			if _, err := pipe.Exec(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		found := 0
		for n := 0; n < b.N; n += benchBatch {
			if err := s.GetMany(ctx, keys, func(int, item.View) error { found++; return nil }); err != nil {
				b.Fatal(err)
			}
		}
		if found < b.N {
			b.Fatalf("%d found", found)
		}
	})
}

func benchStore(b *testing.B, server *redistest.Server) (*l2.Store, *redis.Client) {
	b.Helper()
	c := redis.NewClient(&redis.Options{Addr: server.Addr(), Protocol: 2, DisableIdentity: true})
	b.Cleanup(func() { _ = c.Close() })
	return open(b, server.URL()), c
}
