package proxy

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/edit"
)

// edits reads "request", "response", "-request" or "-response", a name and a
// value per line.
func edits(text string) (list []edit.Edit) {
	for line := range strings.SplitSeq(text, "\n") {
		parts := append(strings.SplitN(strings.TrimSpace(line), " ", 3), "", "")
		if parts[0] == "" {
			continue
		}
		side, remove := strings.CutPrefix(parts[0], "-")
		list = append(list, edit.Edit{Response: side == "response", Remove: remove, Name: []byte(parts[1]), Value: []byte(parts[2])})
	}
	return list
}

// editing is a policy that gives a request the edits that its field Edits asks
// for, lines told apart by "|".
func editing(in *RouteInput, out *RouteDecision) {
	out.Edits = edits(strings.ReplaceAll(string(in.Request.Header("Edits")), "|", "\n"))
}

func TestRequestEdits(t *testing.T) { eachEngine(t, testRequestEdits) }

func testRequestEdits(t *testing.T, on opener) {
	w := newWorld(t, on(t), policy(rules{route: editing}))
	w.says(func(r *http1) string {
		return w.ok("Cache-Control: max-age=60\nVary: Class, Edits-Not", r.Header.Get("Class")+"/"+r.Header.Get("Gone"))
	})
	// The origin sees the edited fields, and variants go by them.
	w.expect(w.get("/a", "Edits: request Class one|-request gone", "Gone: x"), 200, "one/", "fwd=uri-miss")
	w.expect(w.get("/a", "Edits: request class one", "Class: mine"), 200, "one/", "hit")
	w.expect(w.get("/a", "Edits: request Class two", "Class: one"), 200, "two/", "fwd=vary-miss")
	w.expect(w.get("/a", "Class: two"), 200, "two/", "hit")
	w.expect(w.get("/a", "Edits: -request Class", "Class: two"), 200, "/", "fwd=vary-miss")
	w.expect(w.get("/a"), 200, "/", "hit")
	if got := w.requests(); got != 3 {
		t.Errorf("origin saw %d requests, want 3", got)
	}
	if lines := w.lastRequest().Header["Class"]; len(lines) != 0 {
		t.Errorf("a removed field went upstream: %q", lines)
	}
	// What passes is edited too.
	post := w.request("POST", "/a", "Edits: request Class three")
	w.expect(w.serve(post), 200, "three/", "fwd=method")
	// The cache obeys what is set, and not what is removed.
	w.expect(w.get("/never", "Edits: request Cache-Control only-if-cached"), 504, "504 Gateway Timeout: only-if-cached, and there is no answer that may be used\n", "detail=only-if-cached")
	w.expect(w.get("/never", "Edits: -request Cache-Control", "Cache-Control: only-if-cached"), 200, "/", "fwd=uri-miss")
	w.expect(w.get("/never", "Edits: -request range", "Range: bytes=0-0"), 200, "/", "hit")
	w.expect(w.get("/a", "Edits: request Range bytes=0-1|request Class one"), 206, "on", "fwd=uri-miss")
}

// A refresh behind an answer sends what the policy decided as well.
func TestEditsOfBackgroundRefresh(t *testing.T) {
	w := newWorld(t, policy(rules{route: editing}))
	seen := make(chan string, 2)
	w.says(func(r *http1) string {
		seen <- r.Header.Get("Key")
		return w.ok("Cache-Control: max-age=1, stale-while-revalidate=60", "x")
	})
	w.expect(w.get("/a", "Edits: request Key k"), 200, "x", "fwd=uri-miss")
	w.pass(2 * time.Second)
	w.expect(w.get("/a", "Edits: request Key k"), 200, "x", "hit")
	for range 2 {
		if got := <-seen; got != "k" {
			t.Errorf("origin saw the key %q", got)
		}
	}
}

