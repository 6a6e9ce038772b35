package tiers_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// A deadRig is an engine on a crash file system whose L3 refuses what is poison,
// at once.
type deadRig struct {
	*testing.T
	dir   string
	store *tiertest.Store
	disk  *crashfs.FS
	e     *tiers.Engine
}

func newDeadRig(t *testing.T) *deadRig {
	r := &deadRig{T: t, dir: t.TempDir(), store: &tiertest.Store{}, disk: crashfs.New()}
	r.refuse(true)
	r.open()
	return r
}

func (r *deadRig) open() {
	r.e = open(r.T, r.dir, func(o *tiers.Options) {
		o.WrapStore, o.DeadLetterTries, o.JournalFS, o.BatchFlush = r.store.Wrap, 1, r.disk, time.Hour
	})
}

func (r *deadRig) refuse(refuse bool) {
	r.store.Reject(func(op l3.Op) bool { return refuse && bytes.Contains(op.Record, []byte("poison")) })
}

// bury makes dead letters of ids.
func (r *deadRig) bury(ids ...string) {
	r.Helper()
	for _, id := range ids {
		put(r.T, r.e, id, "poison")
	}
	flush(r.T, r.e)
	for _, id := range ids {
		if st, err := r.e.Status(r.Context(), key(r.T, id)); err != nil || st.Where != tiers.StatusDeadLetter {
			r.Fatalf("%s: %+v, %v, want a dead letter", id, st, err)
		}
	}
}

// kill ends the engine as kill -9 does, and starts it again while L3 is down.
func (r *deadRig) kill() {
	image := r.disk.Clone()
	r.disk.Cut()
	r.e.CloseAbruptly()
	r.disk = image
	r.store.SetDown(true)
	r.open()
}

// wantUnknown fails if anybody knows what id is.
func (r *deadRig) wantUnknown(id string) {
	r.Helper()
	h, ok, err := r.e.Get(r.Context(), key(r.T, id), tiers.ReadOptions{})
	defer h.Release()
	if ok || err == nil {
		r.Errorf("after the kill, L3 down: %s found %v, %v; want that nobody can tell", id, ok, err)
	}
}

// TestG2_ReplacedDeadLetterStaysAway: of several dead letters one is replaced by
// a delete, which L3 gets, and one is given up. Neither comes back by a kill,
// though older letters are still there.
func TestG2_ReplacedDeadLetterStaysAway(t *testing.T) {
	r := newDeadRig(t)
	r.bury("first")
	r.bury("deleted", "dropped")
	r.bury("last")
	del(t, r.e, "deleted")
	flush(t, r.e)
	if err := r.e.DropDeadLetter(t.Context(), key(t, "dropped")); err != nil {
		t.Fatal(err)
	}
	put(t, r.e, "later", "x") // tells the first journal's disk that the delete is released
	for range 2 {             // what a replay has dropped stays away too
		r.kill()
		r.wantUnknown("deleted")
		r.wantUnknown("dropped")
		want(t, r.e, "first", "poison")
		want(t, r.e, "last", "poison")
	}
	r.store.SetDown(false)
	r.bury("deleted") // a letter behind the release of an older one
	r.kill()
	want(t, r.e, "deleted", "poison")
}

// TestG2_ReplacedDeadLetterOnABrokenDisk: the release of a dead letter cannot be
// written; so the delete that replaced it stays in the journal until it can.
func TestG2_ReplacedDeadLetterOnABrokenDisk(t *testing.T) {
	r := newDeadRig(t)
	r.bury("first")
	r.bury("k")
	r.disk.OnCall(func(op crashfs.Op, name string) *crashfs.Fault {
		if strings.Contains(name, "dead-letters") && (op == crashfs.Sync || op == crashfs.Create) {
			return &crashfs.Fault{Err: syscall.EIO}
		}
		return nil
	})
	del(t, r.e, "k")
	flush(t, r.e)
	if h := r.e.Health(t.Context()); h.JournalRecords != 1 {
		t.Errorf("%d records in the journal, want the delete", h.JournalRecords)
	}
	put(t, r.e, "later", "x")
	r.disk.OnCall(nil)
	r.kill()
	wantAbsent(t, r.e, "k") // the delete is known
	want(t, r.e, "first", "poison")
	r.store.SetDown(false)
	flush(t, r.e)
	if h := r.e.Health(t.Context()); h.JournalRecords != 0 {
		t.Errorf("%d records in the journal at the end, want none", h.JournalRecords)
	}
}

// TestG1_DeadLetterOutlivesARuleByTag: what a dead letter has replaced has a tag
// that the letter has not. A bulk delete by that tag removes the row of L3; the
// letter lives, and L3 takes it when it can.
func TestG1_DeadLetterOutlivesARuleByTag(t *testing.T) {
	r := newDeadRig(t)
	for _, id := range []string{"k", "plain"} {
		if _, err := r.e.Submit(t.Context(), &tiers.Write{Key: key(t, id), Content: []byte("old"), Tags: []string{"t1"}}); err != nil {
			t.Fatal(err)
		}
	}
	flush(t, r.e)
	r.bury("k")
	deleteTag(t, r.e, "t1")
	flush(t, r.e) // the rule has reached all rows
	want(t, r.e, "k", "poison")
	wantAbsent(t, r.e, "plain")
	r.kill()
	want(t, r.e, "k", "poison")
	r.store.SetDown(false)
	r.refuse(false)
	flush(t, r.e)
	want(t, r.e, "k", "poison")
	wantStatus(t, r.e, "k", tiers.Status{Where: tiers.StatusSynced, L1: true, L3: true})
	audit(t, r.e, "at the end")
}

// TestReleaseRecord holds the form of a release on disk.
func TestReleaseRecord(t *testing.T) {
	b := tiers.AppendRelease(nil, "\x01k", 0x0102030405060708)
	if got := hex.EncodeToString(b); got != "01ff0000000000000807060504030201016b" {
		t.Errorf("a release is %s", got)
	}
}
