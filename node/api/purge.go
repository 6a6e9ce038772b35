package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A selection is what the body of a purge says: which one selector, with what.
type selection struct {
	by     string   // id, url, host, prefix, tag, tags, state, all
	values []string // one, except for tags
	soft   bool
}

// purge answers POST /v1/purge.
func (c *call) purge() *problem.Problem {
	if p := c.need(ScopePurge); p != nil {
		return p
	}
	wait, p := c.waitAll()
	if p != nil {
		return p
	}
	return c.withBody(maxSmallBody, func(body []byte) *problem.Problem {
		s, p := parseSelection(body)
		if p != nil {
			return p
		}
		rules, p := c.purgeRules(s)
		if p != nil {
			return p
		}
		if done, p := c.consultBulk(OpPurge, strings.Join(s.values, ",")); done || p != nil {
			return p
		}
		return c.applyPurge(s, rules, wait)
	})
}

// parseSelection reads the body of a purge.
func parseSelection(body []byte) (s selection, p *problem.Problem) {
	n, all := 0, true
	err := members(body, func(name string, value []byte) error {
		if name == "soft" {
			return boolMember(name, value, &s.soft)
		}
		n, s.by = n+1, name
		switch name {
		case "id", "url", "host", "prefix", "tag", "state":
			s.values = make([]string, 1)
			return stringMember(name, value, &s.values[0])
		case "tags":
			return stringsMember(name, value, &s.values)
		case "all":
			return boolMember(name, value, &all)
		}
		return fmt.Errorf("member %q is not known", name)
	})
	if err != nil {
		return s, problem.New(problem.BadBody, err.Error())
	}
	if n != 1 || !all {
		return s, problem.New(problem.BadSelector, "give exactly one of id, url, host, prefix, tag, tags, state, all: true")
	}
	if s.by != "all" && len(s.values) == 0 || len(s.values) == 1 && s.values[0] == "" {
		return s, problem.Newf(problem.BadSelector, "%s is empty", s.by)
	}
	return s, nil
}

// purgeRules says which rules a selection is. A prefix that can begin a URL
// and an id is both.
func (c *call) purgeRules(s selection) ([]tiers.Purge, *problem.Problem) {
	items := tiers.Purge{Soft: s.soft, Namespaces: item.InItems, Values: s.values, Scope: c.who.Namespace}
	switch s.by {
	case "id":
		items.Match = item.MatchKey
		if p := idProblem(item.CheckID(s.values[0])); p != nil {
			return nil, p
		}
		return []tiers.Purge{items}, c.reaches([]byte(s.values[0]))
	case "state":
		items.State, items.Values = s.values[0], nil
		return []tiers.Purge{items}, stateProblem(s.values[0])
	case "tag", "tags":
		items.Match = item.MatchTag
		items.Namespaces |= c.sitesInReach()
		return []tiers.Purge{items}, tagProblem(s.values...)
	case "all":
		items.Match, items.Values = item.MatchAll, nil
		items.Namespaces |= c.sitesInReach()
		return []tiers.Purge{items}, nil
	case "prefix":
		items.Match = item.MatchKeyPrefix
		if p := idProblem(item.CheckIDPrefix(s.values[0])); p != nil || !isURL(s.values[0]) || c.sitesInReach() == 0 || c.api.sites == nil {
			return []tiers.Purge{items}, p
		}
		site, p := c.sitePurge(s)
		return []tiers.Purge{items, site}, p
	}
	site, p := c.sitePurge(s)
	return []tiers.Purge{site}, p
}

// sitesInReach returns the namespace of sites unless the token is bound to a
// namespace of ids.
func (c *call) sitesInReach() item.Namespaces {
	if c.who.Namespace != "" {
		return 0
	}
	return item.InSites
}

