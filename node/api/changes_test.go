package api_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/tiers"
)

// change puts an item and notes that it changed.
func (h *harness) change(id, content string) {
	h.Helper()
	h.do("PUT /v1/items/"+id, content, "Edge-Tags: t", "Edge-State: new")
	h.note(tiers.EventPut, id)
}

func feedOf(h *harness) {
	h.Helper()
	h.change("uk/1", `{"a":1}`)
	h.change("de/1", "x")
	h.note(tiers.EventDelete, "uk/1")
	h.note(tiers.EventPurge, "t")
	h.note(tiers.EventExpire, "uk/2")
}

func TestChangesAsLines(t *testing.T) {
	h := newHarness(t)
	feedOf(h)
	x := h.want(200, "", "GET /v1/changes?since=0&content=1", "")
	h.has(x, "Content-Type", "application/x-ndjson")
	h.has(x, "Cache-Control", "no-store")
	got := strings.Split(x.out.String(), "\n")
	for i, want := range []string{
		`{"seq":"1","prev":"0","at_ms":1700000000000,"op":"put","id":"uk/1","version":"1000","etag":"`,
		`{"seq":"2","prev":"1","at_ms":1700000000000,"op":"put","id":"de/1","version":"1001","etag":"`,
		`{"seq":"3","prev":"2","at_ms":1700000000000,"op":"delete","id":"uk/1","version":"1002"}`,
		`{"seq":"4","prev":"3","at_ms":1700000000000,"op":"purge","version":"1003","match":"tag","values":["t"],"items":true,"sites":false,"soft":true}`,
		`{"seq":"5","prev":"4","at_ms":1700000000000,"op":"expire","id":"uk/2","version":"1004"}`,
		`{"end":true,"count":5,"seq":"5"}`, "",
	} {
		if i >= len(got) || !strings.HasPrefix(got[i], want) {
			t.Errorf("line %d of %q, want %s", i, got, want)
		}
	}
	for _, want := range []string{`"size":7,"state":"new","tags":["t"]`, `,"content":{"a":1}}`} {
		if !strings.Contains(got[0], want) {
			t.Errorf("%s lacks %s", got[0], want)
		}
	}
	f := func(query, want string) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(h.want(200, "", "GET /v1/changes"+query, "").out.String()), "\n")
		var seqs []string
		for _, l := range lines[:len(lines)-1] {
			_, rest, _ := strings.Cut(l, `"seq":"`)
			seqs = append(seqs, rest[:1])
		}
		if got := strings.Join(seqs, " ") + " end " + lines[len(lines)-1]; got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	f("?since=3", `4 5 end {"end":true,"count":2,"seq":"5"}`)
	f("?since=0&limit=2", `1 2 end {"end":true,"count":2,"seq":"2"}`)
	f("?since=0&prefix=uk/", `1 3 4 5 end {"end":true,"count":4,"seq":"5"}`)
	f("?since=0&prefix=uk/&limit=2", `1 3 end {"end":true,"count":2,"seq":"3"}`)
	f("", ` end {"end":true,"count":0,"seq":"5"}`)
	f("?since=now", ` end {"end":true,"count":0,"seq":"5"}`)
	if s := h.want(200, "", "GET /v1/changes?since=0&limit=1", "").out.String(); strings.Contains(s, "content") || !strings.Contains(s, `"size":7`) {
		t.Errorf("without content: %s", s)
	}

	h.want(400, "bad-parameter", "GET /v1/changes?since=x", "")
	h.want(400, "bad-parameter", "GET /v1/changes?since=-1", "")
	h.want(400, "bad-parameter", "GET /v1/changes?limit=1001", "")
	h.want(400, "bad-parameter", "GET /v1/changes?wait=61s", "")
	h.want(400, "bad-parameter", "GET /v1/changes?wait=soon", "")
	h.want(400, "bad-parameter", "GET /v1/changes?since=0", "", "Last-Event-ID: x")
	h.want(400, "bad-parameter", "GET /v1/changes?limit=3", "", "Accept: text/event-stream")
	h.want(400, "unknown-parameter", "GET /v1/changes?from=3", "")
	h.want(405, "", "HEAD /v1/changes", "")
	h.want(405, "method-not-allowed", "POST /v1/changes", "")

	h.feed.gone = 2
	x = h.want(410, "changes-gone", "GET /v1/changes?since=1", "")
	if !strings.Contains(x.out.String(), "Merkle diff") {
		t.Errorf("the remedy is not named: %s", x.out.String())
	}
	h.want(410, "changes-gone", "GET /v1/changes?since=1", "", "Accept: text/event-stream")
	h.want(410, "changes-gone", "GET /v1/changes?since=99", "")
	h.want(200, "", "GET /v1/changes?since=2", "")
	h.fail = tiers.ErrUnavailable
	h.want(503, "unavailable", "GET /v1/changes?since=3", "")
}

