package l3_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

const (
	crashPath  = "EDGENODE_L3_TEST_CRASH"
	crashBatch = 200
)

// writeUntilKilled is the child: it applies batches, each row with a tag of its
// batch, and says so on standard output after each.
func writeUntilKilled(path string) {
	s, err := l3.Open(context.Background(), options(path))
	if err != nil {
		fmt.Println("error", err)
		return
	}
	for n := s.LastSeq()/crashBatch + 1; ; n++ {
		ops := make([]l3.Op, crashBatch)
		for i := range ops {
			id := fmt.Sprintf("%d/%d", n, i)
			ops[i].Record = put(id, item.Version(1000+n), strings.Repeat("x", 700), tags(fmt.Sprint("batch", n)))
		}
		if _, err := s.Apply(context.Background(), ops, nil, make([]l3.Outcome, crashBatch)); err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Println("done", n)
	}
}

// Given batches being written, when the process is killed, then each batch is
// there as a whole or not at all, with its tags and changes, and each that was
// acknowledged is there.
func TestKilledMidBatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l3.db")
	acknowledged := 0
	for cycle := range 4 {
		acknowledged = killAfter(t, path, 3+cycle)
		s := openSQLite(t, path)
		if err := s.Verify(context.Background()); err != nil {
			t.Fatal(err)
		}
		batches := int(s.LastSeq() / crashBatch)
		if s.LastSeq()%crashBatch != 0 || batches < acknowledged {
			t.Fatalf("cycle %d: %d changes, %d batches acknowledged", cycle, s.LastSeq(), acknowledged)
		}
		if got, want := len(ids(t, s, l3.ScanQuery{})), batches*crashBatch; got != want {
			t.Errorf("cycle %d: %d rows, want %d", cycle, got, want)
		}
		for n := 1; n <= batches; n++ {
			if got := len(ids(t, s, l3.ScanQuery{Tag: fmt.Sprint("batch", n)})); got != crashBatch {
				t.Errorf("cycle %d: batch %d has %d rows by tag, want %d", cycle, n, got, crashBatch)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter runs the child, kills it after so many acknowledgements and returns
// the number of the last batch acknowledged.
func killAfter(t *testing.T, path string, acknowledgements int) (last int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), crashPath+"="+path)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "done %d", &last); err != nil {
			t.Errorf("child says %q", lines.Text())
			break
		}
		if acknowledgements--; acknowledgements == 0 {
			_ = child.Process.Kill()
		}
	}
	_ = child.Wait() // killed
	return last
}
