// Package hooktest helps to test hooks: a builder for small WebAssembly modules
// made of bytes, headers as a list, and cases in TOML that are run against a module
// by the real host.
//
// Start at [Guest] for a module with one hook, at [Cases] for examples of what a
// hook should decide.
package hooktest

import (
	"encoding/binary"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/meter"
)

// Value types of the binary format.
const (
	I32 byte = 0x7f
	I64 byte = 0x7e
	F32 byte = 0x7d
	F64 byte = 0x7c
)

// Import is an imported function.
type Import struct {
	Module, Name    string
	Params, Results []byte
}

// Func is a function with its body, without the closing end.
type Func struct {
	Export          string // "" for none
	Params, Results []byte
	Locals          []byte // one type each
	Code            []byte
}

// Module describes a module. Function indexes count Imports first.
type Module struct {
	Imports   []Import
	Funcs     []Func
	MemoryMin uint32 // pages
	MemoryMax uint32 // pages; 0 for none declared
	NoMemory  bool
	Tables    []uint32 // funcref tables by minimum size
	Elements  []uint32 // functions for table 0, from entry 0
	Globals   []int64  // mutable i64 globals
	GlobalAs  map[string]uint32
	Data      []byte // placed at DataAt
	DataAt    uint32
	Start     int    // index of the start function plus one; 0 for none
	Manifest  string // JSON; "" for none
	Passive   []byte // one passive data segment, index 0, instead of Data
}

// Bytes returns the module's binary.
func (m *Module) Bytes() []byte {
	out := []byte{0, 'a', 's', 'm', 1, 0, 0, 0}
	var types, imports, functions, exports, code []byte
	count := uint32(0)
	signature := func(params, results []byte) uint32 {
		types = append(types, 0x60)
		types = append(U32(types, uint32(len(params))), params...)
		types = append(U32(types, uint32(len(results))), results...)
		count++
		return count - 1
	}
	for _, im := range m.Imports {
		imports = name(name(imports, im.Module), im.Name)
		imports = U32(append(imports, 0), signature(im.Params, im.Results))
	}
	exported := uint32(0)
	for i, f := range m.Funcs {
		functions = U32(functions, signature(f.Params, f.Results))
		if f.Export != "" {
			exports = U32(append(name(exports, f.Export), 0), uint32(len(m.Imports)+i))
			exported++
		}
		code = appendBody(code, f)
	}
	out = vector(out, 1, count, types)
	out = vector(out, 2, uint32(len(m.Imports)), imports)
	out = vector(out, 3, uint32(len(m.Funcs)), functions)
	var tables []byte
	for _, t := range m.Tables {
		tables = U32(append(tables, 0x70, 0), t)
	}
	out = vector(out, 4, uint32(len(m.Tables)), tables)
	if !m.NoMemory {
		out = vector(out, 5, 1, m.memory())
		exports = append(name(exports, "memory"), 2, 0)
		exported++
	}
	var globals []byte
	for _, g := range m.Globals {
		globals = append(S64(append(globals, I64, 1, 0x42), g), 0x0b)
	}
	out = vector(out, 6, uint32(len(m.Globals)), globals)
	for n, g := range m.GlobalAs {
		exports = U32(append(name(exports, n), 3), g)
		exported++
	}
	out = vector(out, 7, exported, exports)
	if m.Start > 0 {
		out = section(out, 8, U32(nil, uint32(m.Start-1)))
	}
	if len(m.Elements) > 0 {
		e := U32([]byte{0, 0x41, 0, 0x0b}, uint32(len(m.Elements)))
		for _, f := range m.Elements {
			e = U32(e, f)
		}
		out = vector(out, 9, 1, e)
	}
	if m.Passive != nil {
		out = section(out, 12, []byte{1})
	}
	out = vector(out, 10, uint32(len(m.Funcs)), code)
	if m.Passive != nil {
		out = vector(out, 11, 1, append(U32([]byte{1}, uint32(len(m.Passive))), m.Passive...))
	} else if len(m.Data) > 0 {
		d := append(S64([]byte{0, 0x41}, int64(m.DataAt)), 0x0b)
		out = vector(out, 11, 1, append(U32(d, uint32(len(m.Data))), m.Data...))
	}
	if m.Manifest != "" {
		out = meter.AppendCustom(out, abi.SectionName, []byte(m.Manifest))
	}
	return out
}

func (m *Module) memory() []byte {
	if m.MemoryMax == 0 {
		return U32([]byte{0}, max(m.MemoryMin, 1))
	}
	return U32(U32([]byte{1}, m.MemoryMin), m.MemoryMax)
}

func appendBody(code []byte, f Func) []byte {
	b := U32(nil, uint32(len(f.Locals)))
	for _, t := range f.Locals {
		b = append(b, 1, t)
	}
	b = append(append(b, f.Code...), 0x0b)
	return append(U32(code, uint32(len(b))), b...)
}

func section(out []byte, id byte, body []byte) []byte {
	return append(U32(append(out, id), uint32(len(body))), body...)
}

func vector(out []byte, id byte, n uint32, entries []byte) []byte {
	if n == 0 {
		return out
	}
	return section(out, id, append(U32(nil, n), entries...))
}

func name(dst []byte, s string) []byte { return append(U32(dst, uint32(len(s))), s...) }

// U32 appends an unsigned LEB128 number.
func U32(dst []byte, v uint32) []byte { return binary.AppendUvarint(dst, uint64(v)) }

// S64 appends a signed LEB128 number.
func S64(dst []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(dst, c)
		}
		dst = append(dst, c|0x80)
	}
}

// ConstI32 and ConstI64 are the instructions of these names.
func ConstI32(v int32) []byte { return S64([]byte{0x41}, int64(v)) }

// ConstI64 is the instruction i64.const.
func ConstI64(v int64) []byte { return S64([]byte{0x42}, v) }

// Code joins instructions.
func Code(parts ...[]byte) (code []byte) {
	for _, p := range parts {
		code = append(code, p...)
	}
	return code
}

// Buffer is where the guests made by Guest have their input area.
const Buffer = 1024

// Guest returns a module with all that a hook needs, whose export for hook has
// the given code (one i32 parameter, one i64 result, two i32 locals 1 and 2).
// More functions follow it: the hook is function 3 plus the number of imports.
func Guest(hook abi.Hook, code []byte, more ...Func) *Module {
	return &Module{
		MemoryMin: 1,
		Funcs: append([]Func{
			{Export: abi.ExportVersion, Results: []byte{I32}, Code: ConstI32(abi.Version)},
			{Export: abi.ExportAlloc, Params: []byte{I32, I32}, Results: []byte{I32}, Code: ConstI32(Buffer)},
			{Export: abi.ExportInit, Params: []byte{I32}, Results: []byte{I32}, Code: ConstI32(0)},
			{Export: hook.Export(), Params: []byte{I32}, Results: []byte{I64}, Locals: []byte{I32, I32}, Code: code},
		}, more...),
	}
}

// Result is code that returns a result from a hook.
func Result(s abi.Status, flags, value uint32) []byte {
	return ConstI64(int64(abi.MakeResult(s, flags, value)))
}

// WithOutput makes a guest that answers with out, which is put into the output
// area once and for all.
func WithOutput(hook abi.Hook, result abi.Result, out []byte) *Module {
	m := Guest(hook, ConstI64(int64(result)))
	m.Data, m.DataAt = out, Buffer+abi.InputBytes
	return m
}
