package hooks_test

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// counting is a route guest that answers with how often its instance was called,
// as a key addition of 4 bytes, in a verdict that may be reused for seconds.
// Before it answers it runs extra.
func counting(manifest string, seconds uint32, status abi.Status, extra []byte, imports ...hooktest.Import) *hooktest.Module {
	const out = hooktest.Buffer + abi.InputBytes
	calls := []byte{0x41, 0, 0x41, 0, 0x28, 2, 0, 0x41, 1, 0x6a, 0x36, 2, 0} // memory[0]++
	m := hooktest.Guest(abi.Route, hooktest.Code(extra, calls,
		hooktest.ConstI32(out+4), []byte{0x41, 0, 0x28, 2, 0, 0x36, 2, 0}, hooktest.Result(status, abi.ResultRecords, 0)))
	m.Imports, m.Manifest, m.DataAt = imports, manifest, out
	m.Data = abi.AppendRecord(nil, abi.RecKeyAddition, make([]byte, 4))
	m.Data = abi.AppendEnd(abi.AppendRecord(m.Data, abi.RecReuse, binary.LittleEndian.AppendUint32(nil, seconds)))
	return m
}

// TestReuse holds what a reusable verdict is remembered under, and for how long.
func TestReuse(t *testing.T) {
	const now = 1_700_000_000_000
	type ask struct {
		change func(r *hooks.Request)
		want   uint32 // which call of the module the answer is of
	}
	same := func(*hooks.Request) {}
	key := func(k string) func(*hooks.Request) { return func(r *hooks.Request) { r.Key = []byte(k) } }
	client := func(last byte) func(*hooks.Request) { return func(r *hooks.Request) { r.Client[15] = last } }
	header := func(name, value string) func(*hooks.Request) {
		return func(r *hooks.Request) { r.Headers = lines{{name, []byte(value), false}} }
	}
	f := func(what string, m *hooktest.Module, asks ...ask) {
		t.Helper()
		set := metrics.NewSet()
		h := open(t, hooks.Options{Instances: 1, Metrics: set})
		load(t, h, hooks.Spec{Name: "x", Bytes: m.Bytes(), Grant: []string{"header", "kv_get"}})
		reused, last := 0, uint32(0)
		var d hooks.Decision
		for n, a := range asks {
			req := request("http://h/", nil)
			a.change(req)
			if !h.Route(req, &d) {
				t.Fatalf("%s: not asked", what)
			}
			if got := binary.LittleEndian.Uint32(d.KeyAddition); got != a.want {
				t.Errorf("%s, request %d: answer of call %d, want %d", what, n, got, a.want)
			}
			if a.want <= last {
				reused++
			}
			last = max(last, a.want)
		}
		if got := counter(t, set, "edgenode_hooks_reused_total"); got != reused {
			t.Errorf("%s: %d verdicts reused, want %d", what, got, reused)
		}
	}
	const blind = `{"inputs":[]}`
	f("equal requests", counting("", 60, abi.OK, nil), ask{same, 1}, ask{same, 1}, ask{same, 1})
	f("not reusable", counting("", 0, abi.OK, nil), ask{same, 1}, ask{same, 2})
	f("its time", counting("", 60, abi.OK, nil), ask{same, 1}, ask{func(r *hooks.Request) { r.NowMillis = now + 59_999 }, 1},
		ask{func(r *hooks.Request) { r.NowMillis = now + 60_000 }, 2}, ask{func(r *hooks.Request) { r.NowMillis = now - 1 }, 3})
	f("the key", counting("", 60, abi.OK, nil), ask{key("http://h/a"), 1}, ask{key("http://h/b"), 2}, ask{key("http://h/a"), 1})
	f("operation, method, site, tiers", counting(blind, 60, abi.OK, nil), ask{same, 1},
		ask{func(r *hooks.Request) { r.Operation = abi.Purge }, 2}, ask{func(r *hooks.Request) { r.Method = abi.MethodHead }, 3},
		ask{func(r *hooks.Request) { r.Site = "s" }, 4}, ask{func(r *hooks.Request) { r.Tiers = abi.L1 }, 5},
		ask{func(r *hooks.Request) { r.Flags = 0 }, 6}, ask{same, 1})
	f("the client, seen", counting("", 60, abi.OK, nil), ask{client(1), 1}, ask{client(2), 2}, ask{client(1), 1})
	f("the client, not seen", counting(blind, 60, abi.OK, nil), ask{client(1), 1}, ask{client(2), 1})
	f("TLS, seen", counting(`{"inputs":["tls"]}`, 60, abi.OK, nil), ask{same, 1}, ask{func(r *hooks.Request) { r.Flags |= abi.FlagClientCert }, 2})
	f("TLS, not seen", counting(blind, 60, abi.OK, nil), ask{same, 1}, ask{func(r *hooks.Request) { r.Flags |= abi.FlagTLS }, 1})
	f("size, seen", counting(`{"inputs":["size"]}`, 60, abi.OK, nil), ask{same, 1}, ask{func(r *hooks.Request) { r.ContentBytes = 7 }, 2})
	f("a header it lists", counting(`{"inputs":[],"headers":["authorization"]}`, 60, abi.OK, nil),
		ask{header("authorization", "a"), 1}, ask{header("authorization", "b"), 2}, ask{header("authorization", "a"), 1}, ask{same, 3})
	f("a header it does not list", counting(blind, 60, abi.OK, nil), ask{header("authorization", "a"), 1}, ask{header("authorization", "b"), 1})
	lists := `{"inputs":[],"headers":["a","b"]}`
	f("values that run together", counting(lists, 60, abi.OK, nil), ask{header("a", "x"), 1}, ask{header("b", "x"), 2},
		ask{func(r *hooks.Request) { r.Headers = lines{{"a", []byte("x"), false}, {"a", nil, false}} }, 3})

	// A verdict for which the module has looked beyond its inputs is nobody's but
	// this request's.
	in := func(n int) []byte {
		return []byte{hooktest.I32, hooktest.I32, hooktest.I32, hooktest.I32, hooktest.I32}[:n]
	}
	look := hooktest.Code(hooktest.ConstI32(8192), hooktest.ConstI32(1), hooktest.ConstI32(8192), hooktest.ConstI32(8))
	f("header()", counting(`{"capabilities":["header"]}`, 60, abi.OK, hooktest.Code(hooktest.ConstI32(0), look, []byte{0x10, 0, 0x1a}),
		hooktest.Import{Module: "edge", Name: "header", Params: in(5), Results: in(1)}), ask{same, 1}, ask{same, 2})
	f("kv_get()", counting(`{"capabilities":["kv_get"]}`, 60, abi.OK, hooktest.Code(look, []byte{0x10, 0, 0x1a}), kvGet), ask{same, 1}, ask{same, 2})
	f("now_ms()", counting("", 60, abi.OK, []byte{0x10, 0, 0x1a},
		hooktest.Import{Module: "edge", Name: "now_ms", Results: []byte{hooktest.I64}}), ask{same, 1}, ask{same, 2})

	// What one client is refused another may get.
	f("deny, client seen", counting("", 60, abi.Deny, nil), ask{same, 1}, ask{same, 2})
	f("deny, a header seen", counting(`{"inputs":[],"headers":["authorization"]}`, 60, abi.Deny, nil), ask{same, 1}, ask{same, 2})
	f("deny, nothing of the client seen", counting(blind, 60, abi.Deny, nil), ask{same, 1}, ask{same, 1})
}

