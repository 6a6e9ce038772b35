package hooks_test

import (
	"slices"
	"testing"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
)

// TestTraceRoute: each module's word is told, and who was not asked.
func TestTraceRoute(t *testing.T) {
	h := open(t, hooks.Options{})
	if got := h.TraceRoute(request("http://h/", nil)); len(got) != 0 {
		t.Errorf("without hooks: %+v", got)
	}
	tag := hooks.Spec{Name: "a", Bytes: answer(abi.MakeResult(abi.OK, abi.ResultRecords, 0), abi.RecTag, "one")}
	elsewhere := hooks.Spec{Name: "b", Match: hooks.Match{PathPrefix: "/other"}, Bytes: tag.Bytes}
	broken := hooks.Spec{Name: "c", Bytes: answer(abi.MakeResult(abi.GuestError, 0, 0))}
	deny := hooks.Spec{Name: "d", Bytes: answer(abi.MakeResult(abi.Deny, 1, 0), abi.RecStatus, "\xad\x01slow")}
	load(t, h, tag, elsewhere, broken, deny, hooks.Spec{Name: "e", Bytes: tag.Bytes})
	got := h.TraceRoute(request("http://h/", nil))
	want := []hooks.Step{
		{Module: "a", Asked: true}, {Module: "b"}, {Module: "c", Asked: true, Fault: "guest"}, {Module: "d", Asked: true, Verdict: hooks.Deny}, {Module: "e"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
