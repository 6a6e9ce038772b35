package replica_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/replica"
)

// TestC8_ReplicaForwards: a write at the replica is decided by the hub, with the
// client's conditions and with the hub's receipt, and read at the replica at once.
func TestC8_ReplicaForwards(t *testing.T) {
	hub, n, _ := pair(t, replica.Options{Prefixes: []string{"a/"}, Forward: true})
	n.awaitState(replica.StateFollowing)
	h, _ := n.want(201, "PUT", "/v1/items/a/1%20%3A%C3%A9", "one", "Content-Type", "text/x", "Edge-State", "new", "Edge-Tags", "t,u", "Edge-TTL", "1h", "Edge-Durability", "l3")
	if h.Get("Edge-Persisted") != "l3" || h.Get("ETag") == "" {
		t.Errorf("receipt %v", h)
	}
	const id = "a/1 :é"
	if here, there := n.items("")[id], hub.items("")[id]; here != there || !strings.HasPrefix(here, h.Get("Edge-Version")+" ") || !strings.Contains(here, " new t,u, ") {
		t.Errorf("here %q, there %q, version %s", here, there, h.Get("Edge-Version"))
	}
	path := "/v1/items/a/1%20:%C3%A9"
	g, body := n.want(200, "GET", path, "")
	if body != "one" || g.Get("Content-Type") != "text/x" || g.Get("Edge-Version") != h.Get("Edge-Version") || g.Get("Edge-Stale") != "" {
		t.Errorf("read %q, %v", body, g)
	}
	n.want(412, "PUT", path, "two", "If-None-Match", "*")
	n.want(412, "PUT", path, "two", "If-Match", `"0123456789abcdef0123456789abcdef"`)
	n.want(412, "DELETE", path, "", "Edge-If-Version", "7")
	n.want(204, "PUT", path, "two", "If-Match", h.Get("ETag"))
	h, _ = n.want(204, "POST", path+":state", `{"state":"done"}`)
	if g, _ = n.want(200, "GET", path, ""); g.Get("Edge-State") != "done" || g.Get("Edge-Version") != h.Get("Edge-Version") {
		t.Errorf("after the change %v, version %s", g, h.Get("Edge-Version"))
	}
	n.want(400, "PUT", path, "x", "If-Match", "nonsense")
	h, _ = n.want(204, "DELETE", path, "")
	if h.Get("Edge-Existed") != "true" {
		t.Errorf("receipt of the delete %v", h)
	}
	n.want(404, "GET", path, "")
	for i := range 200 { // each is read right after it was acknowledged
		n.want(201, "PUT", fmt.Sprintf("/v1/items/a/x%d", i), fmt.Sprint(i))
		if _, body := n.want(200, "GET", fmt.Sprintf("/v1/items/a/x%d", i), ""); body != fmt.Sprint(i) {
			t.Fatalf("item %d is %q", i, body)
		}
	}

	// What is not the hub's stays here.
	n.want(201, "PUT", "/v1/items/b/1", "own")
	if hub.items("b/")["b/1"] != "" {
		t.Error("an item of another prefix came to the hub")
	}
	n.want(204, "DELETE", "/v1/items/b/1", "")
}

// TestC8_ReplicaForwardsMany: of a batch each line goes where it belongs, in order;
// a bulk delete goes to the hub if all of it belongs there.
func TestC8_ReplicaForwardsMany(t *testing.T) {
	hub, n, _ := pair(t, replica.Options{Prefixes: []string{"a/"}, Forward: true})
	n.awaitState(replica.StateFollowing)
	lines := func(body string) (list []map[string]any) {
		t.Helper()
		for _, l := range strings.Split(strings.TrimSpace(body), "\n") {
			var m map[string]any
			if err := json.Unmarshal([]byte(l), &m); err != nil {
				t.Fatal(err, l)
			}
			list = append(list, m)
		}
		return list
	}
	put := ""
	for i := range 40 {
		put += fmt.Sprintf(`{"id":"%c/%d","text":"%d","tags":["t"],"ttl":"1h"}`+"\n", 'a'+i%2, i%10, i)
	}
	_, body := n.want(200, "POST", "/v1/items:put", put+`{"id":"a/1","text":"x","if_version":"9"}`+"\n")
	got := lines(body)
	for i, l := range got[:40] {
		if l["id"] != fmt.Sprintf("%c/%d", 'a'+i%2, i%10) || l["version"] == nil || l["etag"] == nil || l["persisted"] != "sync" {
			t.Errorf("line %d: %v", i, l)
		}
	}
	if end := got[len(got)-1]; len(got) != 42 || end["ok"] != 40.0 || end["failed"] != 1.0 {
		t.Errorf("%d lines, %v", len(got), end)
	}
	n.wantEqual(hub, "a/")
	for i := range 10 { // the last of the lines of each id is there
		if _, body := n.want(200, "GET", fmt.Sprintf("/v1/items/%c/%d", 'a'+i%2, i), ""); body != fmt.Sprint(30+i) {
			t.Errorf("%d is %s", i, body)
		}
	}
	if len(hub.items("b/")) != 0 || len(n.items("b/")) != 5 {
		t.Errorf("below b/ there are %d at the hub, %d here", len(hub.items("b/")), len(n.items("b/")))
	}
	_, body = n.want(200, "POST", "/v1/items:delete", `{"id":"a/0"}`+"\n"+`{"id":"b/1"}`+"\n")
	if got := lines(body); got[0]["existed"] != true || got[1]["existed"] != true || got[2]["ok"] != 2.0 {
		t.Errorf("deletes: %v", got)
	}
	n.want(404, "GET", "/v1/items/a/0", "")
	if _, body := n.want(403, "DELETE", "/v1/items?tag=t", ""); !strings.Contains(body, "urn:edgenode:problem:replicated") {
		t.Errorf("a bulk delete of both: %s", body)
	}
	n.want(200, "DELETE", "/v1/items?prefix=b/&tag=t", "")
	if len(n.items("b/")) != 0 || len(hub.items("a/")) != 4 {
		t.Errorf("after a bulk delete of its own: %v, %v", n.items("b/"), hub.items("a/"))
	}
	n.want(200, "DELETE", "/v1/items?prefix=a/&tag=t", "")
	if len(hub.items("")) != 0 || len(n.items("")) != 0 {
		t.Errorf("after the bulk delete there are %v and %v", hub.items(""), n.items(""))
	}
}

