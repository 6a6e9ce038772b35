package api_test

import (
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/tiers"
)

// TestPurgeAcrossNodes: the answer to a purge has its number, by which anybody may
// ask which nodes have applied it.
func TestPurgeAcrossNodes(t *testing.T) {
	h := newHarness(t)
	f := func(line, body, want string, fields ...string) {
		t.Helper()
		if got := h.want(200, "", line, body, fields...).out.String(); !strings.HasSuffix(got, want+"\n") {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
	}
	f("POST /v1/purge", `{"all":true}`, `"nodes":{"applied":["edgenode"],"pending":[]}}`) // L3 is away
	h.seq = 17
	h.group = fakeGroup{
		{ID: "id1", Name: "host1", Self: true, Live: true, Applied: 17}, {ID: "id2", Name: "host2", Live: true, Applied: 16},
		{ID: "id3", Name: "host3", Addr: "rack 3", Applied: 18, LeaseUntil: 99},
	}
	f("POST /v1/purge", `{"all":true}`, `,"seq":"17","nodes":{"applied":["edgenode","host3"],"pending":["host2"]}}`)
	f("GET /v1/purge/17", "", `{"seq":"17","applied":["edgenode","host3"],"pending":["host2"]}`)
	f("GET /v1/purge/18", "", `{"seq":"18","applied":["host3"],"pending":["edgenode","host2"]}`)
	f("GET /v1/nodes", "", `{"id":"id3","name":"host3","host":"rack 3","self":false,"live":false,"applied":"18","behind":0,"lease_until_ms":99}]}`)
	f("GET /v1/purge/17?wait=all", "", `{"seq":"17","applied":["edgenode","host2","host3"],"pending":[]}`)
	h.seq = 19
	f("POST /v1/purge?wait=all", `{"all":true}`, `,"seq":"19","nodes":{"applied":["edgenode","host2","host3"],"pending":[]}}`)
	h.want(400, "bad-parameter", "GET /v1/purge/0", "")
	h.want(400, "bad-parameter", "GET /v1/purge/x", "")
	h.want(400, "bad-parameter", "GET /v1/purge/17?wait=some", "")
	h.want(404, "unknown-path", "GET /v1/purge/", "")
	h.want(405, "method-not-allowed", "DELETE /v1/purge/17", "")

	h.want(409, "node-live", "DELETE /v1/nodes/id2", "")
	h.want(404, "not-found", "DELETE /v1/nodes/id9", "")
	h.want(204, "", "DELETE /v1/nodes/id3", "")
	h.want(404, "not-found", "DELETE /v1/nodes/id3", "")
	h.want(405, "method-not-allowed", "GET /v1/nodes/id2", "")
	h.want(400, "unknown-parameter", "GET /v1/nodes?x=1", "")

	// Names of machines are for who may see the whole node.
	purger, reader := token("purger", api.ScopePurge), token("reader", api.ScopeRead)
	if err := h.api.SetTokens([]api.Token{purger, reader}); err != nil {
		t.Fatal(err)
	}
	f("GET /v1/purge/19", "", `{"seq":"19","applied":["edgenode","id2"],"pending":[]}`, "Authorization: Bearer purger")
	h.want(403, "scope-missing", "GET /v1/purge/19", "", "Authorization: Bearer reader")
	h.want(403, "scope-missing", "GET /v1/nodes", "", "Authorization: Bearer purger")
	h.want(403, "scope-missing", "DELETE /v1/nodes/id2", "", "Authorization: Bearer purger")
	h.fail = tiers.ErrUnavailable
	h.want(503, "unavailable", "GET /v1/purge/19", "", "Authorization: Bearer purger")
}
