package hooktest

import "strings"

// Field is one header line.
type Field struct {
	Name     string `json:"name"`
	Value    string `json:"value"`
	Response bool   `json:"response,omitempty"`
}

// Headers is a list of header lines that a hook may ask.
type Headers []Field

// AppendHeader implements hooks.Headers. It allocates for each value it finds.
func (h Headers) AppendHeader(dst [][]byte, name string, response bool) [][]byte {
	for _, f := range h {
		if f.Response == response && strings.EqualFold(f.Name, name) {
			dst = append(dst, []byte(f.Value))
		}
	}
	return dst
}
