package proxy

import (
	"bytes"
	"io"
	"slices"

	"github.com/edgenode/edgenode/node/edit"
)

// An edited exchange shows the request as the policy changed it, and changes the
// answer on its way to the client. What is fetched and stored is made from what
// it shows; what is stored does not see the changes of answers.
type edited struct {
	Exchange
	fields []edit.Field // of the request; nil as received
	answer edit.Answer
}

var _ Exchange = (*edited)(nil)

// received returns the exchange below all edits.
func received(x Exchange) Exchange {
	for {
		e, ok := x.(*edited)
		if !ok {
			return x
		}
		x = e.Exchange
	}
}

// edit puts the edits of the policy and of the site into force. It is called only if there are
// any.
func (p *Proxy) edit(st *state) {
	request, response, no := edit.Admit(st.allEdits(), nil)
	if no.Count > 0 {
		p.m.refusedEdits.Add(no.Count)
		p.tell(st.site, &no)
	}
	if len(request)+len(response) == 0 {
		return
	}
	x := &edited{Exchange: st.x}
	x.answer = edit.Answer{Edits: response, To: st.x}
	st.x = x
	if len(request) == 0 {
		return
	}
	x.fields = request.Fields(x.Exchange.Fields)
	st.rescan()
}

// allEdits returns the edits in force. The operator's word is the last: for one
// name it is the only one, and however many others there are, it has its place.
func (st *state) allEdits() []edit.Edit {
	own, others := st.site.Edits, st.out.Edits
	if len(own) == 0 || len(others) == 0 {
		return append(own[:len(own):len(own)], others...)
	}
	all := own[:len(own):len(own)]
	for i := range others {
		e := &others[i]
		same := func(o edit.Edit) bool { return o.Response == e.Response && bytes.EqualFold(o.Name, e.Name) }
		if !slices.ContainsFunc(own, same) {
			all = append(all, *e)
		}
	}
	return all
}

// tellEvery is the shortest time in ms between two warnings of refused edits.
const tellEvery = 60_000

// tell warns of refused edits, once in a while: modules that ask for one mostly
// do so for each request.
func (p *Proxy) tell(s *site, no *edit.Refusal) {
	now, last := p.o.Now(), p.told.Load()
	if last != 0 && now-last < tellEvery || !p.told.CompareAndSwap(last, now) {
		return
	}
	p.o.Log.Warn("header edit of a hook refused: this field is not a hook's to change, or cannot stand in a header, or there are too many",
		"site", s.Name, "field", string(no.Name), "limit", edit.Max)
}

// Header returns the first line of a field of the request.
func (x *edited) Header(name string) []byte {
	if x.fields == nil {
		return x.Exchange.Header(name)
	}
	for i := range x.fields {
		if f := &x.fields[i]; equalFold(f.Name, name) {
			if f.Value == nil {
				return []byte{}
			}
			return f.Value
		}
	}
	return nil
}

// Fields calls yield with the lines of the request.
func (x *edited) Fields(yield func(name, value []byte) bool) {
	if x.fields == nil {
		x.Exchange.Fields(yield)
		return
	}
	for i := range x.fields {
		if !yield(x.fields[i].Name, x.fields[i].Value) {
			return
		}
	}
}

func (x *edited) Status(code int) {
	x.answer.Begin(code)
	x.Exchange.Status(code)
}

func (x *edited) Add(name, value string) { x.answer.Add(name, value) }

func (x *edited) AddBlock(block []byte) { x.answer.AddBlock(block) }

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

// addOwn adds lines that edits do not change.
func (st *state) addOwn(block []byte) {
	if x, ok := st.x.(*edited); ok {
		x.answer.Own(block)
		return
	}
	st.x.AddBlock(block)
}

// sentAs returns the value that a field of an answer has for the client.
func (st *state) sentAs(name string, value []byte) []byte {
	if x, ok := st.x.(*edited); ok {
		return x.answer.Value(name, value)
	}
	return value
}
