package front_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/front"
)

// TestAnswer looks at the exact bytes of answers.
func TestAnswer(t *testing.T) {
	f := func(name, request string, h front.Handler, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			s := start(t, front.Options{Now: func() time.Time { return time.Unix(0, 0) }}, h)
			request := strings.ReplaceAll(request, "|", "\r\n")
			if got := strings.ReplaceAll(exchange(t, s, request), "\r\n", "|"); got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		})
	}
	const (
		get   = "GET / HTTP/1.1|Host: h||"
		head  = "HEAD / HTTP/1.1|Host: h||"
		get10 = "GET / HTTP/1.0||"
		keep  = "GET / HTTP/1.0|Connection: keep-alive||"
	)
	answer := func(code int, send func(x *front.Exchange)) front.Handler {
		return func(x *front.Exchange) {
			x.Status(code)
			x.Add("Date", "D")
			send(x)
		}
	}
	hello := func(x *front.Exchange) { x.Send([]byte("hello")) }
	none := func(x *front.Exchange) { x.Send(nil) }
	stream := func(length int64, parts ...string) func(x *front.Exchange) {
		return func(x *front.Exchange) {
			w, err := x.Stream(length)
			if err != nil {
				t.Error(err)
				return
			}
			for _, p := range parts {
				io.WriteString(w, p)
			}
		}
	}

	trailed := func(length int64) func(x *front.Exchange) {
		return func(x *front.Exchange) {
			stream(length, "hello")(x)
			x.Trailer([]byte("X-T: v\r\n"))
		}
	}
	f("trailer", get+get, answer(200, trailed(-1)), strings.Repeat("HTTP/1.1 200 OK|Date: D|Transfer-Encoding: chunked||5|hello|0|X-T: v||", 2))
	f("trailer and length", get, answer(200, trailed(5)), "HTTP/1.1 200 OK|Date: D|Content-Length: 5||hello")
	f("trailer to HEAD", head, answer(200, trailed(-1)), "HTTP/1.1 200 OK|Date: D||")
	f("trailer to 1.0", get10, answer(200, trailed(-1)), "HTTP/1.1 200 OK|Date: D|Connection: close||hello")
	f("send", get, answer(200, hello), "HTTP/1.1 200 OK|Date: D|Content-Length: 5||hello")
	f("send to 1.0", get10, answer(200, hello), "HTTP/1.1 200 OK|Date: D|Content-Length: 5|Connection: close||hello")
	f("send to 1.0, kept", keep+get10, answer(200, hello),
		"HTTP/1.1 200 OK|Date: D|Content-Length: 5|Connection: keep-alive||hello"+
			"HTTP/1.1 200 OK|Date: D|Content-Length: 5|Connection: close||hello")
	f("HEAD", head+get, answer(200, hello), "HTTP/1.1 200 OK|Date: D|Content-Length: 5||HTTP/1.1 200 OK|Date: D|Content-Length: 5||hello")
	f("HEAD sized", head+head, answer(200, func(x *front.Exchange) { x.SendSized(1 << 40) }),
		strings.Repeat("HTTP/1.1 200 OK|Date: D|Content-Length: 1099511627776||", 2))
	f("HEAD unsized", head, answer(200, func(x *front.Exchange) { x.SendSized(-1) }), "HTTP/1.1 200 OK|Date: D||")
	f("HEAD streamed", head, answer(200, stream(3, "abc")), "HTTP/1.1 200 OK|Date: D|Content-Length: 3||")
	f("HEAD chunked", head+head, answer(200, stream(-1, "abc")), strings.Repeat("HTTP/1.1 200 OK|Date: D||", 2))
	f("204", get+get, answer(204, hello), strings.Repeat("HTTP/1.1 204 No Content|Date: D||", 2))
	f("204 streamed", get, answer(204, stream(-1, "abc")), "HTTP/1.1 204 No Content|Date: D||")
	f("304", get+get, answer(304, hello), strings.Repeat("HTTP/1.1 304 Not Modified|Date: D|Content-Length: 5||", 2))
	f("304 without length", get, answer(304, none), "HTTP/1.1 304 Not Modified|Date: D||")
	f("empty", get, answer(404, none), "HTTP/1.1 404 Not Found|Date: D|Content-Length: 0||")
	f("unknown status", get, answer(799, none), "HTTP/1.1 799 |Date: D|Content-Length: 0||")
	f("unknown status of a known class", get, answer(299, none), "HTTP/1.1 299 |Date: D|Content-Length: 0||")
	f("no status at all", get, answer(7, none), "HTTP/1.1 500 Internal Server Error|Date: D|Content-Length: 0||")
	f("interim status as final", get, answer(103, none), "HTTP/1.1 500 Internal Server Error|Date: D|Content-Length: 0||")

	f("order and repeated fields", get, answer(200, func(x *front.Exchange) {
		x.Add("Set-Cookie", "a=1")
		x.AddBytes("x-lower", []byte("v  v"))
		x.Add("Set-Cookie", "b=2")
		x.AddBlock([]byte("X: 1\r\nX:2\r\n"))
		x.Add("Empty", "")
		x.Send(nil)
	}), "HTTP/1.1 200 OK|Date: D|Set-Cookie: a=1|x-lower: v  v|Set-Cookie: b=2|X: 1|X:2|Empty: |Content-Length: 0||")
	f("dropped fields", get, answer(200, func(x *front.Exchange) {
		x.Add("A", "b\r\nEvil: 1")
		x.Add("A", "b\nEvil: 1")
		x.Add("A", "b\x00")
		x.Add("A\r\nEvil", "b")
		x.Add("A B", "b")
		x.Add("", "b")
		x.AddBytes("A", []byte("b\r"))
		x.Add("Content-Length", "7")
		x.Add("transfer-encoding", "chunked")
		x.Add("Connection", "keep-alive")
		x.Add("Keep-Alive", "timeout=5")
		x.Add("B", "b\tb\xff")
		x.Send(nil)
	}), "HTTP/1.1 200 OK|Date: D|B: b\tb\xff|Content-Length: 0||")
	f("Connection: close by the handler", get+get, answer(200, func(x *front.Exchange) {
		x.Add("Connection", "Close")
		x.Send(nil)
	}), "HTTP/1.1 200 OK|Date: D|Content-Length: 0|Connection: close||")
	f("CloseAfter", get+get, answer(200, func(x *front.Exchange) {
		x.CloseAfter()
		x.Send(nil)
	}), "HTTP/1.1 200 OK|Date: D|Content-Length: 0|Connection: close||")
	f("Date in a block", get, func(x *front.Exchange) {
		x.Status(200)
		x.AddBlock([]byte("X: y\r\ndate: E\r\n"))
		x.Send(nil)
	}, "HTTP/1.1 200 OK|X: y|date: E|Content-Length: 0||")
	f("a second status", get, answer(200, func(x *front.Exchange) {
		x.Add("X", "y")
		x.Status(404)
		x.Add("Date", "E")
		x.Send(nil)
	}), "HTTP/1.1 404 Not Found|Date: E|Content-Length: 0||")
	f("a second answer", get, answer(200, func(x *front.Exchange) {
		x.Send(nil)
		x.Status(500)
		x.Add("X", "y")
		if err := x.Send([]byte("x")); err != front.ErrOrder {
			t.Errorf("second Send: %v, want ErrOrder", err)
		}
		if _, err := x.Stream(1); err != front.ErrOrder {
			t.Errorf("Stream after Send: %v, want ErrOrder", err)
		}
		if err := x.SendSized(0); err != front.ErrOrder {
			t.Errorf("SendSized after Send: %v, want ErrOrder", err)
		}
		if err := x.Informational(103, nil); err != front.ErrOrder {
			t.Errorf("Informational after Send: %v, want ErrOrder", err)
		}
	}), "HTTP/1.1 200 OK|Date: D|Content-Length: 0||")

	f("streamed", get+get, answer(200, stream(5, "he", "", "llo")), strings.Repeat("HTTP/1.1 200 OK|Date: D|Content-Length: 5||hello", 2))
	f("chunked", get+get, answer(200, stream(-1, "he", "", "llo, chunked!")),
		strings.Repeat("HTTP/1.1 200 OK|Date: D|Transfer-Encoding: chunked||2|he|d|llo, chunked!|0||", 2))
	f("chunked, nothing", get, answer(200, stream(-1)), "HTTP/1.1 200 OK|Date: D|Transfer-Encoding: chunked||0||")
	f("unknown length to 1.0", keep+keep, answer(200, stream(-1, "he", "llo")), "HTTP/1.1 200 OK|Date: D|Connection: close||hello")
	f("more than announced", get+get, answer(200, func(x *front.Exchange) {
		w, _ := x.Stream(3)
		if n, err := io.WriteString(w, "abcdef"); n != 3 || err != front.ErrTooLong {
			t.Errorf("long write: %d, %v", n, err)
		}
	}), "HTTP/1.1 200 OK|Date: D|Content-Length: 3||abc")

	f("informational", get+get, func(x *front.Exchange) {
		x.Informational(103, []byte("Link: </a>\r\nLink: </b>\r\n"))
		if err := x.Informational(101, nil); err != front.ErrOrder {
			t.Errorf("101: %v, want ErrOrder", err)
		}
		answer(200, none)(x)
	}, strings.Repeat("HTTP/1.1 103 Early Hints|Link: </a>|Link: </b>||HTTP/1.1 200 OK|Date: D|Content-Length: 0||", 2))
	f("informational to 1.0", get10, func(x *front.Exchange) {
		x.Informational(103, []byte("Link: </a>\r\n"))
		answer(200, none)(x)
	}, "HTTP/1.1 200 OK|Date: D|Content-Length: 0|Connection: close||")

	const silent = `{"type":"urn:edgenode:problem:internal","status":500,"detail":"`
	f("no answer", get+get, func(x *front.Exchange) {
		x.Status(200)
		x.Add("Date", "D")
	}, "HTTP/1.1 500 Internal Server Error|Content-Type: application/problem+json|Date: "+frozenDate+"|Content-Length: 124|Connection: close||"+
		silent+"The request was not answered; this is a bug of the server.\"}\n")
}

