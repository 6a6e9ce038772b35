package api

import (
	"slices"
	"time"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// put answers PUT of one item.
func (c *call) put() *problem.Problem {
	w, p := c.writeOf()
	if p != nil {
		return p
	}
	if done, p := c.routeWrite(w, c.x.ContentLength()); done || p != nil {
		return p
	}
	if p := c.spend(1, 0); p != nil {
		return p
	}
	return c.withBody(c.api.maxPayload, func(body []byte) *problem.Problem {
		w.Content = body
		if p := c.admit(w); p != nil {
			return p
		}
		if c.theirs(c.key.Own()) {
			return c.forwardPut(w)
		}
		if w.If, p = c.condition(); p != nil {
			return p
		}
		r, err := c.api.engine.Submit(c.x.Context(), w)
		if err != nil {
			return c.fault(err)
		}
		c.answerPut(r)
		return nil
	})
}

// writeOf checks who writes where and reads the options of the header.
func (c *call) writeOf() (*tiers.Write, *problem.Problem) {
	if p := c.need(ScopeWrite); p != nil {
		return nil, p
	}
	if p := c.reaches(c.key.Own()); p != nil {
		return nil, p
	}
	if p := noParams(c.query); p != nil {
		return nil, p
	}
	if c.in.values[fieldContentRange] != nil {
		return nil, &problem.Problem{Kind: problem.ContentRange}
	}
	w, p := c.writeOptions()
	if p != nil {
		return nil, p
	}
	w.Key = c.key
	return w, c.describe(w)
}

// describe reads what the header says about the content.
func (c *call) describe(w *tiers.Write) (p *problem.Problem) {
	in := &c.in.values
	if w.MIME, p = mimeType(string(in[fieldContentType])); p != nil {
		return p
	}
	if w.Response, p = encodingMetadata(in[fieldContentEncoding]); p != nil {
		return p
	}
	w.State = string(in[fieldState])
	if err := item.CheckState(w.State); err != nil {
		return problem.New(problem.BadState, err.Error())
	}
	for tag := range c.tagElements {
		w.Tags = append(w.Tags, string(tag))
	}
	w.Tags, p = cleanTags(w.Tags)
	return p
}

// tagElements calls yield with each element of Edge-Tags.
func (c *call) tagElements(yield func([]byte) bool) { elements(c.in.values[fieldTags], yield) }

// writeOptions reads tiers, lifetimes, durability and trace of a write.
func (c *call) writeOptions() (*tiers.Write, *problem.Problem) {
	w := new(tiers.Write)
	var p *problem.Problem
	in := &c.in.values
	if list := in[fieldTiers]; list != nil {
		if w.Tiers, p = parseTiers(list); p != nil {
			return nil, p
		}
	}
	if w.Durability, p = c.durability(); p != nil {
		return nil, p
	}
	if value := in[fieldTTL]; value != nil {
		t, p := parseTTL(string(value))
		if p != nil {
			return nil, p
		}
		w.TTL, w.L1TTL, w.L2TTL = t.item, t.l1, t.l2
	}
	if isTraceParent(in[fieldTraceParent]) {
		w.TraceParent, w.TraceState = string(in[fieldTraceParent]), string(in[fieldTraceState])
	}
	return w, checkDurability(w)
}

// durability reads Edge-Durability; absent is the configured default.
func (c *call) durability() (item.Durability, *problem.Problem) {
	value := c.in.values[fieldDurability]
	if value == nil {
		return item.DurabilityDefault, nil
	}
	d, err := item.ParseDurability(string(value))
	if err != nil {
		return 0, problem.Newf(problem.BadDurability, "Edge-Durability is %q, allowed are memory, journal, sync, l3", value)
	}
	return d, nil
}

// checkDurability refuses more than the tiers can honour: what is not in L3 is
// cache.
func checkDurability(w *tiers.Write) *problem.Problem {
	if w.Tiers != 0 && w.Tiers&item.L3 == 0 && w.Durability > item.DurabilityMemory {
		return problem.Newf(problem.BadDurability, "%s is asked of an item that is only in %s", w.Durability, w.Tiers)
	}
	return nil
}

// parseTiers reads a list of tiers.
func parseTiers(list []byte) (item.Tiers, *problem.Problem) {
	var t item.Tiers
	for e := range func(yield func([]byte) bool) { elements(list, yield) } {
		switch string(e) {
		case "l1":
			t |= item.L1
		case "l2":
			t |= item.L2
		case "l3":
			t |= item.L3
		default:
			return 0, problem.Newf(problem.BadTier, "Edge-Tiers names %q, the tiers are l1, l2, l3", e)
		}
	}
	if t == 0 {
		return 0, problem.New(problem.BadTier, "Edge-Tiers names no tier")
	}
	return t, nil
}

const maxMIME = 1024

// mimeType checks a content type as it is given.
func mimeType(s string) (string, *problem.Problem) {
	if len(s) > maxMIME || !cleanValue(s) {
		return "", problem.Newf(problem.BadHeader, "the content type has more than %d bytes or a control character", maxMIME)
	}
	return s, nil
}

// encodingMetadata returns the response metadata for a Content-Encoding.
func encodingMetadata(encoding []byte) ([]byte, *problem.Problem) {
	if len(encoding) > maxMIME || !cleanValue(encoding) {
		return nil, problem.Newf(problem.BadHeader, "the content encoding has more than %d bytes or a control character", maxMIME)
	}
	return appendResponse(nil, encoding), nil
}

// cleanTags removes repetitions and checks the rest.
func cleanTags(tags []string) ([]string, *problem.Problem) {
	slices.Sort(tags)
	tags = slices.Compact(tags)
	if err := item.CheckTags(tags); err != nil {
		return nil, problem.New(problem.BadTag, err.Error())
	}
	return tags, nil
}

// isTraceParent reports whether s is a traceparent of version 00 (W3C Trace
// Context section 3.2).
func isTraceParent(s []byte) bool {
	if len(s) != 55 || s[0] != '0' || s[1] != '0' {
		return false
	}
	for i, c := range s {
		dash := i == 2 || i == 35 || i == 52
		hexDigit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if dash != (c == '-') || !dash && !hexDigit {
			return false
		}
	}
	return true
}

// routeWrite asks the policy before anything is read of the content.
func (c *call) routeWrite(w *tiers.Write, size int64) (done bool, p *problem.Problem) {
	if c.api.policy == nil {
		return false, nil
	}
	c.fillDecision(w)
	if done, p := c.consult(OpWrite, w.Key.Own(), size); done || p != nil {
		return done, p
	}
	c.applyDecision(w)
	return false, checkDurability(w)
}

// admit checks what is known only with the content: size, budget, lifetime.
func (c *call) admit(w *tiers.Write) *problem.Problem {
	if n := int64(len(w.Content)); n > c.api.maxPayload {
		return tooLarge(c.api.maxPayload, n)
	}
	if p := c.spend(0, len(w.Content)); p != nil {
		return p
	}
	if c.api.policy == nil {
		return nil
	}
	c.fillDecision(w)
	c.api.policy.TTL(c.x, w.Key.Own(), int64(len(w.Content)), &c.d)
	if p := c.denial(); p != nil {
		return p
	}
	if c.d.NoStore {
		c.api.metrics.denied.Inc()
		return &problem.Problem{Kind: problem.Denied, Detail: "a hook forbids storing this"}
	}
	c.applyDecision(w)
	return checkDurability(w)
}

// fillDecision tells the policy what is decided so far.
func (c *call) fillDecision(w *tiers.Write) {
	c.d = Decision{Tiers: w.Tiers, State: w.State, Tags: w.Tags, TTL: w.TTL, L1TTL: w.L1TTL, L2TTL: w.L2TTL}
}

// applyDecision takes over what the policy decided, as far as it is allowed.
func (c *call) applyDecision(w *tiers.Write) {
	w.Tiers = c.d.Tiers & item.AllTiers
	if item.CheckState(c.d.State) == nil {
		w.State = c.d.State
	}
	if tags, p := cleanTags(slices.Clone(c.d.Tags)); p == nil {
		w.Tags = tags
	}
	w.TTL, w.L1TTL, w.L2TTL = clampTTL(c.d.TTL), clampTTL(c.d.L1TTL), clampTTL(c.d.L2TTL)
}

func clampTTL(d time.Duration) time.Duration { return min(max(d, 0), maxTTL) }

// answerPut acknowledges a put: 201 if the item is known to be new, else 204.
func (c *call) answerPut(r tiers.Receipt) {
	if r.Existed == tiers.ExistedNo {
		c.status(201)
	} else {
		c.status(204)
	}
	b := append(c.block[:0], "ETag: \""...)
	b = append(b, r.ETag.String()...)
	c.block = appendReceipt(append(b, "\"\r\n"...), r)
	c.x.AddBlock(c.block)
	c.sent(c.x.Send(nil))
}

// appendReceipt appends the lines of any acknowledgement.
func appendReceipt(b []byte, r tiers.Receipt) []byte {
	b = append(b, "Edge-Version: "...)
	b = append(b, r.Version.String()...)
	b = append(b, "\r\nEdge-Persisted: "...)
	b = append(b, r.Persisted.String()...)
	return append(b, "\r\n"...)
}

// delete answers DELETE of one item.
func (c *call) delete() *problem.Problem {
	if p := c.need(ScopeWrite); p != nil {
		return p
	}
	if p := c.reaches(c.key.Own()); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	d, p := c.durability()
	if p != nil {
		return p
	}
	if c.api.policy != nil {
		if done, p := c.consult(OpDelete, c.key.Own(), 0); done || p != nil {
			return p
		}
	}
	if p := c.spend(1, 0); p != nil {
		return p
	}
	if c.theirs(c.key.Own()) {
		return c.forwardItem("DELETE", "", nil)
	}
	cond, p := c.condition()
	if p != nil {
		return p
	}
	r, err := c.api.engine.Delete(c.x.Context(), c.key, cond, d)
	if err != nil {
		return c.fault(err)
	}
	c.status(204)
	b := append(c.block[:0], "Edge-Existed: "...)
	b = append(b, r.Existed.String()...)
	c.block = appendReceipt(append(b, "\r\n"...), r)
	c.x.AddBlock(c.block)
	c.sent(c.x.Send(nil))
	return nil
}
