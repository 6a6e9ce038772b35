package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decoder carries the values of a parsed document into the structs and goes on
// after each fault.
type decoder struct{ *report }

// table sets the fields of out from the table at path.
func (d *decoder) table(path string, in map[string]any, out reflect.Value) {
	for name, v := range in {
		key := joinKey(path, name)
		f, field, ok := fieldOf(out, name)
		if !ok {
			d.unknown(key, name, out.Type())
			continue
		}
		d.set(key, v, f)
		d.value(key, v, f, field)
	}
}

// set remembers where key was given a value.
func (d *decoder) set(key string, v any, f reflect.StructField) {
	p := place{file: d.file, line: d.lineOf(key)}
	if f.Tag.Get("secret") == "" && f.Type.Kind() != reflect.Struct && !isTables(f.Type) {
		p.value = shown(v)
	}
	d.places[key] = p
}

// shown renders a value of the document for a fault, cut when it is long.
func shown(v any) string {
	var s string
	switch v := v.(type) {
	case map[string]any, []map[string]any:
		return ""
	case time.Time:
		s = v.String()
	case float64: // JSON has no inf and nan
		s = strconv.FormatFloat(v, 'g', -1, 64)
	default:
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		s = string(b)
	}
	const longest = 80
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "…"
	}
	return s
}

// unknown records a key that no table has, or not in this version. Its value is
// not shown: it may be a secret, as in redis_url.
func (d *decoder) unknown(key, name string, t reflect.Type) {
	d.places[key] = place{file: d.file, line: d.lineOf(key)}
	if reason, ok := laterKey(key); ok {
		d.add(key, "not in this version: "+reason, "remove the key")
		return
	}
	if near, ok := nearest(name, namesOf(t)); ok {
		d.add(key, "unknown key", fmt.Sprintf("did you mean %q?", near))
		return
	}
	for _, k := range Keys() {
		if strings.HasSuffix(k.Path, "."+name) || k.Path == name {
			d.add(key, "unknown key here", "it is known as "+k.Path)
			return
		}
	}
	d.add(key, "unknown key", "remove it; edgenode.toml lists every key")
}

// value sets field from v.
func (d *decoder) value(key string, v any, f reflect.StructField, field reflect.Value) {
	switch {
	case field.Kind() == reflect.Struct:
		if in, ok := v.(map[string]any); ok {
			d.table(key, in, field)
			return
		}
		d.add(key, "not a table", fmt.Sprintf("write [%s] and its keys below", key))
	case isTables(field.Type()):
		d.tables(key, v, field)
	case field.Kind() == reflect.Map:
		d.mapping(key, v, f, field)
	case field.Kind() == reflect.Slice:
		if field.Type().Elem().Kind() == reflect.Int {
			d.numbers(key, v, f, field)
			return
		}
		d.list(key, v, field)
	default:
		d.scalar(key, v, f, field)
	}
}

// tables appends one element to field for each table in v.
func (d *decoder) tables(key string, v any, field reflect.Value) {
	var elems []any
	switch v := v.(type) {
	case []map[string]any:
		for _, e := range v {
			elems = append(elems, e)
		}
	case []any:
		elems = v
	default:
		d.add(key, "not an array of tables", fmt.Sprintf("write [[%s]], once for each", key))
		return
	}
	for i, e := range elems {
		in, ok := e.(map[string]any)
		if !ok {
			d.add(elemKey(key, i), "not a table", fmt.Sprintf("write [[%s]], once for each", key))
			continue
		}
		elem := newElement(field.Type().Elem())
		d.table(elemKey(key, i), in, elem)
		field.Set(reflect.Append(field, elem))
	}
}

// mapping sets a map with free keys: any value, or durations.
func (d *decoder) mapping(key string, v any, f reflect.StructField, field reflect.Value) {
	in, ok := v.(map[string]any)
	if !ok {
		d.add(key, "not a table", "write { name = value }")
		return
	}
	if field.Type().Elem().Kind() == reflect.Interface {
		field.Set(reflect.ValueOf(in))
		return
	}
	field.Set(reflect.MakeMap(field.Type()))
	for name, e := range in {
		k, elem := joinKey(key, name), reflect.New(field.Type().Elem()).Elem()
		d.set(k, e, f)
		d.scalar(k, e, f, elem)
		field.SetMapIndex(reflect.ValueOf(name), elem)
	}
}

// list sets an array of strings.
func (d *decoder) list(key string, v any, field reflect.Value) {
	in, ok := v.([]any)
	if !ok {
		d.add(key, "not a list of strings", `write ["…", "…"]`)
		return
	}
	out := make([]string, 0, len(in))
	for i, e := range in {
		s, ok := e.(string)
		if !ok {
			d.add(elemKey(key, i), "not a string", "put it in quotes")
			continue
		}
		d.places[elemKey(key, i)] = place{file: d.file, line: d.lineOf(elemKey(key, i)), value: shown(s)}
		out = append(out, s)
	}
	field.Set(reflect.ValueOf(out))
}

