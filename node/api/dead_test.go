package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func letter(t testing.TB, id string, kind item.Kind) tiers.DeadLetter {
	t.Helper()
	key, err := item.IDKey(id)
	if err != nil {
		t.Fatal(err)
	}
	return tiers.DeadLetter{Key: key, Version: 7, Kind: kind, Bytes: 100, Reason: "l3: apply 10.0.0.7: too long"}
}

func TestDeadLetters(t *testing.T) {
	h := newHarness(t)
	h.store.dead = []tiers.DeadLetter{
		letter(t, "de/1", item.KindPut), letter(t, "uk/1", item.KindTombstone), letter(t, "uk/2", item.KindMetadata),
		{Key: item.Key("\x02site"), Version: 7},
	}
	const first = `{"id":"de/1","version":"7","kind":"put","bytes":100,"reason":"l3: apply 10.0.0.7: too long"}`
	x := h.want(200, "", "GET /v1/dead-letters?limit=1", "")
	if got, want := x.out.String(), `{"dead_letters":[`+first+`],"next":"1"}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	x = h.want(200, "", "GET /v1/dead-letters?cursor=1", "", "Accept: application/x-ndjson")
	if got := x.out.String(); !strings.Contains(got, `"kind":"delete"`) || !strings.Contains(got, `"kind":"change"`) || !strings.HasSuffix(got, `{"end":true,"count":2}`+"\n") {
		t.Errorf("got %s", got)
	}
	h.want(400, "bad-parameter", "GET /v1/dead-letters?limit=0", "")
	h.want(400, "unknown-parameter", "GET /v1/dead-letters?prefix=a", "")
	h.want(405, "method-not-allowed", "PUT /v1/dead-letters", "")
	h.want(405, "method-not-allowed", "GET /v1/dead-letters:drop", "")

	h.store.refuse = "uk/1"
	x = h.want(200, "refused", "POST /v1/dead-letters:retry", "{\"id\":\"de/1\"}\n{\"id\":\"uk/1\"}\n{\"id\":\"none\"}\n{\"di\":1}\n")
	lines := strings.Split(strings.TrimSpace(x.out.String()), "\n")
	for i, want := range []string{`{"id":"de/1","status":204}`, "problem:refused", "problem:not-found", "problem:bad-body", `{"end":true,"ok":1,"failed":3}`} {
		if i >= len(lines) || !strings.Contains(lines[i], want) {
			t.Errorf("line %d of %s, want %s", i, x.out.String(), want)
		}
	}
	x = h.want(200, "", "POST /v1/dead-letters:drop", "{\"id\":\"uk/1\"}\n")
	if !strings.Contains(x.out.String(), `"ok":1,"failed":0`) || len(h.store.dead) != 2 {
		t.Errorf("got %s, left %v", x.out.String(), h.store.dead)
	}
}

// TestDeadLettersOfOthers: a token sees and touches those of its namespace, and
// not what SQL said.
func TestDeadLettersOfOthers(t *testing.T) {
	uk := token("uk", api.ScopeRead|api.ScopeWrite)
	uk.Namespace = "uk/"
	h := newHarness(t, func(o *api.Options) {
		o.Tokens = []api.Token{
			uk, token("reader", api.ScopeRead), token("writer", api.ScopeWrite),
		}
	})
	h.store.dead = []tiers.DeadLetter{letter(t, "de/1", item.KindPut), letter(t, "uk/1", item.KindPut)}
	x := h.want(200, "", "GET /v1/dead-letters", "", "Authorization: Bearer "+"uk")
	if got := x.out.String(); strings.Contains(got, "de/1") || !strings.Contains(got, "uk/1") || strings.Contains(got, "10.0.0.7") {
		t.Errorf("the token of uk/ sees %s", got)
	}
	for _, verb := range []string{"retry", "drop"} {
		x = h.want(200, "outside-namespace", "POST /v1/dead-letters:"+verb, "{\"id\":\"de/1\"}\n", "Authorization: Bearer "+"uk")
		if !strings.Contains(x.out.String(), "outside-namespace") || len(h.store.dead) != 2 {
			t.Errorf("%s outside the namespace: %s", verb, x.out.String())
		}
		h.want(403, "scope-missing", fmt.Sprintf("POST /v1/dead-letters:%s", verb), "", "Authorization: Bearer "+"reader")
	}
	h.want(403, "scope-missing", "GET /v1/dead-letters", "", "Authorization: Bearer "+"writer")
}
