// Slowest reads the events of `go test -json` on standard input. It prints the
// output of what failed, then the ten slowest tests, then the result line of
// each package, as `go test` has it. It exits with 1 if anything failed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	ok, err := run(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "slowest:", err)
	}
	if !ok || err != nil {
		os.Exit(1)
	}
}

// event is one line of go test -json (cmd/test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build-output and build-fail
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// result is the end of one test.
type result struct {
	name    string
	seconds float64
}

// summary is what the events say so far.
type summary struct {
	out     io.Writer
	output  map[string]*strings.Builder // by package and test, until its end
	tests   []result                    // top-level tests that ended
	results []string                    // result lines of the packages
	failed  bool
}

// run reads events from in until its end. It reports whether all packages
// passed, which no package at all have not.
func run(in io.Reader, out io.Writer) (ok bool, err error) {
	s := &summary{out: out, output: map[string]*strings.Builder{}}
	lines := bufio.NewReader(in)
	for {
		line, readErr := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				s.take(e)
			} else { // not an event: an error of the go command itself
				fmt.Fprintf(out, "%s", line)
			}
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return false, fmt.Errorf("reading events: %w", readErr)
		}
	}
	s.print()
	return !s.failed && len(s.results) > 0, nil
}

// take uses one event.
func (s *summary) take(e event) {
	id := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		s.takeOutput(id, e)
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "build-fail":
		s.failed = true
	case "fail":
		s.failed = true
		if b := s.output[id]; b != nil {
			fmt.Fprint(s.out, b.String())
		}
		s.end(id, e)
	case "pass", "skip":
		s.end(id, e)
	}
}

// takeOutput keeps output until its test has ended; result lines of packages are
// printed last.
func (s *summary) takeOutput(id string, e event) {
	if e.Test == "" && isResult(e.Output) {
		s.results = append(s.results, e.Output)
		return
	}
	b := s.output[id]
	if b == nil {
		b = &strings.Builder{}
		s.output[id] = b
	}
	b.WriteString(e.Output)
}

// isResult reports whether line is the result line of a package.
func isResult(line string) bool {
	for _, prefix := range []string{"ok  \t", "FAIL\t", "?   \t", "\tgithub.com"} { // the last: no tests, with coverage
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// end records the end of a test or package.
func (s *summary) end(id string, e event) {
	delete(s.output, id)
	switch {
	case e.Test == "":
		fmt.Fprintf(s.out, "# %s %s in %.1f s\n", e.Action, e.Package, e.Elapsed)
	case !strings.Contains(e.Test, "/"): // a subtest's time is in its parent's
		s.tests = append(s.tests, result{e.Package + "." + e.Test, e.Elapsed})
	}
}

// print writes the slowest tests and the result lines.
func (s *summary) print() {
	slices.SortStableFunc(s.tests, func(a, b result) int { return cmp.Compare(b.seconds, a.seconds) })
	fmt.Fprintf(s.out, "\nThe slowest of %d tests:\n", len(s.tests))
	for _, t := range s.tests[:min(10, len(s.tests))] {
		fmt.Fprintf(s.out, "%8.2f s  %s\n", t.seconds, t.name)
	}
	fmt.Fprintln(s.out)
	for _, line := range s.results {
		fmt.Fprint(s.out, line)
	}
}
