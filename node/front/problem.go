package front

import (
	"strconv"
)

// A Problem makes the content of an error answer: code is the status, name the
// problem's name as in "urn:edgenode:problem:<name>", detail a sentence for the
// reader. The bytes must stay unchanged until the answer was written. It is
// called from many goroutines.
type Problem func(code int, name, detail string) (contentType string, body []byte)

// plainProblem is used when [Options.Problem] is nil: problem+json (RFC 9457).
func plainProblem(code int, name, detail string) (contentType string, body []byte) {
	b := append([]byte(nil), `{"type":"urn:edgenode:problem:`...)
	b = append(b, name...)
	b = append(b, `","status":`...)
	b = strconv.AppendInt(b, int64(code), 10)
	b = append(b, `,"detail":`...)
	b = strconv.AppendQuote(b, detail)
	return "application/problem+json", append(b, '}', '\n')
}

// A refusal says why the front answered, or closed, in place of a handler. The
// zero value is no refusal.
type refusal uint8

const (
	refusedNot refusal = iota
	refusedSyntax
	refusedPlainTLS
	refusedBareLF
	refusedFold
	refusedFieldName
	refusedFieldValue
	refusedTarget
	refusedHost
	refusedLength
	refusedCoding
	refusedCodingUnknown
	refusedBothFramings
	refusedDisagree
	refusedChunk
	refusedExpect
	refusedVersion
	refusedConnect
	refusedTrace
	refusedURL
	refusedHeader
	refusedBody
	refusedHeaderSlow
	refusedBodySlow
	refusedFull
	refusedAddress
	refusedHandshake // counted only
	refusedProxy     // counted only
	refusedSilent
	refusedPanic
	refusals // their number
)

// A verdict is what a refusal says to the client and to the metrics.
type verdict struct {
	code                 int
	name, reason, detail string
}

const (
	nameMalformed      = "malformed-request"
	nameNotImplemented = "not-implemented"
)

// verdict returns the row of the table. The problem's name is for the client,
// the reason is the metric's label.
func (r refusal) verdict() verdict {
	switch r {
	case refusedPlainTLS:
		return verdict{400, nameMalformed, "tls_on_plain_port", "This port speaks HTTP without TLS; use http://, or configure a certificate for this listener."}
	case refusedBareLF:
		return verdict{400, nameMalformed, "bare_lf", "Lines of a request end with CR LF; this one has a bare LF."}
	case refusedFold:
		return verdict{400, nameMalformed, "folded_line", "A header line begins with a space: folded lines are obsolete (RFC 9112 section 5.2)."}
	case refusedFieldName:
		return verdict{400, nameMalformed, "field_name", "A header line has no valid name followed by a colon."}
	case refusedFieldValue:
		return verdict{400, nameMalformed, "field_value", "A header value holds a control character."}
	case refusedTarget:
		return verdict{400, nameMalformed, "target", "The request target is malformed."}
	case refusedHost:
		return verdict{400, nameMalformed, "host", "The request needs exactly one valid Host field."}
	case refusedLength:
		return verdict{400, nameMalformed, "content_length", "Content-Length must be there once at most, as one decimal number."}
	case refusedCoding:
		return verdict{400, nameMalformed, "transfer_encoding", "Transfer-Encoding must be there once at most, in HTTP/1.1, as \"chunked\"."}
	case refusedCodingUnknown:
		return verdict{501, nameNotImplemented, "transfer_encoding_unknown", "The only transfer coding understood is \"chunked\"."}
	case refusedBothFramings:
		return verdict{400, nameMalformed, "both_framings", "A request cannot have both Content-Length and Transfer-Encoding."}
	case refusedDisagree:
		return verdict{400, nameMalformed, "ambiguous", "The request can be read in more than one way."}
	case refusedChunk:
		return verdict{400, nameMalformed, "chunk", "The chunked body is malformed."}
	case refusedExpect:
		return verdict{417, "expectation-failed", "expect", "The only expectation understood is \"100-continue\"."}
	case refusedVersion:
		return verdict{505, "version-not-supported", "version", "The versions spoken here are 1.1 and 1.0."}
	case refusedConnect:
		return verdict{501, nameNotImplemented, "connect", "CONNECT is not implemented: this server is no forward proxy."}
	case refusedTrace:
		return verdict{405, "method-not-allowed", "trace", "TRACE is not allowed."}
	case refusedURL:
		return verdict{414, "url-too-long", "url_too_long", "The request target is longer than max_url_bytes."}
	case refusedHeader:
		return verdict{431, "header-too-large", "header_too_large", "The header block is larger than max_header_bytes."}
	case refusedBody:
		return verdict{413, "body-too-large", "body_too_large", "The body is larger than max_payload_bytes."}
	case refusedHeaderSlow:
		return verdict{408, "request-timeout", "header_timeout", "The request header did not arrive within header_timeout."}
	case refusedBodySlow:
		return verdict{408, "request-timeout", "body_rate", "The body arrived more slowly than min_body_rate."}
	case refusedFull:
		return verdict{503, "too-many-connections", "max_connections", "The listener has max_connections open connections; try again later."}
	case refusedAddress:
		return verdict{429, "too-many-connections", "max_connections_per_address", "Your address has max_connections_per_address open connections; close some."}
	case refusedHandshake:
		return verdict{400, nameMalformed, "tls_handshake", "The TLS handshake failed."}
	case refusedProxy:
		return verdict{400, nameMalformed, "proxy_header", "A trusted proxy did not begin the connection with a PROXY header."}
	case refusedSilent:
		return verdict{500, "internal", "no_answer", "The request was not answered; this is a bug of the server."}
	case refusedPanic:
		return verdict{500, "internal", "handler_panic", "The request met a bug of the server."}
	}
	return verdict{400, nameMalformed, "syntax", "The request line is malformed."}
}
