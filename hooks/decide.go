package hooks

import (
	"encoding/binary"
	"time"

	"github.com/edgenode/edgenode/hooks/abi"
)

// sampleEvery is how many calls of an instance pass between two that are timed.
const sampleEvery = 64

// reportEvery is the longest time, in ms of request time, that an instance's
// calls stay out of the metric.
const reportEvery = 1000

// Route asks the route chain about a request. It reports whether any module was
// asked; if not, out is untouched. It allocates nothing once out has grown to
// its working size, and keeps neither argument. Without route hooks it costs one
// atomic load.
func (h *Host) Route(req *Request, out *Decision) bool {
	if t := h.trial.Load(); t != nil {
		return t.decide(abi.Route, req, out)
	}
	return h.route(req, out)
}

func (h *Host) route(req *Request, out *Decision) bool {
	g := h.gen.Load()
	if g == nil || len(g.chains[abi.Route]) == 0 {
		return false
	}
	memo := g.memo.Load()
	out.Reset()
	if memo.find(req, out) {
		return true
	}
	asked, by := h.decide(g, abi.Route, req, out)
	if out.ReuseSeconds > 0 && by == g {
		memo.keep(req, out)
	}
	return asked
}

// TTL asks the ttl chain about what is to be stored; as Route otherwise.
func (h *Host) TTL(req *Request, out *Decision) bool {
	if t := h.trial.Load(); t != nil {
		return t.decide(abi.TTL, req, out)
	}
	return h.ttl(req, out)
}

func (h *Host) ttl(req *Request, out *Decision) bool {
	g := h.gen.Load()
	if g == nil || len(g.chains[abi.TTL]) == 0 {
		return false
	}
	asked, _ := h.decide(g, abi.TTL, req, out)
	return asked
}

// decide asks the chain of g, or, if g is closed meanwhile, that of the live
// generation, and says which it was.
func (h *Host) decide(g *generation, hook abi.Hook, req *Request, out *Decision) (asked bool, by *generation) {
	for {
		out.Reset()
		asked, retired := g.decide(hook, req, out)
		if !retired {
			return asked, g
		}
		// The generation was closed under us: start over with the live one.
		if g = h.gen.Load(); g == nil || len(g.chains[hook]) == 0 {
			return false, nil
		}
	}
}

func (g *generation) decide(hook abi.Hook, req *Request, out *Decision) (asked, retired bool) {
	for _, m := range g.chains[hook] {
		if !m.matches(req) {
			continue
		}
		asked = true
		why, retired := m.decide(hook, req, out)
		if retired {
			return true, true
		}
		if why != faultNone {
			m.onFault(out)
		}
		if out.Verdict >= Deny {
			break
		}
	}
	return asked, false
}

// decide asks one module. It reports why there is no verdict, and whether that
// is because the generation is being closed.
func (m *module) decide(hook abi.Hook, req *Request, out *Decision) (why reason, retired bool) {
	i, why := m.checkout(out.hint, !m.gen.impatient.Load())
	if i == nil {
		return why, m.pool.closed() && why == faultPoolEmpty
	}
	out.hint = i.slot
	why, err := i.decide(hook, req, out)
	if why != faultNone {
		m.fault(i, hook, why, err)
		return why, false
	}
	m.checkin(i, req.NowMillis)
	return faultNone, false
}

// checkout takes an instance, unless the breaker is open or none is free. With
// patience it waits for one, for up to maxWait.
func (m *module) checkout(hint uint32, patience bool) (*instance, reason) {
	if !m.breaker.allow() {
		m.counters.Load().faults[faultBreaker].Inc()
		return nil, faultBreaker
	}
	if i := m.pool.take(hint); i != nil {
		return i, faultNone
	}
	m.counters.Load().waits.Inc()
	i := m.pool.yield(hint)
	if i == nil && patience {
		i = m.pool.wait(hint)
	}
	if i != nil {
		return i, faultNone
	}
	if !m.pool.closed() {
		m.counters.Load().faults[faultPoolEmpty].Inc()
	}
	return nil, faultPoolEmpty
}

// checkin returns an instance after a call without fault.
func (m *module) checkin(i *instance, now uint64) {
	if n := i.calls - i.reported; n >= sampleEvery || now >= i.reportAt {
		i.reportCalls(now)
	}
	if !i.recycling && (i.mem.Size() > i.recycleAt || m.spec.RecycleCalls > 0 && i.calls >= m.spec.RecycleCalls) {
		i.recycling = true
		m.later(job{recycle: true, slot: i.slot})
	}
	m.put(i)
}

func (i *instance) reportCalls(now uint64) {
	i.m.counters.Load().calls.AddInt64(int64(i.calls - i.reported))
	i.reported, i.reportAt = i.calls, now+reportEvery
}

// fault counts a fault and takes the instance out of use. A guest that says
// itself that it could not decide keeps its instance.
func (m *module) fault(i *instance, hook abi.Hook, why reason, err error) {
	m.counters.Load().faults[why].Inc()
	i.reportCalls(i.reportAt)
	if m.breaker.fault() {
		m.counters.Load().opened.Inc()
		m.log.Warn("hook switched off after faults", "hook", m.spec.Name, "reason", why.String())
	}
	if m.logs.allow() {
		m.log.Warn("hook fault", "hook", m.spec.Name, "point", hook.String(), "reason", why.String(), "error", err)
	}
	if why == faultGuest || why == faultInput {
		m.put(i)
		return
	}
	m.later(job{replace: true, slot: i.slot, old: i})
}

