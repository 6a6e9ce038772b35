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

func (a *Answer) reset(hook abi.Hook, out []byte) {
	*a = Answer{out: out}
	if hook == abi.TTL {
		a.value = abi.AsComputed
	}
}

// Result closes the records and returns what the hook hands to the node.
func (a *Answer) Result() abi.Result {
	switch {
	case !a.touched:
		return abi.MakeResult(abi.Default, 0, 0)
	case a.full:
		return abi.MakeResult(abi.GuestError, 0, 0)
	}
	if a.at > 0 {
		clear(a.out[a.at : a.at+8])
		a.flags |= abi.ResultRecords
	}
	return abi.MakeResult(a.status, a.flags, a.value)
}

// Pass makes the node neither read nor store.
func (a *Answer) Pass() { a.touched, a.status = true, abi.Pass }

// Deny refuses the request with a status from 400 to 599.
func (a *Answer) Deny(status int, reason string) {
	a.touched, a.status = true, abi.Deny
	if p := a.put(abi.RecStatus, 2+len(reason)); p != nil {
		le.PutUint16(p, uint16(status))
		copy(p[2:], reason)
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
	clear(p[size-8:])
	le.PutUint16(p, typ)
	le.PutUint16(p[2:], uint16(n))
	a.at += size
	return p[4 : 4+n]
}
