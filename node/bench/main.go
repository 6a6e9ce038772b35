// Command bench measures this tree beside others and writes what it finds into
// docs/benchmarks.md. It is "make bench" and "make hitratio".
//
//	bench table     hits and writes over HTTP, memory in process, journal, SQL, Redis
//	bench hitratio  share of hits on recorded traces, beside libraries and policies
//
// Everything it starts listens on this machine only, in folders of its own, and
// is ended by its process id. Figures are read, never asserted: no test fails
// because a machine is slow.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: bench table|hitratio [flags]; -h shows them")

// A tool is what the parts have in common.
type tool struct {
	out  io.Writer // says what is going on
	root string    // of the tree
	dir  string    // for files that are gone afterwards
	page string    // the Markdown file that is written

	started  []*process // and not stopped
	commands []string   // that were run, for the reader
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	root, err := output(ctx, "", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return err
	}
	t := &tool{out: out, root: root}
	flags := flag.NewFlagSet("bench "+args[0], flag.ContinueOnError)
	flags.StringVar(&t.page, "page", filepath.Join(root, "docs", "benchmarks.md"), "file whose section is written")
	var part func(context.Context) error
	switch args[0] {
	case "serve": // a server that is measured
		return serveCommand(args[1:])
	case "table":
		part = (&bench{tool: t}).flags(flags)
	case "hitratio":
		part = (&hitRatio{tool: t}).flags(flags)
	default:
		return errUsage
	}
	if err := flags.Parse(args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if t.dir, err = os.MkdirTemp("", "edgenode-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(t.dir) }() // what is left is in the folder for such files
	return part(ctx)
}

// build builds a command of the tree, or of another one, and returns its path.
func (t *tool) build(ctx context.Context, folder, name string) (string, error) {
	path := filepath.Join(t.dir, name)
	c := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, ".")
	c.Dir, c.Env, c.Stderr = folder, append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("building %s: %w", folder, err)
	}
	return path, nil
}

// say tells what is going on.
func (t *tool) say(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }
