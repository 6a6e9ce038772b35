package hooks_test

import (
	"os"
	"testing"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

// both runs a benchmark with and without metering.
func both(b *testing.B, f func(b *testing.B, o hooks.Options)) {
	b.Run("metered", func(b *testing.B) { f(b, hooks.Options{}) })
	b.Run("plain", func(b *testing.B) { f(b, hooks.Unmetered(hooks.Options{})) })
}

func BenchmarkRouteC(b *testing.B) {
	both(b, func(b *testing.B, o hooks.Options) {
		h := open(b, o)
		load(b, h, hooks.Spec{Name: "r", Bytes: example(b, "route-header"), Pools: []string{"eu", "us"}, OnFault: "deny"})
		req := request("https://shop.example/assets/app.js?v=12", lines{{"x-tenant", []byte("eu-1"), false}})
		var d hooks.Decision
		b.ReportAllocs()
		for b.Loop() {
			h.Route(req, &d)
		}
	})
}

func BenchmarkTTLC(b *testing.B) {
	both(b, func(b *testing.B, o hooks.Options) {
		h := open(b, o)
		load(b, h, hooks.Spec{Name: "r", Bytes: example(b, "ttl-by-type")})
		req := request("https://shop.example/assets/app.js?v=12", lines{{"content-type", []byte("text/css"), true}})
		req.Status = 200
		var d hooks.Decision
		b.ReportAllocs()
		for b.Loop() {
			h.TTL(req, &d)
		}
	})
}

func BenchmarkEvict64(b *testing.B) {
	both(b, func(b *testing.B, o hooks.Options) {
		h := open(b, o)
		load(b, h, hooks.Spec{Name: "r", Bytes: example(b, "evict-gdsf")})
		c := make([]abi.Candidate, 64)
		for i := range c {
			c[i] = abi.Candidate{ID: uint64(i), Size: uint32(100 + i*37), IdleMillis: uint32(i * 999), Hits: uint32(i), LeftSeconds: 60}
		}
		scores := make([]int32, 0, 64)
		b.ReportAllocs()
		for b.Loop() {
			scores, _ = h.Score(scores[:0], c, 0.5, 1)
		}
	})
}

func BenchmarkNoHook(b *testing.B) {
	h := open(b, hooks.Options{})
	req := request("k", nil)
	var d hooks.Decision
	for b.Loop() {
		h.Route(req, &d)
	}
}

// BenchmarkTTLGo needs the Go example, which wasm-examples/build.sh makes.
func BenchmarkTTLGo(b *testing.B) {
	code, err := os.ReadFile("../wasm-examples/ttl-go/ttl-go.wasm")
	if err != nil {
		b.Skip("run wasm-examples/build.sh first")
	}
	both(b, func(b *testing.B, o hooks.Options) {
		h := open(b, o)
		load(b, h, hooks.Spec{Name: "r", Bytes: code})
		req := request("https://shop.example/assets/app.js?v=12", lines{{"content-type", []byte("text/css"), true}})
		req.Status = 200
		var d hooks.Decision
		b.ReportAllocs()
		for b.Loop() {
			h.TTL(req, &d)
		}
	})
}

// BenchmarkCall is a hook that decides nothing by looking: what the host costs.
func BenchmarkCall(b *testing.B) {
	both(b, func(b *testing.B, o hooks.Options) {
		h := open(b, o)
		load(b, h, hooks.Spec{Name: "r", Bytes: hooktest.Guest(abi.Route, pass).Bytes()})
		req := request("https://shop.example/assets/app.js?v=12", nil)
		var d hooks.Decision
		b.ReportAllocs()
		for b.Loop() {
			h.Route(req, &d)
		}
	})
}
