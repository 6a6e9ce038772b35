package api

import (
	"io"

	"github.com/edgenode/edgenode/node/edit"
)

// An edited exchange changes the fields of the answer as a policy asks.
type edited struct {
	Exchange
	answer edit.Answer
}

var _ Exchange = (*edited)(nil)

// spoken reports fields by which the API speaks of an item: what it says is what
// is stored, and no policy's to change.
func spoken(name []byte) bool {
	if len(name) > len(ours) && equalFold(name[:len(ours)], ours) {
		return true
	}
	return edit.Is(name, "content-type") || edit.Is(name, "etag") || edit.Is(name, "last-modified") || edit.Is(name, "accept-ranges")
}

// edit puts the edits of the policy for the answer into force. Those for the
// request are refused: what a request asks of an item is between its sender and
// the API. It is called only if there are any.
func (c *call) edit() {
	request, response, no := edit.Admit(c.d.Edits, spoken)
	c.api.metrics.refusedEdits.Add(len(request) + no.Count)
	c.d.Edits = nil
	if len(response) == 0 {
		return
	}
	c.x = &edited{Exchange: c.x, answer: edit.Answer{Edits: response, To: c.x}}
}

// ignoreEdits counts edits where there is no answer to change: a line of a batch
// is no message.
func (c *call) ignoreEdits() {
	if n := len(c.d.Edits); n > 0 {
		c.api.metrics.refusedEdits.Add(n)
		c.d.Edits = nil
	}
}

// addOwn adds lines that edits do not change.
func (c *call) addOwn(block []byte) {
	if x, ok := c.x.(*edited); ok {
		x.answer.Own(block)
		return
	}
	c.x.AddBlock(block)
}

// ClientCertificate reports whether the client has shown one, if the exchange
// beneath knows.
func (x *edited) ClientCertificate() bool {
	c, ok := x.Exchange.(interface{ ClientCertificate() bool })
	return ok && c.ClientCertificate()
}

func (x *edited) Status(code int) {
	x.answer.Begin(code)
	x.Exchange.Status(code)
}

func (x *edited) Add(name, value string) { x.answer.Add(name, value) }

func (x *edited) AddBlock(block []byte) { x.answer.AddBlock(block) }

func (x *edited) AddUndated(block []byte) { x.answer.AddBlock(block) }

func (x *edited) Send(body []byte) error {
	x.answer.End()
	return x.Exchange.Send(body)
}

func (x *edited) SendSized(length int64) error {
	x.answer.End()
	return x.Exchange.SendSized(length)
}

func (x *edited) Stream(length int64) (io.Writer, error) {
	x.answer.End()
	return x.Exchange.Stream(length)
}
