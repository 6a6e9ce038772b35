package leak_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
)

// A kind is one way to answer. Its lines say who may have the answer.
type kind struct {
	lines   string // header lines, "|" between them; $ is the client's mark
	body    bool   // the body and what is behind it have the mark
	trailer bool   // what is behind the body has the mark
	loose   bool   // a site that lets hooks override may share it
}

// kinds are those whose marked parts nobody else may get.
var kinds = []kind{
	{lines: "Cache-Control: private", body: true},
	{lines: "Cache-Control: max-age=60, PRIVATE", body: true},
	{lines: "Cache-Control: s-maxage=60|Cache-Control: public|cache-control: x=\"y\", Private", body: true},
	{lines: "Cache-Control: max-age=60|CDN-Cache-Control: private, max-age=60", body: true},
	{lines: "Cache-Control: private, max-age=60, stale-while-revalidate=60, stale-if-error=60|ETag: \"e\"", body: true},
	{lines: "Cache-Control: no-store", body: true, loose: true},
	{lines: "Cache-Control: max-age=60, No-Store|Expires: Sun, 06 Nov 2144 08:49:37 GMT", body: true, loose: true},
	{lines: "Cache-Control: max-age=60|Set-Cookie: session=$", body: true},
	{lines: "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT|Set-Cookie: session=$", body: true},
	{lines: "Cache-Control: max-age=60|Vary: *", body: true},
	{lines: "Cache-Control: max-age=60, public|Vary: Accept, *", body: true},
	{lines: "Cache-Control: max-age=60, public|Vary: Cookie, Authorization", body: true},
	{lines: "Cache-Control: max-age=1, stale-while-revalidate=60, public|Vary: Authorization|Vary: Cookie|ETag: \"$\"", body: true},
	{lines: "Cache-Control: max-age=60, public, private=\"x-for, x-more\"|X-For: $|X-More: $"},
	{lines: "Cache-Control: max-age=60, public, no-cache=\"Set-Cookie\"|Set-Cookie: session=$"},
	{lines: "Cache-Control: max-age=60, public|Connection: X-For|X-For: $"},
	{lines: "Cache-Control: max-age=60, public, private=\"x-last\"", trailer: true},
	{lines: "Cache-Control: must-understand, private, no-store, max-age=60", body: true},
	{lines: "Cache-Control: private, max-age=60|Content-Location: /u0", body: true},
}

// tokens are kinds that only Authorization keeps from being shared. (A Cookie in
// the request alone does not: see docs/sites.md.)
var tokens = []kind{
	{lines: "X-For: $", body: true}, // a hook gives it a lifetime
	{lines: "Cache-Control: max-age=60", body: true},
	{lines: "Expires: Sun, 06 Nov 2144 08:49:37 GMT|ETag: \"e\"", body: true},
	{lines: "Cache-Control: max-age=1, stale-while-revalidate=60, stale-if-error=60", body: true},
	{lines: "Cache-Control: max-age=60, proxy-revalidate, immutable", body: true},
}

// shared are kinds for everybody, without marks.
var shared = []kind{
	{lines: "Cache-Control: max-age=5, public"},
	{lines: "Cache-Control: s-maxage=5|ETag: \"e\""},
	{lines: "Cache-Control: max-age=1, public, stale-while-revalidate=60, stale-if-error=600|ETag: \"e\""},
	{lines: "Cache-Control: public, max-age=5|Set-Cookie: theme=dark"},
	{lines: "Cache-Control: public, no-cache|ETag: \"e\""},
}

// updates are what a 304 or the answer to a HEAD may look like besides: it says
// less than the stored answer for everybody that it renews, or says it in a field
// that the stored answer has a stronger one for (RFC 9111 §4.3.4, §4.3.5, RFC
// 9213). It is for the client that asked all the same.
var updates = []kind{
	{lines: "Set-Cookie: session=$"},
	{lines: "ETag: \"e\"|Set-Cookie: session=$"},
	{lines: "ETag: \"e\"|Cache-Control: max-age=5|Set-Cookie: session=$"},
	{lines: "ETag: \"e\"|Cache-Control: private, max-age=5|X-For: $"},
	{lines: "ETag: \"e\"|Cache-Control: no-store|X-For: $", loose: true},
	{lines: "ETag: \"e\"|CDN-Cache-Control: private, max-age=5|X-For: $"},
	{lines: "ETag: \"e\"|CDN-Cache-Control: max-age=5, private=\"x-for\"|X-For: $"},
	{lines: "ETag: \"e\"|Cache-Control: max-age=5, private=\"x-for\"|X-For: $"},
	{lines: "ETag: \"e\"|Cache-Control: max-age=5, public, no-cache=\"Set-Cookie, x-for\"|Set-Cookie: session=$|X-For: $"},
	{lines: "ETag: \"e\"|Cache-Control: max-age=5, public|Connection: X-For|X-For: $"},
	{lines: "ETag: \"e\"|Vary: *|X-For: $"},
	{lines: "ETag: \"e\"|Cache-Control: max-age=5, public|Vary: Cookie, Authorization|X-For: $"},
}

