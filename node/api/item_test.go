package api_test

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func TestPutThenGet(t *testing.T) {
	h := newHarness(t)
	x := h.want(201, "", "PUT /v1/items/uk/shop:1", `{"a":1}`, "Content-Type: application/json", "Edge-State: fresh",
		"Edge-Tags: b, a,,b", "Edge-TTL: 15m", "Content-Encoding: gzip", "Edge-Durability: journal")
	etag := x.field("ETag")
	h.has(x, "Edge-Persisted", "journal")
	w := h.writes[0]
	if got := strings.Join(w.Tags, "|"); got != "a|b" || w.TTL != 15*time.Minute || w.State != "fresh" {
		t.Errorf("written tags %q, ttl %v, state %q", got, w.TTL, w.State)
	}

	h.now += 3500
	x = h.want(200, "", "GET /v1/items/uk/shop:1", "")
	for name, want := range map[string]string{
		"Content-Type": "application/json", "ETag": etag, "Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT", "Age": "3",
		"Edge-State": "fresh", "Cache-Status": "edgenode; hit; detail=l1; ttl=896", "Content-Encoding": "gzip",
		"Edge-Version": h.versionOf("uk/shop:1"), "Accept-Ranges": "bytes", "Cache-Control": "no-cache",
	} {
		h.has(x, name, want)
	}
	if got := x.out.String(); got != `{"a":1}` {
		t.Errorf("content %q", got)
	}
	if got, want := etag, `"`+item.ETagOf("application/json", []byte(`{"a":1}`)).String()+`"`; got != want {
		t.Errorf("ETag %s, want %s", got, want)
	}

	x = h.want(200, "", "HEAD /v1/items/uk/shop:1", "")
	if x.out.Len() != 0 || x.sized != 7 {
		t.Errorf("HEAD: %d bytes sent, %d announced, want 0 and 7", x.out.Len(), x.sized)
	}
	h.want(204, "", "PUT /v1/items/uk/shop:1", "2") // known
	h.now += time.Hour.Milliseconds()
	h.want(200, "", "GET /v1/items/uk/shop:1", "") // the second put has no lifetime
}

// versionOf returns the version of an item as the store has it.
func (s *store) versionOf(id string) string { return s.items["i"+id].Version().String() }

func TestGetTellsTheTier(t *testing.T) {
	h := newHarness(t)
	h.want(201, "", "PUT /v1/items/a", "x")
	f := func(s tiers.Source, want string) {
		t.Helper()
		h.source = s
		h.has(h.want(200, "", "GET /v1/items/a", ""), "Cache-Status", want)
	}
	f(tiers.FromL1, "edgenode; hit; detail=l1")
	f(tiers.FromPending, "edgenode; hit; detail=pending")
	f(tiers.FromL2, "edgenode; hit; detail=l2")
	f(tiers.FromL3, "edgenode; fwd=uri-miss; detail=l3")
	h.has(h.want(404, "not-found", "GET /v1/items/b", ""), "Cache-Status", "edgenode; fwd=uri-miss")
	h.stale = true
	h.has(h.want(200, "", "GET /v1/items/a", ""), "Edge-Stale", "true")
}

func TestGetOptions(t *testing.T) {
	h := newHarness(t)
	v := h.want(201, "", "PUT /v1/items/a", "x").field("Edge-Version")
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h.want(200, "", "GET /v1/items/a?verify=1", "")
	h.want(200, "", "GET /v1/items/a?min_version="+v, "")
	h.want(503, "version-not-here", "GET /v1/items/a?min_version="+strconv.FormatUint(n+1, 10), "")
	h.want(400, "bad-version", "GET /v1/items/a?min_version=0", "")
	h.want(400, "bad-version", "GET /v1/items/a?min_version=x", "")
	h.want(400, "bad-parameter", "GET /v1/items/a?verify=yes", "")
	h.want(400, "unknown-parameter", "GET /v1/items/a?verfy=1", "")
	h.want(400, "repeated-parameter", "GET /v1/items/a?verify=1&verify=1", "")
	h.want(400, "bad-tier", "GET /v1/items/a", "", "Edge-Tiers: l4")
	h.want(400, "unknown-parameter", "PUT /v1/items/a?ttl=1", "x")
	h.want(400, "unknown-parameter", "DELETE /v1/items/a?x", "")
}