// frozenDate is what Date says when the clock stands at the epoch.
const frozenDate = "Thu, 01 Jan 1970 00:00:00 GMT"

// TestCut holds that an answer that is not whole never looks whole.
func TestCut(t *testing.T) {
	f := func(name, request string, h front.Handler) {
		t.Helper()
		s := start(t, front.Options{}, func(x *front.Exchange) {
			if string(x.Target()) == "/first" {
				x.Status(200)
				x.Add("Date", "D")
				x.Send([]byte("first"))
				return
			}
			h(x)
		})
		nc := dial(t, s)
		io.WriteString(nc, "GET /first HTTP/1.1\r\nHost: h\r\n\r\n"+request)
		expect(t, nc, "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\n\r\nfirst")
		b, err := io.ReadAll(nc)
		if err == nil && !strings.Contains(string(b), "Content-Length: 9") && !strings.Contains(string(b), "chunked") {
			t.Errorf("%s: got %q and a clean end", name, b)
		}
		if strings.HasSuffix(string(b), "0\r\n\r\n") {
			t.Errorf("%s: chunked answer was ended: %q", name, b)
		}
	}
	const get, get10 = "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"
	part := func(length int64, abort bool) front.Handler {
		return func(x *front.Exchange) {
			x.Status(200)
			w, _ := x.Stream(length)
			io.WriteString(w, "part")
			w.(interface{ Flush() error }).Flush()
			if abort {
				x.Abort()
			}
		}
	}
	f("short of the length", get, part(9, false))
	f("abort with length", get, part(9, true))
	f("abort of chunks", get, part(-1, true))
	f("abort to 1.0", get10, part(-1, true))
	f("abort before an answer", get, func(x *front.Exchange) { x.Abort() })
	f("abort after fields", get, func(x *front.Exchange) { x.Status(200); x.Add("A", "b"); x.Abort() })
	f("abort of a ready answer", get, func(x *front.Exchange) { x.Status(200); x.Send([]byte("x")); x.Abort() })
}