// tokenUpdates are those that only Authorization keeps from being shared.
var tokenUpdates = []kind{
	{lines: "X-For: $"},
	{lines: "ETag: \"e\"|X-For: $"},
	{lines: "ETag: \"e\"|Cache-Control: max-age=5|X-For: $"},
	{lines: "ETag: \"e\"|CDN-Cache-Control: max-age=5|X-For: $"},
	{lines: "ETag: \"e\"|Expires: Sun, 06 Nov 2144 08:49:37 GMT|X-For: $"},
}

// A crowd lets an origin wait until more clients have come, so that requests
// meet, without ever waiting in vain.
type crowd struct {
	mu                       sync.Mutex
	moved                    *sync.Cond
	started, inside, running int
}

func newCrowd(n int) *crowd {
	c := &crowd{running: n}
	c.moved = sync.NewCond(&c.mu)
	return c
}

func (c *crowd) change(f func()) {
	c.mu.Lock()
	f()
	c.mu.Unlock()
	c.moved.Broadcast()
}

func (c *crowd) enter() { c.change(func() { c.started++; c.inside++ }) }
func (c *crowd) leave() { c.change(func() { c.inside-- }) }
func (c *crowd) end()   { c.change(func() { c.running-- }) }

// wait returns when n more requests have begun, or all clients wait.
func (c *crowd) wait(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for until := c.started + n; c.started < until && c.inside < c.running; {
		c.moved.Wait()
	}
}

// An origin answers each request in a random way.
type origin struct {
	ln    net.Listener
	crowd *crowd
	conns sync.WaitGroup

	mu                      sync.Mutex
	rand                    *rand.Rand
	n                       int
	personal, faults, agree int
	parts                   int
	heads                   []string // of all answers, to explain a leak
}

func (o *origin) accept() {
	defer o.conns.Done()
	for {
		c, err := o.ln.Accept()
		if err != nil {
			return
		}
		o.conns.Add(1)
		go func() {
			defer o.conns.Done()
			defer c.Close()
			for r := bufio.NewReader(c); o.one(c.(*net.TCPConn), r); {
			}
		}()
	}
}

// who returns the name of the client that a request shows, or "".
func who(q *http.Request) (name string, token bool) {
	if t, ok := strings.CutPrefix(q.Header.Get("Authorization"), "Bearer "); ok {
		return t, true
	}
	if c, err := q.Cookie("id"); err == nil {
		return c.Value, false
	}
	return "", false
}

// one answers one request; false ends the connection.
func (o *origin) one(c *net.TCPConn, r *bufio.Reader) bool {
	q, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	io.Copy(io.Discard, q.Body)
	o.mu.Lock()
	answer, hold, fault := o.choose(q)
	o.mu.Unlock()
	if hold > 0 {
		o.crowd.wait(hold)
	}
	switch fault {
	case 1: // nothing at all
		c.SetLinger(0)
		return false
	case 2: // a part, then an end
		c.Write(answer[:len(answer)*2/3])
		return false
	case 3: // a part, then a reset
		c.Write(answer[:len(answer)*9/10])
		c.SetLinger(0)
		return false
	}
	half := len(answer) / 2
	c.Write(answer[:half])
	if hold > 1 {
		o.crowd.wait(1)
	}
	_, err = c.Write(answer[half:])
	return err == nil
}

