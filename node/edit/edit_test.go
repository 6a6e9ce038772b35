package edit_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/edit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func set(response bool, name, value string) edit.Edit {
	return edit.Edit{Response: response, Name: []byte(name), Value: []byte(value)}
}

func remove(response bool, name string) edit.Edit {
	return edit.Edit{Response: response, Remove: true, Name: []byte(name)}
}

// show renders a list.
func show(l edit.List) string {
	var b strings.Builder
	for _, e := range l {
		if e.Remove {
			fmt.Fprintf(&b, "-%s ", e.Name)
		} else {
			fmt.Fprintf(&b, "%s=%s ", e.Name, e.Value)
		}
	}
	return strings.TrimSpace(b.String())
}

func TestAdmit(t *testing.T) {
	f := func(all []edit.Edit, request, response string, refused int) {
		t.Helper()
		in, out, no := edit.Admit(all, func(name []byte) bool { return edit.Is(name, "edge-state") })
		if show(in) != request || show(out) != response || no.Count != refused {
			t.Errorf("%v: got %q, %q, %d refused (%q), want %q, %q, %d", all, show(in), show(out), no.Count, no.Name, request, response, refused)
		}
	}
	f(nil, "", "", 0)
	f([]edit.Edit{set(false, "A", "1"), set(true, "a", "2")}, "A=1", "a=2", 0)
	f([]edit.Edit{set(true, "A", "1"), set(true, "a", " 2\t"), remove(true, "B")}, "", "a=2 -B", 0) // the last of a name
	f([]edit.Edit{set(true, "A", "1"), remove(true, "A")}, "", "-A", 0)
	f([]edit.Edit{remove(true, "A"), set(true, "a", "")}, "", "a=", 0)
	f([]edit.Edit{set(true, "Edge-State", "x"), remove(false, "EDGE-state")}, "", "", 2)
	for _, name := range []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade", "HTTP2-Settings", "Proxy-Authorization",
		"Host", "Content-Length", "Content-Encoding", "Content-Range", "Expect", "Age", "Cache-Status", "Date", "VIA", "Forwarded",
		"X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "", "a b", "a:", "a\r\nb", "\x80", "a\x00", strings.Repeat("a", 129),
	} {
		f([]edit.Edit{set(false, name, "x"), set(true, name, "x"), remove(false, name), remove(true, name)}, "", "", 4)
	}
	for _, value := range []string{"a\r\nb: c", "a\nb", "\x00", "\x7f", "\x1b"} {
		f([]edit.Edit{set(true, "a", value), set(false, "b", "ok")}, "b=ok", "", 1)
	}
	f([]edit.Edit{set(true, "a", "caf\xc3\xa9\ta")}, "", "a=caf\xc3\xa9\ta", 0)
	var many []edit.Edit
	for i := range edit.Max + 3 {
		many = append(many, set(true, fmt.Sprint("n", i), "x"))
	}
	if _, out, no := edit.Admit(append(many, set(true, "n0", "y")), nil); len(out) != edit.Max || no.Count != 3 || string(out[0].Value) != "y" {
		t.Errorf("%d admitted, %d refused, first %q", len(out), no.Count, out[0].Value)
	}
}

func TestFields(t *testing.T) {
	in := func(yield func(name, value []byte) bool) {
		for _, line := range []string{"Accept=*/*", "cookie=a", "Cookie=b", "X-Old=1"} {
			name, value, _ := strings.Cut(line, "=")
			if !yield([]byte(name), []byte(value)) {
				return
			}
		}
	}
	l, _, _ := edit.Admit([]edit.Edit{set(false, "x-new", "2"), remove(false, "COOKIE"), set(false, "accept", "text/html")}, nil)
	var got []string
	for _, f := range l.Fields(in) {
		got = append(got, string(f.Name)+"="+string(f.Value))
	}
	if got, want := strings.Join(got, " "), "X-Old=1 x-new=2 accept=text/html"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

type sink struct{ bytes.Buffer }

func (s *sink) Add(name, value string) { fmt.Fprintf(s, "%s: %s\r\n", name, value) }
func (s *sink) AddBlock(block []byte)  { s.Write(block) }

func TestAnswer(t *testing.T) {
	f := func(status int, use func(a *edit.Answer), want string) {
		t.Helper()
		_, l, _ := edit.Admit([]edit.Edit{
			set(true, "content-type", "text/css"), set(true, "X-New", "1"), remove(true, "Server"), set(true, "Cache-Control", "private"),
		}, nil)
		var out sink
		a := edit.Answer{Edits: l, To: &out}
		a.Begin(status)
		use(&a)
		a.End()
		if got := strings.ReplaceAll(out.String(), "\r\n", "|"); got != want {
			t.Errorf("%d: got %q, want %q", status, got, want)
		}
	}
	stored := func(a *edit.Answer) { a.AddBlock([]byte("Content-Type: a/b\r\nserver: x\r\nETag: \"e\"\r\n")) }
	f(200, stored, `ETag: "e"|content-type: text/css|X-New: 1|Cache-Control: private|`)
	f(304, stored, `ETag: "e"|X-New: 1|Cache-Control: private|`)
	f(502, func(a *edit.Answer) { a.Add("Cache-Control", "no-store"); a.Add("Content-Type", "text/plain") },
		"Cache-Control: no-store|Content-Type: text/plain|X-New: 1|")
	f(200, func(a *edit.Answer) { a.Own([]byte("Server: me\r\nX-New: 2\r\n")) }, "Server: me|X-New: 2|content-type: text/css|Cache-Control: private|")
	f(200, func(a *edit.Answer) { a.Own([]byte("X-New: 2\r\n")); a.Begin(500) }, "X-New: 2|content-type: text/css|X-New: 1|Cache-Control: private|")
}

func TestValue(t *testing.T) {
	_, l, _ := edit.Admit([]edit.Edit{set(true, "Content-Type", "text/css"), remove(true, "Server")}, nil)
	a := edit.Answer{Edits: l}
	for name, want := range map[string]string{"content-type": "text/css", "server": "", "etag": "old"} {
		if got := string(a.Value(name, []byte("old"))); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// FuzzAnswer: whatever a policy asks, the lines of an answer stay lines.
func FuzzAnswer(f *testing.F) {
	f.Add("X-A", "b", "c: d\r\n")
	f.Add("a\r\nb", "c\r\nd: e", "a: b\r\n")
	f.Fuzz(func(t *testing.T, name, value, lines string) {
		_, l, _ := edit.Admit([]edit.Edit{set(true, name, value)}, nil)
		var out sink
		a := edit.Answer{Edits: l, To: &out}
		a.Begin(200)
		a.AddBlock([]byte(lines))
		before := out.Len()
		a.End()
		added := out.String()[before:]
		if added != "" && (strings.Count(added, "\n") != 1 || strings.Count(added, "\r") != 1 || !strings.HasSuffix(added, "\r\n") || !strings.HasPrefix(added, name+": ")) {
			t.Errorf("%q: %q added %q", name, value, added)
		}
	})
}
