package api

import (
	"fmt"
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
	wait := false
	if p := params(c.query, func(name, value string) (bool, *problem.Problem) {
		if name != "wait" {
			return false, nil
		}
		if wait = value == "all"; !wait {
			return true, problem.Newf(problem.BadParameter, "wait is %q, allowed is all", value)
		}
		return true, nil
	}); p != nil {
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
		sum.Version, sum.Persisted = r.Version, r.Persisted
		sum.L1, sum.L2, sum.L3 = sum.L1+r.L1, sum.L2+r.L2, sum.L3+r.L3
		sum.Complete = sum.Complete && r.Complete
	}
	c.api.log.Info("audit: purge", "token", c.who.Name, "client", c.x.Client(), "scope", c.who.Namespace,
		"by", s.by, "values", s.values, "soft", s.soft, "version", sum.Version.String())
	applied, pending := []string{c.api.name}, []string(nil)
	if c.api.group != nil {
		var err error
		if applied, pending, err = c.api.group.Applied(c.x.Context(), sum.Version, wait); err != nil {
			return c.fault(err)
		}
	}
	b := appendBulk([]byte{'{'}, sum)
	b = appendStrings(append(b, `,"nodes":{"applied":`...), applied)
	b = appendStrings(append(b, `,"pending":`...), pending)
	c.answerJSON(append(b, '}'))
	return nil
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
