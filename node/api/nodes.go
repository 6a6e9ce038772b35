package api

import (
	"strconv"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
)

// purged answers GET /v1/purge/{seq}: which nodes have applied the changes up to
// that number, and so the purge.
func (c *call) purged() *problem.Problem {
	if p := c.need(ScopePurge); p != nil {
		return p
	}
	wait, p := c.waitAll()
	if p != nil {
		return p
	}
	seq, err := strconv.ParseUint(string(c.key), 10, 64)
	if err != nil || seq == 0 {
		return problem.Newf(problem.BadParameter, "%q is not the seq of a purge: a decimal number above 0", c.key)
	}
	nodes, err := c.awaitApplied(seq, wait)
	if err != nil {
		return c.fault(err)
	}
	b := append(strconv.AppendUint([]byte(`{"seq":"`), seq, 10), `",`...)
	c.answerJSON(c.appendNodes(b, nodes, seq))
	return nil
}

// waitAll reads the parameter wait, which is all or absent.
func (c *call) waitAll() (wait bool, p *problem.Problem) {
	p = params(c.query, func(name, value string) (bool, *problem.Problem) {
		if name != "wait" {
			return false, nil
		}
		if wait = value == "all"; !wait {
			return true, problem.Newf(problem.BadParameter, "wait is %q, allowed is all", value)
		}
		return true, nil
	})
	return wait, p
}

// nodes answers GET /v1/nodes: those that share the database.
func (c *call) nodes() *problem.Problem {
	if p := c.need(ScopeAdmin); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	list, err := c.api.engine.Nodes(c.x.Context())
	if err != nil {
		return c.fault(err)
	}
	last := c.api.engine.LastChange()
	b := []byte(`{"nodes":[`)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendNode(b, &list[i], last)
	}
	c.answerJSON(append(b, ']'))
	return nil
}

func appendNode(b []byte, n *tiers.Node, last uint64) []byte {
	b = appendString(append(b, `{"id":`...), n.ID)
	b = appendString(append(b, `,"name":`...), n.Name)
	b = appendString(append(b, `,"host":`...), n.Addr)
	b = strconv.AppendBool(append(b, `,"self":`...), n.Self)
	b = strconv.AppendBool(append(b, `,"live":`...), n.Live)
	b = strconv.AppendUint(append(b, `,"applied":"`...), n.Applied, 10)
	b = strconv.AppendUint(append(b, `","behind":`...), max(last, n.Applied)-n.Applied, 10)
	return append(appendInt(append(b, `,"lease_until_ms":`...), n.LeaseUntil), '}')
}

// removeNode answers DELETE /v1/nodes/{id}: a node that is gone for good.
func (c *call) removeNode() *problem.Problem {
	if p := c.need(ScopeAdmin); p != nil {
		return p
	}
	if p := noParams(c.query); p != nil {
		return p
	}
	id := string(c.key)
	existed, err := c.api.engine.RemoveNode(c.x.Context(), id)
	if err != nil {
		return c.fault(err)
	}
	c.api.log.Info("audit: node removed", "token", c.who.Name, "client", c.x.Client(), "node", id, "existed", existed)
	if !existed {
		return problem.New(problem.NotFound, "no such node is known")
	}
	c.status(204)
	c.sent(c.x.Send(nil))
	return nil
}
