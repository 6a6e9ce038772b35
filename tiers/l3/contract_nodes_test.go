package l3_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/l3"
)

func nodes(t *testing.T, s *l3.Store) {
	ctx := context.Background()
	f := func(n l3.NodeInfo, want error) error {
		t.Helper()
		err := s.RegisterNode(ctx, n)
		if !errors.Is(err, want) {
			t.Errorf("register %+v: %v, want %v", n, err, want)
		}
		return err
	}
	a := l3.NodeInfo{ID: "id-a", Name: "paris", Addr: "10.0.0.1:8080", Incarnation: "1", LeaseUntil: now + 60_000}
	f(a, nil)
	a.AppliedSeq = 7
	f(a, nil) // heartbeat
	other := l3.NodeInfo{ID: "id-a", Name: "copy", Incarnation: "2", LeaseUntil: now + 60_000}
	if err := f(other, l3.ErrIdentityInUse); !strings.Contains(err.Error(), `"paris" at "10.0.0.1:8080"`) {
		t.Errorf("the other is not named: %v", err)
	}
	f(l3.NodeInfo{ID: "id-b", Incarnation: "9", LeaseUntil: now - 1}, nil) // over at once
	list, err := s.Nodes(ctx)
	if err != nil || len(list) != 2 || list[0].ID != "id-a" || list[0].AppliedSeq != 7 || !list[0].Live || list[1].Live {
		t.Fatalf("nodes: %+v, %v", list, err)
	}
	f(l3.NodeInfo{ID: "id-b", Incarnation: "10", LeaseUntil: now + 60_000}, nil) // its lease was over
	a.LeaseUntil = now - 1
	f(a, nil) // it leaves
	f(other, nil)
	if existed, err := s.RemoveNode(ctx, "id-a"); !existed || err != nil {
		t.Errorf("remove: %t, %v", existed, err)
	}
	if existed, err := s.RemoveNode(ctx, "id-a"); existed || err != nil {
		t.Errorf("remove again: %t, %v", existed, err)
	}
	f(a, nil)
	f(l3.NodeInfo{ID: "id-c"}, l3.ErrRejected)
	f(l3.NodeInfo{ID: strings.Repeat("x", 65), Incarnation: "1"}, l3.ErrRejected)
}

func leases(t *testing.T, s *l3.Store) {
	ctx := context.Background()
	f := func(name, holder string, ttl time.Duration, want bool) {
		t.Helper()
		if held, err := s.AcquireLease(ctx, name, holder, ttl); held != want || err != nil {
			t.Errorf("%s for %s: %t, %v", name, holder, held, err)
		}
	}
	f("merkle", "a", time.Hour, true)
	f("merkle", "b", time.Hour, false)
	f("cdc", "b", time.Hour, true)
	f("merkle", "a", time.Hour, true)
	if err := errors.Join(s.ReleaseLease(ctx, "merkle", "b"), s.ReleaseLease(ctx, "cdc", "b")); err != nil {
		t.Fatal(err)
	}
	f("merkle", "b", time.Hour, false)
	f("cdc", "a", time.Hour, true)
	if err := s.ReleaseLease(ctx, "merkle", "a"); err != nil {
		t.Fatal(err)
	}
	f("merkle", "b", time.Hour, true)
	if _, err := s.AcquireLease(ctx, "", "b", time.Hour); !errors.Is(err, l3.ErrRejected) {
		t.Errorf("no name: %v", err)
	}
	if _, err := s.AcquireLease(ctx, "x", "b", 0); !errors.Is(err, l3.ErrRejected) {
		t.Errorf("no time: %v", err)
	}
}
