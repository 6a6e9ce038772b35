package crashfs_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

func create(t *testing.T, f *crashfs.FS, name string) journal.File {
	t.Helper()
	h, err := f.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func write(t *testing.T, h journal.File, off int64, b []byte) {
	t.Helper()
	if _, err := h.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestCrashKeepsWhatWasSynced draws many images: what was synced is in all of
// them, what was not is in some, lost in some and in part in some.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "/d/a")
	synced, unsynced := bytes.Repeat([]byte{1}, 4096), bytes.Repeat([]byte{2}, 4096)
	write(t, h, 0, synced)
	must(t, h.Datasync())
	must(t, f.SyncDir("/d"))
	write(t, h, 4096, unsynced)
	var all, none, part, torn int
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		b, err := f.Crash(r).ReadFile("/d/a")
		must(t, err)
		if !bytes.Equal(b[:4096], synced) {
			t.Fatal("synced bytes are lost")
		}
		n := bytes.Count(b[4096:], []byte{2})
		switch {
		case n == 4096:
			all++
		case n == 0:
			none++
		case n%crashfs.BlockBytes == 0:
			part++
		default:
			torn++
		}
	}
	if all == 0 || none == 0 || part == 0 || torn == 0 {
		t.Errorf("all %d, none %d, part %d, torn %d: want some of each", all, none, part, torn)
	}
}

// TestNames needs the directory synced for names to last, in order.
func TestNames(t *testing.T) {
	f := crashfs.New()
	for _, name := range []string{"/d/a", "/d/b", "/d/c"} {
		must(t, create(t, f, name).Close())
	}
	must(t, f.SyncDir("/d"))
	must(t, f.Remove("/d/a"))
	must(t, f.Rename("/d/b", "/d/c"))
	seen := map[int]int{}
	r := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		g := f.Crash(r)
		names, err := g.List("/d")
		must(t, err)
		seen[len(names)]++
		if _, err := g.ReadFile("/d/a"); err == nil && len(names) != 3 {
			t.Fatalf("a younger change is there without an older one: %v", names)
		}
	}
	if seen[3] == 0 || seen[2] == 0 || seen[1] == 0 {
		t.Errorf("names per image %v, want 1, 2 and 3", seen)
	}
	must(t, f.SyncDir("/d"))
	if names, _ := f.Crash(r).List("/d"); len(names) != 1 || names[0] != "c" {
		t.Errorf("after SyncDir: %v, want c", names)
	}
	if _, err := f.Open("/d/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a removed file: %v", err)
	}
}

func TestFaults(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "/d/a")
	f.Fail(crashfs.Write, 2, crashfs.Fault{Err: syscall.EIO, Short: true})
	write(t, h, 0, []byte("0000"))
	if n, err := h.WriteAt([]byte("1111"), 4); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Errorf("WriteAt = %d, %v, want a short write", n, err)
	}
	must(t, f.SyncDir("/d"))
	f.Fail(crashfs.Sync, 1, crashfs.Fault{Err: syscall.EIO})
	if err := h.Datasync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Datasync: %v", err)
	}
	must(t, h.Datasync()) // as Linux: it succeeds, and the bytes are lost
	if b, err := f.ReadFile("/d/a"); err != nil || string(b) != "000011" {
		t.Errorf("readable are %q, %v", b, err)
	}
	b, err := f.Crash(rand.New(rand.NewPCG(1, 1))).ReadFile("/d/a")
	if err != nil || bytes.ContainsAny(b, "01") {
		t.Errorf("durable are %q, %v, want none of it", b, err)
	}
	f.SetCapacity(10)
	if err := h.Allocate(11); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Allocate above the capacity: %v", err)
	}
	must(t, h.Allocate(10))
	must(t, h.Truncate(3))
	must(t, f.Remove("/d/a"))
	must(t, h.Close())
	write(t, create(t, f, "/d/b"), 0, make([]byte, 10)) // the space came back
}

func TestPowerCut(t *testing.T) {
	f := crashfs.New()
	h := create(t, f, "/d/a")
	must(t, f.SyncDir("/d"))
	f.CutAt(2)
	write(t, h, 0, []byte("1234"))
	if err := h.Datasync(); !errors.Is(err, crashfs.ErrPowerCut) {
		t.Errorf("Datasync at the cut: %v", err)
	}
	if _, err := f.List("/d"); !errors.Is(err, crashfs.ErrPowerCut) || !f.IsCut() {
		t.Errorf("List after the cut: %v", err)
	}
	killed := f.Clone()
	if b, err := killed.ReadFile("/d/a"); err != nil || string(b) != "1234" {
		t.Errorf("Clone has %q, %v: a killed process loses nothing it wrote", b, err)
	}
	if _, err := killed.List("/d"); err != nil {
		t.Errorf("List on the copy: %v", err)
	}
}