func TestPutRefuses(t *testing.T) {
	h := newHarness(t)
	f := func(code int, problem string, fields ...string) {
		t.Helper()
		h.want(code, problem, "PUT /v1/items/a", "x", fields...)
	}
	f(400, "content-range", "Content-Range: bytes 0-0/2")
	f(400, "bad-ttl", "Edge-TTL: soon")
	f(400, "bad-ttl", "Edge-TTL: 0")
	f(400, "bad-tier", "Edge-TTL: l4=1h")
	f(400, "bad-tier", "Edge-Tiers: l1,l9")
	f(400, "bad-tier", "Edge-Tiers: ")
	f(400, "bad-durability", "Edge-Durability: eternal")
	f(400, "bad-durability", "Edge-Durability: default")
	f(400, "bad-durability", "Edge-Durability: sync", "Edge-Tiers: l1,l2")
	f(400, "bad-state", "Edge-State: Fresh")
	f(400, "bad-tag", "Edge-Tags: a b")
	f(400, "bad-tag", "Edge-Tags: "+strings.Repeat("x", 257))
	f(400, "bad-version", "Edge-If-Version: 0")
	f(400, "repeated-header", "Edge-State: a", "Edge-State: a")
	f(400, "bad-condition", "If-Match: 0123")
	f(400, "bad-condition", "If-None-Match: ")
	f(400, "bad-header", "Content-Type: text/"+strings.Repeat("x", 1024))
	if len(h.items) != 0 {
		t.Error("a refused put was written")
	}
	f(201, "", "Edge-Durability: memory", "Edge-Tiers: l1,l2")
}

func TestPutLimits(t *testing.T) {
	h := newHarness(t)
	h.want(201, "", "PUT /v1/items/a", strings.Repeat("x", 1000))
	x := h.want(413, "content-too-large", "PUT /v1/items/a", strings.Repeat("x", 1001))
	if body := x.out.String(); !strings.Contains(body, `"limit":1000,"value":1001`) {
		t.Errorf("413 lacks its figures: %s", body)
	}
	chunked := request("PUT /v1/items/a", strings.Repeat("x", 1001))
	chunked.length = -1
	h.api.Serve(chunked)
	if chunked.code != 413 {
		t.Errorf("chunked: %d", chunked.code)
	}
	h.want(201, "", "PUT /v1/items/empty", "")
	h.want(200, "", "GET /v1/items/empty", "")
}

// errReader fails in the ways in which the front's body fails.
type errReader struct{ large, slow, malformed bool }

func (e errReader) Read([]byte) (int, error) { return 0, e }
func (e errReader) Error() string            { return "test" }
func (e errReader) BodyTooLarge() bool       { return e.large }
func (e errReader) Timeout() bool            { return e.slow }
func (e errReader) BodyMalformed() bool      { return e.malformed }

func TestPutBrokenBody(t *testing.T) {
	h := newHarness(t)
	f := func(code int, problem string, r io.Reader) {
		t.Helper()
		x := request("PUT /v1/items/a", "")
		x.body, x.length = io.MultiReader(strings.NewReader("begin"), r), 500
		h.api.Serve(x)
		if x.code != code || x.problem() != problem {
			t.Errorf("%d %s, want %d %s", x.code, x.problem(), code, problem)
		}
	}
	f(413, "content-too-large", errReader{large: true})
	f(408, "request-timeout", errReader{slow: true})
	f(400, "bad-request", errReader{malformed: true})
	f(400, "incomplete-body", errReader{})
	if len(h.items) != 0 {
		t.Error("a part was written")
	}
}

func TestUnknownFieldOfOurs(t *testing.T) {
	h := newHarness(t)
	for _, field := range []string{"Edge-TTLs: 5m", "edge-ttl2: 5m", "Edge-Version: 1", "Edge-x: "} {
		h.want(400, "bad-header", "PUT /v1/items/a", "x", field)
	}
	h.want(201, "", "PUT /v1/items/a", "x", "Edgenode-Other: 1", "X-Edge-TTL: 1", "Edge-: 1")
}

