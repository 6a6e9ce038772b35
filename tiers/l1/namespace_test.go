package l1_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"pgregory.net/rapid"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// byRemainder makes the key i one of the namespace i mod the number of all, plus
// one: the first of these parts has none.
func byRemainder(list ...l1.Namespace) l1.Namespaces {
	return l1.Namespaces{List: list, Of: func(record item.View) int {
		i, err := strconv.Atoi(string(record.Key().Own()))
		if err != nil {
			return -1
		}
		return i%(len(list)+1) - 1
	}}
}

func divide(tb testing.TB, c *l1.Cache, list ...l1.Namespace) {
	tb.Helper()
	if err := c.SetNamespaces(byRemainder(list...)); err != nil {
		tb.Fatal(err)
	}
}

func statsOf(tb testing.TB, c *l1.Cache, name string) l1.NamespaceStats {
	tb.Helper()
	for _, s := range c.NamespaceStats() {
		if s.Name == name {
			return s
		}
	}
	tb.Fatalf("no namespace %q", name)
	return l1.NamespaceStats{}
}

// The cache against a map, divided and divided anew: what is counted is what is
// there, and no budget is passed, at the end and after each change.
func TestNamespaces_Model(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := int64(1_000_000)
		way := rapid.IntRange(0, 2).Draw(t, "way")
		c := l1.New(l1.Options{MaxBytes: 1 << 20, Scorer: eviction.Auto{}, Contest: way == 1, Queues: way == 2,
			Seed: 1, Now: func() int64 { return now }})
		model := map[int]*modelEntry{}
		key, version := rapid.IntRange(0, 400), rapid.Uint64Range(1, 12)
		size := rapid.OneOf(rapid.IntRange(0, 600), rapid.IntRange(0, 8000), rapid.IntRange(0, 300_000))
		t.Repeat(map[string]func(*rapid.T){
			"divide": func(t *rapid.T) {
				var list []l1.Namespace
				for i := range rapid.IntRange(0, 4).Draw(t, "namespaces") {
					list = append(list, l1.Namespace{
						Name:     fmt.Sprint("n", (i+rapid.IntRange(0, 1).Draw(t, "first"))*8+i),
						Weight:   rapid.SampledFrom([]float64{0, 0.01, 0.5, 1, 3, 100}).Draw(t, "weight"),
						MaxBytes: rapid.SampledFrom([]int64{0, 1, 20_000, 200_000, 800_000, 1 << 30}).Draw(t, "bytes"),
					})
				}
				if err := c.SetNamespaces(byRemainder(list...)); err != nil {
					t.Fatal(err)
				}
				if err := c.Audit(); err != nil {
					t.Fatal(err)
				}
			},
			"put": func(t *rapid.T) {
				i, v, n := key.Draw(t, "key"), version.Draw(t, "version"), size.Draw(t, "size")
				e := &modelEntry{version: v, size: n}
				if rapid.Bool().Draw(t, "expires") {
					e.expires = now + rapid.Int64Range(1, 2000).Draw(t, "ttl")
				}
				if put(c, i, v, n, l1.PutOptions{ExpiresAtMilli: e.expires}) {
					model[i] = e
				}
			},
			"fill": func(t *rapid.T) {
				for i := range 200 {
					n := (i*i*37 + 100) % 5000
					if k := i + 1000; put(c, k, 1, n, l1.PutOptions{}) {
						model[k] = &modelEntry{version: 1, size: n}
					}
				}
			},
			"get": func(t *rapid.T) { check(t, c, model, key.Draw(t, "key"), now) },
			"delete": func(t *rapid.T) {
				i, v := key.Draw(t, "key"), version.Draw(t, "version")
				del(c, i, v)
				if model[i] != nil && model[i].version <= v {
					delete(model, i)
				}
			},
			"time":    func(t *rapid.T) { now += rapid.Int64Range(0, 500).Draw(t, "ms") },
			"move":    func(t *rapid.T) { c.MoveOne() },
			"reserve": func(t *rapid.T) { c.Reserve(rapid.Int64Range(0, 20_000).Draw(t, "bytes")) },
			"": func(t *rapid.T) {
				for _, s := range c.NamespaceStats() {
					if s.MaxBytes > 0 && s.Bytes > s.MaxBytes {
						t.Fatalf("%s has %d of %d bytes", s.Name, s.Bytes, s.MaxBytes)
					}
				}
			},
		})
		for i := range model {
			check(t, c, model, i, now)
		}
		if err := c.Audit(); err != nil {
			t.Fatal(err)
		}
	})
}

