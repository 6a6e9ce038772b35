package proxy

import (
	"bytes"
	"net"
	"strings"
	"sync"
)

// A codingConn is a connection to an origin that lets an answer with a transfer
// coding nobody knows through to net/http, which refuses it. Such an answer is
// read to the close (RFC 9112 §6.3): its Transfer-Encoding line is made a blank
// field, and "Connection: close" is put in front of the others. It is noted, so
// that the answer is not stored.
//
// Everything else passes as it came. What chunks frame, and what has a length
// beside the coding, is left to those who refuse it. It is used by one reader.
type codingConn struct {
	net.Conn

	// mu guards the fields below. It is a leaf lock; begin is called by another
	// goroutine than Read.
	mu      sync.Mutex
	inHead  bool
	head    []byte // so far, not yet given
	pending []byte // to be given before more is read
	foreign bool   // the coding of this answer is not known
}

// CloseWrite tells the origin that nothing follows.
func (c *codingConn) CloseWrite() error { return closeWrite(c.Conn) }

// begin is called when a request is about to be sent.
func (c *codingConn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inHead, c.foreign, c.head = true, false, c.head[:0]
}

// unknownCoding reports whether the answer has a transfer coding nobody knows.
func (c *codingConn) unknownCoding() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.foreign
}

// Read implements net.Conn. Whether bytes are of a header is decided when they
// have come: a kept connection is read from before the next request begins.
func (c *codingConn) Read(b []byte) (int, error) {
	for {
		if n := c.give(b); n > 0 {
			return n, nil
		}
		n, err := c.Conn.Read(b)
		if c.passes(b[:n], err) {
			return n, err
		}
		if err != nil {
			if n := c.give(b); n > 0 {
				return n, nil // the error comes again
			}
			return 0, err
		}
	}
}

// give copies what is pending to b.
func (c *codingConn) give(b []byte) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(b, c.pending)
	c.pending = c.pending[n:]
	return n
}

// settled reports whether all that was read was given.
func (c *codingConn) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.pending) == 0 && len(c.head) == 0
}

// passes reports whether what was read goes on as it is. If not, it was taken;
// at the end of the connection what there is of a header is pending.
func (c *codingConn) passes(b []byte, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inHead {
		return true
	}
	c.take(b)
	if err != nil && c.inHead {
		c.pending, c.head, c.inHead = append(c.pending, c.head...), nil, false
	}
	return false
}

// take gathers the header of an answer; when it is whole, or too long, it becomes
// pending. mu is held.
func (c *codingConn) take(b []byte) {
	from := max(len(c.head)-3, 0)
	c.head = append(c.head, b...)
	end := headEnd(c.head[from:])
	if end < 0 && len(c.head) <= maxAnswerHeader {
		return
	}
	c.inHead = false
	if end += from; end > from && end <= maxAnswerHeader {
		interim := isInterim(c.head)
		c.inHead = interim && len(c.head) == end // the next one follows
		if interim && !c.inHead {                // several at once
			rest := append([]byte(nil), c.head[end:]...)
			first := c.head[:end]
			c.head, c.inHead = nil, true
			c.pending = append(c.pending, first...)
			c.take(rest)
			return
		}
		c.head = c.clean(c.head, end)
	}
	c.pending = append(c.pending, c.head...)
	c.head = nil
}

// headEnd returns where the header ends, its last bytes included, or -1.
func headEnd(b []byte) int {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end >= 0 {
		end += 4
	}
	if lf := bytes.Index(b, []byte("\n\n")); lf >= 0 && (end < 0 || lf+2 < end) {
		end = lf + 2
	}
	return end
}

// isInterim reports whether a header is that of a 1xx that another one follows.
func isInterim(head []byte) bool {
	_, after, ok := bytes.Cut(head, []byte(" "))
	return ok && len(after) >= 3 && after[0] == '1' && !bytes.HasPrefix(after, []byte("101"))
}

// clean takes an unknown coding out of a header.
func (c *codingConn) clean(b []byte, end int) []byte {
	lines := strings.SplitAfter(string(b[:end]), "\n")
	at, codings, length := -1, 0, false
	for i, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		switch {
		case strings.EqualFold(name, "transfer-encoding"):
			codings++
			if !strings.Contains(strings.ToLower(value), "chunked") && strings.Trim(value, " \t\r\n") != "" && !strings.EqualFold(strings.Trim(value, " \t\r\n"), "identity") {
				at = i + 1
			}
		case strings.EqualFold(strings.TrimRight(name, " \t"), "content-length"):
			length = true
		}
	}
	if at < 0 || codings > 1 || length || strings.HasPrefix(lines[0], "HTTP/1.0") {
		return b
	}
	c.foreign = true
	lines[at] = "Connection: close\r\n"
	return append([]byte(strings.Join(lines, "")), b[end:]...)
}
