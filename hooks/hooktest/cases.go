package hooktest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
)

// Cases are examples of what a module decides, a JSON file.
type Cases struct {
	Config map[string]any `json:"config"`
	Pools  []string       `json:"pools"`
	Grant  []string       `json:"grant"`
	Cases  []Case         `json:"cases"`
}

// Case is one call and what must come of it. Of Want only the fields that are
// given are compared.
type Case struct {
	Name       string          `json:"name"`
	Hook       string          `json:"hook"`
	Site       string          `json:"site"` // "-" for the items API
	Key        string          `json:"key"`
	Operation  uint8           `json:"operation"` // default read
	Status     uint16          `json:"status"`
	Lifetime   *uint32         `json:"lifetime"`
	ClientCert bool            `json:"client_cert"`
	Headers    Headers         `json:"headers"`
	Candidates []abi.Candidate `json:"candidates"`
	Pressure   float64         `json:"pressure"`
	Want       map[string]any  `json:"want"`
}

// ReadCases reads a file of cases.
func ReadCases(path string) (Cases, error) {
	var c Cases
	b, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Run runs all cases on a module with the real host and returns one line per
// difference. The error says that the module could not be loaded.
func (c Cases) Run(ctx context.Context, module []byte) (differences []string, err error) {
	h, err := hooks.Open(hooks.Options{Instances: 1})
	if err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, h.Close()) }()
	spec := hooks.Spec{Name: "case", Bytes: module, Config: c.Config, Pools: c.Pools, Grant: c.Grant}
	if info, err := hooks.Inspect(module); err == nil && info.Manifest.Guards {
		spec.OnFault = hooks.OnFaultDeny
	}
	if _, err := h.Load(ctx, []hooks.Spec{spec}); err != nil {
		return nil, err
	}
	for _, one := range c.Cases {
		got, err := one.run(h)
		if err != nil {
			return nil, fmt.Errorf("case %q: %w", one.Name, err)
		}
		for field, want := range one.Want {
			if g, w := marshal(got[field]), marshal(want); g != w {
				differences = append(differences, fmt.Sprintf("%s: %s is %s, want %s", one.Name, field, g, w))
			}
		}
	}
	return differences, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func marshal(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (c *Case) run(h *hooks.Host) (map[string]any, error) {
	switch c.Hook {
	case "route", "ttl":
		return c.decide(h), nil
	case "evict":
		scores, ok := h.Score(nil, c.Candidates, c.Pressure, 0)
		return map[string]any{"ok": ok, "scores": scores, "order": order(scores)}, nil
	case "admit":
		admit, ok := h.Admit(c.Candidates[0], c.Candidates[1:], c.Pressure, 0)
		return map[string]any{"ok": ok, "admit": admit}, nil
	}
	return nil, fmt.Errorf("hook %q is unknown", c.Hook)
}

// order returns the positions of scores from the one that leaves first.
func order(scores []int32) []int {
	list := make([]int, len(scores))
	for i := range list {
		list[i] = i
		for k := i; k > 0 && scores[list[k]] < scores[list[k-1]]; k-- {
			list[k], list[k-1] = list[k-1], list[k]
		}
	}
	return list
}

func (c *Case) decide(h *hooks.Host) map[string]any {
	req := &hooks.Request{Site: c.Site, Key: []byte(c.Key), Headers: c.Headers}
	req.Input = abi.Input{Operation: abi.Operation(max(c.Operation, 1)), Method: abi.MethodGet, Tiers: abi.L1 | abi.L2,
		NowMillis: 1_700_000_000_000, ContentBytes: abi.UnknownBytes, Status: c.Status}
	if c.Site != "-" {
		req.Flags |= abi.FlagSite
	}
	if c.ClientCert {
		req.Flags |= abi.FlagClientCert | abi.FlagTLS
	}
	if c.Lifetime != nil {
		req.Flags |= abi.FlagLifetimeKnown
		req.Lifetime = *c.Lifetime
	}
	var d hooks.Decision
	asked := false
	if c.Hook == "route" {
		asked = h.Route(req, &d)
	} else {
		asked = h.TTL(req, &d)
	}
	return describe(asked, &d)
}

// describe names what was decided, as it stands in a case.
func describe(asked bool, d *hooks.Decision) map[string]any {
	got := map[string]any{
		"asked": asked, "faulted": d.Faulted, "pool": d.Pool, "no_store": d.NoStore, "reuse": d.ReuseSeconds,
		"verdict":      [...]string{"continue", "pass", "deny", "answer"}[d.Verdict],
		"status":       d.Status,
		"reason":       string(d.Reason),
		"key_addition": string(d.KeyAddition),
		"target":       string(d.Target),
		"state":        string(d.State),
		"lifetime":     nil,
		"tags":         []string{},
	}
	if d.LifetimeSet {
		got["lifetime"] = d.Lifetime
	}
	if d.StaleWhileRevalidate != abi.AsComputed {
		got["stale_while_revalidate"] = d.StaleWhileRevalidate
	}
	if d.StaleIfError != abi.AsComputed {
		got["stale_if_error"] = d.StaleIfError
	}
	if d.TiersSet {
		got["read_tiers"], got["write_tiers"] = d.ReadTiers, d.WriteTiers
	}
	tags := []string{}
	for _, t := range d.Tags {
		tags = append(tags, string(t))
	}
	got["tags"] = tags
	if d.Verdict == hooks.Answer {
		got["status"], got["body"] = d.AnswerStatus, base64.StdEncoding.EncodeToString(d.AnswerBody)
	}
	return got
}
