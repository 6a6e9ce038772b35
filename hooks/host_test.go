package hooks_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

func open(t testing.TB, o hooks.Options) *hooks.Host {
	t.Helper()
	h, err := hooks.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func load(t testing.TB, h *hooks.Host, specs ...hooks.Spec) hooks.Report {
	t.Helper()
	r, err := h.Load(context.Background(), specs)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// loaded returns a host with one hook.
func loaded(t testing.TB, m *hooktest.Module) *hooks.Host {
	t.Helper()
	h := open(t, hooks.Options{})
	load(t, h, hooks.Spec{Name: "x", Bytes: m.Bytes()})
	return h
}

func example(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "wasm-examples", name, name+".wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lines is a header source that does not allocate.
type lines []struct {
	name     string
	value    []byte
	response bool
}

func (l lines) AppendHeader(dst [][]byte, name string, response bool) [][]byte {
	for i := range l {
		if l[i].response == response && l[i].name == name {
			dst = append(dst, l[i].value)
		}
	}
	return dst
}

func request(key string, h hooks.Headers) *hooks.Request {
	in := abi.Input{Operation: abi.Read, Method: abi.MethodGet, Tiers: abi.L1 | abi.L2, Flags: abi.FlagSite,
		NowMillis: 1_700_000_000_000, ContentBytes: abi.UnknownBytes}
	return &hooks.Request{Input: in, Key: []byte(key), Headers: h}
}

func TestRouteExample(t *testing.T) {
	h := open(t, hooks.Options{})
	load(t, h, hooks.Spec{Name: "route", Bytes: example(t, "route-header"), Pools: []string{"eu", "us"}, OnFault: "deny"})
	var d hooks.Decision
	req := request("https://shop.example/a?b=c", lines{{"x-tenant", []byte("eu-1"), false}})
	if !h.Route(req, &d) {
		t.Fatal("no hook was asked")
	}
	if got, want := d.Pool, "eu"; got != want {
		t.Errorf("pool %q, want %q", got, want)
	}
	if got, want := string(d.KeyAddition), "eu-1"; got != want {
		t.Errorf("key addition %q, want %q", got, want)
	}
	h.Route(request("https://shop.example/internal/x", nil), &d)
	if d.Verdict != hooks.Deny || d.Status != 403 || string(d.Reason) != "internal" {
		t.Errorf("got %v %d %q, want deny 403 internal", d.Verdict, d.Status, d.Reason)
	}
	h.Route(request("https://shop.example/live/x", nil), &d)
	if d.Verdict != hooks.Pass {
		t.Errorf("got %v, want pass", d.Verdict)
	}
}

func TestWithoutHooks(t *testing.T) {
	h := open(t, hooks.Options{})
	d := hooks.Decision{Pool: "untouched"}
	if h.Route(request("k", nil), &d) || h.TTL(request("k", nil), &d) || d.Pool != "untouched" {
		t.Error("a host without hooks decided")
	}
	if _, ok := h.Score(nil, make([]abi.Candidate, 3), 0, 0); ok {
		t.Error("a host without hooks scored")
	}
	if _, err := h.Rollback(); !errors.Is(err, hooks.ErrNoPrevious) {
		t.Errorf("rollback: got %v, want %v", err, hooks.ErrNoPrevious)
	}
}

func TestFailedLoadKeepsTheOld(t *testing.T) {
	var log bytes.Buffer
	h := open(t, hooks.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	load(t, h, hooks.Spec{Name: "a", Bytes: hooktest.Guest(abi.Route, hooktest.Result(abi.Pass, 0, 0)).Bytes()})
	if !strings.Contains(log.String(), "not signed") {
		t.Errorf("no warning that the module is not signed in %s", log.String())
	}
	_, err := h.Load(context.Background(), []hooks.Spec{{Name: "b", Bytes: []byte("(module)")}})
	if err == nil || !strings.Contains(err.Error(), `load hook "b"`) || !strings.Contains(err.Error(), "text format") {
		t.Errorf("got %v, want an error that names hook and fault", err)
	}
	var d hooks.Decision
	if !h.Route(request("k", nil), &d) || d.Verdict != hooks.Pass {
		t.Error("the old hook is gone")
	}
	load(t, h, hooks.Spec{Name: "c", Bytes: hooktest.Guest(abi.Route, hooktest.Result(abi.Deny, 0, 0)).Bytes()})
	if h.Route(request("k", nil), &d); d.Verdict != hooks.Deny || d.Status != 403 {
		t.Error("the new hook is not in use")
	}
	if r, err := h.Rollback(); err != nil || r.Generation != 1 {
		t.Fatalf("rollback: %+v, %v", r, err)
	}
	if h.Route(request("k", nil), &d); d.Verdict != hooks.Pass {
		t.Error("rollback did not bring the old hook back")
	}
	load(t, h)
	if h.Route(request("k", nil), &d) {
		t.Error("an empty load left hooks")
	}
}