// What comes into a namespace beyond its budget costs only its own.
func TestNamespaces_Budget(t *testing.T) {
	for _, queues := range []bool{false, true} {
		c := newCache(t, l1.Options{MaxBytes: 4 << 20, Queues: queues})
		divide(t, c, l1.Namespace{Name: "flood", MaxBytes: 512 << 10}, l1.Namespace{Name: "calm"})
		for i := range 500 {
			put(c, 3*i+2, 1, 1000, l1.PutOptions{})
		}
		for i := range 20_000 / slow {
			if !put(c, 3*i+1, 1, 400+i%3000, l1.PutOptions{}) {
				t.Fatalf("put %d refused", i)
			}
		}
		flood, calm := statsOf(t, c, "flood"), statsOf(t, c, "calm")
		if flood.Bytes > flood.MaxBytes || flood.Bytes < flood.MaxBytes*9/10 {
			t.Errorf("the flood has %d of %d bytes", flood.Bytes, flood.MaxBytes)
		}
		if calm.Evicted != 0 || calm.Items != 500 || flood.Evicted < 10_000/slow {
			t.Errorf("of the others %d left, %d are there; of its own %d left", calm.Evicted, calm.Items, flood.Evicted)
		}
		if put(c, 1, 2, 200<<10, l1.PutOptions{}) || statsOf(t, c, "flood").Refused == 0 {
			t.Error("more than a quarter of the budget came in")
		}
		if n := c.Listed(); n > 3*int(flood.Items)+64 {
			t.Errorf("%d members are listed for %d records", n, flood.Items)
		}
	}
}

// What leaves and comes in again and again is not listed each time.
func TestNamespaces_Again(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	divide(t, c, l1.Namespace{Name: "a", MaxBytes: 400_000})
	for i := range 50 {
		put(c, 2*i+3, 1, 1000, l1.PutOptions{})
	}
	for range 10_000 {
		put(c, 1, 1, 1000, l1.PutOptions{})
		del(c, 1, 1)
	}
	if n := c.Listed(); n > 4096 {
		t.Errorf("%d members are listed for 50 records", n)
	}
	audit(t, c)
}

// Budgets that add up to more than there is are shares: who is above its own pays,
// however often its records are hit.
func TestNamespaces_Fair(t *testing.T) {
	for _, contest := range []bool{false, true} {
		c := newCache(t, l1.Options{MaxBytes: 4 << 20 / slow, Contest: contest})
		divide(t, c, l1.Namespace{Name: "loud", MaxBytes: 4 << 20 / slow}, l1.Namespace{Name: "quiet", MaxBytes: 2 << 20 / slow})
		for i := range 6000 / slow {
			put(c, 3*i+2, 1, 800, l1.PutOptions{})
		}
		for range 4 {
			for i := range 6000 / slow {
				if put(c, 3*i+1, 1, 800, l1.PutOptions{}) {
					get(c, 3*i+1, 0)
					get(c, 3*i+1, 0)
				}
			}
		}
		loud, quiet := statsOf(t, c, "loud"), statsOf(t, c, "quiet")
		if share := float64(c.MaxBytes()) / 3; float64(quiet.Bytes) < 0.8*share || float64(loud.Bytes) < 1.6*share {
			t.Errorf("contest %v: the quiet one has %d bytes, the loud one %d; a third is %.0f", contest, quiet.Bytes, loud.Bytes, share)
		}
	}
}

