package hooks

import (
	"encoding/binary"

	"github.com/edgenode/edgenode/hooks/abi"
)

// allowed tells which records a hook may answer with, a bit per type.
var allowed = [abi.Hooks]uint32{
	abi.Route: 1<<abi.RecKeyAddition | 1<<abi.RecTarget | 1<<abi.RecTag | 1<<abi.RecState | 1<<abi.RecTiers |
		1<<abi.RecStatus | 1<<abi.RecReuse | 1<<abi.RecSetRequest | 1<<abi.RecSetResponse | 1<<abi.RecRemove | 1<<abi.RecAnswer,
	abi.TTL: 1<<abi.RecTag | 1<<abi.RecState | 1<<abi.RecLifetimes | 1<<abi.RecStale,
}

// apply takes the answer of one module over into d. It returns false, and leaves
// d as it was, if the answer breaks the ABI.
func (m *module) apply(hook abi.Hook, res abi.Result, out []byte, d *Decision) bool {
	records := res.Flags()&abi.ResultRecords != 0
	if !m.wellFormed(hook, res, out, records) {
		return false
	}
	if hook == abi.Route {
		if v := res.Value(); v != 0 {
			d.Pool = m.spec.Pools[v-1]
		}
	} else {
		applyTTL(res, d)
	}
	switch res.Status() {
	case abi.Pass:
		d.Verdict = Pass
		d.NoStore = d.NoStore || hook == abi.TTL
	case abi.Deny:
		d.Verdict, d.Status, d.Reason = Deny, 403, nil
	}
	reuse := uint32(0)
	if records {
		reuse = applyRecords(out, d)
	}
	if d.Verdict == Deny && m.gen.ofOneClient {
		reuse = 0 // what one client is refused another may get
	}
	if !d.asked || reuse < d.ReuseSeconds {
		d.ReuseSeconds = reuse
	}
	d.asked = true
	return true
}

// wellFormed checks an answer as a whole, so that it is applied as a whole or
// not at all.
func (m *module) wellFormed(hook abi.Hook, res abi.Result, out []byte, records bool) bool {
	flags := uint32(abi.ResultRecords)
	if hook == abi.TTL {
		flags |= abi.ResultNoStore
	}
	if res.Status() > abi.Deny || res.Flags()&^flags != 0 {
		return false
	}
	if hook == abi.TTL && res.Status() == abi.Deny {
		return false
	}
	if hook == abi.Route && uint64(res.Value()) > uint64(len(m.spec.Pools)) {
		return false
	}
	if !records {
		return true
	}
	r := abi.ReadRecords(out)
	for {
		typ, _, ok := r.Next()
		if !ok {
			return r.Err() == nil
		}
		if allowed[hook]&(1<<typ) == 0 {
			return false
		}
	}
}

func applyTTL(res abi.Result, d *Decision) {
	if res.Flags()&abi.ResultNoStore != 0 {
		d.NoStore = true
	}
	if v := res.Value(); v != abi.AsComputed {
		d.Lifetime, d.LifetimeSet = v, true
	}
}

// applyRecords applies checked records and returns the reuse seconds.
func applyRecords(out []byte, d *Decision) (reuse uint32) {
	le := binary.LittleEndian
	r := abi.ReadChecked(out)
	for {
		typ, b, ok := r.Next()
		if !ok {
			return reuse
		}
		switch typ {
		case abi.RecKeyAddition:
			d.KeyAddition = d.keep(b)
		case abi.RecTarget:
			d.Target = d.keep(b)
		case abi.RecTag:
			d.Tags = append(d.Tags, d.keep(b))
		case abi.RecState:
			d.State = d.keep(b)
		case abi.RecTiers:
			d.TiersSet, d.ReadTiers, d.WriteTiers = true, abi.Tiers(b[0]), abi.Tiers(b[1])
		case abi.RecLifetimes:
			for i := range d.TierLifetimes {
				d.TierLifetimes[i] = le.Uint32(b[i*4:])
			}
		case abi.RecStale:
			d.StaleWhileRevalidate, d.StaleIfError = le.Uint32(b), le.Uint32(b[4:])
		case abi.RecStatus:
			d.Status, d.Reason = int(le.Uint16(b)), d.keep(b[2:])
		case abi.RecReuse:
			reuse = le.Uint32(b)
		case abi.RecSetRequest, abi.RecSetResponse:
			name, value, _ := abi.SplitHeader(b)
			d.Edits = append(d.Edits, Edit{Response: typ == abi.RecSetResponse, Name: d.keep(name), Value: d.keep(value)})
		case abi.RecRemove:
			d.Edits = append(d.Edits, Edit{Response: b[0] == 1, Remove: true, Name: d.keep(b[2:])})
		case abi.RecAnswer:
			d.answer(b)
		}
	}
}

func (d *Decision) answer(b []byte) {
	a, _ := abi.ParseAnswer(b)
	d.Verdict, d.AnswerStatus = Answer, a.Status
	d.AnswerBody, d.AnswerFields = d.keep(a.Body), d.AnswerFields[:0]
	for {
		name, value, ok := a.Next()
		if !ok {
			return
		}
		d.AnswerFields = append(d.AnswerFields, Field{d.keep(name), d.keep(value)})
	}
}
