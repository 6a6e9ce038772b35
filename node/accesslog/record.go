package accesslog

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"
)

// A Record is one request and its answer. Empty members are left out.
type Record struct {
	Time     time.Time // of the answer's end
	Took     time.Duration
	Client   netip.Addr // as trusted proxies tell it
	Method   string
	Scheme   string
	Host     []byte
	Target   []byte // path and query as received
	HTTP10   bool
	Agent    []byte
	Referer  []byte
	Status   int
	Bytes    int64 // of the body, as sent
	Cut      bool  // the client did not get the whole
	Site     string
	Cache    string // hit, or why not
	Detail   string
	Origin   int // status of the origin's answer
	Stored   bool
	Waited   bool // for another's fetch
	HasTTL   bool
	TTL      int64 // seconds
	Upgraded bool
}

// appendTo appends r as one JSON object. Bytes that are not UTF-8 become U+FFFD.
func (r *Record) appendTo(b []byte) []byte {
	b = append(b, `{"time":"`...)
	b = r.Time.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	b = append(b, '"')
	if r.Client.IsValid() {
		b = append(b, `,"client":"`...)
		b = r.Client.AppendTo(b)
		b = append(b, '"')
	}
	b = text(b, "method", r.Method)
	b = text(b, "scheme", r.Scheme)
	b = text(b, "host", r.Host)
	b = text(b, "target", r.Target)
	if r.HTTP10 {
		b = text(b, "http", "1.0")
	}
	b = number(b, "status", int64(r.Status))
	b = number(b, "bytes", r.Bytes)
	b = append(b, `,"ms":`...)
	b = strconv.AppendFloat(b, float64(r.Took.Microseconds())/1000, 'f', -1, 64)
	b = flag(b, "cut", r.Cut)
	b = flag(b, "upgraded", r.Upgraded)
	b = text(b, "site", r.Site)
	b = text(b, "cache", r.Cache)
	b = text(b, "detail", r.Detail)
	if r.Origin != 0 {
		b = number(b, "origin_status", int64(r.Origin))
	}
	b = flag(b, "stored", r.Stored)
	b = flag(b, "collapsed", r.Waited)
	if r.HasTTL {
		b = number(b, "ttl", r.TTL)
	}
	b = text(b, "agent", r.Agent)
	b = text(b, "referer", r.Referer)
	return append(b, '}')
}

func number(b []byte, name string, v int64) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	return strconv.AppendInt(b, v, 10)
}

func flag(b []byte, name string, v bool) []byte {
	if !v {
		return b
	}
	return append(append(append(b, `,"`...), name...), `":true`...)
}

// text appends a member unless it is empty.
func text[T string | []byte](b []byte, name string, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":"`...)
	b = appendEscaped(b, v)
	return append(b, '"')
}

func appendEscaped[T string | []byte](b []byte, v T) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(v); {
		c := v[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			b = append(b, c)
		default:
			r, n := utf8.DecodeRuneInString(string(v[i:min(i+utf8.UTFMax, len(v))]))
			b = utf8.AppendRune(b, r)
			i += n
			continue
		}
		i++
	}
	return b
}
