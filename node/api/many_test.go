package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
)

// lines decodes an NDJSON answer.
func lines(t testing.TB, x *exchange) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(x.out.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		all = append(all, m)
	}
	return all
}

// kind returns the name of a line's problem.
func kind(line map[string]any) string {
	p, _ := line["problem"].(map[string]any)
	name, _ := p["type"].(string)
	return strings.TrimPrefix(name, "urn:edgenode:problem:")
}

func TestPutMany(t *testing.T) {
	h := newHarness(t)
	body := `{"id":"json","content":{"b": [1, 2.0],"a":1},"tags":["y","x","y"],"state":"s","ttl":"15m"}
{"id":"text","text":"caf\u00e9 \ud83d\ude00","mime":"text/plain","ttl":60}` + "\r\n\n" +
		`{"id":"bytes","content_b64":"AP8=","encoding":"br"}
{"id":"json","content":1,"if_version":"1"}
{"id":"json","content":2}`
	x := h.do("POST /v1/items:put", body, "Edge-Durability: journal", "Edge-Tiers: l1,l3")
	got := lines(t, x)
	if x.code != 200 || x.field("Content-Type") != "application/x-ndjson" || len(got) != 6 {
		t.Fatalf("%d %q\n%s", x.code, x.head, x.out.String())
	}
	for i, want := range []struct {
		id     string
		status float64
	}{{"json", 201}, {"text", 201}, {"bytes", 201}, {"json", 412}, {"json", 204}} {
		if got[i]["id"] != want.id || got[i]["status"] != want.status {
			t.Errorf("line %d: %v, want %v", i, got[i], want)
		}
	}
	if got[0]["persisted"] != "journal" || len(got[0]["etag"].(string)) != 32 || got[4]["version"] != h.versionOf("json") {
		t.Errorf("receipt %v", got[0])
	}
	if end := got[5]; end["end"] != true || end["ok"] != 4.0 || end["failed"] != 1.0 {
		t.Errorf("last line %v", end)
	}
	f := func(i int, content, mime string, ttl time.Duration) {
		t.Helper()
		w := h.writes[i]
		if string(w.Content) != content || w.MIME != mime || w.TTL != ttl || w.Tiers.String() != "l1,l3" {
			t.Errorf("write %d: %q %q %v %v", i, w.Content, w.MIME, w.TTL, w.Tiers)
		}
	}
	f(0, `{"b": [1, 2.0],"a":1}`, "application/json", 15*time.Minute) // byte for byte
	f(1, "café 😀", "text/plain", time.Minute)
	f(2, "\x00\xff", "", 0)
	if tags := strings.Join(h.writes[0].Tags, ","); tags != "x,y" {
		t.Errorf("tags %q", tags)
	}
}

func TestPutManyRefusesLines(t *testing.T) {
	h := newHarness(t)
	f := func(line, problem string) {
		t.Helper()
		got := lines(t, h.do("POST /v1/items:put", line+"\n"+`{"id":"good","content":1}`))
		if len(got) != 3 || kind(got[0]) != problem {
			t.Errorf("%s: %v, want %s", line, got, problem)
			return
		}
		if end := got[2]; end["ok"] != 1.0 || end["failed"] != 1.0 {
			t.Errorf("%s: last line %v", line, end)
		}
	}
	f(`{"id":"a"}`, "bad-body")
	f(`{"content":1}`, "bad-body")
	f(`{"id":"a","content":1,"text":"x"}`, "bad-body")
	f(`{"id":"a","id":"b","content":1}`, "bad-body")
	f(`{"ID":"a","content":1}`, "bad-body")
	f(`{"id":"a","content":1,"extra":1}`, "bad-body")
	f(`{"id":1,"content":1}`, "bad-body")
	f(`{"id":"a","content":1`, "bad-body")
	f(`["id"]`, "bad-body")
	f(`null`, "bad-body")
	f("{\"id\":\"\xff\",\"content\":1}", "bad-body")
	f(`{"id":"\ud800","content":1}`, "bad-body")
	f(`{"id":"a","content_b64":"!"}`, "bad-body")
	f(`{"id":"a","content":1,"tags":"x"}`, "bad-body")
	f(`{"id":"a","content":1,"tags":[1]}`, "bad-body")
	f(`{"id":"a","content":1,"tags":["a b"]}`, "bad-tag")
	f(`{"id":"a","content":1,"state":"A"}`, "bad-state")
	f(`{"id":"a","content":1,"ttl":"soon"}`, "bad-ttl")
	f(`{"id":"a","content":1,"ttl":-1}`, "bad-body")
	f(`{"id":"a","content":1,"if_version":"0"}`, "bad-version")
	f(`{"id":"a","content":1,"mime":"a\r\nb: c"}`, "bad-header")
	f(`{"id":"a","content":1,"encoding":"a\u0000"}`, "bad-header")
	f(`{"id":"","content":1}`, "bad-id")
	f(`{"id":"a\n","content":1}`, "bad-id")
	f(`{"id":"a","text":"`+strings.Repeat("x", 1001)+`"}`, "content-too-large")
	f(`{"id":"a","text":"`+strings.Repeat("x", 70_000)+`"}`, "content-too-large") // the line itself
	if len(h.items) != 1 {
		t.Errorf("a refused line was written: %v", h.items)
	}
}