func isURL(s string) bool { return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") }

// sitePurge translates a selection by url, host or URL prefix.
func (c *call) sitePurge(s selection) (tiers.Purge, *problem.Problem) {
	out := tiers.Purge{Soft: s.soft, Namespaces: item.InSites}
	if c.sitesInReach() == 0 {
		return out, problem.New(problem.OutsideNamespace, "the token is bound to a namespace of ids and reaches no site")
	}
	if c.api.sites == nil {
		return out, problem.New(problem.NotConfigured, "no site is configured")
	}
	translate := c.api.sites.Prefix
	switch s.by {
	case "url":
		translate = c.api.sites.URL
	case "host":
		translate = c.api.sites.Host
	}
	var err error
	if out.Match, out.Values, err = translate(s.values[0]); err != nil {
		return out, problem.Newf(problem.BadSelector, "%s: %v", s.by, err)
	}
	return out, nil
}

// applyPurge makes the rules and answers with the last one's version: all
// before it hold too.
func (c *call) applyPurge(s selection, rules []tiers.Purge, wait bool) *problem.Problem {
	if p := c.spend(1, 0); p != nil {
		return p
	}
	sum := tiers.BulkReceipt{Complete: true}
	for _, rule := range rules {
		r, err := c.api.engine.Purge(c.x.Context(), rule)
		if err != nil {
			return c.fault(err)
		}
		sum.Version, sum.Seq, sum.Persisted = r.Version, r.Seq, r.Persisted
		sum.L1, sum.L2, sum.L3 = sum.L1+r.L1, sum.L2+r.L2, sum.L3+r.L3
		sum.Complete = sum.Complete && r.Complete
	}
	c.api.log.Info("audit: purge", "token", c.who.Name, "client", c.x.Client(), "scope", c.who.Namespace,
		"by", s.by, "values", s.values, "soft", s.soft, "version", sum.Version.String())
	nodes, err := c.awaitApplied(sum.Seq, wait)
	if err != nil {
		// The purge holds; who else has it is not known while L3 is away.
		nodes = []tiers.Node{{Name: c.api.name, Self: true, Applied: sum.Seq}}
	}
	b := appendBulk([]byte{'{'}, sum)
	if sum.Seq != 0 {
		b = append(strconv.AppendUint(append(b, `,"seq":"`...), sum.Seq, 10), '"')
	}
	c.answerJSON(append(c.appendNodes(append(b, `,"nodes":{`...), nodes, sum.Seq), '}'))
	return nil
}

// awaitApplied returns the nodes; with wait once all have applied the changes up to
// seq, or after maxWait.
func (c *call) awaitApplied(seq uint64, wait bool) ([]tiers.Node, error) {
	if !wait {
		return c.api.engine.Nodes(c.x.Context())
	}
	ctx, cancel := context.WithTimeout(c.x.Context(), maxWait)
	defer cancel()
	defer context.AfterFunc(c.api.draining, cancel)()
	return c.api.engine.AwaitApplied(ctx, seq)
}

// appendNodes appends which nodes have applied the changes up to seq, and which
// have not; none but this one is known to if seq is 0.
func (c *call) appendNodes(b []byte, nodes []tiers.Node, seq uint64) []byte {
	var applied, pending []string
	for i := range nodes {
		if n := &nodes[i]; n.Self && seq == 0 || seq != 0 && n.Applied >= seq {
			applied = append(applied, c.labelOf(n))
		} else {
			pending = append(pending, c.labelOf(n))
		}
	}
	b = appendStrings(append(b, `"applied":`...), applied)
	return appendStrings(append(b, `,"pending":`...), pending)
}

// labelOf returns what a node is called in answers: its name may be that of a
// machine, which is for who may see the whole node; this one has a public name.
func (c *call) labelOf(n *tiers.Node) string {
	switch {
	case n.Self:
		return c.api.name
	case c.who.Scopes&ScopeAdmin != 0 && n.Name != "":
		return n.Name
	}
	return n.ID
}

// appendStrings appends a JSON array.
func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}
