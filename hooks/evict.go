package hooks

import (
	"github.com/edgenode/edgenode/hooks/abi"
)

// Score appends one score per candidate to dst, in order; the lowest leaves
// first. It reports false, and returns dst as it was, if no evict hook gave an
// answer: then the built-in scorer decides. Of several evict hooks the last one
// that answers counts. Pressure is in [0, 1]; now is Unix time in ms.
//
// Candidates go to the guest at most abi.MaxCandidates per call. It allocates
// only when dst is too short and keeps neither argument.
func (h *Host) Score(dst []int32, c []abi.Candidate, pressure float64, now uint64) ([]int32, bool) {
	t, g := h.trial.Load(), h.gen.Load()
	if t == nil && (g == nil || len(g.chains[abi.Evict]) == 0) {
		return dst, false
	}
	n := len(dst)
	for len(c) > 0 {
		part := c[:min(len(c), abi.MaxCandidates)]
		var ok bool
		if t != nil {
			dst, ok = t.score(dst, part, pressure, now)
		} else {
			dst, ok = g.score(dst, part, pressure, now)
		}
		if !ok {
			return dst[:n], false
		}
		c = c[len(part):]
	}
	return dst, true
}

// score asks the evict hooks from the last on. A nil generation has none.
func (g *generation) score(dst []int32, c []abi.Candidate, pressure float64, now uint64) ([]int32, bool) {
	if g == nil {
		return dst, false
	}
	chain := g.chains[abi.Evict]
	for k := len(chain) - 1; k >= 0; k-- {
		if out, ok := chain[k].score(dst, c, pressure, now); ok {
			return out, true
		}
	}
	return dst, false
}

func (m *module) score(dst []int32, c []abi.Candidate, pressure float64, now uint64) ([]int32, bool) {
	i, _ := m.checkout(0, false)
	if i == nil {
		return dst, false
	}
	res, why, err := i.rank(abi.Evict, c, pressure, now)
	ok := why == faultNone && res.Status() == abi.OK
	if ok {
		ok = res.Flags() == 0 && res.Value() == uint32(len(c))
		if ok {
			dst, ok = abi.AppendScores(dst, i.output(), len(c))
		}
		if !ok {
			why = faultResult
		}
	}
	m.finish(i, abi.Evict, res, why, err, now)
	return dst, ok
}

// Admit asks whether a newcomer should displace the victims, at most
// abi.MaxCandidates-1 of them. ok is false if no admit hook gave an answer.
func (h *Host) Admit(newcomer abi.Candidate, victims []abi.Candidate, pressure float64, now uint64) (admit, ok bool) {
	if t := h.trial.Load(); t != nil {
		return t.admit(newcomer, victims, pressure, now)
	}
	return h.gen.Load().admit(newcomer, victims, pressure, now)
}

// admit asks the admit hooks from the last on. A nil generation has none.
func (g *generation) admit(newcomer abi.Candidate, victims []abi.Candidate, pressure float64, now uint64) (admit, ok bool) {
	if g == nil {
		return false, false
	}
	chain := g.chains[abi.Admit]
	for k := len(chain) - 1; k >= 0; k-- {
		if admit, ok = chain[k].admit(newcomer, victims, pressure, now); ok {
			return admit, true
		}
	}
	return false, false
}

func (m *module) admit(newcomer abi.Candidate, victims []abi.Candidate, pressure float64, now uint64) (admit, ok bool) {
	i, _ := m.checkout(0, false)
	if i == nil {
		return false, false
	}
	i.candidates = append(append(i.candidates[:0], newcomer), victims[:min(len(victims), abi.MaxCandidates-1)]...)
	res, why, err := i.rank(abi.Admit, i.candidates, pressure, now)
	ok = why == faultNone && res.Status() == abi.OK
	if ok && (res.Flags() != 0 || res.Value() > 1) {
		ok, why = false, faultResult
	}
	m.finish(i, abi.Admit, res, why, err, now)
	return res.Value() == 1, ok
}

// rank writes a block of candidates and calls the hook.
func (i *instance) rank(hook abi.Hook, c []abi.Candidate, pressure float64, now uint64) (abi.Result, reason, error) {
	area, ok := i.area()
	if !ok {
		return 0, faultMemory, nil
	}
	in := abi.Input{Hook: hook, NowMillis: now, ContentBytes: abi.UnknownBytes}
	block := abi.AppendEvict(area[:0:abi.InputBytes], &in, pressure, c)
	if block == nil {
		return 0, faultInput, nil
	}
	i.now, i.tags, i.tagBytes = now, 0, i.tagBytes[:0]
	return i.timed(hook, len(block))
}

// finish returns or drops an instance after a call that has only default as its
// behaviour on faults.
func (m *module) finish(i *instance, hook abi.Hook, res abi.Result, why reason, err error, now uint64) {
	if why == faultNone && res.Status() > abi.Default {
		why = faultResult
	}
	if why != faultNone {
		m.fault(i, hook, why, err)
		return
	}
	m.checkin(i, now)
}
