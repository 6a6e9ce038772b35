package redistest

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// callLimit bounds one command, the connection included.
const callLimit = 5 * time.Second

// An Error is an error answer of a server.
type Error string

func (e Error) Error() string { return "redis: " + string(e) }

// call sends one command (RESP 2) on a new connection and reads the answer.
func call(addr, password string, args ...string) (any, error) {
	c, err := net.DialTimeout("tcp", addr, callLimit)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(callLimit)); err != nil {
		return nil, err
	}
	r := bufio.NewReader(c)
	if password != "" {
		if _, err := exchange(c, r, "AUTH", password); err != nil {
			return nil, err
		}
	}
	return exchange(c, r, args...)
}

func exchange(w io.Writer, r *bufio.Reader, args ...string) (any, error) {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	return readValue(r)
}

func readValue(r *bufio.Reader) (any, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, fmt.Errorf("redistest: answer %q is too short", line)
	}
	rest := line[1 : len(line)-2]
	switch line[0] {
	case '+':
		return rest, nil
	case '-':
		return nil, Error(rest)
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("redistest: answer %q: %w", line, err)
	}
	switch {
	case line[0] == ':':
		return n, nil
	case n < 0:
		return nil, nil
	case line[0] == '$':
		return readBulk(r, n)
	case line[0] == '*':
		return readArray(r, n)
	}
	return nil, fmt.Errorf("redistest: answer %q is of an unknown type", line)
}

func readBulk(r *bufio.Reader, n int64) (any, error) {
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	return string(b[:n]), nil
}

func readArray(r *bufio.Reader, n int64) (any, error) {
	values := make([]any, 0, n)
	for range n {
		v, err := readValue(r)
		if _, refused := err.(Error); err != nil && !refused {
			return nil, err
		} else if refused {
			v = err
		}
		values = append(values, v)
	}
	return values, nil
}
