package api

import (
	"fmt"
	"strconv"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// maxSmallBody bounds the JSON bodies of requests about metadata: 256 tags of
// 256 bytes, escaped, fit.
const maxSmallBody = 512 << 10

// change answers POST {id}:state.
func (c *call) change() *problem.Problem {
	if p := c.need(ScopeWrite); p != nil {
		return p
	}
	if p := c.reaches(c.key.Own()); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	return c.withBody(maxSmallBody, func(body []byte) *problem.Problem {
		m, p := parseChange(body)
		if p != nil {
			return p
		}
		return c.applyChange(m, body)
	})
}

func (c *call) applyChange(m tiers.MetadataChange, body []byte) *problem.Problem {
	var p *problem.Problem
	if m.Durability, p = c.durability(); p != nil {
		return p
	}
	if c.api.policy != nil {
		if done, p := c.consult(OpWrite, c.key.Own(), 0); done || p != nil {
			return p
		}
	}
	if p := c.spend(1, 0); p != nil {
		return p
	}
	if c.theirs(c.key.Own()) {
		return c.forwardItem("POST", ":state", body)
	}
	if m.If, p = c.condition(); p != nil {
		return p
	}
	r, err := c.api.engine.Change(c.x.Context(), c.key, m)
	if err != nil {
		return c.fault(err)
	}
	c.status(204)
	c.block = appendReceipt(c.block[:0], r)
	c.x.AddBlock(c.block)
	c.sent(c.x.Send(nil))
	return nil
}

// parseChange reads {"state", "tags", "ttl"}, each optional, at least one.
func parseChange(body []byte) (m tiers.MetadataChange, p *problem.Problem) {
	var state string
	var tags []string
	err := members(body, func(name string, value []byte) error {
		switch name {
		case "state":
			m.State = &state
			return stringMember(name, value, &state)
		case "tags":
			m.Tags = &tags
			return stringsMember(name, value, &tags)
		case "ttl":
			var text string
			if err := textMember(name, value, &text); err != nil {
				return err
			}
			ttl, err := parseLifetime(text)
			m.TTL = &ttl
			if err != nil {
				p = problem.New(problem.BadTTL, err.Error())
			}
			return nil
		}
		return fmt.Errorf("member %q is not known; allowed are state, tags, ttl", name)
	})
	switch {
	case err != nil:
		return m, problem.New(problem.BadBody, err.Error())
	case p != nil:
		return m, p
	case m.State == nil && m.Tags == nil && m.TTL == nil:
		return m, problem.New(problem.BadBody, "give at least one of state, tags, ttl")
	}
	if err := item.CheckState(state); err != nil {
		return m, problem.New(problem.BadState, err.Error())
	}
	tags, p = cleanTags(tags)
	return m, p
}

// itemStatus answers GET {id}:status.
func (c *call) itemStatus() *problem.Problem {
	if p := c.need(ScopeRead); p != nil {
		return p
	}
	if p := c.reaches(c.key.Own()); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	if done, p := c.consultBulk(OpRead, c.key.ID()); done || p != nil {
		return p
	}
	s, err := c.api.engine.Status(c.x.Context(), c.key)
	if err != nil {
		return c.fault(err)
	}
	b := appendString([]byte(`{"id":`), c.key.Own())
	b = appendString(append(b, `,"where":`...), s.Where)
	if s.Version != 0 {
		b = appendVersion(b, s.Version)
	}
	b = strconv.AppendBool(append(b, `,"l1":`...), s.L1)
	b = strconv.AppendBool(append(b, `,"l2":`...), s.L2)
	b = strconv.AppendBool(append(b, `,"l3":`...), s.L3)
	c.answerJSON(strconv.AppendBool(append(b, `,"tombstone":`...), s.Tombstone))
	return nil
}
