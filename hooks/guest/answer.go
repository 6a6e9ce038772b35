package guest

import "github.com/edgenode/edgenode/hooks/abi"

// Answer is what a hook decides. Untouched it means: as if the module were
// absent. Records that do not fit make the answer a guest error.
type Answer struct {
	out     []byte
	at      int
	status  abi.Status
	flags   uint32
	value   uint32
	touched bool
	full    bool
}

// NewAnswer writes records to out; for tests of hooks.
func NewAnswer(hook abi.Hook, out []byte) *Answer {
	a := &Answer{}
	a.reset(hook, out)
	return a
}

// reset leaves out alone: a pointer stored costs a guest a write barrier.
func (a *Answer) reset(hook abi.Hook, out []byte) {
	if len(a.out) != len(out) {
		a.out = out
	}
	a.at, a.status, a.flags, a.value, a.touched, a.full = 0, abi.OK, 0, 0, false, false
	if hook == abi.TTL {
		a.value = abi.AsComputed
	}
}

// Result closes the records and returns what the hook hands to the node.
func (a *Answer) Result() abi.Result {
	if !a.touched {
		return abi.MakeResult(abi.Default, 0, 0)
	}
	if a.full {
		return abi.MakeResult(abi.GuestError, 0, 0)
	}
	if a.at > 0 {
		le.PutUint64(a.out[a.at:], 0)
		a.flags |= abi.ResultRecords
	}
	return abi.MakeResult(a.status, a.flags, a.value)
}

// Error says that the hook could not decide: a fault of the module.
func (a *Answer) Error() { a.touched, a.full = true, true }

// Pass makes the node neither read nor store.
func (a *Answer) Pass() { a.touched, a.status = true, abi.Pass }

// Deny refuses the request with a status from 400 to 599.
func (a *Answer) Deny(status int, reason string) {
	a.touched, a.status = true, abi.Deny
	a.number(abi.RecStatus, uint16(status), reason)
}

// number adds a record of a number and a text.
func (a *Answer) number(typ, n uint16, text string) {
	if p := a.put(typ, 2+len(text)); p != nil {
		le.PutUint16(p, n)
		copy(p[2:], text)
	}
}

// Pool chooses an origin pool by its position in the configuration.
func (a *Answer) Pool(n int) { a.touched, a.value = true, uint32(n)+1 }

// Lifetime sets the lifetime in seconds.
func (a *Answer) Lifetime(seconds uint32) { a.touched, a.value = true, seconds }

// NoStore forbids storing.
func (a *Answer) NoStore() { a.touched, a.flags = true, a.flags|abi.ResultNoStore }

// KeyAddition adds bytes to the key.
func (a *Answer) KeyAddition(b []byte) { a.Record(abi.RecKeyAddition, b) }

// Target replaces path and query.
func (a *Answer) Target(b []byte) { a.Record(abi.RecTarget, b) }

// Tag adds a tag.
func (a *Answer) Tag(b []byte) { a.Record(abi.RecTag, b) }

// Tiers chooses the tiers to read and to write.
func (a *Answer) Tiers(read, write abi.Tiers) {
	if p := a.put(abi.RecTiers, 2); p != nil {
		p[0], p[1] = byte(read), byte(write)
	}
}

// State sets the item's state, 1 to 32 bytes of a-z 0-9 _ -.
func (a *Answer) State(b []byte) { a.Record(abi.RecState, b) }

// Lifetimes sets the lifetime for each tier in seconds; abi.AsComputed leaves one as
// it is.
func (a *Answer) Lifetimes(l1, l2, l3 uint32) {
	if p := a.put(abi.RecLifetimes, 12); p != nil {
		le.PutUint32(p, l1)
		le.PutUint32(p[4:], l2)
		le.PutUint32(p[8:], l3)
	}
}

// Stale sets the stale windows in seconds; abi.AsComputed leaves one as it is.
func (a *Answer) Stale(whileRevalidate, ifError uint32) {
	if p := a.put(abi.RecStale, 8); p != nil {
		le.PutUint32(p, whileRevalidate)
		le.PutUint32(p[4:], ifError)
	}
}

// Reuse allows the verdict to be reused for equal inputs.
func (a *Answer) Reuse(seconds uint32) {
	if p := a.put(abi.RecReuse, 4); p != nil {
		le.PutUint32(p, seconds)
	}
}

// SetRequestHeader sets a field of the request to the origin.
func (a *Answer) SetRequestHeader(name, value string) { a.field(abi.RecSetRequest, name, value) }

// SetResponseHeader sets a field of the response to the client.
func (a *Answer) SetResponseHeader(name, value string) { a.field(abi.RecSetResponse, name, value) }

// RemoveRequestHeader removes a field of the request.
func (a *Answer) RemoveRequestHeader(name string) { a.number(abi.RecRemove, 0, name) }

// RemoveResponseHeader removes a field of the response.
func (a *Answer) RemoveResponseHeader(name string) { a.number(abi.RecRemove, 1, name) }

// Field is a header line of an answer.
type Field struct{ Name, Value string }

// Respond answers the request at once, with a status from 200 to 599 and a body of
// at most abi.MaxBody bytes.
func (a *Answer) Respond(status int, body []byte, fields ...Field) {
	size := 8 + len(body)
	for _, f := range fields {
		size += 4 + len(f.Name) + len(f.Value)
	}
	p := a.put(abi.RecAnswer, size)
	if p == nil {
		return
	}
	le.PutUint32(p, uint32(status)|uint32(len(fields))<<16)
	le.PutUint32(p[4:], uint32(len(body)))
	p = p[8:]
	for _, f := range fields {
		le.PutUint32(p, uint32(len(f.Name))|uint32(len(f.Value))<<16)
		copy(p[4:], f.Name)
		copy(p[4+len(f.Name):], f.Value)
		p = p[4+len(f.Name)+len(f.Value):]
	}
	copy(p, body)
}

func (a *Answer) field(typ uint16, name, value string) {
	if p := a.put(typ, 2+len(name)+len(value)); p != nil {
		le.PutUint16(p, uint16(len(name)))
		copy(p[2:], name)
		copy(p[2+len(name):], value)
	}
}

// Record adds any record, see hooks/abi/ABI.md.
func (a *Answer) Record(typ uint16, data []byte) {
	if p := a.put(typ, len(data)); p != nil {
		copy(p, data)
	}
}

// put makes room for a record and returns its content, nil if there is none.
func (a *Answer) put(typ uint16, n int) []byte {
	a.touched = true
	size := (4 + n + 7) &^ 7
	if n > 1<<16-1 || size+8 > len(a.out)-a.at {
		a.full = true
		return nil
	}
	p := a.out[a.at : a.at+size]
	le.PutUint64(p[size-8:], 0)
	le.PutUint32(p, uint32(typ)|uint32(n)<<16)
	a.at += size
	return p[4 : 4+n]
}
