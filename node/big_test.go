package node_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// A big object and its parts on the wire: the bytes that a client sends, those
// that the origin gets, those that come back.
func TestBigObjectOnTheWire(t *testing.T) {
	body := wireBody(300_000)
	asked := make(chan string, 20)
	origin := rawOrigin(t, func(r *http.Request) string {
		asked <- r.Header.Get("Range") + " " + r.Header.Get("If-Range")
		head := "Cache-Control: max-age=600\r\nETag: \"v1\"\r\nContent-Type: text/plain\r\n"
		first, last := 0, len(body)-1
		if n, _ := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &first, &last); n == 0 {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
		}
		return fmt.Sprintf("HTTP/1.1 206 Partial Content\r\n%sContent-Range: bytes %d-%d/%d\r\nContent-Length: %d\r\n\r\n%s",
			head, first, last, len(body), last-first+1, body[first:last+1])
	})
	config := addresses + siteText(origin)
	config = strings.Replace(config, "[[site]]", "[[site]]\nchunk_bytes = \"64KiB\"", 1)
	r := inProcess(t, writeConfig(t, t.TempDir(), config))
	c := dialRaw(t, r.data)
	f := func(lines, wantStatus, wantRange, wantBody string) {
		t.Helper()
		status, head, got := c.ask(lines)
		if !strings.HasPrefix(status, "HTTP/1.1 "+wantStatus) || head.Get("Content-Range") != wantRange || got != wantBody {
			t.Errorf("%q: %s, Content-Range %q, %d bytes; want %s, %q, %d bytes",
				lines, status, head.Get("Content-Range"), len(got), wantStatus, wantRange, len(wantBody))
		}
	}
	origins := func(want string) {
		t.Helper()
		select {
		case got := <-asked:
			if got != want {
				t.Errorf("the origin was asked for %q, want %q", got, want)
			}
		default:
			t.Errorf("the origin was not asked, want %q", want)
		}
	}
	f("Range: bytes=100000-199999\r\n", "206", "bytes 100000-199999/300000", body[100000:200000])
	origins("bytes=100000-199999 ")
	f("Range: bytes=150000-150009\r\n", "206", "bytes 150000-150009/300000", body[150000:150010])
	f("Range: bytes=0-99999\r\nIf-Range: \"v1\"\r\n", "206", "bytes 0-99999/300000", body[:100000])
	origins(`bytes=0-99999 "v1"`)
	f("", "200", "", body)
	origins(`bytes=200000- "v1"`)
	f("", "200", "", body)
	f("Range: bytes=-5\r\n", "206", "bytes 299995-299999/300000", body[299995:])
	f("Range: bytes=300000-\r\n", "416", "bytes */300000", "")
	if len(asked) != 0 {
		t.Errorf("the origin was asked for %q too", <-asked)
	}
}

// wireBody returns n bytes none of which is where another could be.
func wireBody(n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(strconv.Itoa(b.Len()))
		b.WriteByte(' ')
	}
	return b.String()[:n]
}

// rawOrigin answers each request with the bytes that answer returns, and returns
// its base URL.
func rawOrigin(t *testing.T, answer func(r *http.Request) string) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					io.WriteString(c, answer(r))
				}
			}()
		}
	}()
	return "http://" + ln.Addr().String()
}

// rawClient is one connection on which GETs are sent as they are written.
type rawClient struct {
	t  *testing.T
	c  net.Conn
	in *bufio.Reader
}

func dialRaw(t *testing.T, base string) *rawClient {
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &rawClient{t, c, bufio.NewReader(c)}
}

func (c *rawClient) ask(lines string) (status string, head http.Header, body string) {
	c.t.Helper()
	fmt.Fprintf(c.c, "GET /big HTTP/1.1\r\nHost: shop.example\r\n%s\r\n", lines)
	status, err := c.in.ReadString('\n')
	head = http.Header{}
	for err == nil {
		var line string
		if line, err = c.in.ReadString('\n'); line == "\r\n" {
			break
		}
		name, value, _ := strings.Cut(line, ":")
		head.Add(name, strings.TrimSpace(value))
	}
	n, lengthErr := strconv.Atoi(head.Get("Content-Length"))
	if err != nil || lengthErr != nil {
		c.t.Fatalf("%q: status %q, %v, Content-Length %q", lines, status, err, head.Get("Content-Length"))
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(c.in, b); err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(status), head, string(b)
}