// TestLargeAnswers sends bodies on both sides of every threshold.
func TestLargeAnswers(t *testing.T) {
	body := []byte(strings.Repeat("0123456789abcdef", 100<<10))
	s := start(t, front.Options{}, func(x *front.Exchange) {
		n := 0
		for _, c := range x.Target()[2:] {
			n = n*10 + int(c-'0')
		}
		x.Status(200)
		x.Add("Date", "D")
		switch x.Target()[1] {
		case 's':
			x.Send(body[:n])
		case 'l':
			w, _ := x.Stream(int64(n))
			w.Write(body[:n/2])
			w.Write(body[n/2 : n])
		}
	})
	var ask, want strings.Builder
	for _, n := range []string{"1", "8191", "8192", "8193", "16385", "65536", "262144", "262145", "1638400"} {
		for _, kind := range []string{"s", "l"} {
			ask.WriteString("GET /" + kind + n + " HTTP/1.1\r\nHost: h\r\n\r\n")
			size := 0
			for _, c := range n {
				size = size*10 + int(c-'0')
			}
			want.WriteString("HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: " + n + "\r\n\r\n" + string(body[:size]))
		}
	}
	if got := exchange(t, s, ask.String()); got != want.String() {
		t.Errorf("got %d bytes, want %d; or they differ", len(got), want.Len())
	}
}