// choose makes an answer for q, how many clients to wait for, and what goes
// wrong.
func (o *origin) choose(q *http.Request) (answer []byte, hold, fault int) {
	name, token := who(q)
	loose := strings.HasPrefix(q.Host, "loose")
	status := o.status(q)
	k := shared[o.rand.IntN(len(shared))]
	switch n, update := o.rand.IntN(10), status == 304 || status == 206 && o.rand.IntN(2) == 0 || q.Method == "HEAD"; {
	case n < 3 && update && token:
		k = tokenUpdates[o.rand.IntN(len(tokenUpdates))]
	case n < 6 && update:
		k = updates[o.rand.IntN(len(updates))]
	case n < 3 && token:
		k = tokens[o.rand.IntN(len(tokens))]
	case n < 6:
		k = kinds[o.rand.IntN(len(kinds))]
	}
	mark := ""
	if name != "" && !(loose && k.loose) {
		mark = "MEANT-FOR(" + name + ")"
	}
	if mark != "" && (k.body || k.trailer || strings.Contains(k.lines, "$")) {
		o.personal++
	}
	if o.rand.IntN(3) == 0 {
		hold = 1 + o.rand.IntN(4)
	}
	if o.rand.IntN(12) == 0 {
		fault = 1 + o.rand.IntN(3)
		o.faults++
	}
	return o.render(q, k, status, mark), hold, fault
}

func (o *origin) status(q *http.Request) int {
	conditional := q.Header.Get("If-None-Match") != "" || q.Header.Get("If-Modified-Since") != ""
	switch {
	case conditional && o.rand.IntN(2) == 0:
		o.agree++
		return 304
	case o.rand.IntN(12) == 0:
		return []int{500, 503, 404, 302, 403, 599}[o.rand.IntN(6)]
	case q.Method == "GET" && q.Header.Get("Range") != "" && o.rand.IntN(5) > 0:
		return 206
	}
	return 200
}

func (o *origin) render(q *http.Request, k kind, status int, mark string) []byte {
	o.n++
	body := strings.Repeat(fmt.Sprintf("%d %s\n", o.n, map[bool]string{true: mark}[k.body]), []int{1, 1, 1, 1, 40, 40, 300, 6_000}[o.rand.IntN(8)])
	partly := ""
	if status == 206 {
		// All lengths are one, so that parts of different answers meet.
		body = strings.Repeat(fmt.Sprintf("%-30s\n", strings.TrimSpace(body[:strings.Index(body, "\n")])), 300)
		if body, partly = cut(body, q.Header.Get("Range")); partly == "" {
			status = 200
		} else {
			o.parts++
		}
	}
	var b strings.Builder
	if o.rand.IntN(10) == 0 {
		fmt.Fprintf(&b, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nX-Hint: %s\r\n\r\n", map[bool]string{true: mark}[k.body])
	}
	fmt.Fprintf(&b, "HTTP/1.1 %d X\r\n", status)
	for _, line := range strings.Split(k.lines, "|") {
		fmt.Fprintf(&b, "%s\r\n", strings.ReplaceAll(line, "$", mark))
	}
	if partly != "" {
		fmt.Fprintf(&b, "Content-Range: %s\r\n", partly)
		if !strings.Contains(k.lines, "ETag") {
			b.WriteString("ETag: \"e\"\r\n")
		}
	}
	switch {
	case status == 304 || q.Method == "HEAD":
		b.WriteString("\r\n")
	case o.rand.IntN(3) == 0:
		fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\nTrailer: X-Last\r\n\r\n%x\r\n%s\r\n0\r\nX-Last: %s\r\n\r\n", len(body), body, map[bool]string{true: mark}[k.body || k.trailer])
	default:
		fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	head, _, _ := strings.Cut(b.String(), "\r\n\r\n")
	name, _ := who(q)
	o.heads = append(o.heads, fmt.Sprintf("answer %d to %q: %s %s%s %v: %q", o.n, name, q.Method, q.Host, q.RequestURI, q.Header, head))
	return []byte(b.String())
}

// cut returns what a Range of one range asks for, and its Content-Range; "" if
// that is nothing.
func cut(body, field string) (part, contentRange string) {
	var first, last int
	if n, _ := fmt.Sscanf(field, "bytes=%d-%d", &first, &last); n == 0 || first >= len(body) || n == 2 && last < first {
		return body, ""
	} else if n == 1 || last >= len(body) {
		last = len(body) - 1
	}
	return body[first : last+1], fmt.Sprintf("bytes %d-%d/%d", first, last, len(body))
}

// history returns the last answers for a URL.
func (o *origin) history(host, target string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var mine []string
	for _, h := range o.heads {
		if strings.Contains(h, " "+host+target+" ") {
			mine = append(mine, h)
		}
	}
	return strings.Join(mine[max(0, len(mine)-12):], "\n")
}
