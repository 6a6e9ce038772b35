package api

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

const (
	defaultPage = 100
	maxPage     = 1000

	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// A listing is what the query of a list, count or bulk delete says.
type listing struct {
	tiers.Query
	content bool // with the content
	all     bool // bulk delete: everything in scope is meant
}

// listing reads the query. paged allows limit, cursor and content, all the
// parameter of that name.
func (c *call) listing(paged, all bool) (listing, *problem.Problem) {
	q := listing{Query: tiers.Query{Scope: c.who.Namespace}}
	p := params(c.query, func(name, value string) (bool, *problem.Problem) {
		if known, p := q.selector(name, value); known {
			return true, p
		}
		switch {
		case paged && name == "limit":
			return true, intParam(name, value, 1, maxPage, &q.Limit)
		case paged && name == "cursor":
			q.Cursor = value
			return true, nil
		case paged && name == "content":
			return true, flagParam(name, value, &q.content)
		case all && name == "all":
			return true, flagParam(name, value, &q.all)
		}
		return false, nil
	})
	if paged && q.Limit == 0 {
		q.Limit = defaultPage
	}
	return q, p
}

// selector reads prefix, state and tag, which narrow together.
func (q *listing) selector(name, value string) (known bool, p *problem.Problem) {
	switch name {
	case "prefix":
		q.Prefix = value
		return true, idProblem(item.CheckIDPrefix(value))
	case "state":
		q.State = value
		return true, stateProblem(value)
	case "tag":
		q.Tag = value
		return true, tagProblem(value)
	}
	return false, nil
}

// stateProblem refuses what cannot be the state of a selected item.
func stateProblem(state string) *problem.Problem {
	if state == "" {
		return problem.New(problem.BadState, "it is empty")
	}
	if err := item.CheckState(state); err != nil {
		return problem.New(problem.BadState, err.Error())
	}
	return nil
}

// tagProblem refuses what cannot be a tag.
func tagProblem(tags ...string) *problem.Problem {
	if err := item.CheckTags(tags); err != nil {
		return problem.New(problem.BadTag, err.Error())
	}
	return nil
}

// list answers a page of items.
func (c *call) list() *problem.Problem {
	if p := c.need(ScopeRead); p != nil {
		return p
	}
	q, p := c.listing(true, false)
	if p != nil {
		return p
	}
	if done, p := c.consultBulk(OpRead, q.Prefix); done || p != nil {
		return p
	}
	if p := c.partitionOf(q.Prefix); p != nil {
		return p
	}
	out := page{c: c, lines: prefersNDJSON(c.in.values[fieldAccept])}
	out.begin("items")
	next, err := c.api.engine.List(c.x.Context(), q.Query, func(v item.View) error { return out.item(v, q.content) })
	if err != nil {
		return out.broken(err)
	}
	return out.end(next)
}

// consultBulk asks the policy about more than one item.
func (c *call) consultBulk(op Op, selector string) (done bool, p *problem.Problem) {
	if c.api.policy == nil {
		return false, nil
	}
	return c.consult(op, []byte(selector), 0)
}

// A page writes a list, as one JSON object or as lines. What is short is sent
// whole; what is long goes out as it comes.
type page struct {
	c     *call
	lines bool
	n     int64
	buf   []byte
	sent  int64     // bytes counted instead of sent, for HEAD
	w     io.Writer // nil until the first bytes went out
}

// pageChunk is how many bytes are gathered before they go out.
const pageChunk = 64 << 10

// begin says what is listed.
func (o *page) begin(name string) {
	if !o.lines {
		o.buf = append(append(append(o.buf, `{"`...), name...), `":[`...)
	}
}

// item adds one item.
func (o *page) item(v item.View, content bool) error {
	return o.add(func(b []byte) []byte {
		b = appendItem(b, v)
		if content {
			b = appendContent(append(b, ','), v)
		}
		return b
	})
}

// add adds an entry, whose members fn appends.
func (o *page) add(fn func(b []byte) []byte) error {
	if o.n++; o.n > 1 && !o.lines {
		o.buf = append(o.buf, ',')
	}
	o.buf = append(fn(append(o.buf, '{')), '}')
	if o.lines {
		o.buf = append(o.buf, '\n')
	}
	if len(o.buf) < pageChunk {
		return nil
	}
	return o.flush()
}

// flush lets the gathered bytes go out.
func (o *page) flush() (err error) {
	defer func() { o.buf = o.buf[:0] }()
	if o.c.x.Method() == "HEAD" {
		o.sent += int64(len(o.buf))
		return nil
	}
	if o.w == nil {
		o.head()
		if o.w, err = o.c.x.Stream(-1); err != nil {
			return err
		}
	}
	_, err = o.w.Write(o.buf)
	return err
}

func (o *page) head() {
	o.c.status(200)
	if o.lines {
		o.c.x.Add("Content-Type", typeNDJSON)
	} else {
		o.c.x.Add("Content-Type", typeJSON)
	}
	o.c.x.Add("Cache-Control", "no-store")
	o.c.x.Add("Vary", "Accept")
	o.c.addStale()
}

// broken ends a list that cannot be completed: a part never passes for the
// whole.
func (o *page) broken(err error) *problem.Problem {
	if o.w == nil {
		return o.c.fault(err)
	}
	o.c.api.log.Warn("list cut off", "error", err)
	o.c.x.Abort()
	return nil
}

// end completes the list. next is the cursor of the next page.
func (o *page) end(next string) *problem.Problem {
	if o.lines {
		o.buf = append(o.buf, `{"end":true,"count":`...)
		o.buf = appendInt(o.buf, o.n)
	} else {
		o.buf = append(o.buf, ']')
	}
	if next != "" {
		o.buf = appendString(append(o.buf, `,"next":`...), next)
	}
	o.buf = append(o.buf, "}\n"...)
	switch {
	case o.c.x.Method() == "HEAD":
		o.head()
		o.c.sent(o.c.x.SendSized(o.sent + int64(len(o.buf))))
	case o.w == nil:
		o.head()
		o.c.sent(o.c.x.Send(o.buf))
	default:
		o.c.sent(o.flush())
	}
	return nil
}

// appendItem appends the members that describe v, without braces.
func appendItem(b []byte, v item.View) []byte {
	b = appendString(append(b, `"id":`...), v.Key().Own())
	b = appendVersion(b, v.Version())
	return appendMetadata(append(b, ','), v, int64(len(v.Content())))
}

// appendMetadata appends the members of an item besides its id and version; size
// is the length of its content.
func appendMetadata(b []byte, v item.View, size int64) []byte {
	tag := v.ETag()
	b = append(append(append(b, `"etag":"`...), tag.String()...), '"')
	b = appendString(append(b, `,"mime":`...), mimeOf(v))
	if v.Flags()&item.FlagJSON != 0 {
		b = append(b, `,"type":"json"`...)
	} else {
		b = append(b, `,"type":"binary"`...)
	}
	if e := contentEncodingOf(v.Response()); len(e) > 0 {
		b = appendString(append(b, `,"encoding":`...), e)
	}
	b = appendInt(append(b, `,"size":`...), size)
	b = appendString(append(b, `,"state":`...), v.State())
	b = appendTags(append(b, `,"tags":`...), v)
	b = append(append(append(b, `,"tiers":"`...), v.Tiers().String()...), '"')
	b = appendInt(append(b, `,"updated_at_ms":`...), v.UpdatedAt())
	if at := v.ExpiresAt(); at != 0 {
		b = appendInt(append(b, `,"expires_at_ms":`...), at)
	}
	return b
}

// appendVersion appends the member version, a decimal string.
func appendVersion(b []byte, v item.Version) []byte {
	b = append(b, `,"version":"`...)
	return append(strconv.AppendUint(b, uint64(v), 10), '"')
}

func appendTags(b []byte, v item.View) []byte {
	b = append(b, '[')
	first := true
	for tag := range v.Tags {
		if !first {
			b = append(b, ',')
		}
		b, first = appendString(b, tag), false
	}
	return append(b, ']')
}

// count answers how many items match.
func (c *call) count() *problem.Problem {
	if p := c.need(ScopeRead); p != nil {
		return p
	}
	q, p := c.listing(false, false)
	if p != nil {
		return p
	}
	if done, p := c.consultBulk(OpRead, q.Prefix); done || p != nil {
		return p
	}
	if p := c.partitionOf(q.Prefix); p != nil {
		return p
	}
	n, exact, err := c.api.engine.Count(c.x.Context(), q.Query)
	if err != nil {
		return c.fault(err)
	}
	b := appendInt([]byte(`{"count":`), n)
	c.answerJSON(strconv.AppendBool(append(b, `,"exact":`...), exact))
	return nil
}

// answerJSON answers 200 with an object that lacks its closing brace.
func (c *call) answerJSON(open []byte) {
	c.status(200)
	c.x.Add("Content-Type", typeJSON)
	c.x.Add("Cache-Control", "no-store")
	c.addStale()
	c.sent(c.x.Send(append(open, "}\n"...)))
}

// deleteMatching answers DELETE of what a query selects.
func (c *call) deleteMatching() *problem.Problem {
	if p := c.need(ScopeWrite); p != nil {
		return p
	}
	q, p := c.listing(false, true)
	if p != nil {
		return p
	}
	if (q.Prefix+q.State+q.Tag == "") != q.all {
		return problem.New(problem.BadSelector, "give at least one of prefix, state, tag, or all=true alone")
	}
	d, p := c.durability()
	if p != nil {
		return p
	}
	if done, p := c.consultBulk(OpDelete, q.Prefix); done || p != nil {
		return p
	}
	if p := c.spend(1, 0); p != nil {
		return p
	}
	if local, p := c.matching(&q); !local || p != nil {
		return p
	}
	r, err := c.api.engine.DeleteMatching(c.x.Context(), q.Query, d)
	if err != nil {
		return c.fault(err)
	}
	c.api.log.Info("audit: bulk delete", "token", c.who.Name, "client", c.x.Client(), "scope", q.Scope,
		"prefix", q.Prefix, "state", q.State, "tag", q.Tag, "version", r.Version.String())
	c.answerJSON(appendBulk([]byte{'{'}, r))
	return nil
}

// appendBulk appends the members of a bulk receipt.
func appendBulk(b []byte, r tiers.BulkReceipt) []byte {
	b = append(append(append(b, `"version":"`...), r.Version.String()...), '"')
	b = appendInt(append(b, `,"l1":`...), r.L1)
	b = appendInt(append(b, `,"l2":`...), r.L2)
	b = appendInt(append(b, `,"l3":`...), r.L3)
	b = strconv.AppendBool(append(b, `,"complete":`...), r.Complete)
	return appendString(append(b, `,"persisted":`...), r.Persisted.String())
}

// prefersNDJSON reports whether an Accept field asks for lines rather than for
// one JSON object. Equal weights and no field mean JSON.
func prefersNDJSON(accept []byte) bool {
	lines, object := -1.0, -1.0
	for e := range func(yield func([]byte) bool) { elements(accept, yield) } {
		name, q := weight(e)
		switch name {
		case typeNDJSON, "application/ndjson":
			lines = max(lines, q)
		case typeJSON:
			object = max(object, q)
		}
	}
	return lines > 0 && lines > object
}

// weight splits an element of Accept into its media type and its weight.
func weight(e []byte) (name string, q float64) {
	media, rest, _ := bytes.Cut(e, []byte(";"))
	q = 1
	for param := range bytes.SplitSeq(rest, []byte(";")) {
		if value, ok := bytes.CutPrefix(trim(param), []byte("q=")); ok {
			f, err := strconv.ParseFloat(string(value), 64)
			if err != nil {
				f = 0
			}
			q = f
		}
	}
	return strings.ToLower(string(trim(media))), q
}
