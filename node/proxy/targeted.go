package proxy

import "strings"

// parseTargeted reads a targeted cache control field (RFC 9213), a dictionary
// of structured fields (RFC 9651 §3.2). It reports false for one that is empty
// or breaks the syntax: such a field is ignored as a whole. A directive whose
// value is not of its type (RFC 9213 §2.1: max-age is an integer, no string and
// no decimal) is ignored by itself, and with it the field if nothing else stands
// there.
func parseTargeted(lines []string) (directives, bool) {
	d := noDirectives()
	p := sfParser{strings.Join(lines, ", ")}
	seen := map[string]sfValue{}
	if !p.dictionary(seen) {
		return d, false
	}
	any := false
	for name, v := range seen {
		if !v.typed(name) {
			continue
		}
		any = true
		if v.kind == sfBool && !v.yes {
			continue
		}
		d.add(directive{
			name: name, value: v.text, hasValue: v.kind != sfBool, quoted: v.kind == sfString,
			bad: strings.HasPrefix(v.text, "-") && v.kind == sfInteger,
		})
	}
	return d, any
}

// typed reports whether a member has a type that its directive may have. What
// only restricts is believed with any value.
func (v sfValue) typed(name string) bool {
	switch name {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		return v.kind == sfInteger
	case "public", "must-understand":
		return v.kind == sfBool
	}
	return true
}

type sfKind byte

const (
	sfBool sfKind = iota
	sfInteger
	sfString
	sfToken
	sfOther // decimals, dates, byte sequences, inner lists
)

type sfValue struct {
	kind sfKind
	yes  bool
	text string
}

// sfParser cuts structured fields off the front of s.
type sfParser struct{ s string }

func (p *sfParser) dictionary(to map[string]sfValue) bool {
	p.trim(" ")
	for p.s != "" {
		name, ok := p.key()
		if !ok {
			return false
		}
		v := sfValue{kind: sfBool, yes: true}
		if p.take("=") {
			if v, ok = p.itemOrList(); !ok {
				return false
			}
		}
		if !p.parameters() {
			return false
		}
		to[name] = v
		p.trim(" \t")
		if p.s == "" {
			return true
		}
		if !p.take(",") {
			return false
		}
		if p.trim(" \t"); p.s == "" {
			return false // trailing comma
		}
	}
	return true
}

func (p *sfParser) trim(cut string) { p.s = strings.TrimLeft(p.s, cut) }

func (p *sfParser) take(c string) bool {
	rest, ok := strings.CutPrefix(p.s, c)
	p.s = rest
	return ok
}

// cut removes and returns the longest prefix of bytes for which is holds.
func (p *sfParser) cut(is func(c byte) bool) string {
	n := 0
	for n < len(p.s) && is(p.s[n]) {
		n++
	}
	head := p.s[:n]
	p.s = p.s[n:]
	return head
}

func (p *sfParser) key() (string, bool) {
	if p.s == "" || !isLower(p.s[0]) && p.s[0] != '*' {
		return "", false
	}
	return p.cut(func(c byte) bool {
		return isLower(c) || isDigit(c) || c == '_' || c == '-' || c == '.' || c == '*'
	}), true
}

func (p *sfParser) parameters() bool {
	for p.take(";") {
		p.trim(" ")
		if _, ok := p.key(); !ok {
			return false
		}
		if p.take("=") {
			if _, ok := p.bare(); !ok {
				return false
			}
		}
	}
	return true
}

func (p *sfParser) itemOrList() (sfValue, bool) {
	if !p.take("(") {
		return p.bare()
	}
	for {
		p.trim(" ")
		if p.take(")") {
			return sfValue{kind: sfOther}, true
		}
		if _, ok := p.bare(); !ok || !p.parameters() {
			return sfValue{}, false
		}
		if p.s == "" || p.s[0] != ' ' && p.s[0] != ')' {
			return sfValue{}, false
		}
	}
}

func (p *sfParser) bare() (sfValue, bool) {
	if p.s == "" {
		return sfValue{}, false
	}
	switch c := p.s[0]; {
	case c == '-' || isDigit(c):
		return p.number()
	case c == '"':
		return p.str()
	case c == '*' || isLower(c|0x20):
		return sfValue{kind: sfToken, text: p.cut(func(c byte) bool { return isTokenByte(c) || c == ':' || c == '/' })}, true
	case c == '?':
		yes := p.take("?1")
		return sfValue{kind: sfBool, yes: yes}, yes || p.take("?0")
	case c == '@':
		p.s = p.s[1:]
		v, ok := p.number()
		return sfValue{kind: sfOther}, ok && v.kind == sfInteger
	case c == ':':
		p.s = p.s[1:]
		p.cut(func(c byte) bool { return isLower(c|0x20) || isDigit(c) || c == '+' || c == '/' || c == '=' })
		return sfValue{kind: sfOther}, p.take(":")
	}
	return sfValue{}, false
}

func (p *sfParser) number() (sfValue, bool) {
	sign := ""
	if p.take("-") {
		sign = "-"
	}
	whole := p.cut(isDigit)
	if whole == "" || len(whole) > 15 {
		return sfValue{}, false
	}
	if !p.take(".") {
		return sfValue{kind: sfInteger, text: sign + whole}, true
	}
	part := p.cut(isDigit)
	return sfValue{kind: sfOther}, len(whole) <= 12 && part != "" && len(part) <= 3
}

func (p *sfParser) str() (sfValue, bool) {
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '\\':
			if i++; i >= len(p.s) || p.s[i] != '"' && p.s[i] != '\\' {
				return sfValue{}, false
			}
		case c == '"':
			text := unescape(p.s[1:i])
			p.s = p.s[i+1:]
			return sfValue{kind: sfString, text: text}, true
		case c < ' ' || c > '~':
			return sfValue{}, false
		}
	}
	return sfValue{}, false
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
