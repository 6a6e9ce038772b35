package verify_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/verify"
	"github.com/edgenode/edgenode/tiers/item"
)

const now = 1_700_000_000_000

// A node is records in a map, which the newer one enters.
type node struct {
	rows    map[string]item.View
	pending map[string]bool
	covered map[string]bool // by a bulk delete
}

func newNode() *node {
	return &node{map[string]item.View{}, map[string]bool{}, map[string]bool{}}
}

func (n *node) Retention(context.Context) (time.Duration, error) { return time.Hour, nil }

func (n *node) Record(_ context.Context, id string) ([]byte, bool, error) {
	return n.rows[id], n.pending[id], nil
}

func (n *node) Give(_ context.Context, id string, record []byte) (bool, error) {
	v := item.View(record)
	if n.covered[id] || n.rows[id] != nil && n.rows[id].Version() >= v.Version() {
		return false, nil
	}
	n.rows[id] = v
	return true, nil
}

func (n *node) Remove(_ context.Context, id, version string) (bool, error) {
	if n.rows[id] == nil || n.rows[id].Version().String() != version {
		return false, nil
	}
	n.rows[id] = record(id, item.KindTombstone, now)
	return true, nil
}

func record(id string, kind item.Kind, at int64) item.View {
	v := item.VersionAt(at)
	it := item.Item{
		Kind: kind, Tiers: item.AllTiers, Key: item.AppendKey(nil, item.NamespaceItem, id), Version: v, ContentVersion: v, MetadataVersion: v, UpdatedAt: at,
	}
	if kind == item.KindPut {
		it.Seal()
	}
	return it.AppendTo(nil)
}

// TestRepair: the newer record wins, deletes too; what one node lacks is copied, if
// a bulk delete there does not cover it and it is younger than what is remembered.
func TestRepair(t *testing.T) {
	const young, old = now - 60_000, now - 2*3_600_000
	put, gone := item.KindPut, item.KindTombstone
	f := func(missing string, here, there item.View, change func(here, there *node), want string, wantDone bool) {
		t.Helper()
		a, b := newNode(), newNode()
		for n, v := range map[*node]item.View{a: here, b: there} {
			if v != nil {
				n.rows["k"] = v
			}
		}
		if change != nil {
			change(a, b)
		}
		r := verify.Repairer{Here: a, There: b, Missing: missing, Now: func() int64 { return now }}
		what, done, err := r.Repair(context.Background(), "k")
		if what != want || done != wantDone || err != nil {
			t.Errorf("%q, %t, %v, want %q", what, done, err, want)
		}
		live := func(v item.View) bool { return v != nil && v.Kind() == put }
		if done && (live(a.rows["k"]) != live(b.rows["k"]) || live(a.rows["k"]) && a.rows["k"].Version() != b.rows["k"].Version()) {
			t.Errorf("%s, and they are not equal", what)
		}
	}
	f(verify.Skip, record("k", put, young), record("k", put, old), nil, "copied there", true)
	f(verify.Skip, record("k", put, old), record("k", gone, young), nil, "deleted here", true)
	f(verify.Skip, record("k", gone, old), record("k", put, young), nil, "copied here", true)
	f(verify.Skip, record("k", put, young), record("k", put, young), nil, "skipped: it changed meanwhile", false)
	f(verify.Skip, record("k", put, young), nil, nil, "copied there", true)
	f(verify.Skip, nil, record("k", put, young), nil, "copied here", true)
	f(verify.Skip, nil, record("k", gone, young), nil, "gone meanwhile", true)
	f(verify.Skip, nil, nil, nil, "gone meanwhile", true)
	f(verify.Skip, record("k", put, young), nil, func(_, there *node) { there.covered["k"] = true }, "deleted here", true)
	f(verify.Skip, record("k", put, old), nil, nil, "skipped: older than tombstone_retention 1h0m0s, say --missing copy or delete", false)
	f(verify.Copy, record("k", put, old), nil, nil, "copied there", true)
	f(verify.Delete, record("k", put, old), nil, nil, "deleted here", true)
	f(verify.Delete, nil, record("k", put, old), nil, "deleted there", true)
	f(verify.Delete, record("k", put, young), nil, nil, "copied there", true)
	f(verify.Skip, record("k", put, young), nil, func(_, there *node) { there.pending["k"] = true }, "skipped: it is being written", false)
}

// TestRepairBadRecord: an answer that is no record of the item is not handed on.
func TestRepairBadRecord(t *testing.T) {
	for _, v := range []item.View{item.View("nonsense"), record("other", item.KindPut, now)} {
		a, b := newNode(), newNode()
		a.rows["k"] = v
		r := verify.Repairer{Here: a, There: b, Now: func() int64 { return now }}
		if _, _, err := r.Repair(context.Background(), "k"); !errors.Is(err, verify.ErrBadPeer) {
			t.Errorf("%q: %v", v, err)
		}
	}
}

func TestParseHead(t *testing.T) {
	if _, err := verify.ParseHead(1, "hash", "xyz", 1); !errors.Is(err, verify.ErrBadPeer) {
		t.Errorf("no hash: %v", err)
	}
	if h, err := verify.ParseHead(1, "unknown", "", 1); h.Known || err != nil {
		t.Errorf("%+v, %v", h, err)
	}
	if h, err := verify.ParseHead(1, "absent", "", 1); !h.Known || h.Exists || err != nil {
		t.Errorf("%+v, %v", h, err)
	}
}
