package front

import (
	"bufio"
	"bytes"

	"github.com/valyala/fasthttp"
)

// An opinion is fasthttp's reading of a head that our own check has accepted.
type opinion struct {
	source bytes.Reader
	reader *bufio.Reader
	header fasthttp.RequestHeader
}

// agrees reports whether fasthttp's parser reads block, a whole head, as h
// says: same end, method, target, host, version and body length.
func (o *opinion) agrees(block []byte, h *head) bool {
	line := bytes.TrimPrefix(block, []byte("\r\n")) // an empty line is allowed before it
	o.source.Reset(line)
	if o.reader == nil || o.reader.Size() < len(line) {
		o.reader = bufio.NewReaderSize(&o.source, max(firstBuffer, len(line)))
	} else {
		o.reader.Reset(&o.source)
	}
	defer o.header.Reset()
	if o.header.Read(o.reader) != nil || o.reader.Buffered() != 0 || o.source.Len() != 0 {
		return false
	}
	return string(o.header.Method()) == h.method &&
		string(o.header.RequestURI()) == string(h.whole.of(block)) &&
		string(o.header.Host()) == string(h.hostLine(block)) &&
		h.http10 == bytes.Equal(o.header.Protocol(), []byte("HTTP/1.0")) &&
		int64(max(o.header.ContentLength(), lengthChunked-1)) == h.announced()
}

// announced returns the body's length as fasthttp tells it: one below
// lengthChunked is no announcement.
func (h *head) announced() int64 {
	if !h.hasLength && !h.coded {
		return lengthChunked - 1
	}
	return h.length
}
