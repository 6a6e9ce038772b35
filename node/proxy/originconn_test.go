package proxy

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// scripted is a connection that gives its parts, one with each read.
type scripted struct {
	net.Conn
	parts []string
}

func (s *scripted) Read(b []byte) (int, error) {
	if len(s.parts) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.parts[0])
	if s.parts[0] = s.parts[0][n:]; s.parts[0] == "" {
		s.parts = s.parts[1:]
	}
	return n, nil
}

// TestCodingConn: only the line of a coding that nobody knows is changed, however
// the bytes come.
func TestCodingConn(t *testing.T) {
	f := func(in, want string, foreign bool) {
		t.Helper()
		for _, size := range []int{1, 7, 1 << 20} {
			s := &scripted{}
			for rest := in; rest != ""; {
				n := min(size, len(rest))
				s.parts, rest = append(s.parts, rest[:n]), rest[n:]
			}
			c := &codingConn{Conn: s}
			c.begin()
			got, err := io.ReadAll(c)
			if err != nil || string(got) != want || c.unknownCoding() != foreign {
				t.Errorf("in parts of %d: %.200q %v, foreign %v, want %.200q", size, got, err, c.unknownCoding(), want)
			}
		}
	}
	same := func(in string) { t.Helper(); f(in, in, false) }
	same("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
	same("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
	same("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nx")
	same("HTTP/1.1 200 OK\r\nTransfer-Encoding: frob\r\nContent-Length: 2\r\n\r\nab")
	same("HTTP/1.1 200 OK\r\nTransfer-Encoding: frob\r\nTransfer-Encoding: chunked\r\n\r\nab")
	same("HTTP/1.0 200 OK\r\nTransfer-Encoding: frob\r\n\r\nab")
	same("HTTP/1.1 200 OK\r\nTransf")
	same("nonsense")
	same("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", maxAnswerHeader) + "\r\nTransfer-Encoding: frob\r\n\r\nab")
	same("HTTP/1.1 103 A\r\nLink: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")
	f("HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: frob\r\nC: d\r\n\r\nab\r\n\r\nTransfer-Encoding: x\r\n\r\n",
		"HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\nC: d\r\n\r\nab\r\n\r\nTransfer-Encoding: x\r\n\r\n", true)
	f("HTTP/1.1 100 A\r\n\r\nHTTP/1.1 103 A\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding:frob\r\n\r\nab", "HTTP/1.1 100 A\r\n\r\nHTTP/1.1 103 A\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab", true)
}

// TestUnknownCoding: such an answer is read to the close, given to who asked, not
// stored, and its connection not used again.
func TestUnknownCoding(t *testing.T) {
	w := newWorld(t)
	w.does(func(c net.Conn, r *http.Request) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: frob\r\n\r\nab")
		c.(*net.TCPConn).CloseWrite()
	})
	for range 2 {
		x := w.get("/a")
		if x.status != 200 || x.out.String() != "ab" || x.line("Transfer-Encoding") != "" || !strings.Contains(x.cache(), "fwd=uri-miss") || strings.Contains(x.cache(), "stored") {
			t.Errorf("%d %q\n%s", x.status, &x.out, &x.head)
		}
	}
	if got := w.requests(); got != 2 {
		t.Errorf("%d requests", got)
	}
	w.always(w.ok("Cache-Control: max-age=60", "fine"))
	w.expect(w.get("/a"), 200, "fine", "fwd=uri-miss")
}

// TestAfterHeaderBomb: an answer whose header has no end costs that answer only.
func TestAfterHeaderBomb(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		if r.URL.Path == "/next" {
			return w.ok("", "next")
		}
		return w.ok("X-Bomb: "+strings.Repeat("x", 20_000_000), "ab")
	})
	if x := w.get("/bomb"); x.status != 502 {
		t.Errorf("%d", x.status)
	}
	w.expect(w.get("/next"), 200, "next", "fwd=uri-miss")
}

// An awaited is a connection that tells when it is read from.
type awaited struct {
	net.Conn
	reading chan struct{}
	bytes   chan string
}

func (a *awaited) Read(b []byte) (int, error) {
	a.reading <- struct{}{}
	return copy(b, <-a.bytes), nil
}

// TestCodingConnIsReadEarly: net/http reads a kept connection before the next
// request begins. The answer's header is looked at all the same, and its body is
// not held back.
func TestCodingConnIsReadEarly(t *testing.T) {
	a := &awaited{reading: make(chan struct{}), bytes: make(chan string)}
	c := &codingConn{Conn: a}
	got := make(chan string)
	read := func() {
		b := make([]byte, 1000)
		n, _ := c.Read(b)
		got <- string(b[:n])
	}
	for range 3 {
		go read()
		<-a.reading
		c.begin()
		a.bytes <- "HTTP/1.1 200 OK\r\nTransfer-Encoding: frob\r\n"
		<-a.reading
		a.bytes <- "\r\n"
		if head := <-got; head != "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" || !c.unknownCoding() {
			t.Errorf("got %q", head)
		}
		go read()
		<-a.reading
		a.bytes <- "body"
		if body := <-got; body != "body" {
			t.Errorf("got %q", body)
		}
	}
}

// TestSecondAnswerOnAConnection: the same with net/http.
func TestSecondAnswerOnAConnection(t *testing.T) {
	w := newWorld(t)
	w.does(func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/whole" {
			io.WriteString(c, w.ok("", "whole"))
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: frob\r\n\r\nab")
		c.(*net.TCPConn).CloseWrite()
	})
	for range 3 {
		w.expect(w.get("/whole"), 200, "whole", "fwd=uri-miss")
		if x := w.get("/coded"); x.status != 200 || x.out.String() != "ab" || !strings.Contains(x.cache(), "fwd=uri-miss") {
			t.Errorf("%d %q\n%s", x.status, &x.out, &x.head)
		}
	}
}
