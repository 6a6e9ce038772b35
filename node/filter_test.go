package node_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFilter: through HTTP, the filter is trusted soon, shows in health, makes new
// ids 201, can be compared with SQL, and can be off.
func TestFilter(t *testing.T) {
	dir := t.TempDir()
	r := inProcess(t, writeConfig(t, dir, addresses))
	r.log.wait(t, 1, "filter is trusted")
	verify := func() answer {
		return ask(t, "POST", r.admin+"/filter/verify", "", "Content-Type", "application/json")
	}
	ask(t, "PUT", r.data+"/v1/items/k", "v", "Edge-Durability", "l3").want(t, 201)
	ask(t, "PUT", r.data+"/v1/items/k", "v").want(t, 204)
	if got := ask(t, "DELETE", r.data+"/v1/items/none", "").want(t, 204).header.Get("Edge-Existed"); got != "false" {
		t.Errorf("existed %q, want false", got)
	}
	if got := verify().want(t, 200).body; !strings.Contains(got, `"missing":0,"ok":true`) && !strings.Contains(got, "\"ok\": true") {
		t.Errorf("verify: %s", got)
	}
	if got := ask(t, "GET", r.admin+"/healthz", "").want(t, 200).body; !strings.Contains(strings.ReplaceAll(got, " ", ""), `"filter":{`+"\n"+`"trusted":true`) {
		t.Errorf("health: %s", got)
	}
	off := inProcess(t, writeConfig(t, t.TempDir(), "filter_enabled = false\n"+addresses))
	ask(t, "PUT", off.data+"/v1/items/k", "v").want(t, 204)
	ask(t, "POST", off.admin+"/filter/verify", "", "Content-Type", "application/json").want(t, 501)
	if got := ask(t, "GET", off.admin+"/healthz", "").want(t, 200).body; !strings.Contains(strings.ReplaceAll(got, " ", ""), `"filter":null`) {
		t.Errorf("health: %s", got)
	}
	r.signal(stop)
	r.end()
	if _, err := os.Stat(filepath.Join(dir, "data", "filter.snapshot")); err != nil {
		t.Errorf("no snapshot after an orderly stop: %v", err)
	}
}