// Of two namespaces with the same requests that with the greater weight keeps more,
// by every ranking; of two with one weight neither.
func TestNamespaces_Weight(t *testing.T) {
	f := func(name string, o l1.Options, weight, least, most float64) {
		t.Helper()
		now := int64(1_000_000)
		o.MaxBytes, o.Now = 1<<20, func() int64 { return now }
		c := newCache(t, o)
		divide(t, c, l1.Namespace{Name: "heavy", Weight: weight}, l1.Namespace{Name: "light", Weight: 1 / weight})
		random, requests := rand.New(rand.NewPCG(3, 3)), 12_000/slow
		if o.Queues { // they take long to settle
			requests = 12_000
		}
		for range requests {
			now += 20
			x := random.Float64()
			i := int(2000 * x * x * x)
			for part := 1; part <= 2; part++ {
				if get(c, 3*i+part, now) == 0 {
					put(c, 3*i+part, 1, 700, l1.PutOptions{NowMilli: now})
				}
			}
		}
		heavy, light := statsOf(t, c, "heavy"), statsOf(t, c, "light")
		if by := float64(heavy.Items) / float64(max(1, light.Items)); by < least || by > most {
			t.Errorf("%s, weight %v: %d and %d records, a factor of %.2f, want %v to %v", name, weight, heavy.Items, light.Items, by, least, most)
		}
	}
	each := func(weight, least, most float64) {
		f("auto", l1.Options{Scorer: eviction.Auto{}}, weight, least, most)
		f("contest", l1.Options{Scorer: eviction.Auto{}, Contest: true}, weight, least, most)
		f("frequency", l1.Options{}, weight, least, most)
		f("bytes", l1.Options{Scorer: eviction.Auto{Bytes: 1}, Queues: true}, weight, least, most)
		f("lru", l1.Options{Scorer: eviction.LRU{}, TimeIdle: true}, weight, least, most)
		f("tan", l1.Options{Scorer: eviction.Tan{}, TimeIdle: true}, weight, least, most)
	}
	each(1, 0.8, 1.25)
	each(4, 1.3, 1e9)
	each(0.25, 0, 0.75)
}

// A newcomer with a great weight wins against what is as frequent, one with a small
// one loses.
func TestNamespaces_Contest(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Contest: true})
	divide(t, c, l1.Namespace{Name: "heavy", Weight: 64}, l1.Namespace{Name: "light", Weight: 1.0 / 64})
	if !c.Reserve(c.MaxBytes() * 8 / 10) { // above 0.7 newcomers contest in any case
		t.Fatal("no room")
	}
	for i := range 2000 {
		put(c, 3*i, 1, 700, l1.PutOptions{})
		get(c, 3*i, 0)
	}
	came := func(part int) (n int) {
		for i := range 20 {
			if put(c, 3*i+part, 1, 700, l1.PutOptions{}) {
				n++
			}
		}
		return n
	}
	if heavy, light := came(1), came(2); heavy != 20 || light != 0 {
		t.Errorf("of 20 each, %d heavy and %d light ones came in", heavy, light)
	}
}

// What is pinned passes the budget; then its own do not come in any more, and
// nobody else suffers.
func TestNamespaces_Pinned(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	divide(t, c, l1.Namespace{Name: "a", MaxBytes: 40_000})
	for i := range 100 {
		if !put(c, 2*i+1, 1, 1000, l1.PutOptions{Pinned: true}) {
			t.Fatalf("pinned %d was refused", i)
		}
	}
	if put(c, 1001, 1, 1000, l1.PutOptions{}) || !put(c, 1000, 1, 1000, l1.PutOptions{}) {
		t.Error("beyond the budget, or the others do not")
	}
	for i := range 100 {
		c.Unpin(hash(keyOf(2*i+1)), keyOf(2*i+1), 1)
	}
	if !put(c, 1001, 1, 1000, l1.PutOptions{}) {
		t.Error("refused, though all others may leave")
	}
	if s := statsOf(t, c, "a"); s.Bytes > s.MaxBytes {
		t.Errorf("%d of %d bytes", s.Bytes, s.MaxBytes)
	}
}

