package api

import (
	"bytes"
	"encoding/base64"
	"unicode/utf8"

	"github.com/edgenode/edgenode/tiers/item"
)

// appendContent appends the member that holds the content, in the first of the
// forms that keeps its bytes: "content" for JSON on one line, "text" for UTF-8,
// "content_b64" for the rest.
func appendContent(b []byte, v item.View) []byte {
	content := v.Content()
	encoded := len(contentEncodingOf(v.Response())) > 0
	switch {
	case v.Flags()&item.FlagJSON != 0 && isBareJSON(content):
		return append(append(b, `"content":`...), content...)
	case !encoded && utf8.Valid(content):
		return appendString(append(b, `"text":`...), content)
	}
	b = append(b, `"content_b64":"`...)
	b = base64.StdEncoding.AppendEncode(b, content)
	return append(b, '"')
}

// isBareJSON reports whether JSON can stand in a line as it is and come back
// byte for byte: no line break, no space around it, valid UTF-8.
func isBareJSON(content []byte) bool {
	return len(content) > 0 && bytes.IndexByte(content, '\n') < 0 && bytes.IndexByte(content, '\r') < 0 &&
		len(bytes.TrimSpace(content)) == len(content) && utf8.Valid(content)
}
