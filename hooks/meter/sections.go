package meter

import (
	"errors"
	"fmt"
)

func (m *Module) parseTypes(r *reader) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		if form := r.byte(); form != 0x60 && r.err == nil {
			r.fail(fmt.Errorf("type form 0x%02x is not a function", form))
		}
		m.signatures = append(m.signatures, signature{params: r.valueTypes(), results: r.valueTypes()})
	}
}

// valueTypes passes over a vector of value types and returns its length.
func (r *reader) valueTypes() uint32 {
	n := r.u32()
	if n > maxValues && r.err == nil {
		r.fail(fmt.Errorf("a type with %d parameters or results, the limit is %d", n, maxValues))
	}
	checkTypes(r, r.bytes(n))
	return n
}

func checkTypes(r *reader, types []byte) {
	for _, t := range types {
		if err := valueType(t); err != nil {
			r.fail(err)
			return
		}
	}
}

// valueType refuses types outside the pinned feature set.
func valueType(t byte) error {
	switch t {
	case typeI32, typeI64, 0x7d, 0x7c, typeFuncref, typeExternref:
		return nil
	case typeV128:
		return errors.New("type v128 belongs to SIMD, which hooks may not use: build without it")
	}
	return fmt.Errorf("value type 0x%02x is outside the pinned feature set", t)
}

func (m *Module) parseImports(r *reader) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		im := Import{Module: r.name(), Name: r.name()}
		kind := Kind(r.byte())
		if r.err != nil {
			return
		}
		if kind != Func {
			r.fail(fmt.Errorf("import %s.%s is a %v: only functions may be imported", im.Module, im.Name, kind))
			return
		}
		t := r.u32()
		if r.err == nil && uint64(t) >= uint64(len(m.signatures)) {
			r.fail(fmt.Errorf("type %d does not exist", t))
			return
		}
		m.importTypes = append(m.importTypes, t)
		m.Imports = append(m.Imports, im)
	}
}

func (m *Module) parseFunctions(r *reader) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		t := r.u32()
		if r.err == nil && uint64(t) >= uint64(len(m.signatures)) {
			r.fail(fmt.Errorf("type %d does not exist", t))
			return
		}
		m.types = append(m.types, t)
	}
}

func (m *Module) parseTables(r *reader) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		t := r.byte()
		if t != typeFuncref && t != typeExternref && r.err == nil {
			r.fail(fmt.Errorf("table type 0x%02x is outside the pinned feature set", t))
			return
		}
		m.tableTypes = append(m.tableTypes, t)
		m.Tables = append(m.Tables, r.limits())
	}
}

func (m *Module) parseMemory(r *reader) {
	n := r.u32()
	if n > 1 && r.err == nil {
		r.fail(fmt.Errorf("%d memories: only one is allowed", n))
	}
	if n == 1 && r.err == nil {
		l := r.limits()
		m.Memory = &l
	}
}

func (r *reader) limits() (l Limits) {
	switch flag := r.byte(); {
	case flag == 1:
		l.HasMax = true
	case flag == 2 || flag == 3:
		r.fail(errors.New("shared memory belongs to threads, which hooks may not use: build without it"))
	case flag > 3:
		r.fail(fmt.Errorf("limits flag 0x%02x is outside the pinned feature set", flag))
	}
	l.Min = r.u32()
	if l.HasMax {
		l.Max = r.u32()
	}
	return l
}

func (l Limits) append(dst []byte) []byte {
	flag := byte(0)
	if l.HasMax {
		flag = 1
	}
	dst = appendU32(append(dst, flag), l.Min)
	if l.HasMax {
		dst = appendU32(dst, l.Max)
	}
	return dst
}

// capped lowers the maximum to limit, or says that the minimum is above it.
func (l Limits) capped(limit uint32, what string) (Limits, error) {
	if l.Min > limit {
		return l, fmt.Errorf("%s starts with %d, the limit is %d", what, l.Min, limit)
	}
	if !l.HasMax || l.Max > limit {
		l.HasMax, l.Max = true, limit
	}
	return l, nil
}

func (m *Module) parseExports(r *reader) {
	for n := r.u32(); n > 0 && r.err == nil; n-- {
		e := Export{Name: r.name(), Kind: Kind(r.byte())}
		r.u32()
		if r.err != nil {
			return
		}
		if e.Name == FuelExport {
			r.fail(fmt.Errorf("export %q is reserved for metering: rename it", FuelExport))
			return
		}
		m.Exports = append(m.Exports, e)
	}
}
