package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// testTimeout ends a test that the defect makes hang; that counts as failing.
const testTimeout = "3m"

// defect is one patch with what its head says.
type defect struct {
	name   string // of the file, without .patch
	path   string // absolute
	pkg    string
	test   string
	race   bool
	binary bool
}

// how tells tests apart: two defects of one test have the same.
func (d defect) how() string { return fmt.Sprintln(d.pkg, d.test, d.race, d.binary) }

// folders returns every testdata/defects under root, sorted.
func folders(root string) (dirs []string, err error) {
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || !e.IsDir():
			return err
		case e.Name() == ".git":
			return filepath.SkipDir
		case e.Name() == "defects" && filepath.Base(filepath.Dir(path)) == "testdata":
			dirs = append(dirs, path)
		}
		return nil
	})
	if err == nil && len(dirs) == 0 {
		err = fmt.Errorf("no folder testdata/defects under %s: run it at the root of the tree", root)
	}
	return dirs, err
}

// load reads the patches of dirs whose names match one of names, which may have
// wildcards as in filepath.Match; all when there are no names.
func load(dirs []string, names []string) ([]defect, error) {
	var defects []defect
	var faults []error
	matched := make([]bool, len(names))
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("no patches in %s", dir)
		}
		faults = append(faults, err)
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".patch")
			wanted := len(names) == 0
			for i, pattern := range names {
				if ok, err := filepath.Match(pattern, name); ok || err != nil {
					wanted, matched[i] = true, true
					faults = append(faults, err)
				}
			}
			if !wanted {
				continue
			}
			d, err := read(file)
			d.name = name
			faults = append(faults, err)
			defects = append(defects, d)
		}
	}
	for i, ok := range matched {
		if !ok {
			faults = append(faults, fmt.Errorf("no patch %s in %s", names[i], strings.Join(dirs, ", ")))
		}
	}
	return defects, errors.Join(faults...)
}

// read reads the head of a patch.
func read(file string) (defect, error) {
	path, err := filepath.Abs(file)
	if err != nil {
		return defect{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return defect{}, err
	}
	defer f.Close()
	d := defect{path: path}
	for lines := bufio.NewScanner(f); lines.Scan() && strings.HasPrefix(lines.Text(), "#"); {
		key, value, _ := strings.Cut(strings.TrimSpace(lines.Text()[1:]), ":")
		switch value = strings.TrimSpace(value); key {
		case "package":
			d.pkg = value
		case "test":
			d.test = value
		case "race":
			d.race = value == "yes"
		case "binary":
			d.binary = value == "yes"
		}
	}
	if d.pkg == "" || !strings.HasPrefix(d.test, "Test") {
		return d, fmt.Errorf("%s: begin it with the lines \"# package: ./tiers\" and \"# test: TestA1_\"", file)
	}
	return d, nil
}

// build builds the test in the tree, and the binary if that is asked for.
func (d defect) build(ctx context.Context, tree string) (output string, err error) {
	if err := os.Remove(d.program(tree)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err.Error(), err
	}
	if d.binary {
		output, err = command(ctx, tree, []string{"CGO_ENABLED=0"}, "go", "build", "-trimpath", "-o", d.edgenode(tree), "./cmd/edgenode")
		if err != nil {
			return output, err
		}
	}
	args := []string{"test", "-c", "-o", d.program(tree)}
	if d.race {
		args = append(args, "-race")
	}
	return command(ctx, tree, nil, "go", append(args, d.pkg)...)
}

// runTest runs what build has built. It reports whether any test ran; the error is
// not nil when one failed.
func (d defect) runTest(ctx context.Context, tree string) (output string, ran bool, err error) {
	var env []string
	if d.binary {
		env = append(env, "EDGENODE_BIN="+d.edgenode(tree))
	}
	output, err = command(ctx, filepath.Join(tree, d.pkg), env, d.program(tree), "-test.v", "-test.timeout="+testTimeout, "-test.run=^"+d.test)
	return output, strings.Contains(output, "=== RUN"), err
}

func (d defect) edgenode(tree string) string { return filepath.Join(tree, "bin", "edgenode") }
func (d defect) program(tree string) string  { return filepath.Join(tree, "bin", "defect.test") }

// copyTree copies the files that git knows, or would take up, to a temporary
// folder: the same name each time in one run, so that the build cache is shared.
func copyTree(ctx context.Context, root string) (string, error) {
	list, err := command(ctx, root, []string{"GIT_CEILING_DIRECTORIES="}, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	if err != nil {
		return "", fmt.Errorf("listing the tree: %w: %s", err, list)
	}
	tree, err := os.MkdirTemp("", "edgenode-defects-")
	if err != nil {
		return "", err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(list, "\x00"), "\x00") {
		if err := copyFile(filepath.Join(root, name), filepath.Join(tree, name)); err != nil {
			os.RemoveAll(tree)
			return "", fmt.Errorf("copying %s: %w", name, err)
		}
	}
	return tree, nil
}

// copyFile copies one file with its mode. A file that git knows but that is gone
// is left out.
func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, info.Mode().Perm())
}
