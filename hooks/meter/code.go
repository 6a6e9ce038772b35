package meter

import (
	"errors"
	"fmt"
)

// maxLocals bounds the locals of one function, maxAllLocals those of a module and
// maxValues the parameters or results of a type: a few bytes declare thousands,
// an engine takes memory for each, and its time to compile a function grows with
// the square of them.
const (
	maxLocals    = 2000
	maxAllLocals = 1 << 22
	maxValues    = 1000
)

// Where ways join or a loop starts over, an engine may copy every local, and every
// value that a branch, call or block hands on. So many locals are free, since they
// live in registers; of the rest, and of the values, one unit buys valuesPerFuel.
// In the same way bytesPerFrameFuel bytes of a function's code, which may leave
// their results in its stack frame whether they are run or not, cost it one unit.
const (
	freeLocals        = 32
	valuesPerFuel     = 8
	bytesPerFrameFuel = 256
)

// signature is the type of a function or block, as numbers of values.
type signature struct{ params, results uint32 }

// A point is a place in a function where fuel is taken. With sized false it is
// a function entry or loop head and costs cost. With sized true it stands
// before an instruction whose topmost operand is an i32 size, which costs
// size << shift, or size >> -shift when shift is negative.
type point struct {
	at    int // offset in the code of the body
	cost  int64
	shift int8
	sized bool
}

// body is one function: its locals as declared, its code, and where it pays.
type body struct {
	groups []byte // the local groups without their count
	count  uint32 // number of local groups
	locals uint64 // number of declared locals
	code   []byte
	points []point
	sized  bool // some point is sized
}

func (m *Module) parseCode(r *reader) error {
	n := r.u32()
	for i := uint32(0); i < n; i++ {
		b := r.bytes(r.u32())
		if r.err != nil {
			return r.err
		}
		if int(i) >= len(m.types) {
			return errors.New("more bodies than functions")
		}
		f, err := m.parseBody(b, m.signatures[m.types[i]])
		if err != nil {
			return fmt.Errorf("function %d: %w", uint64(len(m.Imports))+uint64(i), err)
		}
		if m.locals += f.locals; m.locals > maxAllLocals {
			return fmt.Errorf("more than %d locals in all functions", maxAllLocals)
		}
		m.bodies = append(m.bodies, f)
	}
	if r.err == nil && r.off != len(r.b) {
		return errors.New("bytes left over")
	}
	return r.err
}

func (m *Module) parseBody(b []byte, sig signature) (f body, err error) {
	r := &reader{b: b}
	f.count = r.u32()
	start := r.off
	for i := uint32(0); i < f.count && r.err == nil; i++ {
		f.locals += uint64(r.u32())
		if t := r.byte(); r.err == nil {
			if err := valueType(t); err != nil {
				return f, err
			}
		}
		if f.locals > maxLocals {
			return f, fmt.Errorf("more than %d locals", maxLocals)
		}
	}
	if r.err != nil {
		return f, r.err
	}
	f.groups, f.code = b[start:r.off], b[r.off:]
	s := scanner{r: reader{b: f.code}, m: m}
	if all := uint64(sig.params) + f.locals; all > freeLocals {
		s.crowd = int64(all - freeLocals)
	}
	if err := s.scan(sig.results); err != nil {
		return f, err
	}
	f.points, f.sized = s.points, s.sized
	return f, nil
}

// dead is the distance of code that cannot be reached.
const dead = -1

// A region is a function or loop body without the loops inside it. It pays
// once when entered, for its longest way to anywhere.
type region struct {
	point int   // index in points of the place where it pays
	cur   int64 // instructions from its head to here, or dead
	max   int64 // the greatest cur so far
}

// A label is an open block, loop or if, or the function itself.
type label struct {
	op     byte
	values uint32 // that a branch to it carries
	region int    // index of the region its end belongs to
	best   int64  // longest way by branches to its end, or dead
	entry  int64  // of an if: the distance at its start
	elsed  bool
}

// scanner walks the code of one function once. Since WebAssembly's control flow
// is structured, the longest way within a region is found by keeping the
// greatest distance at each label: all branches but those to loop heads go
// forward.
type scanner struct {
	r       reader
	m       *Module
	crowd   int64 // locals above freeLocals
	points  []point
	sized   bool
	regions []region
	labels  []label
}

func (s *scanner) scan(results uint32) error {
	s.open(0)
	s.pay(s.crowd/valuesPerFuel + int64(len(s.r.b)/bytesPerFrameFuel))
	s.labels = append(s.labels, label{op: opBlock, values: results, best: dead})
	for len(s.labels) > 0 {
		at := s.r.off
		if err := s.step(); err != nil {
			return fmt.Errorf("code byte %d: %w", at, err)
		}
	}
	if s.r.off != len(s.r.b) {
		return errors.New("bytes left over after the function's end")
	}
	return nil
}

func (s *scanner) step() error {
	at := s.r.off
	op := s.r.byte()
	if s.r.err != nil {
		return s.r.err
	}
	s.pay(1)
	switch op {
	case opCall:
		s.payCall(s.m.signatureOf(s.r.u32()))
	case opCallIndirect:
		s.payCall(s.m.signature(s.r.u32()))
		s.r.u32()
	case opBlock, opLoop, opIf:
		s.begin(op)
	case opBr, opBrIf, opBrTable:
		s.branch(op)
	case opPrefixMisc:
		return s.misc(at)
	case opMemoryGrow:
		s.size(at, 10)
		s.r.skipImmediate(immIndex)
	default:
		kind := immediates[op]
		if kind == immUnknown {
			return refusal(op)
		}
		s.r.skipImmediate(kind)
		return s.structure(op)
	}
	return s.r.err
}