// TestPanic holds that a panic costs one connection and not the process.
func TestPanic(t *testing.T) {
	s := start(t, front.Options{Logger: quiet()}, func(x *front.Exchange) {
		switch string(x.Target()) {
		case "/late":
			x.Status(200)
			w, _ := x.Stream(-1)
			io.WriteString(w, "x")
			panic("late")
		case "/early":
			x.Status(200)
			panic("early")
		}
		x.Status(200)
		x.Send(nil)
	})
	if got := exchange(t, s, "GET /early HTTP/1.1\r\nHost: h\r\n\r\n"); statuses(got) != "500" || strings.Contains(got, "early") {
		t.Errorf("got %q", got)
	}
	nc := dial(t, s)
	io.WriteString(nc, "GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
	if b, err := io.ReadAll(nc); err == nil && strings.HasSuffix(string(b), "0\r\n\r\n") {
		t.Errorf("late panic: got %q", b)
	}
	if got := exchange(t, s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); statuses(got) != "200" {
		t.Errorf("afterwards: got %q", got)
	}
}

// TestPanicOutsideHandler holds that a bug of the connection's own code, here of
// the problems it renders, costs that connection.
func TestPanicOutsideHandler(t *testing.T) {
	told := make(chan string, 8)
	s := start(t, front.Options{
		Logger:  notify(told),
		Problem: func(int, string, string) (string, []byte) { panic("bug") },
	}, func(x *front.Exchange) {
		x.Context().Done() // a watcher is there when the answer is missing
		if string(x.Target()) == "/silent" {
			return
		}
		x.Status(200)
		x.Send(nil)
	})
	for _, raw := range []string{"GET / HTTP/1.1\n\n", "GET /silent HTTP/1.1\r\nHost: h\r\n\r\n"} {
		nc := dial(t, s)
		io.WriteString(nc, raw)
		if b, _ := io.ReadAll(nc); len(b) != 0 {
			t.Errorf("%q: got %q", raw, b)
		}
		if got, want := <-told, "connection panicked"; got != want {
			t.Errorf("logged %q, want %q", got, want)
		}
	}
	nc := dial(t, s)
	io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if b, _ := io.ReadAll(nc); statuses(string(b)) != "200" {
		t.Errorf("afterwards: got %q", b)
	}
}

// TestContinue holds that the client is asked to go on exactly when the handler
// wants the body.
func TestContinue(t *testing.T) {
	s := start(t, front.Options{}, func(x *front.Exchange) {
		code := 403
		if string(x.Target()) == "/take" {
			if b, err := io.ReadAll(x.Body()); string(b) != "abc" || err != nil {
				t.Errorf("body %q, %v", b, err)
			}
			code = 200
		}
		x.Status(code)
		x.Add("Date", "D")
		x.Send(nil)
	})
	nc := dial(t, s)
	io.WriteString(nc, "PUT /take HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	expect(t, nc, "HTTP/1.1 100 Continue\r\n\r\n")
	io.WriteString(nc, "abcPUT /refuse HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	expect(t, nc, "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 0\r\n\r\n")
	expect(t, nc, "HTTP/1.1 403 Forbidden\r\nDate: D\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	ended(t, nc)
}

// TestPipelineFlush holds that an answer that is ready does not wait for one
// that is not, if that one's handler waits on its context.
func TestPipelineFlush(t *testing.T) {
	got := make(chan struct{})
	s := start(t, front.Options{}, func(x *front.Exchange) {
		if string(x.Target()) == "/slow" {
			select {
			case <-got:
			case <-x.Context().Done():
				t.Error("the client was given up")
			}
		}
		x.Status(200)
		x.Add("Date", "D")
		x.Send(x.Target())
	})
	nc := dial(t, s)
	io.WriteString(nc, "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\nGET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n")
	const ok = "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: "
	expect(t, nc, ok+"2\r\n\r\n/a"+ok+"2\r\n\r\n/b")
	close(got)
	expect(t, nc, ok+"5\r\n\r\n/slow"+ok+"2\r\n\r\n/c")
	nc.CloseWrite()
	ended(t, nc)
}

// TestBodyNotRead holds that what a handler leaves of a body is never taken for
// a request.
func TestBodyNotRead(t *testing.T) {
	s := start(t, front.Options{}, func(x *front.Exchange) {
		if x.Method() == "PUT" {
			x.Body().Read(make([]byte, 1))
		}
		x.Status(200)
		x.Send(x.Target())
	})
	const evil = "GET /evil HTTP/1.1\r\nHost: h\r\n\r\n"
	small := strings.Repeat(evil, 1000)
	large := strings.Repeat(evil, 50_000)
	f := func(request, want string) {
		t.Helper()
		if got := statuses(exchange(t, s, request+evil)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	length := func(method, body string) string {
		return method + " / HTTP/1.1\r\nHost: h\r\nContent-Length: " + decimal(len(body)) + "\r\n\r\n" + body
	}
	chunks := func(method, body string) string {
		return method + " / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + hex(len(body)) + "\r\n" + body + "\r\n0\r\n\r\n"
	}
	f(length("POST", small), "200 200")
	f(length("PUT", small), "200 200")
	f(chunks("POST", small), "200 200")
	f(chunks("PUT", small), "200 200")
	f(length("POST", large[:300<<10]), "200")
	f(chunks("POST", large[:300<<10]), "200")
}

// TestErrorsOfBody holds the methods that handlers ask errors for.
func TestErrorsOfBody(t *testing.T) {
	var large interface{ BodyTooLarge() bool }
	if !errors.As(front.ErrBodyTooLarge, &large) || !large.BodyTooLarge() {
		t.Error("ErrBodyTooLarge does not say so")
	}
	var timeout interface{ Timeout() bool }
	if !errors.As(front.ErrBodySlow, &timeout) || !timeout.Timeout() {
		t.Error("ErrBodySlow does not say so")
	}
}
