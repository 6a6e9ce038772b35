package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// open starts an engine in dir, over the backends of the test (see backings), and
// closes it at the end of the test.
func open(t *testing.T, dir string, change func(*tiers.Options)) *tiers.Engine {
	t.Helper()
	o := tiers.Options{DataDir: dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 64 << 20, FilterMinItems: 1000, Logger: slog.New(slog.DiscardHandler)}
	backendsOf(t, &o)
	ofTest := o.RedisURL
	if change != nil {
		change(&o)
	}
	e, err := tiers.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close(context.Background()) })
	if o.RedisURL != "" && o.RedisURL == ofTest {
		awaitL2(t, e)
	}
	return e
}

func key(t *testing.T, id string) item.Key {
	t.Helper()
	k, err := item.IDKey(id)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func put(t *testing.T, e *tiers.Engine, id, content string) tiers.Receipt {
	t.Helper()
	r, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, id), Content: []byte(content)})
	if err != nil {
		t.Fatalf("put %q: %v", id, err)
	}
	return r
}

// get returns the content of id, or "" and false.
func get(t *testing.T, e *tiers.Engine, id string) (string, bool) {
	t.Helper()
	h, ok, err := e.Get(t.Context(), key(t, id), tiers.ReadOptions{})
	if err != nil {
		t.Fatalf("get %q: %v", id, err)
	}
	if !ok {
		return "", false
	}
	defer h.Release()
	return string(h.View.Content()), true
}

func want(t *testing.T, e *tiers.Engine, id, content string) {
	t.Helper()
	if got, ok := get(t, e, id); !ok || got != content {
		t.Errorf("get %q = %.40q, %v, want %.40q", id, got, ok, content)
	}
}

func wantAbsent(t *testing.T, e *tiers.Engine, id string) {
	t.Helper()
	if got, ok := get(t, e, id); ok {
		t.Errorf("get %q = %.40q, want nothing", id, got)
	}
}

func flush(t *testing.T, e *tiers.Engine) {
	t.Helper()
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestPutGetDelete(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, nil)
	r := put(t, e, "a", "one")
	if r.Persisted != item.DurabilitySync {
		t.Errorf("persisted %v, want sync", r.Persisted)
	}
	want(t, e, "a", "one")
	put(t, e, "a", "two")
	flush(t, e)
	want(t, e, "a", "two")
	d, err := e.Delete(t.Context(), key(t, "a"), nil, 0)
	if err != nil || d.Existed != tiers.ExistedYes {
		t.Fatalf("delete: %+v, %v", d, err)
	}
	wantAbsent(t, e, "a")
	flush(t, e)
	wantAbsent(t, e, "a")
	put(t, e, "b", "kept")
	e.Close(context.Background())
	e = open(t, dir, nil)
	wantAbsent(t, e, "a")
	want(t, e, "b", "kept")
}

func TestConditions(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	r := put(t, e, "a", "one")
	f := func(c tiers.Condition, want error) {
		t.Helper()
		_, err := e.CompareAndSubmit(t.Context(), &c, &tiers.Write{Key: key(t, "a"), Content: []byte("one")})
		if !errors.Is(err, want) {
			t.Errorf("%+v: error %v, want %v", c, err, want)
		}
	}
	f(tiers.Condition{NoneAny: true}, tiers.ErrPrecondition)
	f(tiers.Condition{Match: []item.ETag{{1}}}, tiers.ErrPrecondition)
	f(tiers.Condition{Version: r.Version + 1}, tiers.ErrPrecondition)
	f(tiers.Condition{Version: r.Version}, nil)
	f(tiers.Condition{Match: []item.ETag{{1}, r.ETag}}, nil)
	f(tiers.Condition{MatchAny: true}, nil)
}

func TestChangeAndList(t *testing.T) {
	e := open(t, t.TempDir(), nil)
	for i := range 10 {
		put(t, e, fmt.Sprintf("p/%d", i), "x")
	}
	flush(t, e)
	state := "done"
	tags := []string{"t1"}
	for i := range 5 {
		if _, err := e.Change(t.Context(), key(t, fmt.Sprintf("p/%d", i)), tiers.MetadataChange{State: &state, Tags: &tags}); err != nil {
			t.Fatal(err)
		}
		if i == 2 {
			flush(t, e)
		}
	}
	if _, err := e.Change(t.Context(), key(t, "none"), tiers.MetadataChange{State: &state}); !errors.Is(err, tiers.ErrNoItem) {
		t.Errorf("change of nothing: %v", err)
	}
	f := func(q tiers.Query, want int) {
		t.Helper()
		n, exact, err := e.Count(t.Context(), q)
		if err != nil || !exact || n != int64(want) {
			t.Errorf("count %+v = %d, %v, %v, want %d", q, n, exact, err, want)
		}
		var got int
		q.Limit = 3
		for {
			next, err := e.List(t.Context(), q, func(item.View) error { got++; return nil })
			if err != nil {
				t.Fatal(err)
			}
			if next == "" {
				break
			}
			q.Cursor = next
		}
		if got != want {
			t.Errorf("list %+v gave %d, want %d", q, got, want)
		}
	}
	f(tiers.Query{Prefix: "p/"}, 10)
	f(tiers.Query{State: "done"}, 5)
	f(tiers.Query{Tag: "t1", Prefix: "p"}, 5)
	f(tiers.Query{Tag: "t1", Scope: "q/"}, 0)
	want(t, e, "p/4", "x")
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{Tag: "t1"}, 0); err != nil {
		t.Fatal(err)
	}
	f(tiers.Query{Prefix: "p/"}, 5)
	flush(t, e)
	f(tiers.Query{Prefix: "p/"}, 5)
	wantAbsent(t, e, "p/4")
	if _, err := e.DeleteMatching(t.Context(), tiers.Query{}, 0); err != nil {
		t.Fatal(err)
	}
	f(tiers.Query{}, 0)
}

func TestExpiry(t *testing.T) {
	var now atomic.Int64
	now.Store(time.Now().UnixMilli())
	e := open(t, t.TempDir(), func(o *tiers.Options) { o.Now = now.Load })
	if _, err := e.Submit(t.Context(), &tiers.Write{Key: key(t, "a"), Content: []byte("x"), TTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	want(t, e, "a", "x")
	now.Add(1000)
	wantAbsent(t, e, "a")
	flush(t, e)
	wantAbsent(t, e, "a")
}
