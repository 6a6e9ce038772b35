package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Environment stands for the file in a [Fault] of an environment variable.
const Environment = "environment"

// A Fault is one thing that is wrong with a configuration.
type Fault struct {
	File    string `json:"file"`             // path as given, or [Environment]; empty: a default
	Line    int    `json:"line,omitempty"`   // from 1; 0 means no line (an absent key, the environment)
	Key     string `json:"key,omitempty"`    // path such as site[1].hosts, or the variable's name
	Value   string `json:"value,omitempty"`  // as written; empty when absent or secret
	Problem string `json:"problem"`          // what is wrong
	Remedy  string `json:"remedy,omitempty"` // what to change
}

// Error returns the fault on one line, as "file:line: key = value: problem;
// remedy".
func (f Fault) Error() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		b.WriteString(": ")
	}
	if f.Key != "" {
		b.WriteString(f.Key)
		if f.Value != "" {
			b.WriteString(" = " + f.Value)
		}
		b.WriteString(": ")
	}
	b.WriteString(f.Problem)
	if f.Remedy != "" {
		b.WriteString("; " + f.Remedy)
	}
	return b.String()
}

// Faults is every fault of one configuration, in the order of the lines. It is
// the error of [Load]; get it with errors.As.
type Faults []Fault

// Error returns one fault per line.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// place says where the value of a key came from.
type place struct {
	file  string
	line  int
	name  string // the variable's name when file is Environment
	value string // as written
}

// report collects faults and knows where each key stands. It is used by one
// goroutine.
type report struct {
	file   string
	lines  map[string]int
	places map[string]place // keys that were set
	faults Faults
}

// add records a fault of key. A key that was not set is placed at the nearest
// enclosing table that stands in the file.
func (r *report) add(key, problem, remedy string) {
	f := Fault{File: r.file, Key: key, Problem: problem, Remedy: remedy}
	if p, ok := r.places[key]; ok {
		f.File, f.Line, f.Value = p.file, p.line, p.value
		if p.file == Environment {
			f.Key = p.name
		}
	} else {
		f.Line = r.lineOf(key)
	}
	r.faults = append(r.faults, f)
}

// hide forgets the value of key, which holds something secret.
func (r *report) hide(key string) {
	p := r.places[key]
	p.value = hidden
	r.places[key] = p
}

// lineOf returns the line of key or of the nearest table around it, else 0.
func (r *report) lineOf(key string) int {
	for key != "" {
		if n, ok := r.lines[key]; ok {
			return n
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 0
}

// isSet reports whether key was given a value by the file or the environment.
func (r *report) isSet(key string) bool {
	_, ok := r.places[key]
	return ok
}

// err returns the faults as an error, in the order of the lines, or nil.
func (r *report) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		if a.File != b.File { // the file first, then the environment
			if a.File == Environment {
				return 1
			}
			if b.File == Environment {
				return -1
			}
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Key, b.Key))
	})
	return r.faults
}