// What a client's Authorization told may have gone into another field.
func TestEditsDoNotHideAuthorization(t *testing.T) {
	w := newWorld(t, policy(rules{route: editing}))
	w.says(func(r *http1) string { return w.ok("Cache-Control: max-age=60", r.Header.Get("User")) })
	w.expect(w.get("/a", "Edits: -request Authorization|request User ann", "Authorization: Bearer ann"), 200, "ann", "fwd=uri-miss")
	if got := w.lastRequest().Header["Authorization"]; len(got) != 0 {
		t.Errorf("origin saw Authorization %q", got)
	}
	w.expect(w.get("/a"), 200, "", "fwd=uri-miss")
	w.expect(w.get("/b", "Edits: request Authorization Basic x"), 200, "", "fwd=uri-miss")
	w.expect(w.get("/b"), 200, "", "fwd=uri-miss") // made with credentials: nobody else's
}

func TestResponseEdits(t *testing.T) { eachEngine(t, testResponseEdits) }

func testResponseEdits(t *testing.T, on opener) {
	w := newWorld(t, on(t), policy(rules{route: func(in *RouteInput, out *RouteDecision) {
		editing(in, out)
		switch string(in.Target) {
		case "/deny":
			out.Deny = 403
		case "/answer":
			out.Answer = &Ready{Status: 302, Block: []byte("Location: /new\r\nServer: me\r\n")}
		}
	}}))
	w.says(func(r *http1) string {
		if r.URL.Path == "/broken" {
			return "no answer\r\n\r\n"
		}
		return w.ok("Cache-Control: max-age=60\nETag: \"e\"\nServer: origin\nContent-Type: text/plain\nCache-Status: up; hit", "0123456789")
	})
	const all = "Edits: response New 1|-response Server|response content-type text/css|response Cache-Control private"
	f := func(x *exchange, status int, cache, added, server, kind, control string) {
		t.Helper()
		if x.status != status || !strings.HasPrefix(x.cache(), cache) {
			t.Errorf("%s %s: %d %q, want %d %q", x.method, x.target, x.status, x.cache(), status, cache)
		}
		media, _, _ := strings.Cut(x.line("Content-Type"), "; boundary=")
		got := []string{x.line("New"), x.line("Server"), media, x.line("Cache-Control")}
		if want := []string{added, server, kind, control}; strings.Join(got, ";") != strings.Join(want, ";") {
			t.Errorf("%s %s: %q, want %q", x.method, x.target, got, want)
		}
	}
	f(w.get("/a", all), 200, "fwd=uri-miss", "1", "", "text/css", "private")
	f(w.get("/a"), 200, "hit", "", "origin", "text/plain", "max-age=60") // what is stored is the origin's
	f(w.get("/a", all), 200, "hit", "1", "", "text/css", "private")
	f(w.serve(w.request("HEAD", "/a", all)), 200, "hit", "1", "", "text/css", "private")
	f(w.get("/a", all, `If-None-Match: "e"`), 304, "hit", "1", "", "", "private")
	f(w.get("/a", all, `If-Match: "x"`), 412, "hit", "1", "", "", "private")
	f(w.get("/a", all, "Range: bytes=0-1"), 206, "hit", "1", "", "text/css", "private")
	f(w.get("/a", all, "Range: bytes=90-"), 416, "hit", "1", "", "", "private")
	parts := w.get("/a", all, "Range: bytes=0-1,4-5")
	f(parts, 206, "hit", "1", "", "multipart/byteranges", "private")
	if body := parts.out.String(); strings.Count(body, "Content-Type: text/css\r\n") != 2 {
		t.Errorf("parts: %q", body)
	}
	f(w.serve(w.request("POST", "/a", all)), 200, "fwd=method", "1", "", "text/css", "private")
	// Answers of the node's own stay what they are, and get what is new.
	f(w.get("/broken", all), 502, "fwd=uri-miss", "1", "", "text/plain; charset=utf-8", "no-store")
	f(w.get("/deny", all), 403, "detail=denied", "1", "", "text/plain; charset=utf-8", "no-store")
	f(w.get("/answer", all), 302, "detail=policy", "1", "me", "text/css", "private")
	if got := w.get("/a", all).lines("Cache-Status"); len(got) != 2 || got[0] != "up; hit" {
		t.Errorf("Cache-Status %q", got)
	}
}