// numbers sets an array of whole numbers.
func (d *decoder) numbers(key string, v any, f reflect.StructField, field reflect.Value) {
	in, ok := v.([]any)
	if !ok {
		d.add(key, "not a list of numbers", "write [200, 204]")
		return
	}
	field.Set(reflect.MakeSlice(field.Type(), 0, len(in)))
	for i, e := range in {
		k, elem := elemKey(key, i), reflect.New(field.Type().Elem()).Elem()
		d.set(k, e, f)
		d.scalar(k, e, f, elem)
		field.Set(reflect.Append(field, elem))
	}
}

// scalar sets one value and checks its bounds.
func (d *decoder) scalar(key string, v any, f reflect.StructField, field reflect.Value) {
	if problem, remedy := assign(key, v, field); problem != "" {
		d.add(key, problem, remedy)
		return
	}
	if problem := outOfBounds(f, field); problem != "" {
		d.add(key, problem, "write a value that is allowed, or remove the key for its default")
	}
}

// assign sets field from v. It returns what is wrong, or "".
func assign(key string, v any, field reflect.Value) (problem, remedy string) {
	n, isInt := v.(int64)
	s, isString := v.(string)
	switch p := field.Addr().Interface().(type) {
	case *Millis:
		if !isInt {
			return "not a whole number of milliseconds", "the unit is in the name: write 100, not \"100ms\""
		}
		*p = Millis(time.Duration(min(max(n, -1), math.MaxInt64/int64(time.Millisecond))) * time.Millisecond)
	case *Size:
		if isInt && strings.HasSuffix(key, "_bytes") {
			*p = Size(n)
			return "", ""
		}
		return assignText(v, p, isInt, "\"256MiB\"")
	case *Duration:
		return assignText(v, p, isInt, "\"100ms\"")
	case *string:
		if !isString {
			return "not a string", "put it in quotes"
		}
		*p = s
	case *bool:
		b, ok := v.(bool)
		if !ok {
			return "not true or false", "write true or false, without quotes"
		}
		*p = b
	case *int:
		if !isInt {
			return "not a whole number", "write digits only, without quotes"
		}
		*p = int(n)
	case *float64:
		x, ok := v.(float64)
		if isInt {
			x, ok = float64(n), true
		}
		if !ok || math.IsNaN(x) {
			return "not a number", "write a number such as 0.70, without quotes"
		}
		*p = x
	}
	return "", ""
}

// assignText sets a value that is written as a string with a unit.
func assignText(v any, p encoding.TextUnmarshaler, isInt bool, example string) (problem, remedy string) {
	s, ok := v.(string)
	if !ok {
		if isInt {
			return "no unit", "write a string with a unit, such as " + example
		}
		return "not a string with a unit", "write it as " + example
	}
	if err := p.UnmarshalText([]byte(s)); err != nil {
		problem, remedy, _ = strings.Cut(err.Error(), "; ")
		return problem, remedy
	}
	return "", ""
}

// outOfBounds compares a value with the tags range and oneof of its field.
func outOfBounds(f reflect.StructField, field reflect.Value) string {
	if words := strings.Fields(f.Tag.Get("oneof")); len(words) > 0 && !slices.Contains(words, field.String()) {
		return "not one of " + strings.Join(words, ", ")
	}
	low, high, ok := strings.Cut(f.Tag.Get("range"), "..")
	if !ok {
		return ""
	}
	if x := magnitude(field); x < bound(low, field) || x > bound(high, field) {
		return fmt.Sprintf("out of range: from %s to %s is allowed", low, high)
	}
	return ""
}

// magnitude returns the number in v; for Millis in milliseconds.
func magnitude(v reflect.Value) float64 {
	switch x := v.Interface().(type) {
	case Millis:
		return float64(x.Std().Milliseconds())
	case float64:
		return x
	}
	return float64(v.Int())
}

// bound reads one end of a range in the unit of the field v. Ranges are
// literals of this package; a test reads them all.
func bound(text string, v reflect.Value) float64 {
	switch v.Interface().(type) {
	case Duration:
		var d Duration
		if d.UnmarshalText([]byte(text)) == nil {
			return float64(d)
		}
	case Size:
		var s Size
		if s.UnmarshalText([]byte(text)) == nil {
			return float64(s)
		}
	default:
		if x, err := strconv.ParseFloat(text, 64); err == nil {
			return x
		}
	}
	return math.NaN()
}