func TestPutOptions(t *testing.T) {
	h := newHarness(t)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	h.want(201, "", "PUT /v1/items/a", "x", "Edge-TTL: l1=60, l2=1h, l3=1d", "Edge-Tiers: l1, l3", "traceparent: "+parent, "tracestate: a=b")
	w := h.writes[0]
	if w.L1TTL != time.Minute || w.L2TTL != time.Hour || w.TTL != 24*time.Hour || w.Tiers != item.L1|item.L3 {
		t.Errorf("got %+v", w)
	}
	if w.TraceParent != parent || w.TraceState != "a=b" {
		t.Errorf("trace %q %q", w.TraceParent, w.TraceState)
	}
	h.want(204, "", "PUT /v1/items/a", "x", "traceparent: nonsense", "tracestate: a=b", "Edge-TTL: never")
	if w := h.writes[1]; w.TraceParent != "" || w.TraceState != "" || w.TTL != 0 {
		t.Errorf("got %+v", w)
	}
}

func TestDelete(t *testing.T) {
	h := newHarness(t)
	h.want(201, "", "PUT /v1/items/a", "x")
	x := h.want(204, "", "DELETE /v1/items/a", "", "Edge-Durability: sync")
	h.has(x, "Edge-Existed", "true")
	h.has(x, "Edge-Persisted", "sync")
	h.has(h.want(204, "", "DELETE /v1/items/a", ""), "Edge-Existed", "false")
	h.want(404, "not-found", "GET /v1/items/a", "")
	h.want(412, "precondition-failed", "DELETE /v1/items/a", "", "If-Match: *")
	h.want(400, "bad-durability", "DELETE /v1/items/a", "", "Edge-Durability: l4")
	h.want(201, "", "PUT /v1/items/a", "x") // after a delete it is new
}

func TestConditionsOfReads(t *testing.T) {
	h := newHarness(t)
	etag := h.want(201, "", "PUT /v1/items/a", "x").field("ETag")
	const other = `"00000000000000000000000000000000"`
	const date, before, after = "Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:19 GMT", "Tuesday, 14-Nov-23 22:13:21 GMT"
	f := func(code int, fields ...string) {
		t.Helper()
		x := h.do("GET /v1/items/a", "", fields...)
		if x.code != code {
			t.Errorf("%q: %d, want %d", fields, x.code, code)
		}
		if code == 304 && (x.out.Len() != 0 || x.field("ETag") != etag || x.field("Content-Type") != "") {
			t.Errorf("%q: 304 with %q and body %q", fields, x.head, x.out.String())
		}
	}
	f(304, "If-None-Match: "+etag)
	f(304, "If-None-Match: W/"+etag) // weak comparison
	f(304, "If-None-Match: *")
	f(304, "If-None-Match: "+other+" ,, "+etag)
	f(304, "If-None-Match: "+other, "If-None-Match: "+etag) // two lines are one list
	f(304, `If-None-Match: "a,b", `+etag)                   // a comma inside a tag
	f(200, "If-None-Match: "+other)
	f(200, "If-None-Match: "+strings.Trim(etag, `"`)) // no quotes: no tag
	f(200, "If-None-Match: "+other, "If-Modified-Since: "+date)
	f(304, "If-Modified-Since: "+date)
	f(304, "If-Modified-Since: "+after)
	f(200, "If-Modified-Since: "+before)
	f(200, "If-Modified-Since: tomorrow")
	f(200, "If-Match: "+etag)
	f(200, "If-Match: *")
	f(412, "If-Match: W/"+etag) // strong comparison
	f(412, "If-Match: "+other)
	f(200, "If-Match: "+etag, "If-Unmodified-Since: "+before) // the tag decides
	f(412, "If-Unmodified-Since: "+before)
	f(200, "If-Unmodified-Since: "+date)
	f(412, "If-Match: "+other, "If-None-Match: "+etag)
	f(304, "If-Match: "+etag, "If-None-Match: "+etag)
	f(304, "If-None-Match: "+etag, "Range: bytes=0-0")
	h.want(404, "not-found", "GET /v1/items/b", "", "If-Match: *")
}

