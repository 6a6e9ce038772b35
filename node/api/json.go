package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// appendString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD.
func appendString[S ~string | ~[]byte](dst []byte, s S) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			dst = utf8.AppendRune(dst, r)
			i += n - 1
		}
		i++
	}
	return append(dst, '"')
}

// members calls fn with each member of the one JSON object in text, in order.
// The value is the raw JSON and shares memory with text. Names that stand twice
// are an error, as is text that is not UTF-8.
func members(text []byte, fn func(name string, value []byte) error) error {
	if !utf8.Valid(text) {
		return errors.New("it is not UTF-8")
	}
	if !json.Valid(text) {
		return syntaxError(text)
	}
	rest := skipSpace(text)
	if rest[0] != '{' {
		return errors.New("it is not a JSON object")
	}
	var seen []string
	for rest = skipSpace(rest[1:]); rest[0] != '}'; {
		n := valueLen(rest)
		name, err := unquote(rest[:n])
		if err != nil {
			return err
		}
		for _, s := range seen {
			if s == name {
				return fmt.Errorf("member %q stands twice", name)
			}
		}
		seen = append(seen, name)
		rest = skipSpace(skipSpace(rest[n:])[1:]) // the colon
		n = valueLen(rest)
		if err := fn(name, rest[:n]); err != nil {
			return err
		}
		if rest = skipSpace(rest[n:]); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	return nil
}

// syntaxError says where text stops being JSON.
func syntaxError(text []byte) error {
	var v json.RawMessage
	err := json.Unmarshal(text, &v)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("it is not JSON at byte %d: %v", syntax.Offset, syntax)
	}
	return errors.New("it is not JSON")
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t' || b[0] == '\n' || b[0] == '\r') {
		b = b[1:]
	}
	return b
}

// valueLen returns the length of the JSON value that valid JSON begins with.
func valueLen(b []byte) int {
	depth, inString := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			depth++
			continue
		case c == '}' || c == ']':
			if depth == 0 {
				return i // the end of what holds a bare number or word
			}
			depth--
		case depth == 0 && (c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			return i
		default:
			continue // within a number or a word, or inside of something
		}
		if depth == 0 && !inString {
			return i + 1
		}
	}
	return len(b)
}

// unquote decodes a JSON string of valid JSON and UTF-8. A surrogate without
// its other half is an error: decoding it would change the text silently.
func unquote(value []byte) (string, error) {
	if len(value) < 2 || value[0] != '"' {
		return "", errors.New("it is not a string")
	}
	in := value[1 : len(value)-1]
	out := make([]byte, 0, len(in))
	for i := 0; i < len(in); i++ {
		if in[i] != '\\' {
			out = append(out, in[i])
			continue
		}
		i++
		if in[i] != 'u' {
			out = append(out, escaped(in[i]))
			continue
		}
		r, n := hexRune(in[i-1:])
		if n == 0 {
			return "", errors.New("it has half of a surrogate pair")
		}
		out = utf8.AppendRune(out, r)
		i += n - 2
	}
	return string(out), nil
}

// escaped returns the character that a backslash and c stand for.
func escaped(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// hexRune decodes \uXXXX, or two of them that are one surrogate pair, and
// returns how many bytes that were: 0 for half a pair.
func hexRune(b []byte) (rune, int) {
	r := hex4(b)
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(b) < 12 || b[6] != '\\' || b[7] != 'u' {
		return 0, 0
	}
	r = utf16.DecodeRune(r, hex4(b[6:]))
	if r == utf8.RuneError {
		return 0, 0
	}
	return r, 12
}

func hex4(b []byte) rune {
	var r rune
	for _, c := range b[2:6] {
		r = r<<4 | rune(unhex(c))
	}
	return r
}

// stringMember decodes a member that must be a string.
func stringMember(name string, value []byte, dst *string) error {
	s, err := unquote(value)
	if err != nil {
		return fmt.Errorf("member %q: %w", name, err)
	}
	*dst = s
	return nil
}

// stringsMember decodes a member that must be an array of strings.
func stringsMember(name string, value []byte, dst *[]string) error {
	if value[0] != '[' {
		return fmt.Errorf("member %q: it is not an array of strings", name)
	}
	list := []string{}
	for rest := skipSpace(value[1:]); rest[0] != ']'; {
		n := valueLen(rest)
		s, err := unquote(rest[:n])
		if err != nil {
			return fmt.Errorf("member %q: %w", name, err)
		}
		list = append(list, s)
		if rest = skipSpace(rest[n:]); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
	*dst = list
	return nil
}

// boolMember decodes a member that must be true or false.
func boolMember(name string, value []byte, dst *bool) error {
	switch string(value) {
	case "true":
		*dst = true
	case "false":
		*dst = false
	default:
		return fmt.Errorf("member %q: it is neither true nor false", name)
	}
	return nil
}

// textMember decodes a member that is a string or a whole number, as a string.
func textMember(name string, value []byte, dst *string) error {
	if _, err := strconv.ParseUint(string(value), 10, 64); err == nil {
		*dst = string(value)
		return nil
	}
	return stringMember(name, value, dst)
}
