package refcache

import (
	"math"
	"strings"
	"time"
)

// An argument is what stands behind the = of a directive.
type argument struct {
	text   string
	given  bool // there was a =
	quoted bool
	broken bool // it is neither a token nor a quoted string
}

// Directives are the directives of an answer by their lower-case names, each
// with its arguments in order.
type directives map[string][]argument

func (d directives) has(name string) bool { return len(d[name]) > 0 }

// bare reports whether the directive stands there without an argument, which is
// its stronger form (RFC 9111 §5.2.2.4, §5.2.2.7).
func (d directives) bare(name string) bool {
	for _, a := range d[name] {
		if !a.given || strings.Trim(a.text, " \t,") == "" {
			return true
		}
	}
	return false
}

// names returns the field names in the arguments of a directive.
func (d directives) names(name string) []string {
	var all []string
	for _, a := range d[name] {
		for _, n := range strings.Split(a.text, ",") {
			if n = strings.ToLower(strings.TrimSpace(n)); n != "" {
				all = append(all, n)
			}
		}
	}
	return all
}

// seconds returns what the argument of a directive may mean: one value if it is
// clear, zero if it is malformed (RFC 9111 §4.2.1: stale), both if a reader may
// take it either way. It is nil if the directive is not there.
func (d directives) seconds(name string) []time.Duration {
	all := d[name]
	if len(all) == 0 {
		return nil
	}
	first, ok := deltaSeconds(all[0].text)
	if !ok || !all[0].given || all[0].broken {
		return []time.Duration{0}
	}
	if all[0].quoted || len(all) > 1 { // §5.2: both forms; §4.2.1: the first, or stale
		return []time.Duration{first, 0}
	}
	return []time.Duration{first}
}

// most stands for more seconds than can be counted (RFC 9111 §1.2.2).
const most = math.MaxInt32

func deltaSeconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	n := int64(0)
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(10*n+int64(c-'0'), most)
	}
	return time.Duration(n) * time.Second, true
}

// parseCacheControl reads Cache-Control (RFC 9111 §5.2): several lines are one
// list, what is quoted is opaque, what cannot be read is skipped.
func parseCacheControl(lines []string) directives {
	d := directives{}
	for _, member := range splitList(strings.Join(lines, ",")) {
		name, value, given := strings.Cut(member, "=")
		name = strings.ToLower(name)
		if !isToken(name) {
			continue
		}
		a := argument{text: value, given: given}
		if text, ok := unquote(value); ok {
			a.text, a.quoted = text, true
		} else if given && !isToken(value) {
			a.broken = true
		}
		d[name] = append(d[name], a)
	}
	return d
}

// splitList cuts a list at the commas that are not in quoted strings. Members
// are trimmed, empty ones left out.
func splitList(s string) []string {
	var all []string
	quoted, from := false, 0
	cut := func(to int) {
		if m := strings.Trim(s[from:to], " \t"); m != "" {
			all = append(all, m)
		}
		from = to + 1
	}
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			cut(i)
		}
	}
	if from <= len(s) {
		cut(len(s))
	}
	return all
}

// unquote returns what a quoted string holds (RFC 9110 §5.6.4).
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", false
	}
	var b strings.Builder
	for i := 1; i < len(s)-1; i++ {
		if s[i] == '"' {
			return "", false
		}
		if s[i] == '\\' {
			if i++; i == len(s)-1 {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return b.String(), true
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// parseTargeted reads a targeted field (RFC 9213 §2.1), a dictionary of RFC 9651
// of which it takes what directives have: keys alone, integers, strings, tokens
// and booleans, with parameters that are ignored. It reports false if the field
// is empty or malformed, so that it counts as absent.
func parseTargeted(lines []string) (directives, bool) {
	d := directives{}
	rest := strings.Trim(strings.Join(lines, ","), " ")
	if rest == "" {
		return nil, false
	}
	for {
		key, after := take(rest, func(c byte, first bool) bool {
			return 'a' <= c && c <= 'z' || c == '*' || !first && ('0' <= c && c <= '9' || c == '_' || c == '-' || c == '.')
		})
		if key == "" {
			return nil, false
		}
		a, ok := argument{}, true
		if strings.HasPrefix(after, "=") {
			if a, after, ok = bareItem(after[1:]); !ok {
				return nil, false
			}
		}
		if after, ok = skipParameters(after); !ok {
			return nil, false
		}
		d[key] = []argument{a} // the last one counts
		if a.given && a.text == "?0" {
			delete(d, key)
		}
		after = strings.TrimLeft(after, " \t")
		if after == "" {
			return d, true
		}
		if after[0] != ',' {
			return nil, false
		}
		if rest = strings.TrimLeft(after[1:], " \t"); rest == "" {
			return nil, false
		}
	}
}

func take(s string, in func(c byte, first bool) bool) (string, string) {
	i := 0
	for i < len(s) && in(s[i], i == 0) {
		i++
	}
	return s[:i], s[i:]
}

// bareItem reads an integer, decimal, string, token or boolean.
func bareItem(s string) (argument, string, bool) {
	switch {
	case s == "":
		return argument{}, "", false
	case s[0] == '"':
		for i := 1; i < len(s); i++ {
			if s[i] == '\\' {
				if i++; i >= len(s) || s[i] != '"' && s[i] != '\\' {
					return argument{}, "", false
				}
			} else if s[i] == '"' {
				text, ok := unquote(s[:i+1])
				return argument{text: text, given: true, quoted: true}, s[i+1:], ok
			} else if s[i] < ' ' || s[i] > '~' {
				return argument{}, "", false
			}
		}
		return argument{}, "", false
	case s[0] == '?':
		if len(s) < 2 || s[1] != '0' && s[1] != '1' {
			return argument{}, "", false
		}
		return argument{text: s[:2], given: s[1] == '0'}, s[2:], true
	case s[0] == '-' || '0' <= s[0] && s[0] <= '9':
		number, rest := take(s, func(c byte, first bool) bool { return '0' <= c && c <= '9' || c == '.' || first && c == '-' })
		whole, part, dot := strings.Cut(strings.TrimPrefix(number, "-"), ".")
		switch {
		case whole == "" || strings.Contains(part, ".") || dot && (part == "" || len(part) > 3 || len(whole) > 12) || len(whole) > 15:
			return argument{}, "", false
		}
		return argument{text: number, given: true}, rest, true
	}
	token, rest := take(s, func(c byte, first bool) bool {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if first {
			return letter || c == '*'
		}
		return isToken(string(rune(c))) && c < 0x80 || c == ':' || c == '/'
	})
	return argument{text: token, given: true}, rest, token != ""
}

func skipParameters(s string) (string, bool) {
	for strings.HasPrefix(s, ";") {
		key, after := take(strings.TrimLeft(s[1:], " "), func(c byte, first bool) bool {
			return 'a' <= c && c <= 'z' || c == '*' || !first && ('0' <= c && c <= '9' || c == '_' || c == '-' || c == '.')
		})
		if key == "" {
			return "", false
		}
		if strings.HasPrefix(after, "=") {
			var ok bool
			if _, after, ok = bareItem(after[1:]); !ok {
				return "", false
			}
		}
		s = after
	}
	return s, true
}
