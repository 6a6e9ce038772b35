package meter

import "fmt"

// Opcodes the rewriter has to know by name.
const (
	opUnreachable  = 0x00
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opReturn       = 0x0f
	opCall         = 0x10
	opCallIndirect = 0x11
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opMemoryGrow   = 0x40
	opI64Const     = 0x42
	opI64LtS       = 0x53
	opI64Sub       = 0x7d
	opI64Shl       = 0x86
	opI64ShrU      = 0x88
	opI64ExtendU   = 0xad
	opPrefixMisc   = 0xfc
	blockEmpty     = 0x40
	blockNothing   = -0x40 // blockEmpty as a signed number
	typeI32        = 0x7f
	typeI64        = 0x7e
	typeV128       = 0x7b
	typeFuncref    = 0x70
	typeExternref  = 0x6f
)

// immediate says what follows an opcode.
type immediate uint8

const (
	immUnknown immediate = iota
	immNone
	immBlock  // block type, signed 33 bits
	immIndex  // one index
	immIndex2 // two indexes
	immTable  // vector of labels and a default label
	immMemarg // alignment and offset
	immI32
	immI64
	immF32
	immF64
	immTypes   // vector of value types
	immRefType // one byte
)

// immediates lists the pinned one-byte opcodes; the zero entries are refused.
var immediates = buildImmediates()

func buildImmediates() (t [256]immediate) {
	set := func(kind immediate, from, to int) {
		for i := from; i <= to; i++ {
			t[i] = kind
		}
	}
	set(immNone, 0x00, 0x01)    // unreachable, nop
	set(immBlock, 0x02, 0x04)   // block, loop, if
	set(immNone, 0x05, 0x05)    // else
	set(immNone, 0x0b, 0x0b)    // end
	set(immIndex, 0x0c, 0x0d)   // br, br_if
	set(immTable, 0x0e, 0x0e)   // br_table
	set(immNone, 0x0f, 0x0f)    // return
	set(immIndex, 0x10, 0x10)   // call
	set(immIndex2, 0x11, 0x11)  // call_indirect
	set(immNone, 0x1a, 0x1b)    // drop, select
	set(immTypes, 0x1c, 0x1c)   // select t*
	set(immIndex, 0x20, 0x26)   // local.*, global.*, table.get, table.set
	set(immMemarg, 0x28, 0x3e)  // loads and stores
	set(immIndex, 0x3f, 0x40)   // memory.size, memory.grow
	set(immI32, 0x41, 0x41)     // i32.const
	set(immI64, 0x42, 0x42)     // i64.const
	set(immF32, 0x43, 0x43)     // f32.const
	set(immF64, 0x44, 0x44)     // f64.const
	set(immNone, 0x45, 0xc4)    // comparisons, arithmetic, conversions, sign extension
	set(immRefType, 0xd0, 0xd0) // ref.null
	set(immNone, 0xd1, 0xd1)    // ref.is_null
	set(immIndex, 0xd2, 0xd2)   // ref.func
	return t
}

// miscImmediates lists the opcodes behind the prefix 0xfc.
var miscImmediates = [18]immediate{
	immNone, immNone, immNone, immNone, immNone, immNone, immNone, immNone, // trunc_sat
	immIndex2, // 8 memory.init
	immIndex,  // 9 data.drop
	immIndex2, // 10 memory.copy
	immIndex,  // 11 memory.fill
	immIndex2, // 12 table.init
	immIndex,  // 13 elem.drop
	immIndex2, // 14 table.copy
	immIndex,  // 15 table.grow
	immIndex,  // 16 table.size
	immIndex,  // 17 table.fill
}

// refusal names the proposal an opcode outside the pinned set belongs to.
func refusal(op byte) error {
	proposal := ""
	switch {
	case op >= 0x06 && op <= 0x0a, op == 0x18, op == 0x19, op == 0x1f:
		proposal = "exception handling"
	case op == 0x12, op == 0x13:
		proposal = "tail calls"
	case op == 0x14, op == 0x15, op >= 0xd3 && op <= 0xd6:
		proposal = "typed function references"
	case op == 0xfb:
		proposal = "garbage collection"
	case op == 0xfd:
		proposal = "SIMD"
	case op == 0xfe:
		proposal = "threads"
	default:
		return fmt.Errorf("opcode 0x%02x is unknown", op)
	}
	return fmt.Errorf("opcode 0x%02x belongs to %s, which hooks may not use: build without it", op, proposal)
}

// skipImmediate passes over what follows an opcode.
func (r *reader) skipImmediate(kind immediate) {
	switch kind {
	case immNone:
	case immBlock:
		r.skipSigned(5)
	case immIndex:
		r.u32()
	case immIndex2, immMemarg:
		r.u32()
		r.u32()
	case immI32:
		r.skipSigned(5)
	case immI64:
		r.skipSigned(10)
	case immF32:
		r.bytes(4)
	case immF64:
		r.bytes(8)
	case immTypes:
		r.bytes(r.u32())
	case immRefType:
		r.byte()
	}
}
