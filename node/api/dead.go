package api

import (
	"bytes"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// deadLetters answers a page of the writes that SQL refuses. Those of ids
// outside the token's namespace, and of sites, are passed over, so that a page
// may have fewer than limit, or none, and still a next one.
func (c *call) deadLetters() *problem.Problem {
	if p := c.need(ScopeRead); p != nil {
		return p
	}
	limit, cursor := defaultPage, ""
	p := params(c.query, func(name, value string) (bool, *problem.Problem) {
		switch name {
		case "limit":
			return true, intParam(name, value, 1, maxPage, &limit)
		case "cursor":
			cursor = value
			return true, nil
		}
		return false, nil
	})
	if p != nil {
		return p
	}
	if done, p := c.consultBulk(OpRead, c.who.Namespace); done || p != nil {
		return p
	}
	list, next, err := c.api.engine.DeadLetters(c.x.Context(), cursor, limit)
	if err != nil {
		return c.fault(err)
	}
	out := page{c: c, lines: prefersNDJSON(c.in.values[fieldAccept])}
	out.begin("dead_letters")
	for i := range list {
		if d := &list[i]; d.Key.Namespace() == item.NamespaceItem && bytes.HasPrefix(d.Key.Own(), c.who.namespace) {
			if err := out.add(func(b []byte) []byte { return c.appendDead(b, d) }); err != nil {
				return out.broken(err)
			}
		}
	}
	return out.end(next)
}

// appendDead appends the members of a dead letter. What SQL said may name
// servers: it is for who may see the whole node.
func (c *call) appendDead(b []byte, d *tiers.DeadLetter) []byte {
	b = appendString(append(b, `"id":`...), d.Key.Own())
	b = appendVersion(b, d.Version)
	b = appendString(append(b, `,"kind":`...), deadKind(d.Kind))
	b = appendInt(append(b, `,"bytes":`...), d.Bytes)
	if d.Reason != "" && c.who.Scopes&ScopeAdmin != 0 {
		b = appendString(append(b, `,"reason":`...), d.Reason)
	}
	return b
}

// deadKind says what a refused write was.
func deadKind(k item.Kind) string {
	switch k {
	case item.KindTombstone:
		return "delete"
	case item.KindMetadata:
		return "change"
	}
	return "put"
}

// retryDead answers POST /v1/dead-letters:retry: SQL gets each write once more.
func (c *call) retryDead() *problem.Problem {
	return c.deadBatch(OpWrite, "retry", func(key item.Key) error { return c.api.engine.RetryDeadLetter(c.x.Context(), key) })
}

// dropDead answers POST /v1/dead-letters:drop: each write is given up.
func (c *call) dropDead() *problem.Problem {
	return c.deadBatch(OpDelete, "drop", func(key item.Key) error { return c.api.engine.DropDeadLetter(c.x.Context(), key) })
}

// A deadBatch does one thing to dead letters, line by line.
type deadBatch struct {
	batch
	op   Op
	do   func(key item.Key) error
	keys []item.Key
	errs []error
}

func (c *call) deadBatch(op Op, name string, do func(key item.Key) error) *problem.Problem {
	if p := c.need(ScopeWrite); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	b := &deadBatch{batch: batch{c: c}, op: op, do: do}
	b.parse, b.ask, b.answer, b.forget = b.parseLine, b.askEngine, b.appendAnswer, func() { b.keys, b.errs = b.keys[:0], b.errs[:0] }
	p := b.run()
	c.api.log.Info("audit: dead letters", "token", c.who.Name, "client", c.x.Client(), "scope", c.who.Namespace,
		"action", name, "done", b.ok, "failed", b.failed)
	return p
}

func (b *deadBatch) parseLine(line []byte, e *entry) *problem.Problem {
	if p := readID(line, e); p != nil {
		return p
	}
	key, p := b.takeID(e, b.op)
	if p == nil {
		p = b.c.spend(1, 0)
	}
	if p == nil {
		b.keys = append(b.keys, key)
	}
	return p
}

func (b *deadBatch) askEngine() {
	for _, key := range b.keys {
		b.errs = append(b.errs, b.do(key))
	}
}

func (b *deadBatch) appendAnswer(out []byte, e *entry) ([]byte, bool) {
	if err := b.errs[e.index]; err != nil {
		return appendProblem(out, b.c.fault(err)), false
	}
	return append(out, `,"status":204`...), true
}
