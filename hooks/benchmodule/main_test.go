package main

import (
	"testing"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
)

// TestModule: it loads, decides, and is reused if it says so.
func TestModule(t *testing.T) {
	for _, reuse := range []uint32{0, 60} {
		h, err := hooks.Open(hooks.Options{Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.Load(t.Context(), []hooks.Spec{{Name: "x", Bytes: module(reuse)}}); err != nil {
			t.Fatal(err)
		}
		var d hooks.Decision
		req := &hooks.Request{Input: abi.Input{Flags: abi.FlagSite, NowMillis: 1}, Key: []byte("http://shop.example/style.css")}
		for range 3 {
			if !h.Route(req, &d) || d.Verdict != hooks.Continue || d.ReuseSeconds != reuse {
				t.Errorf("got %+v", d)
			}
		}
		if got := h.Report().Reused; (got == 2) != (reuse > 0) {
			t.Errorf("%d reused with %d seconds", got, reuse)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
}
