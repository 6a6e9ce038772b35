package config

import (
	"strconv"
	"strings"
)

// joinKey returns the path of name within the table parent. Names that are not
// bare keys are quoted, so that a dot in a name cannot be taken for a border.
func joinKey(parent, name string) string {
	if !isBareKey(name) {
		name = strconv.Quote(name)
	}
	if parent == "" {
		return name
	}
	return parent + "." + name
}

// elemKey returns the path of the i-th element of the array at parent.
func elemKey(parent string, i int) string {
	return parent + "[" + strconv.Itoa(i) + "]"
}

func isBareKey(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isBareByte(s[i]) {
			return false
		}
	}
	return s != ""
}

func isBareByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// lineIndex maps each key, table and array element of a TOML document to the
// line on which it begins, counted from 1. The paths are those of joinKey and
// elemKey: site[1].hosts[0] is the first host of the second [[site]].
//
// It relies on a document that the TOML library has accepted and checks nothing
// itself. On any other bytes it ends, with an index that means nothing.
func lineIndex(doc string) map[string]int {
	s := &scanner{
		in:     strings.TrimPrefix(doc, "\ufeff"),
		line:   1,
		index:  make(map[string]int),
		arrays: make(map[string]int),
	}
	table := ""
	for s.skipBlank(); s.pos < len(s.in); s.skipBlank() {
		start := s.pos
		if s.in[s.pos] == '[' {
			table = s.header()
		} else {
			s.keyValue(table)
		}
		if s.pos == start { // only in a document that is not TOML
			s.pos++
		}
	}
	return s.index
}

// scanner walks a TOML document and notes where things begin.
type scanner struct {
	in     string
	pos    int
	line   int
	depth  int
	index  map[string]int
	arrays map[string]int // by path: elements of an array of tables so far
}

// maxDepth bounds how deep values are followed; deeper ones get no line.
const maxDepth = 64

func (s *scanner) peek() byte {
	if s.pos < len(s.in) {
		return s.in[s.pos]
	}
	return 0
}

// skipSpace skips spaces and tabs.
func (s *scanner) skipSpace() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.pos++
	}
}

// skipBlank skips white space, line ends and comments.
func (s *scanner) skipBlank() {
	for s.pos < len(s.in) {
		switch s.in[s.pos] {
		case '\n':
			s.line++
		case ' ', '\t', '\r':
		case '#':
			for s.pos+1 < len(s.in) && s.in[s.pos+1] != '\n' {
				s.pos++
			}
		default:
			return
		}
		s.pos++
	}
}

// note records the present line for path, unless it has one.
func (s *scanner) note(path string) {
	if _, ok := s.index[path]; !ok {
		s.index[path] = s.line
	}
}

// header reads [a.b] or [[a.b]] and returns the path of the table it opens.
func (s *scanner) header() string {
	s.pos++
	array := s.peek() == '['
	if array {
		s.pos++
	}
	parts := s.dotted()
	path := ""
	for i, part := range parts {
		path = joinKey(path, part)
		switch n, isArray := s.arrays[path]; {
		case array && i == len(parts)-1:
			s.arrays[path] = n + 1
			s.note(path)
			path = elemKey(path, n)
		case isArray:
			path = elemKey(path, n-1)
		}
	}
	s.note(path)
	for s.peek() == ']' || s.peek() == ' ' || s.peek() == '\t' {
		s.pos++
	}
	return path
}

// keyValue reads key = value within table.
func (s *scanner) keyValue(table string) {
	path := table
	for _, part := range s.dotted() {
		path = joinKey(path, part)
		s.note(path)
	}
	if s.peek() == '=' {
		s.pos++
	}
	s.skipSpace()
	s.value(path)
}

// dotted reads a key: bare and quoted parts with dots between them.
func (s *scanner) dotted() []string {
	var parts []string
	for {
		s.skipSpace()
		parts = append(parts, s.part())
		s.skipSpace()
		if s.peek() != '.' {
			return parts
		}
		s.pos++
	}
}

// part reads one part of a key.
func (s *scanner) part() string {
	start := s.pos
	if c := s.peek(); c == '"' || c == '\'' {
		s.quoted()
		raw := s.in[start:s.pos]
		if c == '"' {
			if text, err := strconv.Unquote(raw); err == nil {
				return text
			}
		}
		return strings.Trim(raw, string(c))
	}
	for s.pos < len(s.in) && isBareByte(s.in[s.pos]) {
		s.pos++
	}
	return s.in[start:s.pos]
}

// value reads a value and notes the lines of what it contains.
func (s *scanner) value(path string) {
	switch s.peek() {
	case '"', '\'':
		s.quoted()
	case '[':
		s.nested(path, ']')
	case '{':
		s.nested(path, '}')
	default:
		for s.pos < len(s.in) && !strings.ContainsRune(",]}#\r\n", rune(s.in[s.pos])) {
			s.pos++
		}
	}
}

// nested reads an array or an inline table up to the byte that closes it.
func (s *scanner) nested(path string, closer byte) {
	s.depth++
	defer func() { s.depth-- }()
	s.pos++
	for i := 0; ; i++ {
		s.skipBlank()
		if s.pos >= len(s.in) || s.depth > maxDepth {
			return
		}
		start := s.pos
		switch {
		case s.in[s.pos] == closer:
			s.pos++
			return
		case closer == '}':
			s.keyValue(path)
		default:
			s.note(elemKey(path, i))
			s.value(elemKey(path, i))
		}
		s.skipBlank()
		if s.peek() == ',' {
			s.pos++
		}
		if s.pos == start {
			return
		}
	}
}

// quoted skips a string of any of the four kinds, counting its lines.
func (s *scanner) quoted() {
	q := s.in[s.pos : s.pos+1]
	if triple := q + q + q; strings.HasPrefix(s.in[s.pos:], triple) {
		q = triple
	}
	s.pos += len(q)
	for s.pos < len(s.in) && !strings.HasPrefix(s.in[s.pos:], q) {
		switch s.in[s.pos] {
		case '\n':
			s.line++
		case '\\':
			if q[0] == '"' && s.pos+1 < len(s.in) && s.in[s.pos+1] != '\n' {
				s.pos++
			}
		}
		s.pos++
	}
	s.pos = min(s.pos+len(q), len(s.in))
	for len(q) == 3 && s.peek() == q[0] { // """ may follow up to two quotes
		s.pos++
	}
}
