package hooktest

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
)

// words of a case, by the ABI's numbers.
var (
	operations = []string{1: "read", "write", "delete", "purge"}
	methods    = []string{"other", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}
	tierNames  = []string{"L1", "L2", "L3"}
)

func (c *Case) check() error {
	hook, ok := abi.ParseHook(c.Hook)
	if !ok {
		return fmt.Errorf("hook is %q, must be route, ttl, evict or admit", c.Hook)
	}
	if hook == abi.Route || hook == abi.TTL {
		_, err := c.request()
		return err
	}
	if n := len(c.Candidates); n < 1 || n > abi.MaxCandidates {
		return fmt.Errorf("%d candidates, must be 1 to %d", n, abi.MaxCandidates)
	}
	return nil
}

// request makes what the node would ask with.
func (c *Case) request() (*hooks.Request, error) {
	in := abi.Input{Operation: abi.Read, Method: abi.MethodGet, Tiers: abi.L1 | abi.L2, NowMillis: 1_700_000_000_000,
		ContentBytes: abi.UnknownBytes, Status: c.Status, Hits: c.Hits}
	err := errors.Join(
		word("operation", c.Operation, operations, func(i int) { in.Operation = abi.Operation(i) }),
		word("method", c.Method, methods, func(i int) { in.Method = abi.Method(i) }),
		c.tiers(&in), c.client(&in))
	if c.NowMillis > 0 {
		in.NowMillis = c.NowMillis
	}
	if c.Bytes != nil {
		in.ContentBytes = *c.Bytes
	}
	if c.Lifetime != nil {
		in.Flags |= abi.FlagLifetimeKnown
		in.Lifetime = *c.Lifetime
	}
	if c.Site != "-" {
		in.Flags |= abi.FlagSite
	}
	if c.TLS || c.ClientCert {
		in.Flags |= abi.FlagTLS
	}
	if c.ClientCert {
		in.Flags |= abi.FlagClientCert
	}
	var headers Headers
	for _, p := range c.Headers {
		headers = append(headers, Field{Name: p[0], Value: p[1]})
	}
	for _, p := range c.ResponseHeaders {
		headers = append(headers, Field{Name: p[0], Value: p[1], Response: true})
	}
	return &hooks.Request{Input: in, Site: c.Site, Key: []byte(c.Key), Headers: headers}, err
}

func (c *Case) tiers(in *abi.Input) error {
	if c.Tiers != nil {
		in.Tiers = 0
	}
	for _, t := range c.Tiers {
		if err := word("tiers", t, tierNames, func(i int) { in.Tiers |= 1 << i }); err != nil {
			return err
		}
	}
	return nil
}

func (c *Case) client(in *abi.Input) error {
	if c.Client == "" {
		return nil
	}
	a, err := netip.ParseAddr(c.Client)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	in.Client = a.As16()
	return nil
}

// word finds the number of a word; without one the default stays.
func word(field, got string, words []string, set func(int)) error {
	if got == "" {
		return nil
	}
	i := slices.Index(words, got)
	if i < 0 {
		return fmt.Errorf("%s is %q, must be one of %q", field, got, words)
	}
	set(i)
	return nil
}