// TestChangesOfANamespace: a token sees its ids only, and needs the scope.
func TestChangesOfANamespace(t *testing.T) {
	h := newHarness(t)
	feedOf(h)
	tokens := []api.Token{
		{Name: "uk", SHA256: sha256.Sum256([]byte("uk")), Scopes: api.ScopeRead, Namespace: "uk/"},
		{Name: "de", SHA256: sha256.Sum256([]byte("de")), Scopes: api.ScopeRead, Namespace: "de/"},
		{Name: "writer", SHA256: sha256.Sum256([]byte("writer")), Scopes: api.ScopeWrite},
	}
	if err := h.api.SetTokens(tokens); err != nil {
		t.Fatal(err)
	}
	f := func(name, absent string, count string) {
		t.Helper()
		s := h.want(200, "", "GET /v1/changes?since=0", "", "Authorization: Bearer "+name).out.String()
		if strings.Contains(s, absent) || !strings.HasSuffix(s, `{"end":true,"count":`+count+`,"seq":"5"}`+"\n") {
			t.Errorf("%s sees %s", name, s)
		}
	}
	f("uk", "de/", "4")
	f("de", "uk/", "2")
	h.want(401, "unauthorized", "GET /v1/changes", "")
	h.want(403, "scope-missing", "GET /v1/changes", "", "Authorization: Bearer writer")
}

// TestLongPoll: an answer in lines waits for the first change, as long as it is
// told to, and until the node drains.
func TestLongPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		feedOf(h)
		poll := func(during func()) (string, time.Duration) {
			t.Helper()
			begin, done := time.Now(), make(chan *exchange)
			go func() { done <- h.do("GET /v1/changes?since=5&wait=30s&prefix=uk/", "") }()
			synctest.Wait()
			during()
			x := <-done
			if x.code != 200 {
				t.Errorf("%d %s", x.code, x.out.String())
			}
			return x.out.String(), time.Since(begin)
		}
		if got, took := poll(func() {}); got != `{"end":true,"count":0,"seq":"5"}`+"\n" || took != 30*time.Second {
			t.Errorf("nothing happens: %s after %v", got, took)
		}
		got, took := poll(func() {
			time.Sleep(time.Second)
			h.note(tiers.EventDelete, "de/9") // not for it
			time.Sleep(time.Second)
			h.note(tiers.EventDelete, "uk/9")
		})
		if !strings.Contains(got, `{"seq":"7","prev":"6",`) || !strings.Contains(got, `"uk/9"`) || took != 2*time.Second {
			t.Errorf("a change after two seconds: %s after %v", got, took)
		}
		h.feed.events = h.feed.events[:5]
		if got, took := poll(h.api.Drain); got != `{"end":true,"count":0,"seq":"5"}`+"\n" || took != 0 {
			t.Errorf("drained: %s after %v", got, took)
		}
	})
}