func TestConditionsOfWrites(t *testing.T) {
	h := newHarness(t)
	const other = `"00000000000000000000000000000000"`
	var etag, version string
	f := func(code int, line string, fields ...string) {
		t.Helper()
		if etag == "" {
			x := h.do("PUT /v1/items/a", "x")
			etag, version = x.field("ETag"), x.field("Edge-Version")
		}
		x := h.do(line, "x", fields...)
		if x.code != code {
			t.Errorf("%s %q: %d, want %d", line, fields, x.code, code)
		}
		if code < 400 {
			etag, version = "", "" // begin anew
		}
		h.now += 1000
	}
	f(412, "PUT /v1/items/a", "If-None-Match: *")
	f(201, "PUT /v1/items/new", "If-None-Match: *")
	f(412, "PUT /v1/items/absent", "If-Match: *")
	f(412, "PUT /v1/items/absent", "If-Match: "+other)
	f(412, "PUT /v1/items/a", "If-Match: "+other)
	f(412, "PUT /v1/items/a", `If-Match: "not-one-of-ours"`)
	f(412, "PUT /v1/items/a", "If-Match: W/"+etag)
	f(204, "PUT /v1/items/a", "If-Match: "+etag)
	f(412, "PUT /v1/items/a", "If-None-Match: *")
	f(412, "PUT /v1/items/a", "If-None-Match: W/"+etag)
	f(204, "PUT /v1/items/a", "If-None-Match: "+other)
	f(412, "PUT /v1/items/a", "Edge-If-Version: 1")
	f(204, "PUT /v1/items/a", "Edge-If-Version: "+version)
	f(412, "DELETE /v1/items/a", "Edge-If-Version: 1")
	f(204, "DELETE /v1/items/a", "If-Match: "+other+", "+etag)
	f(412, "PUT /v1/items/a", "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT")
	f(204, "PUT /v1/items/a", "If-Unmodified-Since: Fri, 14 Nov 2042 22:13:19 GMT")
	f(400, "PUT /v1/items/a", "If-Unmodified-Since: tomorrow")
	f(201, "PUT /v1/items/absent2", "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT") // no date, ignored
}

func TestRanges(t *testing.T) {
	h := newHarness(t)
	etag := h.want(201, "", "PUT /v1/items/a", "0123456789", "Content-Type: text/plain").field("ETag")
	f := func(rng string, code int, contentRange, body string, more ...string) {
		t.Helper()
		x := h.do("GET /v1/items/a", "", append(more, "Range: "+rng)...)
		if x.code != code || x.field("Content-Range") != contentRange || code < 400 && x.out.String() != body {
			t.Errorf("%s: %d %q %q, want %d %q %q", rng, x.code, x.field("Content-Range"), x.out.String(), code, contentRange, body)
		}
	}
	f("bytes=0-3", 206, "bytes 0-3/10", "0123")
	f("BYTES=3-3", 206, "bytes 3-3/10", "3")
	f("bytes=7-", 206, "bytes 7-9/10", "789")
	f("bytes=-2", 206, "bytes 8-9/10", "89")
	f("bytes=-20", 206, "bytes 0-9/10", "0123456789")
	f("bytes=8-99999999999999999999", 206, "bytes 8-9/10", "89")
	f("bytes=0-0,20-", 206, "bytes 0-0/10", "0") // one of them is satisfiable
	f("bytes=10-", 416, "bytes */10", "")
	f("bytes=-0", 416, "bytes */10", "")
	f("bytes=10-11, 12-", 416, "bytes */10", "")
	f("bytes=4-3", 200, "", "0123456789")
	f("bytes=", 200, "", "0123456789")
	f("bytes=a-b", 200, "", "0123456789")
	f("bytes=--1", 200, "", "0123456789")
	f("items=0-1", 200, "", "0123456789")
	f("bytes=0-9,0-9", 200, "", "0123456789") // longer than the whole
	f("bytes="+strings.Repeat("0-0,", 17), 200, "", "0123456789")
	f("bytes=0-3", 206, "bytes 0-3/10", "0123", "If-Range: "+etag)
	f("bytes=0-3", 200, "", "0123456789", "If-Range: W/"+etag)
	f("bytes=0-3", 200, "", "0123456789", "If-Range: Tue, 14 Nov 2023 22:13:20 GMT")
	h.want(200, "", "HEAD /v1/items/a", "", "Range: bytes=0-3")
	h.want(201, "", "PUT /v1/items/empty", "")
	h.want(200, "", "GET /v1/items/empty", "", "Range: bytes=0-")
}

