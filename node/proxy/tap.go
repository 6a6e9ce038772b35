package proxy

import (
	"bytes"
	"io"
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
	mu      sync.Mutex
	head    []byte // header so far, cut at maxAnswerHeader
	inBody  bool
	left    int64 // announced body bytes still to come; -1 not announced
	chunks  *chunks
	pushed  []byte    // read beyond what was asked for, and noted already
	came    bool      // a byte of an answer, interim ones included
	asked   bool      // a byte of a request left
	writing int       // calls of Write under way
	wrote   sync.Cond // a Write has returned
	taken   bool      // see took
	wrong   bool

	lost lost // of the last header
}

func newTap(c net.Conn) *tap {
	t := &tap{Conn: c}
	t.wrote.L = &t.mu
	return t
}

// begin is called when a request is about to be sent on the connection. It
// reports false if bytes came that nobody asked for.
func (t *tap) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wrong || len(t.pushed) > 0 || !t.inBody && len(t.head) > 0 {
		return false
	}
	t.head, t.inBody, t.left, t.chunks, t.came = t.head[:0], false, 0, nil, false
	t.asked, t.taken = false, false
	return true
}

// began reports whether bytes of an answer came.
func (t *tap) began() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.came
}

// took reports whether the connection ended in order after the origin's side had
// received all that was sent of the request: the origin took it and closed without
// a word. If it closed while the request was on its way, or where that cannot be
// told, the answer is false.
func (t *tap) took() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken
}

// Write implements net.Conn.
func (t *tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	t.writing++
	t.mu.Unlock()
	n, err := t.Conn.Write(b)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing--
	t.asked = t.asked || n > 0
	t.wrote.Broadcast()
	return n, err
}

// ended notes the end of the connection. The origin may close before the Write
// that sent the request has returned here: it is waited for. It does not last, as
// the first bytes of a request fit into the memory of a connection.
func (t *tap) ended() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for !t.asked && t.writing > 0 {
		t.wrote.Wait()
	}
	t.taken = t.asked && !t.came && acknowledged(t.Conn)
}

// broken reports whether the framing of the answer is not to be trusted.
func (t *tap) broken() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.wrong
}

// settled reports whether nothing that was read from the connection is left here.
func (t *tap) settled() bool {
	t.mu.Lock()
	ok := !t.wrong && len(t.pushed) == 0
	t.mu.Unlock()
	c, coded := t.Conn.(*codingConn)
	return ok && (!coded || c.settled())
}

// Read implements net.Conn. A read that may bring the last announced byte asks
// for one more: only so is it seen whether more came.
func (t *tap) Read(b []byte) (int, error) {
	t.mu.Lock()
	if len(t.pushed) > 0 {
		n := copy(b, t.pushed)
		t.pushed = t.pushed[n:]
		t.mu.Unlock()
		return n, nil
	}
	last := t.inBody && t.left > 0 && t.left == int64(len(b))
	t.mu.Unlock()
	if last {
		return t.readLast(b)
	}
	n, err := t.Conn.Read(b)
	t.note(b[:n])
	if err == io.EOF {
		t.ended()
	}
	return n, err
}

func (t *tap) readLast(b []byte) (int, error) {
	more := make([]byte, len(b)+1)
	n, err := t.Conn.Read(more)
	t.note(more[:n])
	if copy(b, more[:n]) < n {
		t.mu.Lock()
		t.pushed = more[len(b):n]
		t.mu.Unlock()
		return len(b), err
	}
	return n, err
}

func (t *tap) note(b []byte) {
	if len(b) > 0 {
		t.mu.Lock()
		t.see(b)
		t.mu.Unlock()
	}
}

// see follows the bytes of an answer.
func (t *tap) see(b []byte) {
	t.came = true
	for len(b) > 0 && !t.inBody {
		b = t.seeHead(b)
	}
	if t.chunks != nil && len(b) > 0 && !t.chunks.see(b) {
		t.wrong = true
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
	t.lost = readLost(string(head))
	t.head = t.head[:0]
	t.wrong = t.wrong || !ok
	if status >= 100 && status < 200 && status != 101 {
		return rest
	}
	t.inBody, t.left = true, length
	if chunked {
		t.left, t.chunks = -1, &chunks{}
	}
	if status == 101 {
		t.left = -1
	}
	return rest
}

// chunks follows the chunked coding (RFC 9112 §7.1) as far as to know where it
// ends. What it cannot read it leaves to net/http.
type chunks struct {
	part  chunkPart
	size  int64 // of the chunk, or what is left of it
	blank bool  // the line of the trailer section is empty so far
}

type chunkPart byte

const (
	chunkSize chunkPart = iota
	chunkExtension
	chunkData
	chunkDataEnd
	chunkTrailer
	chunkOver
)

// see follows b. It reports false if there are bytes after the end.
func (c *chunks) see(b []byte) bool {
	for len(b) > 0 {
		if c.part == chunkData {
			n := min(c.size, int64(len(b)))
			if c.size -= n; c.size == 0 {
				c.part = chunkDataEnd
			}
			b = b[n:]
			continue
		}
		if c.part == chunkOver {
			return false
		}
		c.step(b[0])
		b = b[1:]
	}
	return true
}

func (c *chunks) step(b byte) {
	switch c.part {
	case chunkSize:
		if digit, ok := hexDigit(b); ok && c.size < 1<<55 {
			c.size = c.size<<4 + digit
			return
		}
		c.part = chunkExtension
		fallthrough
	case chunkExtension:
		if b != '\n' {
			return
		}
		if c.part = chunkData; c.size == 0 {
			c.part, c.blank = chunkTrailer, true
		}
	case chunkDataEnd:
		if b == '\n' {
			c.part = chunkSize
		}
	case chunkTrailer:
		switch {
		case b == '\n' && c.blank:
			c.part = chunkOver
		case b == '\n':
			c.blank = true
		case b != '\r':
			c.blank = false
		}
	}
}

func hexDigit(b byte) (int64, bool) {
	switch {
	case isDigit(b):
		return int64(b - '0'), true
	case 'a' <= b|0x20 && b|0x20 <= 'f':
		return int64(b|0x20-'a') + 10, true
	}
	return 0, false
}

// readHead reads status and framing of an answer's header. ok is false for
// lengths that conflict, for a length beside Transfer-Encoding, and for either
// with a space before its colon.
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
		bare := strings.TrimRight(name, " \t")
		switch {
		case bare != name:
			// net/http does not take such a line for a framing; others do.
			ok = ok && !strings.EqualFold(bare, "transfer-encoding") && !strings.EqualFold(bare, "content-length")
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
