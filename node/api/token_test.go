package api_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers/item"
)

func TestLocalOnly(t *testing.T) {
	h := newHarness(t)
	f := func(remote bool, host, origin string, code int, problem string) {
		t.Helper()
		x := request("GET /v1/items/a:status", "")
		x.remote, x.host = remote, host
		if origin != "" {
			x.fields = append(x.fields, [2]string{"Origin", origin})
		}
		h.api.Serve(x)
		if x.code != code || x.problem() != problem {
			t.Errorf("%v %q %q: %d %s, want %d %s", remote, host, origin, x.code, x.problem(), code, problem)
		}
		if code == 403 && problem == "not-local" && !strings.Contains(x.out.String(), "[[token]]") {
			t.Error("403 does not say how to open it")
		}
	}
	f(false, "localhost", "", 200, "")
	f(false, "127.0.0.1:8080", "", 200, "")
	f(false, "[::1]:8080", "", 200, "")
	f(true, "localhost", "", 403, "not-local")
	f(false, "evil.example", "", 403, "not-local") // a name that resolves to us
	f(false, "", "", 403, "not-local")
	f(false, "localhost:8080", "http://localhost:8080", 200, "")
	f(false, "localhost:8080", "https://evil.example", 403, "foreign-origin")
	f(false, "localhost:8080", "null", 403, "foreign-origin")
}

func token(secret string, scopes api.Scope) api.Token {
	return api.Token{Name: secret, SHA256: sha256.Sum256([]byte(secret)), Scopes: scopes}
}

func withTokens(tokens ...api.Token) func(*api.Options) {
	return func(o *api.Options) { o.Tokens, o.Sites = tokens, sites{} }
}

func TestTokens(t *testing.T) {
	h := newHarness(t, withTokens(token("reader", api.ScopeRead), token("writer", api.ScopeWrite), token("purger", api.ScopePurge)))
	f := func(line, body, authorization string, code int, problem string) {
		t.Helper()
		x := request(line, body)
		x.remote, x.host = true, "edge.example"
		if authorization != "" {
			x.fields = append(x.fields, [2]string{"Authorization", authorization})
		}
		h.api.Serve(x)
		if x.code != code || x.problem() != problem {
			t.Errorf("%s as %q: %d %s, want %d %s", line, authorization, x.code, x.problem(), code, problem)
		}
		if (code == 401) != strings.HasPrefix(x.field("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%d with WWW-Authenticate %q", code, x.field("WWW-Authenticate"))
		}
	}
	f("GET /v1/items/a", "", "", 401, "unauthorized")
	f("GET /nowhere", "", "", 401, "unauthorized")
	f("GET /v1/items/a", "", "Bearer", 401, "unauthorized")
	f("GET /v1/items/a", "", "Bearer ", 401, "unauthorized")
	f("GET /v1/items/a", "", "Bearer unknown", 401, "unauthorized")
	f("GET /v1/items/a", "", "Basic reader", 401, "unauthorized")
	f("GET /v1/items/a", "", "Bearer reader", 404, "not-found")
	f("GET /v1/items/a", "", "bearer  reader", 404, "not-found")
	f("PUT /v1/items/a", "x", "Bearer reader", 403, "scope-missing")
	f("PUT /v1/items/a", "x", "Bearer writer", 201, "")
	f("GET /v1/items/a", "", "Bearer writer", 403, "scope-missing")
	f("GET /v1/items", "", "Bearer writer", 403, "scope-missing")
	f("GET /v1/items:count", "", "Bearer writer", 403, "scope-missing")
	f("GET /v1/items/a:status", "", "Bearer writer", 403, "scope-missing")
	f("POST /v1/items:get", "", "Bearer writer", 403, "scope-missing")
	f("DELETE /v1/items/a", "", "Bearer reader", 403, "scope-missing")
	f("DELETE /v1/items?all=1", "", "Bearer reader", 403, "scope-missing")
	f("POST /v1/items/a:state", "{}", "Bearer reader", 403, "scope-missing")
	f("POST /v1/items:put", "", "Bearer reader", 403, "scope-missing")
	f("POST /v1/items:delete", "", "Bearer reader", 403, "scope-missing")
	f("POST /v1/purge", `{"all":true}`, "Bearer writer", 403, "scope-missing")
	f("POST /v1/purge", `{"all":true}`, "Bearer purger", 200, "")
}

