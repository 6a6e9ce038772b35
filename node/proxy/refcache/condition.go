package refcache

import (
	"strings"
	"time"
)

// NotModified reports whether a client with these fields already has the stored
// answer (RFC 9110 §13.1.2, §13.1.3, §13.2.2): a 304 is then right.
func (e *Entry) NotModified(f Fields, now time.Time) bool {
	if e.Answer.Status < 200 || e.Answer.Status > 299 {
		return false // §13.2.1
	}
	if lines := f.Lines("If-None-Match"); lines != nil {
		tag := weak(e.Answer.Fields.First("ETag"))
		for _, m := range splitList(strings.Join(lines, ",")) {
			if m == "*" || tag != "" && weak(m) == tag {
				return true
			}
		}
		return false
	}
	since, ok := parseDate(f.First("If-Modified-Since"), now)
	if !ok {
		return false
	}
	modified, ok := parseDate(e.Answer.Fields.First("Last-Modified"), now)
	if !ok {
		modified = e.date() // §13.1.3 leaves it to the cache; RFC 9111 §4.3.2
	}
	return !modified.After(since)
}

func weak(tag string) string { return strings.TrimPrefix(tag, "W/") }