// TestServerSentEvents: the stream goes on from the last id, beats, lives through
// an outage of L3, and tells why it ends.
func TestServerSentEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t, func(o *api.Options) { o.MaxFeeds = 2 })
		feedOf(h)
		ctx, leave := context.WithCancel(t.Context())
		defer leave()
		stream := func(ctx context.Context, target string, fields ...string) (*exchange, chan struct{}) {
			x := request("GET "+target, "", append(fields, "Accept: text/event-stream")...)
			x.ctx = ctx
			done := make(chan struct{})
			go func() { h.api.Serve(x); close(done) }()
			synctest.Wait()
			return x, done
		}
		x, done := stream(ctx, "/v1/changes?since=0", "Last-Event-ID: 4")
		h.has(x, "Content-Type", "text/event-stream")
		f := func(when, want string) {
			t.Helper()
			synctest.Wait()
			if got := x.out.String(); got != want {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
			x.out.Reset()
		}
		f("what it missed", "id: 5\nevent: expire\ndata: {\"seq\":\"5\",\"prev\":\"4\",\"at_ms\":1700000000000,\"op\":\"expire\",\"id\":\"uk/2\",\"version\":\"1004\"}\n\nretry: 2000\n\n")
		h.note(tiers.EventDelete, "a")
		f("at once", "id: 6\nevent: delete\ndata: {\"seq\":\"6\",\"prev\":\"5\",\"at_ms\":1700000000000,\"op\":\"delete\",\"id\":\"a\",\"version\":\"1005\"}\n\n")
		time.Sleep(15 * time.Second)
		f("heartbeat", ":\nid: 6\n\n")
		h.mu.Lock()
		h.fail = tiers.ErrUnavailable
		h.mu.Unlock()
		h.note(tiers.EventDelete, "b")
		time.Sleep(3 * time.Second)
		h.mu.Lock()
		h.fail = nil
		h.mu.Unlock()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := x.out.String(); !strings.Contains(got, ":\nid: 6\n\n") || !strings.Contains(got, "id: 7\nevent: delete") || strings.Contains(got, "problem") {
			t.Errorf("through an outage: %q", got)
		}
		x.out.Reset()

		second, secondDone := stream(ctx, "/v1/changes")
		if got := second.out.String(); got != "retry: 2000\n\n:\nid: 7\n\n" {
			t.Errorf("from now: %q", got)
		}
		third := h.want(503, "too-many-feeds", "GET /v1/changes", "")
		if third.field("Retry-After") == "" || !strings.Contains(third.out.String(), `"limit":2`) {
			t.Errorf("%v %s", third.head, third.out.String())
		}
		h.mu.Lock()
		h.feed.gone = 99
		h.mu.Unlock()
		h.note(tiers.EventDelete, "c")
		<-done
		<-secondDone
		if got := x.out.String(); !strings.HasPrefix(got, "event: problem\ndata: {\"type\":\"urn:edgenode:problem:changes-gone\"") || !strings.HasSuffix(got, "}\n\n") {
			t.Errorf("fell off: %q", got)
		}
		h.feed.gone = 0
		_, done = stream(ctx, "/v1/changes")
		leave()
		<-done // the client left
		x, done = stream(t.Context(), "/v1/changes")
		x.out.Reset()
		h.api.Drain()
		<-done
		if x.aborted || x.out.Len() != 0 && !strings.HasPrefix(x.out.String(), ":") {
			t.Errorf("drained: %q, cut %v", x.out.String(), x.aborted)
		}
		if h.do("GET /v1/changes", "").code != 200 {
			t.Error("a feed that has ended is still counted")
		}
	})
}

// TestSlowFeed: a reader that takes nothing any more costs itself, and is let go
// when the front says so.
func TestSlowFeed(t *testing.T) {
	h := newHarness(t)
	for range 20 {
		h.change("a", strings.Repeat("x", 900))
	}
	x := request("GET /v1/changes?since=0", "", "Accept: text/event-stream")
	x.broken = errors.New("stalled")
	h.api.Serve(x)
	if h.do("GET /v1/changes", "").code != 200 {
		t.Error("it is still counted")
	}
}

// D13: who goes on at a node with another database is told so, in lines and streams;
// the number alone says nothing, since both databases have it.
func TestD13_AnotherDatabase(t *testing.T) {
	h, other := treeHarness(t), treeHarness(t)
	end := func(h *harness) map[string]any {
		t.Helper()
		all := lines(t, h.want(200, "", "GET /v1/changes?since=2&limit=1", ""))
		return all[len(all)-1]
	}
	seq, store := end(h)["seq"].(string), end(h)["store"].(string)
	if elsewhere := end(other)["store"]; store == "" || elsewhere == store || end(other)["seq"] != seq {
		t.Fatalf("two databases: %q and %q", store, elsewhere)
	}
	short := store[len(store)-8:]
	for _, since := range []string{seq, seq + "@" + store, seq + "@" + short} {
		h.want(200, "", "GET /v1/changes?since="+since, "")
	}
	h.want(410, "changes-gone", "GET /v1/changes?since="+seq+"@"+short[1:], "") // too little to tell
	for _, since := range []string{"@" + store, "@" + short} {
		other.want(410, "changes-gone", "GET /v1/changes?since="+seq+since, "")
		other.want(410, "changes-gone", "GET /v1/changes", "", "Accept: text/event-stream", "Last-Event-ID: "+seq+since)
	}
	other.want(400, "bad-parameter", "GET /v1/changes?since=x@"+store, "")
	other.want(200, "", "GET /v1/changes?since="+seq, "")
}
