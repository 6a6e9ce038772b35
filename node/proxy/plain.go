package proxy

import (
	"net/http"
	"net/textproto"
	"strings"
)

// readPlain reads the header of an answer that leaves no doubt: HTTP/1.1, one
// Content-Length and no other framing, lines that end with CRLF, fields that are
// names and values of RFC 9110, no word about the connection but keep-alive. It
// reports false for all others, which net/http reads. What it reads it reads as
// net/http does; FuzzReadPlain compares them.
//
// The strings of the answer are parts of one, a copy of head. The body is NoBody or
// nil.
func readPlain(head []byte, method string) (*http.Response, bool) {
	if method == http.MethodHead || method == http.MethodConnect {
		return nil, false
	}
	s := string(head)
	line, rest, ok := plainLine(s)
	status := plainStatus(line)
	if !ok || status < 200 {
		return nil, false
	}
	resp := &http.Response{
		Status: line[len("HTTP/1.1 "):], StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
	}
	if resp.Header, ok = plainFields(rest, resp); !ok {
		return nil, false
	}
	if status == http.StatusNoContent || status == http.StatusNotModified {
		if resp.ContentLength >= 0 {
			return nil, false
		}
		resp.ContentLength = 0
	}
	if resp.ContentLength == 0 {
		resp.Body = http.NoBody
	}
	return resp, resp.ContentLength >= 0
}

// plainStatus returns the status of a line, 0 if it is not as it should be.
func plainStatus(line string) int {
	code, ok := strings.CutPrefix(line, "HTTP/1.1 ")
	if !ok || len(code) < 3 || len(code) > 3 && code[3] != ' ' || !isDigit(code[0]) || !isDigit(code[1]) || !isDigit(code[2]) {
		return 0
	}
	return int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
}

// plainLine cuts off the first line, which CRLF ends. A CR or LF elsewhere is none.
func plainLine(s string) (line, rest string, ok bool) {
	line, rest, ok = strings.Cut(s, "\n")
	if !ok || line == "" || line[len(line)-1] != '\r' {
		return "", "", false
	}
	line = line[:len(line)-1]
	return line, rest, validValue(line)
}

// plainFields reads the fields, and the length of the body into resp. Most are there
// once: the lists of those lie together.
func plainFields(s string, resp *http.Response) (http.Header, bool) {
	n := strings.Count(s, "\n")
	h, values := make(http.Header, n), make([]string, 0, n)
	for {
		line, rest, ok := plainLine(s)
		if !ok {
			return nil, false
		}
		if line == "" {
			return h, rest == ""
		}
		s = rest
		raw, value, ok := strings.Cut(line, ":")
		if !ok || raw == "" || tokenLen(raw) != len(raw) {
			return nil, false
		}
		name, value := textproto.CanonicalMIMEHeaderKey(raw), strings.Trim(value, " \t")
		if !plainField(name, value, resp) {
			return nil, false
		}
		if before := h[name]; before != nil {
			h[name] = append(before, value)
			continue
		}
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
}

// plainField takes the length from a field. It reports false for those that frame
// in another way, or that net/http changes something for.
func plainField(name, value string, resp *http.Response) bool {
	switch name {
	case "Transfer-Encoding", "Trailer", "Upgrade", "Pragma":
		return false
	case "Connection":
		return strings.EqualFold(value, "keep-alive")
	case "Content-Length":
		if resp.ContentLength >= 0 || value == "" || len(value) > 15 {
			return false
		}
		n := int64(0)
		for i := range len(value) {
			if !isDigit(value[i]) {
				return false
			}
			n = n*10 + int64(value[i]-'0')
		}
		resp.ContentLength = n
	}
	return true
}
