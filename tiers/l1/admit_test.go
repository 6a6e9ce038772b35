package l1_test

import (
	"math"
	"sync"
	"testing"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// admitFunc is an admit hook made of a function.
type admitFunc func(newcomer item.Candidate, victims []item.Candidate) (admit, ok bool)

func (f admitFunc) Admit(newcomer item.Candidate, victims []item.Candidate, _ float64) (admit, ok bool) {
	return f(newcomer, victims)
}

// small makes a cache and fills it until the first leave.
func small(t *testing.T, o l1.Options) *l1.Cache {
	t.Helper()
	o.MaxBytes = 1 << 20
	c := newCache(t, o)
	for i := 0; c.Stats().Evicted < 50; i++ {
		put(c, i, 1, 1000, l1.PutOptions{})
	}
	return c
}

// What an admit hook says no to stays out; what is pinned or replaces something
// is not asked about, and nobody is asked while there is room.
func TestAdmitDecides(t *testing.T) {
	f := func(name string, o l1.Options) {
		t.Helper()
		calls := uint64(0)
		hook := admitFunc(func(newcomer item.Candidate, victims []item.Candidate) (admit, ok bool) {
			calls++
			if len(victims) < 1 || len(victims) > 4 {
				t.Errorf("%s: %d victims", name, len(victims))
			}
			for i := range victims {
				if victims[i].Hash == newcomer.Hash || victims[i].Size < 1000 {
					t.Errorf("%s: victim %+v of %+v", name, victims[i], newcomer)
				}
			}
			if newcomer.Age != 0 || newcomer.Idle != 0 || newcomer.Size < 1000 || newcomer.Hits != 1 {
				t.Errorf("%s: newcomer %+v", name, newcomer)
			}
			return newcomer.TagClass == 1, true
		})
		c := small(t, o)
		c.SetHooks(o.Hook, hook)
		before, evicted := c.Stats(), c.Stats().Evicted
		for i := range 100 {
			if put(c, 10_000+i, 1, 1000, l1.PutOptions{}) && c.Stats().Evicted > evicted {
				t.Fatalf("%s: %d came in at the price of others", name, i)
			}
		}
		s := c.Stats()
		if calls < 90 || s.HookRefused != calls || s.Lost-before.Lost != calls || s.Refused-before.Refused != calls {
			t.Errorf("%s: asked %d times; %+v", name, calls, s)
		}
		for i := range 100 {
			if !put(c, 20_000+i, 1, 1000, l1.PutOptions{TagClass: 1}) {
				t.Errorf("%s: %d was admitted and is not there", name, i)
			}
		}
		if calls > 200 {
			t.Errorf("%s: asked %d times about 200", name, calls)
		}
		calls = 0
		for i := range 50 {
			if !put(c, 30_000+i, 1, 1000, l1.PutOptions{Pinned: true}) || !put(c, 30_000+i, 2, 3000, l1.PutOptions{}) {
				t.Errorf("%s: %d, pinned or newer, was refused", name, i)
			}
		}
		if calls != 0 {
			t.Errorf("%s: asked %d times about what is pinned or replaces", name, calls)
		}
		c.SetHooks(o.Hook, nil)
		if !put(c, 40_000, 1, 1000, l1.PutOptions{}) || calls != 0 {
			t.Errorf("%s: refused by a hook that is gone", name)
		}
	}
	f("alone", l1.Options{})
	f("contest", l1.Options{Contest: true})
	f("queues", l1.Options{Queues: true})
	f("evict hook", l1.Options{Hook: hookFunc(func(dst []int32, c []item.Candidate) []int32 {
		for i := range c {
			dst = append(dst, int32(i))
		}
		return dst
	})})
}

// The victims that an admit hook is shown are those of the evict hook, the first
// to leave first.
func TestAdmitSeesEvictHooksChoice(t *testing.T) {
	scores := map[uint64]int32{}
	evict := hookFunc(func(dst []int32, c []item.Candidate) []int32 {
		for i := range c {
			score := int32(c[i].Hash >> 40)
			dst, scores[c[i].Hash] = append(dst, score), score
		}
		return dst
	})
	asked := 0
	admit := admitFunc(func(_ item.Candidate, victims []item.Candidate) (admit, ok bool) {
		asked++
		last := int32(math.MinInt32)
		for i := range victims {
			score, ok := scores[victims[i].Hash]
			if !ok || score < last {
				t.Errorf("victim %d has the score %d (%v) after %d", i, score, ok, last)
			}
			last = score
		}
		return true, true
	})
	c := small(t, l1.Options{Hook: evict, Admit: admit})
	if asked == 0 || c.Stats().HookFaults != 0 {
		t.Errorf("asked %d times, %+v", asked, c.Stats())
	}
}

// What has expired leaves for a newcomer without a question. All are of that kind
// at first, and the newcomers few, so that no sample is without one.
func TestAdmitAndExpired(t *testing.T) {
	now := int64(1_700_000_000_000)
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Now: func() int64 { return now }})
	for i := 0; c.Stats().Evicted < 50; i++ {
		put(c, i, 1, 1000, l1.PutOptions{ExpiresAtMilli: now + 1000, NowMilli: now})
	}
	c.SetHooks(nil, admitFunc(func(item.Candidate, []item.Candidate) (admit, ok bool) {
		t.Error("asked")
		return false, true
	}))
	now += 2000
	for i := range 40 {
		if !put(c, 10_000+i, 1, 1000, l1.PutOptions{NowMilli: now}) {
			t.Fatalf("%d was refused", i)
		}
	}
	if s := c.Stats(); s.Expired < 30 {
		t.Errorf("%d of the expired left: %+v", s.Expired, s)
	}
}