func TestMultipleRanges(t *testing.T) {
	h := newHarness(t)
	h.want(201, "", "PUT /v1/items/a", "0123456789", "Content-Type: text/plain")
	x := h.want(206, "", "GET /v1/items/a", "", "Range: bytes=0-1, 5-6,-1")
	boundary, ok := strings.CutPrefix(x.field("Content-Type"), "multipart/byteranges; boundary=")
	if !ok {
		t.Fatalf("Content-Type %q", x.field("Content-Type"))
	}
	var want strings.Builder
	for _, part := range [][2]string{{"0-1", "01"}, {"5-6", "56"}, {"9-9", "9"}} {
		want.WriteString("\r\n--" + boundary + "\r\nContent-Type: text/plain\r\nContent-Range: bytes " + part[0] + "/10\r\n\r\n" + part[1])
	}
	want.WriteString("\r\n--" + boundary + "--\r\n")
	if got := x.out.String(); got != want.String()[2:] {
		t.Errorf("got\n%s\nwant\n%s", got, want.String()[2:])
	}
	if x.sized != int64(x.out.Len()) {
		t.Errorf("announced %d bytes, sent %d", x.sized, x.out.Len())
	}
	_, params, err := mime.ParseMediaType(x.field("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	r := multipart.NewReader(bytes.NewReader(x.out.Bytes()), params["boundary"]) // as a client reads it
	for _, want := range []string{"01", "56", "9"} {
		part, err := r.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(part); err != nil || string(got) != want {
			t.Errorf("part %q %v, want %q", got, err, want)
		}
	}
}

func TestEngineErrors(t *testing.T) {
	h := newHarness(t)
	f := func(err error, code int, problem, retryAfter string) {
		t.Helper()
		h.fail = err
		for _, line := range []string{"GET /v1/items/a", "PUT /v1/items/a", "DELETE /v1/items/a"} {
			h.has(h.want(code, problem, line, ""), "Retry-After", retryAfter)
		}
	}
	f(tiers.ErrUnavailable, 503, "unavailable", "1")
	f(tiers.ErrStateUnknown, 503, "state-unknown", "1")
	f(tiers.ErrPrecondition, 412, "precondition-failed", "")
	f(tiers.ErrBusy, 503, "busy", "1")
	f(tiers.ErrCorrupt, 500, "corrupt", "")
	f(tiers.ErrTooLarge, 413, "content-too-large", "")
	f(tiers.ErrFull, 507, "full", "")
	f(tiers.ErrReadOnly, 507, "read-only", "")
	f(tiers.ErrUnknownFate, 500, "unknown-fate", "")
	f(fmt.Errorf("%w: %w", tiers.ErrUnknownFate, tiers.ErrShuttingDown), 500, "unknown-fate", "") // it may be stored
	f(tiers.ErrRefused, 422, "refused", "")
	f(tiers.ErrClosed, 503, "shutting-down", "1")
	f(tiers.ErrShuttingDown, 503, "shutting-down", "1")
	f(tiers.ErrInvalid, 400, "invalid-write", "")
	f(tiers.ErrSuperseded, 409, "superseded", "")
	f(item.ErrBadTag, 400, "bad-tag", "")
	f(errStrange, 500, "internal", "")
	f(&tiers.Refusal{Level: "throttle", Throttled: true, RetryAfter: 1500 * time.Millisecond}, 429, "throttled", "2")
	f(&tiers.Refusal{Level: "critical", RetryAfter: 5 * time.Second}, 503, "pressure", "5")

	h.fail = tiers.ErrUnavailable
	h.want(503, "state-unknown", "PUT /v1/items/a", "", "If-Unmodified-Since: Tue, 14 Nov 2023 22:13:19 GMT")
}