func TestNamespace(t *testing.T) {
	bound := token("bound", api.ScopeRead|api.ScopeWrite|api.ScopePurge)
	bound.Namespace = "uk/"
	h := newHarness(t, withTokens(bound, token("free", api.ScopeRead|api.ScopeWrite)))
	const as = "Authorization: Bearer bound"
	for _, id := range []string{"de/1", "uk/1", "uk"} {
		h.want(201, "", "PUT /v1/items/"+id, "x", "Authorization: Bearer free", "Edge-Tags: t")
	}
	h.want(200, "", "GET /v1/items/uk/1", "", as)
	for _, line := range []string{
		"GET /v1/items/de/1", "PUT /v1/items/de/1", "DELETE /v1/items/de/1", "GET /v1/items/de/1:status", "GET /v1/items/uk", "POST /v1/items/de/1:state",
	} {
		h.want(403, "outside-namespace", line, "", as)
	}
	if got := h.want(200, "", "GET /v1/items", "", as).out.String(); strings.Contains(got, "de/1") || strings.Contains(got, `"uk"`) || !strings.Contains(got, "uk/1") {
		t.Errorf("list shows %s", got)
	}
	if got := h.want(200, "", "GET /v1/items:count?tag=t", "", as).out.String(); !strings.Contains(got, `"count":1,`) {
		t.Errorf("count shows %s", got)
	}
	got := lines(t, h.do("POST /v1/items:get", `{"id":"de/1"}`+"\n"+`{"id":"uk/1"}`, as))
	if kind(got[0]) != "outside-namespace" || got[1]["status"] != 200.0 {
		t.Errorf("batch shows %v", got)
	}
	h.want(403, "outside-namespace", "POST /v1/purge", `{"id":"de/1"}`, as)
	h.want(403, "outside-namespace", "POST /v1/purge", `{"url":"http://a/"}`, as)
	h.want(403, "outside-namespace", "POST /v1/purge", `{"host":"a"}`, as)
	for _, body := range []string{`{"all":true}`, `{"tag":"t"}`, `{"prefix":"http://a"}`, `{"state":"s"}`} {
		h.purges = nil
		h.want(200, "", "POST /v1/purge", body, as)
		if len(h.purges) != 1 || h.purges[0].Namespaces != item.InItems || h.purges[0].Scope != "uk/" {
			t.Errorf("%s: %+v", body, h.purges)
		}
	}
	h.want(200, "", "DELETE /v1/items?all=true", "", as)
	h.want(200, "", "GET /v1/items/de/1", "", "Authorization: Bearer free")
}

func TestBudgets(t *testing.T) {
	writes, bytes := token("writes", api.ScopeWrite), token("bytes", api.ScopeWrite)
	writes.WritesPerSecond, bytes.BytesPerSecond = 0.001, 0.5
	h := newHarness(t, withTokens(writes, bytes))
	h.want(201, "", "PUT /v1/items/a", "x", "Authorization: Bearer writes")
	x := h.want(429, "over-budget", "PUT /v1/items/a", "x", "Authorization: Bearer writes")
	if got := x.out.String(); x.field("Retry-After") == "" || !strings.Contains(got, `"limit":1`) {
		t.Errorf("429 with %q: %s", x.head, got)
	}
	h.want(429, "over-budget", "DELETE /v1/items/a", "", "Authorization: Bearer writes")
	h.want(204, "", "PUT /v1/items/a", "more than is in the budget", "Authorization: Bearer bytes")
	h.want(429, "over-budget", "PUT /v1/items/a", "x", "Authorization: Bearer bytes")
	h.want(204, "", "PUT /v1/items/a", "", "Authorization: Bearer bytes") // nothing costs nothing

	if err := h.api.SetTokens([]api.Token{writes}); err != nil {
		t.Fatal(err)
	}
	h.want(429, "over-budget", "PUT /v1/items/a", "x", "Authorization: Bearer writes") // a reload refills nothing
	h.want(401, "unauthorized", "PUT /v1/items/a", "x", "Authorization: Bearer bytes")
}

func TestAuthorizeAdmin(t *testing.T) {
	h := newHarness(t, withTokens(token("admin", api.ScopeAdmin), token("reader", api.ScopeRead)))
	f := func(authorization string, want problem.Kind) {
		t.Helper()
		if p := h.api.Admin([]byte(authorization)); p == nil || p.Kind != want {
			t.Errorf("%q: %v", authorization, p)
		}
	}
	f("", problem.Unauthorized)
	f("Bearer reader", problem.ScopeMissing)
	if p := h.api.Admin([]byte("Bearer admin")); p != nil {
		t.Errorf("admin refused: %v", p)
	}
	if p := newHarness(t).api.Admin([]byte("Bearer admin")); p == nil {
		t.Error("without tokens somebody is admin")
	}
}

func TestFaultyOptions(t *testing.T) {
	bad := token("bad", 0)
	bad.Namespace, bad.WritesPerSecond = "uk", -1
	_, err := api.New(api.Options{MaxPayload: -1, Name: "a b", Tokens: []api.Token{bad, {Scopes: api.ScopeRead}}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"no engine", "-1 bytes", `"a b"`, "no scope", `"uk" must end in a separator`, "budget -1", "no SHA-256"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not told in:\n%v", want, err)
		}
	}
	a, err := api.New(api.Options{Engine: newStore()})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetTokens([]api.Token{token("a", api.ScopeRead), token("a", api.ScopeRead)}); err == nil {
		t.Error("two tokens with one secret were taken")
	}
	for _, name := range []string{"read", "write", "purge", "admin"} {
		if s, err := api.ParseScope(name); err != nil || s.String() != name {
			t.Errorf("%s: %v %v", name, s, err)
		}
	}
	if _, err := api.ParseScope("root"); err == nil {
		t.Error("an unknown scope was taken")
	}
}
