package meter

// Refused returns why an opcode is not in the pinned set, nil if it is.
func Refused(op byte) error {
	if op == opPrefixMisc || immediates[op] != immUnknown {
		return nil
	}
	return refusal(op)
}

// CountEach makes the module pay one unit before every single instruction instead:
// what Rewrite makes of it then counts exactly.
func (m *Module) CountEach() {
	for i := range m.bodies {
		m.bodies[i].points = instructions(m.bodies[i].code)
	}
}

func instructions(code []byte) (points []point) {
	r := &reader{b: code}
	for !r.done() {
		points = append(points, point{at: r.off, cost: 1})
		switch op := r.byte(); op {
		case opBrTable:
			for n := r.u32() + 1; n > 0; n-- {
				r.u32()
			}
		case opPrefixMisc:
			r.skipImmediate(miscImmediates[r.u32()])
		default:
			r.skipImmediate(immediates[op])
		}
	}
	return points
}
