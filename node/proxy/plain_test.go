package proxy

import (
	"bufio"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// samePlain reports whether readPlain, if it reads a header at all, reads it as
// net/http does, and whether it did.
func samePlain(t *testing.T, head, method string) (read bool) {
	t.Helper()
	if end := headEnd([]byte(head)); end != len(head) {
		return false // it is only given whole headers
	}
	got, ok := readPlain([]byte(head), method)
	if !ok {
		return false
	}
	tp := newTap(nil)
	tp.see([]byte(head))
	want, err := http.ReadResponse(bufio.NewReader(strings.NewReader(head)), &http.Request{Method: method})
	switch {
	case err != nil:
		t.Errorf("%q: read, and net/http refuses it: %v", head, err)
	case tp.wrong:
		t.Errorf("%q: read, and its framing is in doubt", head)
	case got.StatusCode != want.StatusCode || got.Status != want.Status || got.Proto != want.Proto || got.ContentLength != want.ContentLength || want.Close || len(want.TransferEncoding) > 0 || want.Trailer != nil:
		t.Errorf("%q: %+v, net/http reads %+v", head, got, want)
	case !maps.EqualFunc(got.Header, want.Header, slices.Equal):
		t.Errorf("%q: fields %q, net/http reads %q", head, got.Header, want.Header)
	case (got.Body == http.NoBody) != (want.Body == http.NoBody):
		t.Errorf("%q: body %v, net/http reads %v", head, got.Body, want.Body)
	}
	return true
}

func TestReadPlain(t *testing.T) {
	f := func(read bool, head string) {
		t.Helper()
		if got := samePlain(t, head, "GET"); got != read {
			t.Errorf("%q: read %v, want %v", head, got, read)
		}
	}
	const ok, end = "HTTP/1.1 200 OK\r\n", "Content-Length: 2\r\n\r\n"
	f(true, ok+end)
	f(true, "HTTP/1.1 404\r\n"+end)
	f(true, "HTTP/1.1 999 \r\n"+end)
	f(true, ok+"a:b\r\nA:  c \t\r\nset-cookie: x\r\nSet-Cookie: y\r\nX:\r\n"+end)
	f(true, ok+"Connection: Keep-Alive\r\nKeep-Alive: 5\r\ncontent-length:0\r\n\r\n")
	f(true, "HTTP/1.1 304 Not Modified\r\nEtag: \"a\"\r\n\r\n")
	f(true, ok+"X: \xfc\r\n"+end)
	for _, line := range []string{
		"Transfer-Encoding: chunked", "Transfer-Encoding: frob", "Connection: close", "Connection: keep-alive, x", "Trailer: x", "Pragma: no-cache",
		"Content-Length: 2", "Content-Length: 3", " folded", "nocolon", ": x", "a b: c", "Content-Length : 2", "A: \x00", "A: b\rc", "Upgrade: x", "A: b\n",
	} {
		f(false, ok+line+"\r\n"+end)
		f(false, ok+"B: c\r\n"+line+"\r\n"+end)
	}
	for _, head := range []string{
		ok + "\r\n", ok + "Content-Length: \r\n\r\n", ok + "Content-Length: +2\r\n\r\n", ok + "Content-Length: 2, 2\r\n\r\n", ok + "Content-Length: 1234567890123456\r\n\r\n",
		"HTTP/1.0 200 OK\r\n" + end, "HTTP/1.1 103 A\r\n\r\n", "HTTP/1.1 101 A\r\n" + end, "HTTP/1.1 20 OK\r\n" + end, "HTTP/1.1 2000 OK\r\n" + end, "HTTP/1.1  200 OK\r\n" + end,
		"HTTP/1.1 200 OK\n" + end, "http/1.1 200 OK\r\n" + end, "HTTP/1.1 204 A\r\n" + end, "HTTP/1.1 304 A\r\n" + end, "\r\n\r\n", "hello\r\n\r\n", ok + "A: b\n\n",
	} {
		f(false, head)
	}
	if samePlain(t, ok+end, "HEAD") {
		t.Error("the answer to HEAD has no body, whatever it announces")
	}
}

func FuzzReadPlain(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 2\r\n\r\n")
	f.Add("HTTP/1.1 304 Not Modified\r\nConnection: keep-alive\r\n\r\n")
	f.Add("HTTP/1.1 200 \r\nA:b\r\na: c\r\nContent-Length: 00\r\n\r\n")
	f.Fuzz(func(t *testing.T, head string) {
		samePlain(t, head, "GET")
		samePlain(t, head, "POST")
	})
}
