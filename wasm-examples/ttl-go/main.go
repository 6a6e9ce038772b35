//go:build wasip1

// ttl-go is a ttl hook in Go: lifetimes by path prefix from the configuration,
// the longest prefix wins; nothing is stored for requests with credentials; each
// object gets a tag of the first path segment.
//
// Configuration: { rules = [ { prefix = "/news/", seconds = 10 }, … ] }
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/edgenode/edgenode/hooks/guest"
)

// Positions in the manifest's headers.
const (
	authorization = iota
	cookie
)

type rule struct {
	prefix  []byte
	seconds uint32
}

var rules []rule // longest first

func init() {
	guest.OnInit(configure)
	guest.OnTTL(lifetime)
}

func configure(config []byte) error {
	var c struct {
		Rules []struct {
			Prefix  string `json:"prefix"`
			Seconds uint32 `json:"seconds"`
		} `json:"rules"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return err
	}
	for _, r := range c.Rules {
		if len(r.Prefix) == 0 || r.Prefix[0] != '/' {
			return fmt.Errorf("prefix %q must begin with /", r.Prefix)
		}
		rules = append(rules, rule{[]byte(r.Prefix), r.Seconds})
	}
	slices.SortStableFunc(rules, func(a, b rule) int { return len(b.prefix) - len(a.prefix) })
	return nil
}

func lifetime(r *guest.Request, a *guest.Answer) {
	if _, ok := r.Header(authorization); ok {
		a.NoStore()
		return
	}
	if c, ok := r.Header(cookie); ok && bytes.Contains(c, session) {
		a.NoStore()
		return
	}
	path := r.Path()
	for i := range rules {
		if bytes.HasPrefix(path, rules[i].prefix) {
			a.Lifetime(rules[i].seconds)
			break
		}
	}
	if tag := firstSegment(path); len(tag) > 0 && len(tag) <= 64 {
		a.Tag(tag)
	}
}

var session = []byte("session=")

// firstSegment of a path, without what a tag may not hold.
func firstSegment(path []byte) []byte {
	if len(path) == 0 {
		return nil
	}
	path = path[1:]
	end := bytes.IndexByte(path, '/')
	if end < 0 {
		return nil
	}
	for _, c := range path[:end] {
		if c == '?' || c == ',' || c <= ' ' || c >= 0x7f {
			return nil
		}
	}
	return path[:end]
}

func main() {}
