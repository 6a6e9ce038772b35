package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// timings are the results of go test -bench: by name without the number of
// processors, then by unit.
type timings map[string]map[string][]float64

// goBench runs benchmarks of a package. Args are for go test; after "-args" they
// are for the test. Output of a run that failed is the error.
func (t *tool) goBench(ctx context.Context, all timings, pkg, pattern string, args ...string) error {
	args, rest := args, []string(nil)
	if i := slices.Index(args, "-args"); i >= 0 {
		args, rest = args[:i], args[i:]
	}
	dir, of, cd := t.root, pkg, ""
	if own := filepath.Join(t.root, pkg); isModule(own) {
		dir, of, cd = own, ".", "cd "+pkg+" && "
	}
	args = slices.Concat([]string{"test", "-run", "^$", "-timeout", "1h", "-bench", pattern}, args, []string{of}, rest)
	t.say("%sgo %s", cd, strings.Join(args, " "))
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir, c.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	text, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	t.commands = append(t.commands, cd+"go "+strings.Join(args, " "))
	all.parse(pkg, string(text))
	return nil
}

// isModule reports whether a package is a module of its own.
func isModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil
}

// ran shows the commands that were run.
func (t *tool) ran() string {
	if len(t.commands) == 0 {
		return ""
	}
	return "\n```\n" + strings.Join(t.commands, "\n") + "\n```\n"
}

// parse adds the lines of results in text.
func (t timings) parse(pkg, text string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			if _, err := strconv.Atoi(name[i+1:]); err == nil {
				name = name[:i]
			}
		}
		name = strings.TrimPrefix(pkg, "./") + " " + name
		for i := 2; i+1 < len(f); i += 2 {
			v, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				break
			}
			if t[name] == nil {
				t[name] = map[string][]float64{}
			}
			t[name][f[i+1]] = append(t[name][f[i+1]], v)
		}
	}
}

// median returns that of a unit, and whether it was measured.
func (t timings) median(name, unit string) (float64, bool) {
	v := t[name][unit]
	if len(v) == 0 {
		return 0, false
	}
	return median(v), true
}

// show returns a median as text, or "–".
func (t timings) show(name, unit, format string) string {
	v, ok := t.median(name, unit)
	if !ok {
		return "–"
	}
	return fmt.Sprintf(format, v)
}

// ratio returns the quotient of two medians of a unit, and whether both were
// measured.
func (t timings) ratio(a, b, unit string) (float64, bool) {
	x, ok := t.median(a, unit)
	y, ok2 := t.median(b, unit)
	return x / y, ok && ok2 && y != 0
}
