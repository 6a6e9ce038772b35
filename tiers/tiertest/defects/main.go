// Defects shows that the scenario tests bite. For each patch it copies the tree,
// puts the defect in, and demands that the test of that scenario fails there and
// passes without it. A defect that does not build proves nothing and is an error.
// A test that several defects share runs once without them.
//
//	go run ./tiers/tiertest/defects            all of every folder testdata/defects
//	go run ./tiers/tiertest/defects A1 B4      a few
//	go run ./tiers/tiertest/defects 'S*' T03-operators-edits
//
// A patch is what `git diff` writes, below these lines:
//
//	# package: ./tiers      the package that has the test
//	# test: TestA1_         the beginning of its name
//	# race: yes             optional: run with the race detector
//	# binary: yes           optional: build the binary anew and set EDGENODE_BIN
//	# Why it is a defect, in words.
//
// It exits with 1 if any defect was not found. The tree itself is never touched.
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
	"text/tabwriter"
	"time"
)

func main() {
	patches := flag.String("dir", "", "one folder of patches; empty is every testdata/defects")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout, ".", *patches, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "defects:", err)
		os.Exit(1)
	}
}

// Verdicts on a defect.
const (
	found     = "found"
	notFound  = "NOT FOUND"
	failsSo   = "TEST FAILS WITHOUT IT"
	noTest    = "NO SUCH TEST"
	noBuild   = "DOES NOT BUILD"
	noApply   = "DOES NOT APPLY"
	cancelled = "cancelled"
)

// run checks the named defects of the tree at root, or all, and prints a table.
// They are in one folder, or, if patches is "", in every testdata/defects.
func run(ctx context.Context, out io.Writer, root, patches string, names []string) error {
	dirs := []string{filepath.Join(root, patches)}
	if patches == "" {
		var err error
		if dirs, err = folders(root); err != nil {
			return err
		}
	}
	defects, err := load(dirs, names)
	if err != nil {
		return err
	}
	tree, err := copyTree(ctx, root)
	if err != nil {
		return err
	}
	defer os.RemoveAll(tree)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	missed := 0
	begin, clean := time.Now(), map[string]bool{}
	for _, d := range defects {
		start := time.Now()
		verdict, detail := judge(ctx, tree, d, clean)
		fmt.Fprintf(table, "%s\t%s\t%s\t%.1f s\n", d.name, d.test, verdict, time.Since(start).Seconds())
		if err := table.Flush(); err != nil { // a line as soon as it is known
			return err
		}
		if verdict != found {
			missed++
			fmt.Fprintln(out, detail)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d of %d defects were not found", missed, len(defects))
	}
	fmt.Fprintf(out, "all %d defects were found, in %v\n", len(defects), time.Since(begin).Round(time.Second))
	return nil
}

// judge applies d to the tree, runs its test before and after, and takes the
// defect out again. The detail is output that explains a bad verdict. clean holds
// the tests that have passed without a defect: they are not run so again.
func judge(ctx context.Context, tree string, d defect, clean map[string]bool) (verdict, detail string) {
	if !clean[d.how()] {
		output, err := d.build(ctx, tree)
		ran := true
		if err == nil {
			output, ran, err = d.runTest(ctx, tree)
		}
		switch {
		case ctx.Err() != nil:
			return cancelled, ""
		case !ran:
			return noTest, output
		case err != nil:
			return failsSo, output
		}
		clean[d.how()] = true
	}
	if output, err := command(ctx, tree, nil, "git", "apply", d.path); err != nil {
		return noApply, output
	}
	defer func() {
		// A tree that keeps a defect would judge the next ones wrongly.
		if output, err := command(context.WithoutCancel(ctx), tree, nil, "git", "apply", "-R", d.path); err != nil {
			verdict, detail = noApply, "cannot be taken out again: "+output
		}
	}()
	if output, err := d.build(ctx, tree); err != nil {
		return noBuild, output
	}
	output, _, err := d.runTest(ctx, tree)
	switch {
	case ctx.Err() != nil:
		return cancelled, ""
	case err == nil:
		return notFound, output
	}
	return found, ""
}

// command runs a program in dir and returns what it wrote.
func command(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	// Git must not take the copy for a part of a repository around it.
	c.Env = append(append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir)), env...)
	output, err := c.CombinedOutput()
	if err != nil && !errors.As(err, new(*exec.ExitError)) {
		output = append(output, err.Error()...)
	}
	return string(output), err
}
