package guest_test

import (
	"os"
	"testing"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
)

// BenchmarkLanguages asks the same policy in each language, through the real host with
// metering; "empty" is the C vector guest that answers a fixed key at once. Go's module
// is there after wasm-examples/build.sh.
func BenchmarkLanguages(b *testing.B) {
	for _, language := range []string{"c", "rust", "assemblyscript", "wat", "go"} {
		code, err := os.ReadFile("../../wasm-examples/policy-" + language + "/policy-" + language + ".wasm")
		if os.IsNotExist(err) && language == "go" {
			b.Log("no module in Go: run wasm-examples/build.sh")
			continue
		}
		if err != nil {
			b.Fatal(err)
		}
		b.Run(language, func(b *testing.B) { benchLanguage(b, code) })
	}
}

func benchLanguage(b *testing.B, code []byte) {
	h, err := hooks.Open(hooks.Options{Instances: 1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := h.Close(); err != nil {
			b.Error(err)
		}
	})
	spec := hooks.Spec{Name: "p", Bytes: code, Pools: []string{"eu", "us"}, OnFault: hooks.OnFaultDeny}
	if _, err := h.Load(b.Context(), []hooks.Spec{spec}); err != nil {
		b.Fatal(err)
	}
	in := abi.Input{Operation: abi.Read, Method: abi.MethodGet, Flags: abi.FlagSite, NowMillis: 1_700_000_000_000, ContentBytes: abi.UnknownBytes}
	key := []byte("https://shop.example/assets/app.js?v=12")
	var d hooks.Decision
	b.Run("route", func(b *testing.B) {
		req := &hooks.Request{Input: in, Key: key, Headers: line{"x-tenant", []byte("eu-1")}}
		b.ReportAllocs()
		for b.Loop() {
			h.Route(req, &d)
		}
		if d.Pool != "eu" {
			b.Errorf("pool %q", d.Pool)
		}
	})
	b.Run("ttl", func(b *testing.B) {
		req := &hooks.Request{Input: in, Key: key, Headers: line{"content-type", []byte("text/html")}}
		req.Status = 200
		b.ReportAllocs()
		for b.Loop() {
			h.TTL(req, &d)
		}
		if d.Lifetime != 30 {
			b.Errorf("lifetime %d", d.Lifetime)
		}
	})
	benchScores(b, h)
}

func benchScores(b *testing.B, h *hooks.Host) {
	c := make([]abi.Candidate, abi.MaxCandidates)
	for i := range c {
		c[i] = abi.Candidate{ID: uint64(i), Size: uint32(100 + i*37), IdleMillis: uint32(i * 999), Hits: uint32(i), LeftSeconds: 60}
	}
	scores := make([]int32, 0, len(c))
	b.Run("evict64", func(b *testing.B) {
		b.ReportAllocs()
		ok := false
		for b.Loop() {
			scores, ok = h.Score(scores[:0], c, 0.5, 1)
		}
		if !ok {
			b.Error("no scores")
		}
	})
	b.Run("admit", func(b *testing.B) {
		b.ReportAllocs()
		ok := false
		for b.Loop() {
			_, ok = h.Admit(c[0], c[1:5], 0.5, 1)
		}
		if !ok {
			b.Error("no answer")
		}
	})
}

// line is one header, found without allocation.
type line struct {
	name  string
	value []byte
}

func (l line) AppendHeader(dst [][]byte, name string, _ bool) [][]byte {
	if name == l.name {
		dst = append(dst, l.value)
	}
	return dst
}
