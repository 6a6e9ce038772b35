package api

import (
	"bytes"
	"errors"
	"io"
)

// errLineTooLong is a line above the limit. The reader is at the next line.
var errLineTooLong = errors.New("api: line too long")

// A lineReader reads lines that end in LF, CR LF or the end of input, each at
// most limit bytes. Blank lines are skipped. Its buffer grows with what arrives.
type lineReader struct {
	r     io.Reader
	limit int
	buf   []byte // buf[start:] is read and not yet given out
	start int
	err   error // of r, once met
}

// next returns the next line, valid until the call after, or io.EOF, or
// errLineTooLong, or an error of the input; an input that breaks within a line
// does not give out that part.
func (l *lineReader) next() ([]byte, error) {
	for {
		line, err := l.line()
		if line = bytes.TrimSuffix(line, []byte("\r")); err != nil || len(line) > 0 {
			return line, err
		}
	}
}

// ready reports whether the next line can be had without reading.
func (l *lineReader) ready() bool { return bytes.IndexByte(l.buf[l.start:], '\n') >= 0 }

// line returns one line, maybe empty.
func (l *lineReader) line() ([]byte, error) {
	for searched := 0; ; {
		rest := l.buf[l.start:]
		if i := bytes.IndexByte(rest[searched:], '\n'); i >= 0 {
			l.start += searched + i + 1
			if searched+i > l.limit {
				return nil, errLineTooLong
			}
			return rest[:searched+i], nil
		}
		if len(rest) > l.limit {
			return nil, l.skip()
		}
		if l.err != nil {
			return l.last(rest)
		}
		searched = len(rest)
		l.fill()
	}
}

// last gives out what is left at the end of input.
func (l *lineReader) last(rest []byte) ([]byte, error) {
	if l.err == io.EOF && len(rest) > 0 {
		l.start = len(l.buf)
		return rest, nil
	}
	return nil, l.err
}

// skip drops the rest of a line that is too long.
func (l *lineReader) skip() error {
	for {
		if i := bytes.IndexByte(l.buf[l.start:], '\n'); i >= 0 {
			l.start += i + 1
			return errLineTooLong
		}
		l.start = len(l.buf)
		if l.err == io.EOF {
			return errLineTooLong // next meets the end
		}
		if l.err != nil {
			return l.err
		}
		l.fill()
	}
}

// fill reads once, after making room.
func (l *lineReader) fill() {
	if l.start > 0 {
		l.buf = l.buf[:copy(l.buf, l.buf[l.start:])]
		l.start = 0
	}
	if len(l.buf) == cap(l.buf) {
		grown := make([]byte, len(l.buf), max(2*cap(l.buf), minBody))
		copy(grown, l.buf)
		l.buf = grown
	}
	n, err := l.r.Read(l.buf[len(l.buf):cap(l.buf)])
	l.buf = l.buf[:len(l.buf)+n]
	l.err = err
}