// An admit hook without an answer leaves things as they are without one.
func TestFaultyAdmit(t *testing.T) {
	c := small(t, l1.Options{})
	c.SetHooks(nil, admitFunc(func(item.Candidate, []item.Candidate) (admit, ok bool) { return false, false }))
	for i := range 100 {
		if !put(c, 10_000+i, 1, 1000, l1.PutOptions{}) {
			t.Fatalf("%d was refused", i)
		}
	}
	if s := c.Stats(); s.HookCalls == 0 || s.HookFaults != s.HookCalls || s.HookRefused != 0 {
		t.Errorf("%+v", s)
	}
}

// Hooks that come while the cache is full are told idle ages in time, also of what
// was hit before they came; when they go, accesses count again, and what was hit
// longest ago still leaves first.
func TestHooksComeAndGo(t *testing.T) {
	now := int64(1_700_000_000_000)
	c := newCache(t, l1.Options{MaxBytes: 1 << 20, Scorer: eviction.Auto{}, Contest: true, Now: func() int64 { return now }})
	version := uint64(item.VersionAt(now))
	const each = 200
	for i := range 3 * each { // one a second
		now += 1000
		put(c, i, version, 1000, l1.PutOptions{NowMilli: now})
	}
	idle := map[uint64]uint32{}
	c.SetHooks(hookFunc(func(dst []int32, cs []item.Candidate) []int32 {
		for i := range cs {
			idle[cs[i].Hash] = cs[i].Idle
			dst = append(dst, -int32(cs[i].Idle))
		}
		return dst
	}), nil)
	for i := range each {
		get(c, 2*each+i, now)
	}
	now += 60_000
	for i := range 300 {
		put(c, 10_000+i, version, 1000, l1.PutOptions{NowMilli: now})
	}
	seen := 0
	for i := range 3 * each {
		got, ok := idle[hash(keyOf(i))]
		if !ok {
			continue
		}
		seen++
		want := 60_000.0
		if i < 2*each {
			want += float64(3*each-1-i) * 1000
		}
		if math.Abs(float64(got)-want) > 16+want/5 {
			t.Errorf("%d: idle for %d ms, want about %.0f", i, got, want)
		}
	}
	if seen < 50 {
		t.Fatalf("%d of them were candidates", seen)
	}
	calls := c.Stats().HookCalls
	c.SetHooks(nil, nil)
	before := c.Stats().Evicted
	for i := range 4 * each {
		put(c, 20_000+i, version, 1000, l1.PutOptions{NowMilli: now})
		for k := range 10 {
			get(c, 2*each+(i*10+k)%each, now)
		}
	}
	if c.Stats().HookCalls != calls || c.Stats().Evicted == before {
		t.Errorf("asked after it went, or nothing left: %+v", c.Stats())
	}
	kept := [3]int{}
	for i := range 3 * each {
		if get(c, i, now) != 0 {
			kept[i/each]++
		}
	}
	if kept[2] < each*9/10 || kept[0]+kept[1] > each/5 {
		t.Errorf("of three times %d, the last ones hit often, %v are left", each, kept)
	}
}

// Hooks come and go while everything else goes on.
func TestHooksChangeUnderLoad(t *testing.T) {
	for _, o := range []l1.Options{{Contest: true}, {Queues: true}} {
		o.MaxBytes = 1 << 20
		c := newCache(t, o)
		evict := hookFunc(func(dst []int32, cs []item.Candidate) []int32 { return append(dst, make([]int32, len(cs))...) })
		admit := admitFunc(func(n item.Candidate, _ []item.Candidate) (admit, ok bool) { return n.Hash&1 == 0, n.Hash&2 == 0 })
		var load sync.WaitGroup
		for g := range 3 {
			load.Go(func() {
				for i := range 12_000 / slow {
					if k := (i*7 + g*1000) % 3000; get(c, k, 0) == 0 {
						put(c, k, 1, 300+k%2000, l1.PutOptions{})
					} else if i%50 == 0 {
						del(c, k, 1)
					}
				}
			})
		}
		for i := range 40 {
			switch i % 4 {
			case 0:
				c.SetHooks(evict, nil)
			case 1:
				c.SetHooks(evict, admit)
			case 2:
				c.SetHooks(nil, admit)
			case 3:
				c.SetHooks(nil, nil)
			}
		}
		load.Wait()
		audit(t, c)
	}
}
