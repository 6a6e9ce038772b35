package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFileBytes bounds a configuration file.
const maxFileBytes = 1 << 20

// Source says where a configuration comes from.
type Source struct {
	// Path is the file; empty means none. Files that the configuration names
	// are relative to its folder.
	Path string
	// Data, when not nil, is used instead of reading Path.
	Data []byte
	// Env are variables as in os.Environ. Those that do not begin with
	// EDGENODE_ are passed over, unknown ones that do are faults.
	Env []string
	// EnvReserved are EDGENODE_ variables that are passed over, beside CONFIG,
	// URL, ADMIN and TOKEN (read by the command line) and BIN (read by the tests).
	EnvReserved []string
}

// Load reads, completes and checks a configuration. Its error is [Faults], with
// every fault that there is; a file that is not TOML has one. It reads the
// files of tokens, certificates and keys too.
func Load(src Source) (*Config, error) {
	r := &report{file: src.Path, lines: map[string]int{}, places: map[string]place{}}
	doc, ok := parse(src, r)
	if !ok {
		return nil, r.err()
	}
	c := Default()
	d := &decoder{r}
	d.table("", doc, reflect.ValueOf(c).Elem())
	d.environment(src, reflect.ValueOf(c).Elem())
	k := &checker{report: r, c: c, dir: filepath.Dir(src.Path)}
	k.check()
	if err := r.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// parse reads the document and its lines into r. It reports false when there is
// nothing to go on with.
func parse(src Source, r *report) (doc map[string]any, ok bool) {
	data := src.Data
	if data == nil && src.Path != "" {
		var err error
		if data, err = os.ReadFile(src.Path); err != nil {
			r.add("", fmt.Sprintf("cannot be read: %v", reasonOf(err)), "name a file that is there and readable (--config)")
			return nil, false
		}
	}
	if len(data) > maxFileBytes {
		r.add("", fmt.Sprintf("larger than %v", Size(maxFileBytes)), "name the configuration file, not another one")
		return nil, false
	}
	defer func() { // the library panics on some inputs that it did not foresee
		if p := recover(); p != nil {
			r.add("", fmt.Sprintf("not TOML: %v", p), "see https://toml.io")
			doc, ok = nil, false
		}
	}()
	if err := toml.Unmarshal(data, &doc); err != nil {
		r.faults = append(r.faults, syntaxFault(src.Path, err))
		return nil, false
	}
	r.lines = lineIndex(string(data))
	return doc, true
}

// syntaxFault places an error of the TOML library.
func syntaxFault(file string, err error) Fault {
	f := Fault{File: file, Problem: "not TOML: " + err.Error(), Remedy: "correct the line"}
	var pe toml.ParseError
	if errors.As(err, &pe) {
		f.Line, f.Key = pe.Position.Line, pe.LastKey
		f.Problem = "not TOML: " + strings.TrimSpace(pe.Message)
	}
	return f
}

// reasonOf drops the operation and path, which the fault states already.
func reasonOf(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// environment applies the EDGENODE_ variables to out.
func (d *decoder) environment(src Source, out reflect.Value) {
	byName := make(map[string]string)
	names := make([]string, 0, 64)
	for _, k := range Keys() {
		if k.Env != "" {
			byName[k.Env] = k.Path
			names = append(names, k.Env)
		}
	}
	reserved := append([]string{"EDGENODE_CONFIG", "EDGENODE_URL", "EDGENODE_ADMIN", "EDGENODE_TOKEN", "EDGENODE_BIN"}, src.EnvReserved...)
	for _, kv := range src.Env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(reserved, name) {
			continue
		}
		if path, ok := byName[name]; ok {
			d.variable(name, path, value, out)
			continue
		}
		d.faults = append(d.faults, unknownVariable(name, names))
	}
}

// unknownVariable is the fault of an EDGENODE_ variable that is no key.
func unknownVariable(name string, names []string) Fault {
	f := Fault{File: Environment, Key: name, Problem: "unknown variable", Remedy: "unset it"}
	key := strings.ToLower(strings.TrimPrefix(name, envPrefix))
	if reason, ok := laterKey(key); ok {
		f.Problem = "not in this version: " + reason
		return f
	}
	if near, ok := nearest(name, names); ok {
		f.Remedy = "did you mean " + near + "?"
	}
	return f
}

// variable sets the key at path from the text of an environment variable.
func (d *decoder) variable(name, path, text string, out reflect.Value) {
	f := reflect.StructField{}
	for part := range strings.SplitSeq(path, ".") {
		f, out, _ = fieldOf(out, part)
	}
	p := place{file: Environment, name: name}
	if f.Tag.Get("secret") == "" {
		p.value = shown(text)
	}
	d.places[path] = p
	if out.Kind() == reflect.Slice {
		out.Set(reflect.ValueOf(splitList(text)))
		return
	}
	d.scalar(path, fromText(text, out), f, out)
}

// splitList splits a list in a variable at its commas.
func splitList(text string) []string {
	list := []string{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// fromText returns what TOML would have made of text for a field like out. A
// text that does not fit stays a string, which the field then refuses.
func fromText(text string, out reflect.Value) any {
	switch out.Interface().(type) {
	case int, Millis, Size:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case float64:
		if x, err := strconv.ParseFloat(text, 64); err == nil {
			return x
		}
	case bool:
		if b, err := strconv.ParseBool(text); err == nil {
			return b
		}
	}
	return text
}
