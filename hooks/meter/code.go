package meter

import (
	"errors"
	"fmt"
)

// maxLocals bounds the locals of one function, as engines do, and maxAllLocals
// those of a module: five bytes declare 50,000 of them, and an engine takes
// memory for each.
const (
	maxLocals    = 50_000
	maxAllLocals = 1 << 22
)

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
		f, err := parseBody(b)
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

func parseBody(b []byte) (f body, err error) {
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
	s := scanner{r: reader{b: f.code}}
	if err := s.scan(); err != nil {
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
	region int   // index of the region its end belongs to
	best   int64 // longest way by branches to its end, or dead
	entry  int64 // of an if: the distance at its start
	elsed  bool
}

// scanner walks the code of one function once. Since WebAssembly's control flow
// is structured, the longest way within a region is found by keeping the
// greatest distance at each label: all branches but those to loop heads go
// forward.
type scanner struct {
	r       reader
	points  []point
	sized   bool
	regions []region
	labels  []label
}

func (s *scanner) scan() error {
	s.open(0)
	s.labels = append(s.labels, label{op: opBlock, best: dead})
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
	s.tick()
	switch op {
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

// structure follows what opens, closes or leaves a block.
func (s *scanner) structure(op byte) error {
	if s.r.err != nil {
		return s.r.err
	}
	cur := len(s.regions) - 1
	switch op {
	case opBlock:
		s.labels = append(s.labels, label{op: op, region: cur, best: dead})
	case opIf:
		s.labels = append(s.labels, label{op: op, region: cur, best: dead, entry: s.regions[cur].cur})
	case opLoop:
		s.labels = append(s.labels, label{op: op, region: cur, best: dead})
		s.open(s.r.off)
	case opElse:
		l := &s.labels[len(s.labels)-1]
		if l.op != opIf || l.elsed {
			return errors.New("else without if")
		}
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
		if l := &s.labels[len(s.labels)-1-int(depth)]; l.op != opLoop {
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

// tick counts one instruction.
func (s *scanner) tick() {
	r := &s.regions[len(s.regions)-1]
	if r.cur == dead {
		return
	}
	r.cur++
	r.max = max(r.max, r.cur)
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
