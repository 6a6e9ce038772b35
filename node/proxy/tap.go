package proxy

import (
	"bytes"
	"net"
	"strings"
	"sync"
)

// A tap is a connection to an origin that watches the answers passing through
// it, for what net/http does not tell: bytes beyond the announced length, which
// might be taken for the next answer, and headers with two framings.
type tap struct {
	net.Conn

	// mu guards the fields below. It is a leaf lock.
	mu     sync.Mutex
	head   []byte // header so far, cut at maxAnswerHeader
	inBody bool
	left   int64 // announced body bytes still to come; -1 not announced
	wrong  bool
}

func newTap(c net.Conn) *tap { return &tap{Conn: c} }

// begin is called when a request is about to be sent on the connection. It
// reports false if bytes came that nobody asked for.
func (t *tap) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wrong || !t.inBody && len(t.head) > 0 {
		return false
	}
	t.head, t.inBody, t.left = t.head[:0], false, 0
	return true
}

// began reports whether bytes of an answer came.
func (t *tap) began() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.inBody || len(t.head) > 0
}

// broken reports whether the framing of the answer is not to be trusted.
func (t *tap) broken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wrong
}

// Read implements net.Conn.
func (t *tap) Read(b []byte) (int, error) {
	n, err := t.Conn.Read(b)
	if n > 0 {
		t.mu.Lock()
		t.see(b[:n])
		t.mu.Unlock()
	}
	return n, err
}

// see follows the bytes of an answer.
func (t *tap) see(b []byte) {
	for len(b) > 0 && !t.inBody {
		b = t.seeHead(b)
	}
	if len(b) == 0 || t.left < 0 {
		return
	}
	if t.left -= int64(len(b)); t.left < 0 {
		t.left, t.wrong = 0, true
	}
}

// seeHead takes bytes of a header and returns those after its end.
func (t *tap) seeHead(b []byte) []byte {
	from := max(len(t.head)-3, 0)
	t.head = append(t.head, b...)
	end, n := bytes.Index(t.head[from:], []byte("\r\n\r\n")), 4
	if lf := bytes.Index(t.head[from:], []byte("\n\n")); lf >= 0 && (end < 0 || lf < end) {
		end, n = lf, 2
	}
	if end < 0 {
		if len(t.head) > maxAnswerHeader {
			t.wrong, t.inBody, t.left = true, true, -1
		}
		return nil
	}
	head := t.head[:from+end]
	rest := b[len(b)-(len(t.head)-(from+end+n)):]
	status, length, chunked, ok := readHead(string(head))
	t.head = t.head[:0]
	t.wrong = t.wrong || !ok
	if status >= 100 && status < 200 && status != 101 {
		return rest
	}
	t.inBody, t.left = true, length
	if chunked || status == 101 {
		t.left = -1
	}
	return rest
}

// readHead reads status and framing of an answer's header. ok is false for
// lengths that conflict, and for a length beside Transfer-Encoding.
func readHead(head string) (status int, length int64, chunked, ok bool) {
	lines := strings.Split(head, "\n")
	if _, after, found := strings.Cut(lines[0], " "); found && len(after) >= 3 {
		for _, c := range []byte(after[:3]) {
			status = status*10 + int(c-'0')
		}
	}
	length, ok = -1, true
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.Trim(value, " \t\r")
		switch {
		case strings.EqualFold(name, "transfer-encoding"):
			chunked = true
		case strings.EqualFold(name, "content-length"):
			n, valid := bigDigits(value)
			if !valid || length >= 0 && length != n {
				ok = false
			}
			length = n
		}
	}
	return status, length, chunked, ok && (length < 0 || !chunked)
}
