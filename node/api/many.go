package api

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// getMany answers POST /v1/items:get.
func (c *call) getMany() *problem.Problem {
	if p := c.need(ScopeRead); p != nil {
		return p
	}
	o, p := c.readOptions()
	if p != nil {
		return p
	}
	b := &getBatch{batch: batch{c: c}, o: o}
	b.parse, b.ask, b.answer, b.forget = b.parseLine, b.askEngine, b.appendAnswer, func() { b.keys = b.keys[:0] }
	return b.run()
}

// A getBatch writes its lines from within the engine's call, while each hit is
// valid, so that contents are never gathered.
type getBatch struct {
	batch
	o    tiers.ReadOptions
	keys []item.Key

	// What the engine says about the entry that is written now.
	hit   *tiers.Hit
	found bool
	err   error
}

func (b *getBatch) parseLine(line []byte, e *entry) *problem.Problem {
	if p := readID(line, e); p != nil {
		return p
	}
	key, p := b.takeID(e, OpRead)
	if p == nil && b.c.theirs(key.Own()) {
		p = b.c.partition()
	}
	if p == nil {
		b.keys = append(b.keys, key)
	}
	return p
}

func (b *getBatch) askEngine() {
	b.c.api.engine.GetMany(b.c.x.Context(), b.keys, b.o, func(i int, h *tiers.Hit, ok bool, err error) {
		b.hit, b.found, b.err = h, ok, err
		b.emitUntil(i)
	})
	b.hit, b.found, b.err = nil, false, nil
}

func (b *getBatch) appendAnswer(out []byte, e *entry) ([]byte, bool) {
	version := item.Version(0)
	if b.found && b.hit != nil {
		version = b.hit.View.Version()
	}
	stale := b.c.stale && b.c.theirs([]byte(e.id))
	switch {
	case b.err == nil && b.c.notHereYet([]byte(e.id), version):
		return appendProblem(out, &problem.Problem{Kind: problem.VersionNotHere, RetryAfter: time.Second}), false
	case b.err != nil:
		return appendProblem(out, b.c.fault(b.err)), false
	case !b.found || b.hit == nil:
		body := b.c.api.missing.body
		if stale {
			out = append(out, `,"stale":true`...)
		}
		return append(append(out, `,"status":404,"problem":`...), body[:len(body)-1]...), false
	}
	v := b.hit.View
	out = appendVersion(append(out, `,"status":200`...), v.Version())
	out = appendMetadata(append(out, ','), v, int64(len(v.Content())))
	if b.hit.Stale || stale {
		out = append(out, `,"stale":true`...)
	}
	return appendContent(append(out, ','), v), true
}

// putMany answers POST /v1/items:put. Tiers, durability and a lifetime for
// lines that name none come from the header.
func (c *call) putMany() *problem.Problem {
	if p := c.need(ScopeWrite); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	w, p := c.writeOptions()
	if p != nil {
		return p
	}
	b := &putBatch{batch: batch{c: c}, base: *w}
	b.parse, b.ask, b.answer, b.forget = b.parseLine, b.askEngine, b.appendAnswer, b.drop
	return b.run()
}

type putBatch struct {
	batch
	base     tiers.Write
	writes   []*tiers.Write
	receipts []tiers.Receipt
}

func (b *putBatch) parseLine(line []byte, e *entry) *problem.Problem {
	w := b.base
	if p := parsePut(line, e, &w); p != nil {
		return p
	}
	var p *problem.Problem
	if w.Key, p = b.takeID(e, OpWrite); p != nil {
		return p
	}
	if b.c.api.policy != nil {
		b.c.fillDecision(&w)
		b.c.api.policy.Route(b.c.x, OpWrite, w.Key.Own(), int64(len(w.Content)), &b.c.d)
		b.c.ignoreEdits()
		if p := b.denied(); p != nil {
			return p
		}
		b.c.applyDecision(&w)
		if p := checkDurability(&w); p != nil {
			return p
		}
	}
	if p := b.c.spend(1, 0); p != nil {
		return p
	}
	if p := b.c.admit(&w); p != nil {
		return p
	}
	if b.c.theirs(w.Key.Own()) {
		return b.c.lineToHub(e, "PUT", w.Key, &w)
	}
	b.writes = append(b.writes, &w)
	return nil
}

func (b *putBatch) askEngine() {
	b.receipts = receipts(b.receipts, len(b.writes))
	b.c.api.engine.SubmitMany(b.c.x.Context(), b.writes, b.receipts)
}

func (b *putBatch) drop() {
	clear(b.writes)
	b.writes = b.writes[:0]
}

// receipts returns n empty receipts, in the memory of old if that is enough.
func receipts(old []tiers.Receipt, n int) []tiers.Receipt {
	out := slices.Grow(old[:0], n)[:n]
	clear(out)
	return out
}

func (b *putBatch) appendAnswer(out []byte, e *entry) ([]byte, bool) {
	r := &b.receipts[e.index]
	if r.Err != nil {
		return appendProblem(out, b.c.fault(r.Err)), false
	}
	status := int64(204)
	if r.Existed == tiers.ExistedNo {
		status = 201
	}
	out = appendLineReceipt(out, status, r)
	return append(append(append(out, `,"etag":"`...), r.ETag.String()...), '"'), true
}

