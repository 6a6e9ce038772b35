package journal_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers/journal"
)

const lockEnv = "JOURNAL_TEST_LOCK_DIR"

// TestLockHelper is the second process of TestLockDir: it takes the lock, says
// so and holds it until its input ends.
func TestLockHelper(t *testing.T) {
	dir := os.Getenv(lockEnv)
	if dir == "" {
		return // an ordinary run
	}
	_, err := journal.LockDir(dir, "node b")
	fmt.Printf("lock: %v\n", err)
	_, _ = io.ReadAll(os.Stdin)
}

func lockElsewhere(t *testing.T, dir string) (answer string, end func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockHelper$")
	cmd.Env = append(os.Environ(), lockEnv+"="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answer, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return answer, func() {
		_ = cmd.Process.Kill() // the lock must end with it, however it ends
		_ = cmd.Wait()
		_ = in.Close()
	}
}

func TestLockDir(t *testing.T) {
	dir := t.TempDir() + "/data"
	mine, err := journal.LockDir(dir, "node a\nwith a break")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := journal.LockDir(dir, "again"); !errors.Is(err, journal.ErrLocked) {
		t.Errorf("second lock in this process: %v", err)
	}
	answer, end := lockElsewhere(t, dir)
	for _, want := range []string{"locked", fmt.Sprintf("pid %d", os.Getpid()), "node a with a break", "since 20", "data_dir"} {
		if !strings.Contains(answer, want) {
			t.Errorf("the other process got %q, want %q in it", answer, want)
		}
	}
	end()
	if err := mine.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := mine.Unlock(); err != nil {
		t.Errorf("second Unlock: %v", err)
	}
	answer, end = lockElsewhere(t, dir)
	if answer != "lock: <nil>\n" {
		t.Errorf("the other process got %q", answer)
	}
	if _, err := journal.LockDir(dir, "node a"); !errors.Is(err, journal.ErrLocked) || !strings.Contains(err.Error(), "node b") {
		t.Errorf("LockDir = %v, want node b named", err)
	}
	end() // killed
	mine, err = journal.LockDir(dir, "node a")
	if err != nil {
		t.Fatalf("after the holder was killed: %v", err)
	}
	if err := mine.Unlock(); err != nil {
		t.Fatal(err)
	}
}