// TestC8_ReplicaRefuses: with writes = refuse, or if the hub cannot be reached or does
// not take the token, nothing is written and the answer says whose the item is.
func TestC8_ReplicaRefuses(t *testing.T) {
	hub, n, w := pair(t, replica.Options{})
	for _, q := range []string{"PUT /v1/items/a/1", "DELETE /v1/items/a/1", "DELETE /v1/items?prefix=a/"} {
		method, path, _ := strings.Cut(q, " ")
		if _, body := n.want(403, method, path, ""); !strings.Contains(body, "urn:edgenode:problem:replicated") || !strings.Contains(body, w.url) {
			t.Errorf("%s: %s", q, body)
		}
	}
	n.want(403, "POST", "/v1/items/a/1:state", `{"state":"x"}`)
	hub.put("a/1", "x")
	hub.flush()
	_, record := hub.want(200, "GET", "/v1/merkle/record?id=a/1", "")
	n.want(403, "PUT", "/v1/merkle/record?id=a/1", record)
	if _, body := n.want(200, "POST", "/v1/items:put", `{"id":"a/1","text":"x"}`+"\n"); !strings.Contains(body, "problem:replicated") {
		t.Errorf("a line: %s", body)
	}

	reader := api.Token{Name: "replica", SHA256: sha256.Sum256([]byte("secret")), Scopes: api.ScopeRead}
	guarded := openSite(t, filepath.Join(t.TempDir(), "guarded"), nil, reader)
	w2 := newWire(t, guarded)
	o := replica.Options{From: w2.url, Token: "secret", Forward: true}
	m := openSite(t, filepath.Join(t.TempDir(), "m"), &o)
	m.awaitState(replica.StateFollowing)
	if _, body := m.want(502, "PUT", "/v1/items/a/1", "x"); !strings.Contains(body, "problem:hub-refuses") {
		t.Errorf("the hub refuses: %s", body)
	}
	w2.set(true)
	m.awaitState(replica.StateCutOff)
	// A connection that was cut just now may have taken the request with it.
	await(t, func() bool {
		status, h, body := m.ask("PUT", "/v1/items/a/1", "x")
		if status != 500 && status != 503 || status == 500 && !strings.Contains(body, "problem:unknown-fate") {
			t.Fatalf("the hub is away: %d %s", status, body)
		}
		return status == 503 && strings.Contains(body, "problem:hub-unreachable") && h.Get("Retry-After") != ""
	}, func() string { return "hub-unreachable" })
	if len(guarded.items(""))+len(m.items("")) != 0 {
		t.Error("something was written")
	}
}

// TestC8_ReplicaLoop: nodes that are each other's hubs do not send a write around
// for ever; a hub that is a replica itself sends it on.
func TestC8_ReplicaLoop(t *testing.T) {
	hub, n, w := pair(t, replica.Options{Forward: true})
	n.awaitState(replica.StateFollowing)
	last := openSite(t, filepath.Join(t.TempDir(), "last"), &replica.Options{From: n.url, Forward: true})
	last.awaitState(replica.StateFollowing)
	last.want(201, "PUT", "/v1/items/a/1", "through two")
	if _, body := last.want(200, "GET", "/v1/items/a/1", ""); body != "through two" || hub.items("")["a/1"] == "" {
		t.Errorf("%q, at the hub %v", body, hub.items(""))
	}
	w.lead(last)
	w.set(true)
	w.set(false)
	await(t, func() bool {
		status, _, body := n.ask("PUT", "/v1/items/a/1", "x")
		return status == 508 && strings.Contains(body, "problem:loop")
	}, func() string { return "508" })
}