// TestAuthorizationIsNotMemoised: a module that lets one bearer in and says that
// its verdict may be reused lets nobody else in by that, whether it lists the
// field or asks for it.
func TestAuthorizationIsNotMemoised(t *testing.T) {
	// It denies unless the first value that it is shown begins with "g".
	first := hooktest.Code([]byte{0x41, 0, 0x28, 2}, hooktest.U32(nil, hooktest.Buffer+abi.HeadBytes+4), // offset of the value
		[]byte{0x2d, 0}, hooktest.U32(nil, hooktest.Buffer), hooktest.ConstI32('g'), []byte{0x46})
	asked := hooktest.Code(hooktest.ConstI32(0), hooktest.ConstI32(8192), hooktest.ConstI32(13), hooktest.ConstI32(8300), hooktest.ConstI32(4),
		[]byte{0x10, 0, 0x1a, 0x41, 0, 0x2d, 0}, hooktest.U32(nil, 8300), hooktest.ConstI32('g'), []byte{0x46})
	f := func(what, manifest string, good []byte, imports ...hooktest.Import) {
		t.Helper()
		const out = hooktest.Buffer + abi.InputBytes
		m := hooktest.Guest(abi.Route, hooktest.Code(good, []byte{0x04, hooktest.I64}, hooktest.Result(abi.OK, abi.ResultRecords, 0),
			[]byte{0x05}, hooktest.Result(abi.Deny, abi.ResultRecords, 0), []byte{0x0b}))
		m.Imports, m.Manifest, m.DataAt = imports, manifest, 8192
		m.Data = append([]byte("authorization"), make([]byte, out-8192-13)...)
		m.Data = append(m.Data, abi.AppendEnd(abi.AppendRecord(nil, abi.RecReuse, []byte{60, 0, 0, 0}))...)
		h := open(t, hooks.Options{Instances: 1})
		load(t, h, hooks.Spec{Name: "x", Bytes: m.Bytes(), Grant: []string{"header"}})
		var d hooks.Decision
		for n, value := range []string{"good", "evil", "good", "evil", "evil", "good", "good"} {
			h.Route(request("http://h/", lines{{"authorization", []byte(value), false}}), &d)
			if want := value == "good"; (d.Verdict == hooks.Continue) != want {
				t.Errorf("%s, request %d: %q got %v", what, n, value, d.Verdict)
			}
		}
	}
	f("listed", `{"inputs":[],"headers":["authorization"]}`, first)
	f("asked for", `{"inputs":[],"capabilities":["header"]}`, asked, hooktest.Import{Module: "edge", Name: "header",
		Params: []byte{hooktest.I32, hooktest.I32, hooktest.I32, hooktest.I32, hooktest.I32}, Results: []byte{hooktest.I32}})
}