func TestGetMany(t *testing.T) {
	h := newHarness(t)
	for id, content := range map[string]string{"json": `{"a": 1}`, "pretty": "{\n\"a\":1}", "text": "tab\there", "bytes": "\x00\xff"} {
		h.want(201, "", "PUT /v1/items/"+id, content, "Edge-Tags: t", "Edge-State: s", "Edge-Tiers: l3")
	}
	x := h.do("POST /v1/items:get?verify=1", `{"id":"json"}
{"id":"absent"}
{"id":""}
{"id":"pretty"}
{"id":"text"}
nonsense
{"id":"bytes"}
`)
	got := lines(t, x)
	if len(got) != 8 {
		t.Fatalf("%d lines:\n%s", len(got), x.out.String())
	}
	f := func(i int, id any, status float64, member string, value any) {
		t.Helper()
		l := got[i]
		if l["id"] != id || l["status"] != status || member != "" && fmt.Sprint(l[member]) != fmt.Sprint(value) {
			t.Errorf("line %d: %v, want %v %v %s %v", i, l, id, status, member, value)
		}
	}
	f(0, "json", 200, "content", map[string]any{"a": 1})
	f(1, "absent", 404, "", nil)
	f(2, "", 400, "", nil)
	f(3, "pretty", 200, "text", "{\n\"a\":1}")
	f(4, "text", 200, "text", "tab\there")
	f(5, nil, 400, "", nil)
	f(6, "bytes", 200, "content_b64", "AP8=")
	f(6, "bytes", 200, "tags", []string{"t"})
	f(6, "bytes", 200, "tiers", "l3")
	if !strings.Contains(x.out.String(), `"content":{"a": 1}`) {
		t.Error("JSON content was not given back byte for byte")
	}
	if end := got[7]; end["ok"] != 4.0 || end["failed"] != 3.0 {
		t.Errorf("last line %v", end)
	}
	h.fail = tiers.ErrUnavailable
	if got := lines(t, h.do("POST /v1/items:get", `{"id":"json"}`)); kind(got[0]) != "unavailable" {
		t.Errorf("%v", got)
	}
}

func TestDeleteMany(t *testing.T) {
	h := newHarness(t)
	h.want(201, "", "PUT /v1/items/a", "x")
	got := lines(t, h.do("POST /v1/items:delete", `{"id":"a"}`+"\n"+`{"id":"b"}`+"\n"+`{"id":"a","x":1}`, "Edge-Durability: l3"))
	if len(got) != 4 || got[0]["existed"] != true || got[1]["existed"] != false || got[0]["persisted"] != "l3" || kind(got[2]) != "bad-body" {
		t.Errorf("%v", got)
	}
	h.want(404, "not-found", "GET /v1/items/a", "")
}

func TestEmptyBatch(t *testing.T) {
	h := newHarness(t)
	for _, body := range []string{"", "\n\r\n"} {
		if got := h.do("POST /v1/items:put", body).out.String(); got != `{"end":true,"ok":0,"failed":0}`+"\n" {
			t.Errorf("%q", got)
		}
	}
}

// TestLongBatch goes over more lines than are gathered at once.
func TestLongBatch(t *testing.T) {
	h := newHarness(t)
	var body strings.Builder
	for i := range 2500 {
		fmt.Fprintf(&body, `{"id":"%04d","content":%d}`+"\n", i, i)
	}
	put := lines(t, h.do("POST /v1/items:put", body.String()))
	body.Reset()
	for i := range 2500 {
		fmt.Fprintf(&body, `{"id":"%04d"}`+"\n", i)
	}
	got := lines(t, h.do("POST /v1/items:get", body.String()))
	if len(put) != 2501 || len(got) != 2501 {
		t.Fatalf("%d and %d lines", len(put), len(got))
	}
	for i := range 2500 {
		if want := fmt.Sprintf("%04d", i); put[i]["id"] != want || got[i]["id"] != want || got[i]["content"] != float64(i) {
			t.Fatalf("line %d: %v, %v", i, put[i], got[i])
		}
	}
}

// TestBatchAnswersAtOnce holds that a line is answered before the next is sent.
func TestBatchAnswersAtOnce(t *testing.T) {
	h := newHarness(t)
	r, w := io.Pipe()
	x := request("POST /v1/items:put", "")
	x.body, x.length = r, -1
	answered := make(chan string)
	x.onFlush = func() { answered <- x.out.String() }
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.api.Serve(x)
	}()
	for i := 1; i <= 3; i++ {
		fmt.Fprintf(w, `{"id":"%d","content":1}`+"\n", i)
		if got := <-answered; strings.Count(got, "\n") != i {
			t.Errorf("after line %d: %q", i, got)
		}
	}
	w.Close()
	if got := <-answered; !strings.HasSuffix(got, `{"end":true,"ok":3,"failed":0}`+"\n") {
		t.Errorf("at the end: %q", got)
	}
	<-done
}

// TestBrokenBatch holds that a batch that could not be read never looks whole.
func TestBrokenBatch(t *testing.T) {
	h := newHarness(t)
	f := func(begin string, broken errReader, code, wholeLines int, problem string) {
		t.Helper()
		x := request("POST /v1/items:put", "")
		x.body, x.length = io.MultiReader(strings.NewReader(begin), broken), -1
		h.api.Serve(x)
		if x.code != code || x.problem() != problem || strings.Contains(x.out.String(), `"end"`) {
			t.Errorf("%d %s: %s", x.code, x.problem(), x.out.String())
		}
		if code == 200 && (!x.aborted || len(lines(t, x)) != wholeLines+1) {
			t.Errorf("aborted %v: %s", x.aborted, x.out.String())
		}
	}
	f("", errReader{large: true}, 413, 0, "content-too-large")
	f(`{"id":"half`, errReader{}, 400, 0, "incomplete-body")
	f(`{"id":"a","content":1}`+"\n"+`{"id":"half`, errReader{slow: true}, 200, 1, "request-timeout")
	if len(h.items) != 1 {
		t.Errorf("%v", h.items)
	}
}
