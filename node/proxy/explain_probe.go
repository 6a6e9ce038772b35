package proxy

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
)

// A probe is an exchange that asks and takes no answer: it keeps what the node
// itself would say.
type probe struct {
	ctx                          context.Context
	method, scheme, host, target string
	header                       [][2]string
	client                       netip.Addr

	status   int
	location string
	body     []byte
}

var _ Exchange = (*probe)(nil)

func newProbe(ctx context.Context, q Question) (*probe, error) {
	x := &probe{ctx: ctx, method: orDefault(q.Method, http.MethodGet), header: q.Header, client: q.Client}
	if tokenLen(x.method) != len(x.method) {
		return nil, fmt.Errorf("%w: %q is no method", errQuestion, q.Method)
	}
	for _, f := range q.Header {
		if tokenLen(f[0]) != len(f[0]) || f[0] == "" || strings.ContainsAny(f[1], "\r\n\x00") {
			return nil, fmt.Errorf("%w: header field %q", errQuestion, f[0])
		}
	}
	var err error
	x.scheme, x.host, x.target, err = splitURL(q.URL)
	return x, err
}

// why says in a sentence what the node itself would answer.
func (x *probe) why() string {
	if x.location != "" {
		return "it is sent to " + x.location
	}
	return strings.TrimSpace(string(x.body))
}

func (x *probe) Method() string { return x.method }
func (x *probe) Target() []byte { return []byte(x.target) }
func (x *probe) Host() []byte   { return []byte(x.host) }
func (x *probe) Scheme() string { return x.scheme }

func (x *probe) Header(name string) []byte {
	for _, f := range x.header {
		if strings.EqualFold(f[0], name) {
			return []byte(f[1])
		}
	}
	return nil
}

func (x *probe) Fields(yield func(name, value []byte) bool) {
	for _, f := range x.header {
		if !yield([]byte(f[0]), []byte(f[1])) {
			return
		}
	}
}

func (x *probe) ContentLength() int64            { return 0 }
func (x *probe) Body() io.Reader                 { return strings.NewReader("") }
func (x *probe) Client() netip.Addr              { return x.client }
func (x *probe) Peer() netip.Addr                { return x.client }
func (x *probe) HTTP10() bool                    { return false }
func (x *probe) Context() context.Context        { return x.ctx }
func (x *probe) Informational(int, []byte) error { return nil }
func (x *probe) Status(code int)                 { x.status = code }
func (x *probe) AddBlock([]byte)                 {}
func (x *probe) SendSized(int64) error           { return nil }
func (x *probe) Stream(int64) (io.Writer, error) { return io.Discard, nil }
func (x *probe) Abort()                          {}
func (x *probe) CloseAfter()                     {}
func (x *probe) Send(body []byte) error {
	x.body = append(x.body, body[:min(len(body), 200)]...)
	return nil
}
func (x *probe) Add(name, value string) {
	if name == "Location" {
		x.location = value
	}
}