// onFault does to a decision what the operator chose for faults.
func (m *module) onFault(out *Decision) {
	out.ReuseSeconds, out.asked, out.failed = 0, true, true
	switch m.spec.OnFault {
	case OnFaultBypass:
		out.Faulted, out.Verdict, out.NoStore = true, Pass, true
	case OnFaultDeny:
		out.Faulted, out.Verdict, out.Status, out.NoStore = true, Deny, 503, true
		out.Reason = out.keep(faultReason)
	}
}

var faultReason = []byte("hook-fault")

// decide runs one call: block in, verdict out.
func (i *instance) decide(hook abi.Hook, req *Request, out *Decision) (reason, error) {
	area, ok := i.area()
	if !ok {
		return faultMemory, nil
	}
	block := i.block(area[:0:abi.InputBytes], hook, req, out)
	i.req, i.now, i.impure, i.tags = req, req.NowMillis, false, 0
	i.tagBytes = i.tagBytes[:0]
	res, why, err := i.timed(hook, len(block))
	i.req = nil
	if why != faultNone {
		return why, err
	}
	if res.Status() == abi.Default {
		out.ReuseSeconds, out.asked = 0, true
		return faultNone, nil
	}
	var records []byte
	if res.Flags()&abi.ResultRecords != 0 {
		records = i.output()
	}
	if !i.m.apply(hook, res, records, out) {
		return faultResult, nil
	}
	if i.tags > 0 {
		i.tagBytes = abi.AppendEnd(i.tagBytes)
		applyRecords(i.tagBytes, out)
	}
	if i.impure {
		out.ReuseSeconds = 0
	}
	return faultNone, nil
}

// timed is invoke, measured once in sampleEvery calls.
func (i *instance) timed(hook abi.Hook, n int) (abi.Result, reason, error) {
	if i.calls%sampleEvery != 0 {
		return i.invoke(hook, n)
	}
	start := time.Now()
	r, why, err := i.invoke(hook, n)
	i.m.counters.Load().seconds.Update(time.Since(start).Seconds())
	if i.fuel != nil {
		i.m.counters.Load().fuel.Update(float64(i.m.fuel[hook]) - float64(int64(i.fuel.Get())))
	}
	return r, why, err
}

// block writes the input block: the request as the chain has changed it so far.
func (i *instance) block(dst []byte, hook abi.Hook, req *Request, out *Decision) []byte {
	key, tail := req.Key, []byte(nil)
	if out.Target != nil && req.Flags&abi.FlagSite != 0 {
		key, tail = key[:pathStart(key)], out.Target
	}
	i.headers = i.headers[:0]
	if req.Headers != nil {
		i.collect(i.m.manifest.Headers, false, req.Headers, out)
		if hook == abi.TTL {
			i.collect(i.m.manifest.ResponseHeaders, true, req.Headers, out)
		}
	}
	block := abi.AppendInput(dst, &req.Input, key, tail, i.headers)
	block[abi.OffHook] = byte(hook)
	if i.m.manifest.Inputs != nil {
		i.m.blank(block)
	}
	if out.TiersSet {
		tiers := out.WriteTiers
		if req.Operation == abi.Read && hook == abi.Route {
			tiers = out.ReadTiers
		}
		block[abi.OffTiers] = byte(tiers)
	}
	if out.LifetimeSet {
		block[abi.OffFlags] |= byte(abi.FlagLifetimeKnown)
		binary.LittleEndian.PutUint32(block[abi.OffLifetime:], out.Lifetime)
	}
	return block
}

// blank takes out of a block what the manifest does not ask for.
func (m *module) blank(block []byte) {
	if !m.manifest.sees(inputClient) {
		clear(block[abi.OffClient : abi.OffClient+16])
	}
	if !m.manifest.sees(inputTLS) {
		block[abi.OffFlags] &^= byte(abi.FlagTLS | abi.FlagClientCert)
	}
	if !m.manifest.sees(inputSize) {
		binary.LittleEndian.PutUint64(block[abi.OffContent:], abi.UnknownBytes)
	}
}

// collect gathers the header lines that the manifest asks for.
func (i *instance) collect(names []string, response bool, h Headers, out *Decision) {
	bit := uint16(0)
	if response {
		bit = abi.ResponseBit
	}
	for k, name := range names {
		if len(out.Edits) > 0 && i.edited(uint16(k)|bit, name, response, out) {
			continue
		}
		i.values = h.AppendHeader(i.values[:0], name, response)
		for _, v := range i.values {
			i.headers = append(i.headers, abi.Header{Name: uint16(k) | bit, Value: v})
		}
	}
}

// edited shows a module the field that an earlier one has set or removed, and
// reports whether there is such a change.
func (i *instance) edited(id uint16, name string, response bool, out *Decision) bool {
	for k := len(out.Edits) - 1; k >= 0; k-- {
		e := &out.Edits[k]
		if e.Response != response || !equalFold(e.Name, name) {
			continue
		}
		if !e.Remove {
			i.headers = append(i.headers, abi.Header{Name: id, Value: e.Value})
		}
		return true
	}
	return false
}

func equalFold(a []byte, lower string) bool {
	if len(a) != len(lower) {
		return false
	}
	for i, c := range a {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
