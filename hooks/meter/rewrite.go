package meter

import (
	"errors"
	"fmt"
)

// Limits of what a rewritten module may hold.
const (
	// MaxTables is the most tables a module may have.
	MaxTables = 16
	// MaxTableEntries is the most entries one table may have or grow to.
	MaxTableEntries = 1 << 16
)

// Options bound a module. The zero value is not usable.
type Options struct {
	// InitialFuel is what the fuel counter holds in a new instance; a start
	// function runs on it.
	InitialFuel int64
	// MemoryPages is the most memory, in pages of 64 KiB.
	MemoryPages uint32
}

// Report says what rewriting did.
type Report struct {
	Entries, Loops, Sized int // places that pay, by kind
	BytesBefore           int
	BytesAfter            int
}

// Rewrite returns the metered module, a function of m and o alone. Of the custom
// sections only the names of functions stay: debug sections would point to wrong
// places.
// The error names the limit that the module exceeds.
func (m *Module) Rewrite(o Options) ([]byte, Report, error) {
	rep := Report{BytesBefore: m.Size}
	out, err := m.rewrite(o, &rep)
	if err != nil {
		return nil, Report{}, fmt.Errorf("%w: %w", ErrModule, err)
	}
	rep.BytesAfter = len(out)
	return out, rep, nil
}

func (m *Module) rewrite(o Options, rep *Report) ([]byte, error) {
	if m.Size > 1<<30 {
		return nil, errors.New("module above 1 GiB")
	}
	out := make([]byte, 0, m.Size+m.Size/2+64)
	out = append(out, magic...)
	fuelDone, exportDone := false, false
	for _, s := range m.sections {
		if s.id == secCustom {
			continue
		}
		if !fuelDone && order[s.id] >= order[secGlobal] {
			fuelDone = true
			out = appendSection(out, secGlobal, m.globalSection(s, o.InitialFuel))
		}
		if !exportDone && order[s.id] >= order[secExport] {
			exportDone = true
			out = appendSection(out, secExport, m.exportSection(s))
		}
		body, err := m.section(s, o, rep)
		if err != nil {
			return nil, err
		}
		if body != nil {
			out = appendSection(out, s.id, body)
		}
	}
	if !fuelDone {
		out = appendSection(out, secGlobal, m.globalSection(section{}, o.InitialFuel))
	}
	if !exportDone {
		out = appendSection(out, secExport, m.exportSection(section{}))
	}
	if names, ok := m.functionNames(); ok {
		out = AppendCustom(out, "name", names)
	}
	return out, nil
}

// section returns the new content of a section, or nil if it was written
// already.
func (m *Module) section(s section, o Options, rep *Report) ([]byte, error) {
	switch s.id {
	case secGlobal, secExport:
		return nil, nil
	case secTable:
		return m.tableSection()
	case secMemory:
		return m.memorySection(o.MemoryPages)
	case secCode:
		return m.codeSection(rep), nil
	}
	return s.body, nil
}

func appendSection(dst []byte, id byte, body []byte) []byte {
	dst = appendU32(append(dst, id), uint32(len(body)))
	return append(dst, body...)
}

// entries returns what follows the count of a section's vector, nothing if s is
// another section than id.
func entries(s section, id byte) []byte {
	if s.id != id {
		return nil
	}
	r := &reader{b: s.body}
	r.u32()
	return s.body[r.off:]
}

func (m *Module) globalSection(s section, fuel int64) []byte {
	b := appendU32(nil, m.globals+1)
	b = append(b, entries(s, secGlobal)...)
	b = append(b, typeI64, 1, opI64Const)
	return append(appendS64(b, fuel), opEnd)
}

func (m *Module) exportSection(s section) []byte {
	b := appendU32(nil, uint32(len(m.Exports))+1)
	b = append(b, entries(s, secExport)...)
	b = appendU32(b, uint32(len(FuelExport)))
	b = append(b, FuelExport...)
	return appendU32(append(b, byte(Global)), m.globals)
}

func (m *Module) tableSection() ([]byte, error) {
	if len(m.Tables) > MaxTables {
		return nil, fmt.Errorf("%d tables, the limit is %d", len(m.Tables), MaxTables)
	}
	b := appendU32(nil, uint32(len(m.Tables)))
	for i, t := range m.Tables {
		l, err := t.capped(MaxTableEntries, fmt.Sprintf("table %d", i))
		if err != nil {
			return nil, fmt.Errorf("%w entries", err)
		}
		b = l.append(append(b, m.tableTypes[i]))
	}
	return b, nil
}

func (m *Module) memorySection(pages uint32) ([]byte, error) {
	if m.Memory == nil {
		return []byte{0}, nil
	}
	l, err := m.Memory.capped(pages, "memory")
	if err != nil {
		return nil, fmt.Errorf("%w pages of 64 KiB: link it with less initial memory and stack, or grant more memory", err)
	}
	return l.append([]byte{1}), nil
}

func (m *Module) codeSection(rep *Report) []byte {
	out := appendU32(nil, uint32(len(m.bodies)))
	var scratch []byte
	for i := range m.bodies {
		f := &m.bodies[i]
		scratch = f.appendTo(scratch[:0], m.globals, m.signatures[m.types[i]].params)
		out = appendU32(out, uint32(len(scratch)))
		out = append(out, scratch...)
		for _, p := range f.points {
			switch {
			case p.sized:
				rep.Sized++
			case p.at == 0:
				rep.Entries++
			default:
				rep.Loops++
			}
		}
	}
	return out
}

// appendTo writes the body with fuel taken at its points. It adds one i64
// local, and one i32 local if a point is sized, behind the declared ones.
func (f *body) appendTo(dst []byte, fuel, params uint32) []byte {
	left := params + uint32(f.locals)
	groups := f.count + 1
	if f.sized {
		groups++
	}
	dst = appendU32(dst, groups)
	dst = append(append(dst, f.groups...), 1, typeI64)
	if f.sized {
		dst = append(dst, 1, typeI32)
	}
	at := 0
	for _, p := range f.points {
		dst = append(dst, f.code[at:p.at]...)
		at = p.at
		dst = p.appendTo(dst, fuel, left)
	}
	return append(dst, f.code[at:]...)
}

// appendTo writes: left = fuel - price; fuel = left; if left < 0 trap.
func (p point) appendTo(dst []byte, fuel, left uint32) []byte {
	size := left + 1
	if p.sized {
		dst = appendU32(append(dst, opLocalSet), size)
	}
	dst = appendU32(append(dst, opGlobalGet), fuel)
	if p.sized {
		dst = appendU32(append(dst, opLocalGet), size)
		dst = append(dst, opI64ExtendU)
		switch {
		case p.shift > 0:
			dst = append(dst, opI64Const, byte(p.shift), opI64Shl)
		case p.shift < 0:
			dst = append(dst, opI64Const, byte(-p.shift), opI64ShrU)
		}
	} else {
		dst = appendS64(append(dst, opI64Const), p.cost)
	}
	dst = appendU32(append(dst, opI64Sub, opLocalTee), left)
	dst = appendU32(append(dst, opGlobalSet), fuel)
	dst = appendU32(append(dst, opLocalGet), left)
	dst = append(dst, opI64Const, 0, opI64LtS, opIf, blockEmpty, opUnreachable, opEnd)
	if p.sized {
		dst = appendU32(append(dst, opLocalGet), size)
	}
	return dst
}