// begin opens a block, loop or if.
func (s *scanner) begin(op byte) {
	sig := s.blockType()
	if s.r.err != nil {
		return
	}
	cur := len(s.regions) - 1
	l := label{op: op, values: sig.results, region: cur, best: dead}
	switch op {
	case opIf:
		l.entry = s.regions[cur].cur
	case opLoop:
		l.values = sig.params
		s.payJoin(sig.params)
		s.open(s.r.off)
	}
	s.labels = append(s.labels, l)
}

// blockType reads a block type: nothing, one result, or an index.
func (s *scanner) blockType() signature {
	switch t := s.r.s33(); {
	case t == blockNothing:
		return signature{}
	case t < 0:
		return signature{results: 1}
	default:
		sig, ok := s.m.signature(uint32(min(t, 1<<32-1)))
		if !ok {
			s.r.fail(fmt.Errorf("type %d does not exist", t))
		}
		return sig
	}
}

// structure follows what closes or leaves a block.
func (s *scanner) structure(op byte) error {
	if s.r.err != nil {
		return s.r.err
	}
	cur := len(s.regions) - 1
	switch op {
	case opElse:
		l := &s.labels[len(s.labels)-1]
		if l.op != opIf || l.elsed {
			return errors.New("else without if")
		}
		s.payJoin(l.values)
		l.elsed = true
		l.best = max(l.best, s.regions[cur].cur)
		s.regions[cur].cur = l.entry
	case opEnd:
		s.end()
	case opReturn, opUnreachable:
		s.regions[cur].cur = dead
	}
	return nil
}

func (s *scanner) end() {
	l := s.labels[len(s.labels)-1]
	if l.op != opLoop {
		s.payJoin(l.values)
	}
	s.labels = s.labels[:len(s.labels)-1]
	cur := &s.regions[len(s.regions)-1]
	switch {
	case l.op == opLoop:
		s.close()
		if cur.cur == dead {
			s.regions[l.region].cur = dead
		}
	case len(s.labels) == 0:
		s.close()
	default:
		if l.op == opIf && !l.elsed {
			l.best = max(l.best, l.entry)
		}
		cur.cur = max(cur.cur, l.best)
	}
}

// branch reads br, br_if or br_table and carries the distance to its targets.
func (s *scanner) branch(op byte) {
	n := uint32(0)
	if op == opBrTable {
		n = s.r.u32()
	}
	for i := uint64(0); i <= uint64(n) && s.r.err == nil; i++ {
		depth := s.r.u32()
		if s.r.err != nil {
			return
		}
		if uint64(depth) >= uint64(len(s.labels)) {
			s.r.fail(fmt.Errorf("label %d does not exist", depth))
			return
		}
		l := &s.labels[len(s.labels)-1-int(depth)]
		if i == 0 { // all labels of a valid br_table take the same values
			s.payJoin(l.values)
		}
		if l.op != opLoop {
			l.best = max(l.best, s.regions[l.region].cur)
		}
	}
	if op != opBrIf {
		s.regions[len(s.regions)-1].cur = dead
	}
}

func (s *scanner) misc(at int) error {
	sub := s.r.u32()
	if s.r.err != nil {
		return s.r.err
	}
	if uint64(sub) >= uint64(len(miscImmediates)) {
		return fmt.Errorf("opcode 0xfc %d is unknown", sub)
	}
	switch sub {
	case 8, 10, 11: // memory.init, memory.copy, memory.fill
		s.size(at, -4)
	case 12, 14, 15, 17: // table.init, table.copy, table.grow, table.fill
		s.size(at, 0)
	}
	s.r.skipImmediate(miscImmediates[sub])
	return s.r.err
}

// pay adds n units to the way so far.
func (s *scanner) pay(n int64) {
	r := &s.regions[len(s.regions)-1]
	if r.cur == dead {
		return
	}
	r.cur += n
	r.max = max(r.max, r.cur)
}

// payJoin pays for going to where another way may come from.
func (s *scanner) payJoin(values uint32) { s.pay((s.crowd + int64(values)) / valuesPerFuel) }

func (s *scanner) payCall(sig signature, ok bool) {
	if !ok {
		s.r.fail(errors.New("call of a function or type that does not exist"))
	}
	s.pay(int64(sig.params+sig.results) / valuesPerFuel)
}

// signature returns the type of that index.
func (m *Module) signature(index uint32) (signature, bool) {
	if uint64(index) >= uint64(len(m.signatures)) {
		return signature{}, false
	}
	return m.signatures[index], true
}

// signatureOf returns the type of a function.
func (m *Module) signatureOf(function uint32) (signature, bool) {
	if n := uint64(function); n < uint64(len(m.importTypes)) {
		return m.signature(m.importTypes[n])
	}
	if n := uint64(function) - uint64(len(m.importTypes)); n < uint64(len(m.types)) {
		return m.signature(m.types[n])
	}
	return signature{}, false
}

func (s *scanner) size(at int, shift int8) {
	s.sized = true
	s.points = append(s.points, point{at: at, shift: shift, sized: true})
}

func (s *scanner) open(at int) {
	s.regions = append(s.regions, region{point: len(s.points)})
	s.points = append(s.points, point{at: at})
}

func (s *scanner) close() {
	r := s.regions[len(s.regions)-1]
	s.regions = s.regions[:len(s.regions)-1]
	s.points[r.point].cost = r.max
}
