package meter

import (
	"bytes"
	"errors"
	"fmt"
)

// FuelExport is the name under which the rewriter exports the fuel counter, a
// mutable i64 global. A module that exports it is refused.
const FuelExport = "__edge_fuel"

// ErrModule is wrapped by every error of this package: the bytes are not a
// module this package accepts. Nothing was produced.
var ErrModule = errors.New("meter: module refused")

// magic and version of the binary format.
const magic = "\x00asm\x01\x00\x00\x00"

// Section ids of the binary format.
const (
	secCustom   = 0
	secType     = 1
	secImport   = 2
	secFunction = 3
	secTable    = 4
	secMemory   = 5
	secGlobal   = 6
	secExport   = 7
	secStart    = 8
	secElement  = 9
	secCode     = 10
	secData     = 11
	secCount    = 12
)

// order is the place of a section id in a module; data count (12) stands
// between elements and code.
var order = [...]int{secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5,
	secGlobal: 6, secExport: 7, secStart: 8, secElement: 9, secCount: 10, secCode: 11, secData: 12}

// Kind is what an import or export is.
type Kind byte

// The kinds of the binary format.
const (
	Func Kind = iota
	Table
	Memory
	Global
)

func (k Kind) String() string {
	switch k {
	case Func:
		return "function"
	case Table:
		return "table"
	case Memory:
		return "memory"
	case Global:
		return "global"
	}
	return "unknown kind"
}

// Import is one import of a module. Only functions are accepted.
type Import struct {
	Module, Name string
}

// Export is one export of a module.
type Export struct {
	Name string
	Kind Kind
}

// Limits are the declared bounds of a memory (pages of 64 KiB) or table
// (entries). Max is meaningless when HasMax is false.
type Limits struct {
	Min, Max uint32
	HasMax   bool
}

type section struct {
	id   byte
	body []byte // of a custom section: what follows its name
	name string // of a custom section
}

// Module is a parsed binary. It refers to the bytes it was parsed from.
type Module struct {
	Imports  []Import
	Exports  []Export
	Memory   *Limits // nil if the module has none
	Tables   []Limits
	HasStart bool
	Funcs    int // functions defined, without imports
	Size     int // bytes of the binary

	sections    []section
	signatures  []signature // by type index
	importTypes []uint32    // by import: type index
	types       []uint32    // by defined function: type index
	tableTypes  []byte
	globals     uint32
	bodies      []body
	locals      uint64 // of all functions
}

// Parse reads a binary: its sections, imports, exports and every instruction.
// The error names what is malformed or refused. b must not change while the
// Module is in use.
func Parse(b []byte) (*Module, error) {
	m := &Module{Size: len(b)}
	if err := m.parse(b); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	return m, nil
}

// Custom returns the content of the first custom section of that name.
func (m *Module) Custom(name string) ([]byte, bool) {
	for _, s := range m.sections {
		if s.id == secCustom && s.name == name {
			return s.body, true
		}
	}
	return nil, false
}

// HasExport reports whether the module exports name as kind.
func (m *Module) HasExport(name string, kind Kind) bool {
	for _, e := range m.Exports {
		if e.Name == name && e.Kind == kind {
			return true
		}
	}
	return false
}

// Plain returns the module without its custom sections: what a validator should
// see, since nobody checks what is in those.
func (m *Module) Plain() []byte {
	out := append(make([]byte, 0, m.Size), magic...)
	for _, s := range m.sections {
		if s.id != secCustom {
			out = appendSection(out, s.id, s.body)
		}
	}
	return out
}

// AppendCustom appends a custom section to a module's bytes and returns the
// extended slice. It does not look at what dst holds.
func AppendCustom(dst []byte, name string, content []byte) []byte {
	head := appendU32(nil, uint32(len(name)))
	head = append(head, name...)
	dst = append(dst, secCustom)
	dst = appendU32(dst, uint32(len(head)+len(content)))
	dst = append(dst, head...)
	return append(dst, content...)
}

func (m *Module) parse(b []byte) error {
	if !bytes.HasPrefix(b, []byte(magic)) {
		return errors.New("not a WebAssembly 1 binary (text format or component?)")
	}
	r := &reader{b: b, off: len(magic)}
	last := 0
	for !r.done() {
		at := r.off
		id := r.byte()
		body := r.bytes(r.u32())
		if r.err != nil {
			return fmt.Errorf("section at byte %d: %w", at, r.err)
		}
		if id == secCustom {
			if err := m.addCustom(body); err != nil {
				return fmt.Errorf("custom section at byte %d: %w", at, err)
			}
			continue
		}
		if int(id) >= len(order) {
			return fmt.Errorf("section %d at byte %d is outside the pinned feature set", id, at)
		}
		if order[id] <= last {
			return fmt.Errorf("section %d at byte %d is out of order", id, at)
		}
		last = order[id]
		m.sections = append(m.sections, section{id: id, body: body})
		if err := m.parseSection(id, body); err != nil {
			return fmt.Errorf("section %d at byte %d: %w", id, at, err)
		}
	}
	if len(m.bodies) != len(m.types) {
		return fmt.Errorf("%d functions declared, %d bodies", len(m.types), len(m.bodies))
	}
	m.Funcs = len(m.types)
	return nil
}

func (m *Module) addCustom(body []byte) error {
	r := &reader{b: body}
	name := r.name()
	if r.err != nil {
		return r.err
	}
	m.sections = append(m.sections, section{id: secCustom, name: name, body: body[r.off:]})
	return nil
}

func (m *Module) parseSection(id byte, body []byte) error {
	r := &reader{b: body}
	switch id {
	case secType:
		m.parseTypes(r)
	case secImport:
		m.parseImports(r)
	case secFunction:
		m.parseFunctions(r)
	case secTable:
		m.parseTables(r)
	case secMemory:
		m.parseMemory(r)
	case secGlobal:
		m.parseGlobals(r)
	case secExport:
		m.parseExports(r)
	case secStart:
		m.HasStart = true
		r.u32()
	case secCode:
		return m.parseCode(r)
	case secElement:
		parseElements(r)
	case secData:
		parseData(r)
	case secCount:
		r.u32()
	}
	if r.err == nil && r.off != len(r.b) {
		return errors.New("bytes left over")
	}
	return r.err
}