// A change of namespaces is in force for what is there, at once.
func TestNamespaces_Change(t *testing.T) {
	set := metrics.NewSet()
	c := newCache(t, l1.Options{MaxBytes: 4 << 20, Metrics: set})
	for i := range 1500 {
		put(c, i, 1, 1000, l1.PutOptions{})
	}
	shows := func(text string, want bool) {
		t.Helper()
		var b bytes.Buffer
		if set.WritePrometheus(&b); strings.Contains(b.String(), text) != want {
			t.Errorf("%s is shown: %v", text, !want)
		}
	}
	divide(t, c, l1.Namespace{Name: `uk "1"/`, Weight: 2}, l1.Namespace{Name: "b"})
	if s := statsOf(t, c, `uk "1"/`); s.Items != 500 {
		t.Errorf("%d records, want 500", s.Items)
	}
	shows(`edgenode_l1_namespace_items{namespace="uk \"1\"/"} 500`, true)
	audit(t, c)
	divide(t, c, l1.Namespace{Name: "b", MaxBytes: 100_000})
	if s := statsOf(t, c, "b"); s.Bytes > 100_000 || s.Bytes < 90_000 {
		t.Errorf("%d bytes of 100,000", s.Bytes)
	}
	shows("uk", false)
	shows(`edgenode_l1_namespace_max_bytes{namespace="b"} 100000`, true)
	audit(t, c)
	var many []l1.Namespace
	for i := range l1.MaxNamespaces {
		many = append(many, l1.Namespace{Name: fmt.Sprint("m", i), MaxBytes: 1 << 20})
	}
	divide(t, c, many...)
	audit(t, c)
	for i := range many {
		many[i].Name = fmt.Sprint("o", i)
	}
	divide(t, c, many...)
	audit(t, c)
	divide(t, c)
	if len(c.NamespaceStats()) != 0 {
		t.Error("some are left")
	}
	shows("namespace", false)
	bad := byRemainder(l1.Namespace{Name: "a", Weight: 1000}, l1.Namespace{Name: "a", MaxBytes: -1})
	if err := c.SetNamespaces(bad); err == nil || !strings.Contains(err.Error(), "twice") || len(c.NamespaceStats()) != 0 {
		t.Errorf("bad namespaces: %v", err)
	}
}

// Many put, read and delete while namespaces come and go; at rest all counts are
// right and budgets hold.
func TestNamespaces_Hammer(t *testing.T) {
	for way := range 3 {
		c := newCache(t, l1.Options{MaxBytes: 2 << 20, Scorer: eviction.Auto{}, Contest: way == 1, Queues: way == 2})
		var workers sync.WaitGroup
		for w := range 4 {
			workers.Go(func() {
				random := rand.New(rand.NewPCG(uint64(way), uint64(w)))
				for range 4000 {
					i := random.IntN(3000)
					switch random.IntN(8) {
					case 0:
						del(c, i, 1<<40)
					case 1, 2, 3:
						get(c, i, 0)
					default:
						put(c, i, 1+random.Uint64N(1000), random.IntN(3000), l1.PutOptions{})
					}
				}
			})
		}
		workers.Go(func() {
			for i := range 30 {
				list := []l1.Namespace{{Name: "a", MaxBytes: int64(200_000 + i%3*200_000)}, {Name: fmt.Sprint("b", i%2), MaxBytes: 2 << 20, Weight: 2}}
				if err := c.SetNamespaces(byRemainder(list[:1+i%2]...)); err != nil {
					t.Error(err)
				}
			}
		})
		workers.Wait()
		for _, s := range c.NamespaceStats() {
			if s.MaxBytes > 0 && s.Bytes > s.MaxBytes {
				t.Errorf("%s has %d of %d bytes", s.Name, s.Bytes, s.MaxBytes)
			}
		}
		audit(t, c)
	}
}