// appendLineReceipt appends the members of any acknowledged line.
func appendLineReceipt(b []byte, status int64, r *tiers.Receipt) []byte {
	b = appendVersion(appendInt(append(b, `,"status":`...), status), r.Version)
	return appendString(append(b, `,"persisted":`...), r.Persisted.String())
}

// parsePut reads a line of a put. What it keeps is copied from the line.
func parsePut(line []byte, e *entry, w *tiers.Write) *problem.Problem {
	contents := 0
	var bad *problem.Problem
	err := members(line, func(name string, value []byte) error {
		isContent, err := contentMember(name, value, w)
		if isContent {
			contents++
			return err
		}
		if name == "id" {
			e.known = true
			return stringMember(name, value, &e.id)
		}
		p, err := optionMember(name, value, w)
		if bad == nil {
			bad = p
		}
		return err
	})
	if err != nil {
		return lineProblem(err, e)
	}
	if bad == nil && contents != 1 {
		bad = problem.New(problem.BadBody, "give exactly one of content, content_b64, text")
	}
	return bad
}

// contentMember reads the content in one of its three forms.
func contentMember(name string, value []byte, w *tiers.Write) (isContent bool, err error) {
	switch name {
	case "content":
		w.Content = bytes.Clone(value)
		if w.MIME == "" {
			w.MIME = typeJSON
		}
	case "text":
		var s string
		err = stringMember(name, value, &s)
		w.Content = []byte(s)
	case "content_b64":
		var s string
		if err = stringMember(name, value, &s); err == nil {
			if w.Content, err = base64.StdEncoding.DecodeString(s); err != nil {
				err = fmt.Errorf("member %q: %w", name, err)
			}
		}
	default:
		return false, nil
	}
	return true, err
}

// optionMember reads what a line says besides id and content.
func optionMember(name string, value []byte, w *tiers.Write) (*problem.Problem, error) {
	var text string
	var err error
	switch name {
	case "tags":
		var tags []string
		if err = stringsMember(name, value, &tags); err != nil {
			return nil, err
		}
		var p *problem.Problem
		w.Tags, p = cleanTags(tags)
		return p, nil
	case "ttl", "if_version":
		err = textMember(name, value, &text)
	case "mime", "state", "encoding":
		err = stringMember(name, value, &text)
	default:
		err = unknownMember(name)
	}
	if err != nil {
		return nil, err
	}
	return setOption(name, text, w), nil
}

// setOption sets an option from its text.
func setOption(name, text string, w *tiers.Write) (p *problem.Problem) {
	switch name {
	case "mime":
		w.MIME, p = mimeType(text)
	case "encoding":
		w.Response, p = encodingMetadata([]byte(text))
	case "state":
		w.State = text
		if err := item.CheckState(text); err != nil {
			p = problem.New(problem.BadState, err.Error())
		}
	case "ttl":
		var t lifetimes
		if t, p = parseTTL(text); p == nil {
			w.TTL, w.L1TTL, w.L2TTL = t.item, t.l1, t.l2
		}
	case "if_version":
		w.If = new(tiers.Condition)
		p = versionParam(name, text, &w.If.Version)
	}
	return p
}

// deleteMany answers POST /v1/items:delete.
func (c *call) deleteMany() *problem.Problem {
	if p := c.need(ScopeWrite); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	d, p := c.durability()
	if p != nil {
		return p
	}
	b := &deleteBatch{batch: batch{c: c}, d: d}
	b.parse, b.ask, b.answer, b.forget = b.parseLine, b.askEngine, b.appendAnswer, func() { b.keys = b.keys[:0] }
	return b.run()
}

type deleteBatch struct {
	batch
	d        item.Durability
	keys     []item.Key
	receipts []tiers.Receipt
}

func (b *deleteBatch) parseLine(line []byte, e *entry) *problem.Problem {
	if p := readID(line, e); p != nil {
		return p
	}
	key, p := b.takeID(e, OpDelete)
	if p == nil {
		p = b.c.spend(1, 0)
	}
	if p == nil && b.c.theirs(key.Own()) {
		return b.c.lineToHub(e, "DELETE", key, nil)
	}
	if p == nil {
		b.keys = append(b.keys, key)
	}
	return p
}

func (b *deleteBatch) askEngine() {
	b.receipts = receipts(b.receipts, len(b.keys))
	b.c.api.engine.DeleteMany(b.c.x.Context(), b.keys, b.d, b.receipts)
}

func (b *deleteBatch) appendAnswer(out []byte, e *entry) ([]byte, bool) {
	r := &b.receipts[e.index]
	if r.Err != nil {
		return appendProblem(out, b.c.fault(r.Err)), false
	}
	out = appendLineReceipt(out, 204, r)
	switch r.Existed {
	case tiers.ExistedUnknown:
		return append(out, `,"existed":"unknown"`...), true
	default:
		return strconv.AppendBool(append(out, `,"existed":`...), r.Existed == tiers.ExistedYes), true
	}
}
