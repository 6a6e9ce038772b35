package proxy

import (
	"net/http"
	"strings"
)

// lost is what net/http changes in the header of an answer before we see it: it
// removes Connection if that says close, with what else it names, and makes up a
// Cache-Control for a Pragma: no-cache. Neither is the origin's word.
type lost struct {
	connection []string // lines of Connection
	control    bool     // there is a Cache-Control
}

// readLost reads it from the bytes of a header.
func readLost(head string) (l lost) {
	for line := range strings.Lines(head) {
		name, value, _ := strings.Cut(line, ":")
		switch {
		case len(name) == len("connection") && strings.EqualFold(name, "connection"):
			l.connection = append(l.connection, strings.Trim(value, " \t\r\n"))
		case len(name) == len("cache-control") && strings.EqualFold(name, "cache-control"):
			l.control = true
		}
	}
	return l
}

// restore undoes what net/http did to the header of an answer.
func (t *tap) restore(h http.Header) {
	t.mu.Lock()
	l := t.lost
	t.mu.Unlock()
	if len(l.connection) > 0 {
		h["Connection"] = l.connection
	}
	if !l.control {
		delete(h, "Cache-Control")
	}
}
