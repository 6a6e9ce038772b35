package crash_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

// binary is the path of the edgenode under test.
var binary string

func TestMain(m *testing.M) {
	cleanup, err := findBinary()
	if err != nil {
		fmt.Fprintln(os.Stderr, "crash:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(mariadbtest.Main(m), goleak.Cleanup(func(code int) {
		cleanup()
		os.Exit(code)
	}))
}

// findBinary takes EDGENODE_BIN or builds the static binary.
func findBinary() (cleanup func(), err error) {
	if binary = os.Getenv("EDGENODE_BIN"); binary != "" {
		if binary, err = filepath.Abs(binary); err != nil {
			return nil, err
		}
		_, err = os.Stat(binary)
		return func() {}, err
	}
	dir, err := os.MkdirTemp("", "edgenode-crash-")
	if err != nil {
		return nil, err
	}
	binary = filepath.Join(dir, "edgenode")
	build := exec.Command("go", "build", "-o", binary, "github.com/edgenode/edgenode/cmd/edgenode")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("building the binary: %w\n%s", err, out)
	}
	return func() { _ = os.RemoveAll(dir) }, nil
}