// Those who wait for one answer get it each with changes of their own.
func TestEditsOfWaiters(t *testing.T) {
	w := newWorld(t, policy(rules{route: editing}))
	release := make(chan struct{})
	w.does(func(c net.Conn, _ *http.Request) {
		<-release
		io.WriteString(c, w.ok("Cache-Control: max-age=60", strings.Repeat("z", 200_000)))
	})
	const n = 8
	done := make(chan *exchange, n)
	for i := range n {
		go func() { done <- w.get("/a", fmt.Sprintf("Edits: response Me %d", i), fmt.Sprintf("I: %d", i)) }()
	}
	w.untilWaiters(n - 1)
	close(release)
	for range n {
		if x := <-done; x.line("Me") != x.fields[1][1] || x.out.Len() != 200_000 {
			t.Errorf("%q got %q and %d bytes", x.fields, x.line("Me"), x.out.Len())
		}
	}
	if got := w.requests(); got != 1 {
		t.Errorf("origin saw %d requests, want 1", got)
	}
}

func TestRefusedEdits(t *testing.T) {
	var log bytes.Buffer
	bad := edits("response Via x\nresponse Cache-Status edgenode; hit\nresponse Age 1\nresponse Date now\nresponse Content-Length 3\n" +
		"response Transfer-Encoding chunked\nresponse Connection close\nresponse Keep-Alive 5\nrequest Host evil\nrequest Connection X\nrequest Via x\n" +
		"-request Via\nrequest Content-Length 9\nrequest Transfer-Encoding chunked\nrequest X-Forwarded-For 1.2.3.4\nrequest X-Forwarded-Proto https\n" +
		"request X-Real-IP 1.2.3.4\nresponse a b:c")
	bad[len(bad)-1].Name = []byte("a b")
	for _, value := range []string{"x\r\nEvil: 1", "x\nEvil: 1", "x\x00"} {
		bad = append(bad, edit.Edit{Response: true, Name: []byte("Split"), Value: []byte(value)}, edit.Edit{Name: []byte("Split"), Value: []byte(value)})
	}
	w := newWorld(t, policy(rules{route: func(_ *RouteInput, out *RouteDecision) { out.Edits = bad }}), func(o *Options) {
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
	})
	w.always(w.ok("Cache-Control: max-age=60", "x"))
	first := w.get("/a", "Via: 1.1 edgenode")
	w.expect(first, 200, "x", "fwd=uri-miss")
	second := w.get("/a")
	w.expect(second, 200, "x", "hit")
	for _, name := range []string{"Evil", "Split", "Connection", "Keep-Alive", "Transfer-Encoding", "Content-Length"} {
		if got := append(first.lines(name), second.lines(name)...); len(got) != 0 {
			t.Errorf("answer with %s: %q", name, got)
		}
	}
	if got, via := second.line("Date"), second.line("Via"); got != w.date() || via != "1.1 edgenode" || len(second.lines("Cache-Status")) != 1 {
		t.Errorf("Date %q, Via %q", got, via)
	}
	r := w.lastRequest()
	if h := r.Header; r.Host != "shop.example" || h.Get("Via") != "1.1 edgenode" || len(h["Via"]) != 2 || h.Get("X-Forwarded-For") != "192.0.2.7" ||
		h.Get("X-Forwarded-Proto") != "http" || h["Evil"] != nil || h["Split"] != nil || h["X-Real-Ip"] != nil || h["Content-Length"] != nil {
		t.Errorf("origin saw %s %q", r.Host, h)
	}
	if got, want := int(w.p.m.refusedEdits.Get()), 2*len(bad); got != want {
		t.Errorf("%d refused, want %d", got, want)
	}
	if got := strings.Count(log.String(), "header edit of a hook refused"); got != 1 || !strings.Contains(log.String(), "field=Via") {
		t.Errorf("%d warnings, want 1:\n%s", got, log.String())
	}
	w.pass(time.Minute)
	w.get("/a")
	if got := strings.Count(log.String(), "header edit of a hook refused"); got != 2 {
		t.Errorf("%d warnings a minute later, want 2", got)
	}
}
