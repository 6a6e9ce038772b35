package crash_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ballastSize is what is taken from the small disk before and given back after.
const ballastSize = 14 << 20

// TestDiskFull runs a node on a disk of 24 MiB until it is full: writes are 507,
// all that was acknowledged is still read, and once there is space again writes
// are taken again, by the same process.
func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	p := startOnSmallDisk(t, dir)
	inside := filepath.Join("/proc", fmt.Sprint(p.cmd.Process.Pid), "root", dir, "ballast")
	if err := os.WriteFile(inside, make([]byte, ballastSize), 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLedger()
	fill(t, p, l)
	if err := l.check(p); err != nil {
		t.Fatalf("the disk is full: %v\n%s", err, p.log())
	}
	if err := os.Remove(inside); err != nil {
		t.Fatal(err)
	}
	recovered(t, p, l)
	if err := l.check(p); err != nil {
		t.Fatalf("after the disk was full: %v\n%s", err, p.log())
	}
	t.Logf("%d acknowledged", len(l.last))
	p.signal(termination)
	if code := p.end(); code != 0 {
		t.Errorf("SIGTERM: exit code %d\n%s", code, p.log())
	}
}

// startOnSmallDisk starts a node in a mount namespace of its own with a small
// tmpfs on dir, which vanishes with it.
func startOnSmallDisk(t *testing.T, dir string) *process {
	t.Helper()
	const script = `mount -t tmpfs -o size=24m,mode=700 edgenode-test "$1" && exec "$0"`
	var reasons []string
	for _, flags := range []string{"-m", "-Urm"} { // as root, or as root of a user namespace
		probe, err := exec.Command("unshare", flags, "sh", "-c", script, "true", dir).CombinedOutput()
		if err == nil {
			p := launchCommand(t, exec.Command("unshare", flags, "sh", "-c", script, binary, dir),
				"EDGENODE_DATA_DIR="+filepath.Join(dir, "data"), "EDGENODE_L1_MAX_BYTES=16MiB")
			p.await()
			return p
		}
		reasons = append(reasons, fmt.Sprintf("unshare %s: %v: %s", flags, err, strings.TrimSpace(string(probe))))
	}
	t.Skipf("NOT TESTED: no small disk can be mounted here: %s", strings.Join(reasons, "; "))
	return nil
}

// fill writes until ten writes in a row are refused for lack of space.
func fill(t *testing.T, p *process, l *ledger) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 0))
	content := make([]byte, 64<<10)
	for i, full := 0, 0; full < 10; i++ {
		for j := range content {
			content[j] = byte('a' + rng.IntN(26))
		}
		status, err := putOnce(p, l, fmt.Sprintf("fill/%d", i), string(content))
		switch {
		case err != nil:
			t.Fatalf("write %d: %v\n%s", i, err, p.log())
		case status == 507:
			full++
		case i > 2000:
			t.Fatalf("the disk does not fill: write %d = %d", i, status)
		}
	}
}

// putOnce writes one item and notes it. 500 unknown-fate and 507 are answers too.
func putOnce(p *process, l *ledger, id, content string) (int, error) {
	r := record{content: content}
	l.ask(id, r)
	a, err := p.ask(context.Background(), "PUT", "/v1/items/"+id, content)
	if err != nil {
		return 0, err
	}
	switch {
	case a.status/100 == 2:
		if _, err := fmt.Sscan(a.header.Get("Edge-Version"), &r.version); err != nil {
			return 0, err
		}
		l.settled(id, r)
	case a.status == 507:
		l.settled(id, r)
		if !strings.Contains(a.body, "urn:edgenode:problem:full") && !strings.Contains(a.body, "urn:edgenode:problem:read-only") {
			return 0, fmt.Errorf("507 without its problem: %s", a.body)
		}
	case a.status != 500 || !strings.Contains(a.body, "unknown-fate"): // its fate stays open in the ledger
		return 0, errors.New(a.body)
	}
	return a.status, nil
}

// recovered writes until writes are taken again.
func recovered(t *testing.T, p *process, l *ledger) {
	t.Helper()
	begin, tries := time.Now(), 0
	for taken := 0; taken < 5; tries++ {
		status, err := putOnce(p, l, fmt.Sprintf("after/%d", tries), "small")
		if err != nil {
			t.Fatalf("there is space again: %v\n%s", err, p.log())
		}
		if status/100 == 2 {
			taken++
		}
		if time.Since(begin) > patience {
			t.Fatalf("there is space again for %v, %d tries, and a write = %d\n%s", patience, tries, status, p.log())
		}
	}
	t.Logf("writes are taken %v and %d tries after there is space again", time.Since(begin).Round(time.Millisecond), tries)
}
