package meter

import (
	"errors"
	"fmt"
)

// The sections below are copied as they are. They are read nevertheless: engines
// make room for as many entries as a vector says it has before they look for
// them, so that a few bytes could cost gigabytes.

func (m *Module) parseGlobals(r *reader) {
	m.globals = r.u32()
	for n := m.globals; n > 0 && r.err == nil; n-- {
		r.bytes(2)
		r.constant()
	}
}

// constant passes over a constant expression.
func (r *reader) constant() {
	for r.err == nil {
		op := r.byte()
		if op == opEnd {
			return
		}
		switch kind := immediates[op]; {
		case r.err != nil:
		case kind == immI32, kind == immI64, kind == immF32, kind == immF64, kind == immRefType, op == opGlobalGet, op == 0xd2:
			r.skipImmediate(kind)
		default:
			r.fail(fmt.Errorf("opcode 0x%02x in a constant expression is outside the pinned feature set", op))
		}
	}
}

func parseElements(r *reader) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		flags := r.u32()
		if flags > 7 {
			r.fail(fmt.Errorf("element segment of kind %d", flags))
		}
		passive, explicit, expressions := flags&1 != 0, flags&2 != 0, flags&4 != 0
		if !passive {
			if explicit {
				r.u32()
			}
			r.constant()
		}
		if passive || explicit {
			r.byte()
		}
		for k := r.u32(); k > 0 && r.err == nil; k-- {
			if expressions {
				r.constant()
			} else {
				r.u32()
			}
		}
	}
}

func parseData(r *reader) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		flags := r.u32()
		if flags > 2 {
			r.fail(errors.New("data segment of an unknown kind"))
		}
		if flags == 2 {
			r.u32()
		}
		if flags != 1 {
			r.constant()
		}
		r.bytes(r.u32())
	}
}

// functionNames returns a name section with the names of functions only, if the
// module has a well-formed one. They make the traces of traps readable.
func (m *Module) functionNames() ([]byte, bool) {
	body, ok := m.Custom("name")
	if !ok {
		return nil, false
	}
	r := &reader{b: body}
	for !r.done() {
		id := r.byte()
		names := r.bytes(r.u32())
		if id != 1 || r.err != nil {
			continue
		}
		if !m.wellNamed(names) {
			return nil, false
		}
		return append(appendU32([]byte{1}, uint32(len(names))), names...), true
	}
	return nil, false
}

// maxName bounds the names of functions, in bytes: a trap's error has thirty.
const maxName = 1024

// wellNamed checks a name map: ascending indexes of functions that exist, and
// names that a log can bear.
func (m *Module) wellNamed(names []byte) bool {
	r := &reader{b: names}
	n, next := r.u32(), uint64(0)
	for ; n > 0 && r.err == nil; n-- {
		i := uint64(r.u32())
		if i < next || i >= uint64(len(m.Imports)+len(m.types)) {
			return false
		}
		next = i + 1
		if len(r.name()) > maxName {
			return false
		}
	}
	return r.err == nil && r.off == len(r.b)
}
