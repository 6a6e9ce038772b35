package hooks

import (
	"cmp"
	"slices"

	"github.com/edgenode/edgenode/hooks/abi"
)

// watch remembers the last victims of a set: by id, when they were chosen. What
// is there again, or was used, after that time was sent away too early.
type watch struct {
	at   map[uint64]uint64 // ms, by id
	ring []uint64          // ids in the order of at; full at trialRemember
	next int
}

func (w *watch) add(id, now uint64) {
	if w.at == nil {
		w.at, w.ring = map[uint64]uint64{}, make([]uint64, 0, trialRemember)
	}
	if _, ok := w.at[id]; ok {
		w.at[id] = now
		return
	}
	if len(w.ring) < trialRemember {
		w.ring = append(w.ring, id)
	} else {
		delete(w.at, w.ring[w.next])
		w.ring[w.next] = id
		w.next = (w.next + 1) % trialRemember
	}
	w.at[id] = now
}

// regrets reports, once for each victim, whether it was used after it was chosen:
// it is idle for less long, or it is there again.
func (w *watch) regrets(c *abi.Candidate, now uint64) bool {
	at, ok := w.at[c.ID]
	if !ok || now <= at || uint64(c.IdleMillis) >= now-at {
		return false
	}
	w.at[c.ID] = now // it is another time's victim from here on
	return true
}

// score is Score of one part while the trial runs.
func (t *trial) score(dst []int32, c []abi.Candidate, pressure float64, now uint64) ([]int32, bool) {
	live := t.host.gen.Load()
	if !t.coversHash(c[0].ID) || len(t.gen.chains[abi.Evict]) == 0 {
		return live.score(dst, c, pressure, now)
	}
	n := len(dst)
	if t.o.Mode == ModeCanary {
		out, ok := t.gen.score(dst, c, pressure, now)
		t.count(abi.Evict, ok)
		if ok {
			return out, true
		}
		return live.score(dst, c, pressure, now)
	}
	dst, answered := live.score(dst, c, pressure, now)
	tried, ok := t.gen.score(make([]int32, 0, abi.MaxCandidates), c, pressure, now)
	t.count(abi.Evict, ok)
	if answered && ok {
		t.judge(c, dst[n:], tried, now)
	} else if answered != ok {
		t.different[abi.Evict].Add(1)
	}
	return dst, answered
}

// judge compares whom two rankings send away, and looks what became of those that
// they sent away before.
func (t *trial) judge(c []abi.Candidate, live, tried []int32, now uint64) {
	victims := [2][]int{lowest(live), lowest(tried)}
	if !slices.Equal(victims[0], victims[1]) {
		t.different[abi.Evict].Add(1)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.chosen += uint64(len(victims[0]))
	for side := range t.watching {
		w := &t.watching[side]
		for k := range c {
			if w.regrets(&c[k], now) {
				t.regrets[side]++
			}
		}
		for _, k := range victims[side] {
			w.add(c[k].ID, now)
		}
	}
}

// lowest returns the positions of the trialVictims lowest scores, an eighth of
// them if they are few, in ascending order.
func lowest(scores []int32) []int {
	order := make([]int, len(scores))
	for k := range order {
		order[k] = k
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	order = order[:min(trialVictims, (len(order)+7)/8)]
	slices.Sort(order)
	return order
}

// admit is Admit while the trial runs.
func (t *trial) admit(newcomer abi.Candidate, victims []abi.Candidate, pressure float64, now uint64) (admit, ok bool) {
	live := t.host.gen.Load()
	if !t.coversHash(newcomer.ID) || len(t.gen.chains[abi.Admit]) == 0 {
		return live.admit(newcomer, victims, pressure, now)
	}
	tried, answered := t.gen.admit(newcomer, victims, pressure, now)
	t.count(abi.Admit, answered)
	if t.o.Mode == ModeCanary && answered {
		return tried, true
	}
	admit, ok = live.admit(newcomer, victims, pressure, now)
	if t.o.Mode == ModeShadow && (admit != tried || ok != answered) {
		t.different[abi.Admit].Add(1)
	}
	return admit, ok
}

func (t *trial) count(hook abi.Hook, ok bool) {
	t.calls[hook].Add(1)
	if !ok {
		t.faults[hook].Add(1)
	}
}
