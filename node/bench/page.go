package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// write puts a section in the place of its former one, or at the end of the
// page. Text between sections stays as it is.
func (t *tool) write(section, text string) error {
	old, err := os.ReadFile(t.page)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte("# Benchmarks\n"), nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(t.page, []byte(replaced(string(old), section, text)), 0o644)
}

func replaced(page, section, text string) string {
	first, last := "<!-- "+section+": written by machine -->\n", "<!-- "+section+": end -->\n"
	text = first + "\n" + strings.Trim(text, "\n") + "\n\n" + last
	before, rest, found := strings.Cut(page, first)
	_, after, ended := strings.Cut(rest, last)
	if !found || !ended {
		return strings.TrimRight(page, "\n") + "\n\n" + text
	}
	return before + text + after
}

// A table is one of Markdown, its first column to the left, others to the right.
type table struct{ strings.Builder }

func newTable(heads ...string) *table {
	t := &table{}
	t.row(heads...)
	t.WriteString("|---|" + strings.Repeat("--:|", len(heads)-1) + "\n")
	return t
}

func (t *table) row(cells ...string) {
	t.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// A goal is one line of the verdict.
type goal struct {
	what, want string
	got        string // "" if it was not measured
	met        bool
}

func goals(list []goal) string {
	t := newTable("goal", "wanted", "measured", "")
	for _, g := range list {
		verdict := "not met"
		switch {
		case g.got == "":
			g.got, verdict = "–", "not measured"
		case g.met:
			verdict = "met"
		}
		t.row(g.what, g.want, g.got, verdict)
	}
	return t.String()
}

// machine says where and when a run was made.
func (t *tool) machine(ctx context.Context, start time.Time) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s, %d processors (%s), %s of memory, Linux %s, %s.", start.UTC().Format("2006-01-02 15:04 UTC"), runtime.NumCPU(),
		fieldOf("/proc/cpuinfo", "model name"), memory(), contents("/proc/sys/kernel/osrelease"), runtime.Version())
	if commit, err := output(ctx, t.root, "git", "describe", "--always", "--dirty"); err == nil {
		fmt.Fprintf(&s, " Tree: %s.", commit)
	}
	fmt.Fprintf(&s, " It took %v.", time.Since(start).Round(time.Second))
	return s.String()
}

// busy warns of times that were measured while others used the machine. The load
// is that before the run.
func busy(load float64, processors int) string {
	if load <= float64(processors)/4 {
		return ""
	}
	return fmt.Sprintf("**Others were using this machine: its load average was %.1f before the run, on %d processors. Times, and goals met or not met by them, mean little; measure again.**\n\n",
		load, processors)
}

// loadAverage returns that of the last minute, or 0 if it cannot be read.
func loadAverage() (load float64) {
	_, _ = fmt.Sscanf(contents("/proc/loadavg"), "%f", &load) // then it stays 0
	return load
}

func memory() string {
	var kib int64
	if _, err := fmt.Sscanf(fieldOf("/proc/meminfo", "MemTotal"), "%d", &kib); err != nil {
		return "some"
	}
	return fmt.Sprintf("%.1f GiB", float64(kib)/(1<<20))
}

// fieldOf returns the value of the first line that begins with name, or "?".
func fieldOf(file, name string) string {
	b, _ := os.ReadFile(file) // what cannot be read has no such line
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "?"
}

func contents(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}

// output returns what a command writes.
func output(ctx context.Context, folder, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = folder
	b, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(b)), nil
}