// TestC8_ReplicaReadsWhatItForwarded: who has an acknowledgement is not told of an
// older version, even if the hub's changes cannot be heard; nor who names a version.
func TestC8_ReplicaReadsWhatItForwarded(t *testing.T) {
	hub, n, _ := pair(t, replica.Options{Forward: true, Wait: 50 * time.Millisecond})
	hub.put("a/1", "old")
	n.wantEqual(hub, "")
	n.awaitState(replica.StateFollowing)
	hub.feedless.Store(true)
	n.awaitState(replica.StateCutOff)
	h, _ := n.want(204, "PUT", "/v1/items/a/1", "new")
	for _, q := range []string{"GET /v1/items/a/1", "GET /v1/items/a/1?min_version=" + h.Get("Edge-Version")} {
		method, path, _ := strings.Cut(q, " ")
		if _, body := n.want(503, method, path, ""); !strings.Contains(body, "problem:version-not-here") {
			t.Errorf("%s: %s", q, body)
		}
	}
	if _, body := n.want(200, "POST", "/v1/items:get", `{"id":"a/1"}`+"\n"); !strings.Contains(body, "problem:version-not-here") {
		t.Errorf("a line: %s", body)
	}
	hub.feedless.Store(false)
	await(t, func() bool {
		status, _, body := n.ask("GET", "/v1/items/a/1", "")
		return status == 200 && body == "new"
	}, func() string { return "the new content" })
	if v := n.r.Wanted([]byte("a/1")); v != 0 {
		t.Errorf("version %s is still wanted", v)
	}
}

// TestG8_ReplicaPartition: cut off for longer than the grace, answers say that they
// may be old, those that there is nothing too, or are refused; then all is well again.
func TestG8_ReplicaPartition(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		var skew atomic.Int64
		now := func() int64 { return time.Now().UnixMilli() + skew.Load() }
		hub, n, w := pair(t, replica.Options{Prefixes: []string{"a/"}, Grace: time.Minute, Wait: 50 * time.Millisecond, Refuse: refuse, Now: now})
		hub.put("a/1", "x")
		n.put("b/1", "own")
		n.wantEqual(hub, "a/")
		stale := func(method, path, body string, want bool) {
			t.Helper()
			status, h, out := n.ask(method, path, body)
			switch {
			case want && refuse && method == "GET":
				if status != 503 || !strings.Contains(out, "problem:partitioned") || h.Get("Retry-After") == "" {
					t.Errorf("%s: %d %s, want 503", path, status, out)
				}
			case want && refuse:
				if !strings.Contains(out, "problem:partitioned") {
					t.Errorf("%s: %s", path, out)
				}
			case (h.Get("Edge-Stale") == "true") != want && !strings.Contains(out, `"stale":true`) || status >= 500:
				t.Errorf("%s: %d %v, stale %t", path, status, h, want)
			}
		}
		all := func(want bool) {
			t.Helper()
			for _, path := range []string{"/v1/items/a/1", "/v1/items/a/none", "/v1/items?prefix=a/", "/v1/items:count", "/v1/items"} {
				stale("GET", path, "", want)
			}
			stale("POST", "/v1/items:get", `{"id":"a/1"}`+"\n", want)
			stale("POST", "/v1/items:get", `{"id":"a/none"}`+"\n", want)
			for _, path := range []string{"/v1/items/b/1", "/v1/items/b/none", "/v1/items?prefix=b/"} {
				stale("GET", path, "", false)
			}
		}
		await(t, func() bool { return !n.r.Health().Stale }, func() string { return fmt.Sprintf("%+v", n.r.Health()) })
		all(false)
		w.set(true)
		n.awaitState(replica.StateCutOff)
		all(false)
		skew.Store(90_000)
		all(true)
		if h := n.r.Health(); !h.Stale || h.LagSeconds < 85 || len(h.Reasons) != 2 {
			t.Errorf("health %+v", h)
		}
		if _, h, _ := n.ask("GET", "/v1/items/a/1", ""); !refuse && h.Get("Edge-Replica-Age") < "85" {
			t.Errorf("age %q", h.Get("Edge-Replica-Age"))
		}
		w.set(false)
		await(t, func() bool { return !n.r.Health().Stale }, func() string { return fmt.Sprintf("%+v", n.r.Health()) })
		all(false)
	}
}

// TestG8_ReplicaNeverHeard: a replica that never had what the hub has says so.
func TestG8_ReplicaNeverHeard(t *testing.T) {
	n := openSite(t, t.TempDir(), &replica.Options{From: "http://127.0.0.1:1"})
	n.awaitState(replica.StateCutOff)
	h, _ := n.want(404, "GET", "/v1/items/a", "")
	if h.Get("Edge-Stale") != "true" || h.Get("Edge-Replica-Age") != "" {
		t.Errorf("%v", h)
	}
}

// TestOpenRefuses: every fault of the options is told.
func TestOpenRefuses(t *testing.T) {
	_, err := replica.Open(replica.Options{From: "ftp://x", Prefixes: []string{"uk", ""}})
	for _, want := range []string{`"ftp://x"`, `"uk"`, `""`, "required"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