// TestReuseEnds: what was remembered goes with its set, by a load and by a
// rollback in both directions.
func TestReuseEnds(t *testing.T) {
	set := metrics.NewSet()
	h := open(t, hooks.Options{Instances: 1, Metrics: set})
	spec := hooks.Spec{Name: "x", Bytes: counting("", 3600, abi.OK, nil).Bytes()}
	var d hooks.Decision
	f := func(want uint32) {
		t.Helper()
		for range 2 {
			h.Route(request("http://h/", nil), &d)
			if got := binary.LittleEndian.Uint32(d.KeyAddition); got != want {
				t.Errorf("answer of call %d, want %d", got, want)
			}
		}
	}
	load(t, h, spec)
	f(1)
	load(t, h, spec)
	f(1) // of the new set's instance
	if _, err := h.Rollback(); err != nil {
		t.Fatal(err)
	}
	f(2) // the first set was asked again
	if _, err := h.Rollback(); err != nil {
		t.Fatal(err)
	}
	f(2)
	if got := counter(t, set, "edgenode_hooks_reused_total"); got != 4 {
		t.Errorf("%d reused, want 4", got)
	}
}

// TestReuseIsShared: of a chain the shortest time counts, a module that does not
// allow it forbids it, and all of the verdict is remembered.
func TestReuseOfChain(t *testing.T) {
	h := open(t, hooks.Options{Instances: 1})
	first := hooks.Spec{Name: "a", Pools: []string{"p"}, Bytes: answer(abi.MakeResult(abi.OK, 1, 1), abi.RecTag, "one", abi.RecTarget, "/t",
		abi.RecState, "st", abi.RecTiers, "\x01\x03", abi.RecSetRequest, "\x03\x00x-ab", abi.RecReuse, "\x3c\x00\x00\x00")}
	second := hooks.Spec{Name: "b", Bytes: answer(abi.MakeResult(abi.OK, 1, 0), abi.RecTag, "two", abi.RecReuse, "\x0a\x00\x00\x00",
		abi.RecAnswer, "\xc8\x00\x01\x00\x02\x00\x00\x00\x01\x00\x01\x00abhi")}
	load(t, h, first, second)
	var d, again hooks.Decision
	h.Route(request("http://h/", nil), &d)
	h.Route(request("http://h/", nil), &again)
	show := func(d *hooks.Decision) string {
		return fmt.Sprintf("%v %q %q %q %q %v %v %v %+v %+v %d %v", d.Verdict, d.Pool, d.Target, d.State, d.Tags, d.TiersSet, d.ReadTiers,
			d.WriteTiers, d.Edits, d.AnswerFields, d.AnswerStatus, string(d.AnswerBody))
	}
	if got, want := show(&again), show(&d); got != want || len(again.Tags) != 2 {
		t.Errorf("reused %s\nwas    %s", got, want)
	}
	if got := h.Report().Reused; got != 1 {
		t.Errorf("%d reused, want 1", got)
	}
	load(t, h, first, hooks.Spec{Name: "c", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
	h.Route(request("http://h/", nil), &d)
	h.Route(request("http://h/", nil), &d)
	if got := h.Report().Reused; got != 1 {
		t.Errorf("%d reused, want still 1: the second module does not allow it", got)
	}
}

// TestReuseHammer: many goroutines, more keys than a memo holds, swaps: every
// answer is that of its own key.
func TestReuseHammer(t *testing.T) {
	h := open(t, hooks.Options{Instances: 4})
	// The key addition is the input's key, 13 bytes.
	m := counting("", 60, abi.OK, nil)
	const out = hooktest.Buffer + abi.InputBytes
	m.Data = abi.AppendRecord(nil, abi.RecKeyAddition, make([]byte, 13))
	m.Data = abi.AppendEnd(abi.AppendRecord(m.Data, abi.RecReuse, []byte{60, 0, 0, 0}))
	m.Funcs[3].Code = hooktest.Code(hooktest.ConstI32(out+4), hooktest.ConstI32(hooktest.Buffer+abi.HeadBytes), hooktest.ConstI32(13),
		[]byte{0xfc, 10, 0, 0}, hooktest.Result(abi.OK, abi.ResultRecords, 0))
	spec := hooks.Spec{Name: "x", Bytes: m.Bytes()}
	load(t, h, spec)
	var callers sync.WaitGroup
	for g := range 4 {
		callers.Go(func() {
			var d hooks.Decision
			for n := range 6000 {
				key := fmt.Sprintf("http://h/%04d", (n*(g+1))%3000)
				h.Route(request(key, nil), &d)
				if string(d.KeyAddition) != key {
					t.Errorf("%s got the answer of %s", key, d.KeyAddition)
					return
				}
			}
		})
	}
	for range 10 {
		load(t, h, spec)
	}
	callers.Wait()
	if h.Report().Reused == 0 {
		t.Error("nothing was reused")
	}
}

func TestReuseDoesNotAllocate(t *testing.T) {
	h := open(t, hooks.Options{Instances: 1})
	load(t, h, hooks.Spec{Name: "x", Bytes: counting(`{"headers":["x-tenant"]}`, 60, abi.OK, nil).Bytes()})
	req := request("http://h/", lines{{"x-tenant", []byte("eu-1"), false}})
	var d hooks.Decision
	h.Route(req, &d)
	h.Route(req, &d)
	if n := testing.AllocsPerRun(300, func() { h.Route(req, &d) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// BenchmarkReuse compares, in one run, a call of the module with its remembered
// verdict, and with calls that cannot be remembered while others are.
func BenchmarkReuse(b *testing.B) {
	f := func(name string, seconds uint32, chain int) {
		b.Run(name, func(b *testing.B) {
			h := open(b, hooks.Options{})
			var specs []hooks.Spec
			for n := range chain {
				specs = append(specs, hooks.Spec{Name: fmt.Sprint("x", n), Bytes: counting(`{"inputs":[],"headers":["x-tenant"]}`, seconds, abi.OK, nil).Bytes()})
			}
			load(b, h, specs...)
			req := request("https://shop.example/assets/app.js?v=12", lines{{"x-tenant", []byte("eu-1"), false}})
			var d hooks.Decision
			b.ReportAllocs()
			for b.Loop() {
				h.Route(req, &d)
			}
		})
	}
	f("call", 0, 1)
	f("reused", 60, 1)
	f("call3", 0, 3)
	f("reused3", 60, 3)
}

// TestInputsAreBlank: what a manifest does not ask for is not shown.
func TestInputsAreBlank(t *testing.T) {
	var d hooks.Decision
	f := func(manifest string, client, tls, size bool) {
		t.Helper()
		h := open(t, hooks.Options{Instances: 1})
		load(t, h, hooks.Spec{Name: "x", Bytes: echo(manifest, 0, abi.HeadBytes)})
		req := request("http://h/", nil)
		req.Client, req.Flags, req.ContentBytes = [16]byte{15: 9}, req.Flags|abi.FlagTLS|abi.FlagClientCert, 77
		h.Route(req, &d)
		in := d.KeyAddition
		if got := in[abi.OffClient+15] == 9; got != client {
			t.Errorf("%s: client shown %v, want %v", manifest, got, client)
		}
		if got := abi.Flags(in[abi.OffFlags])&(abi.FlagTLS|abi.FlagClientCert) != 0; got != tls {
			t.Errorf("%s: TLS shown %v, want %v", manifest, got, tls)
		}
		if got := binary.LittleEndian.Uint64(in[abi.OffContent:]) == 77; got != size {
			t.Errorf("%s: size shown %v, want %v", manifest, got, size)
		}
	}
	f(`{}`, true, true, true)
	f(`{"inputs":[]}`, false, false, false)
	f(`{"inputs":["client"]}`, true, false, false)
	f(`{"inputs":["tls"]}`, false, true, false)
	f(`{"inputs":["size"]}`, false, false, true)
}
