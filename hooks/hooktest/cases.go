package hooktest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"

	"github.com/BurntSushi/toml"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
)

// Cases are examples of what a module decides, a TOML file. Fields that are not
// given keep the default that stands beside them.
type Cases struct {
	Config map[string]any    `toml:"config"` // given to the module
	Pools  []string          `toml:"pools"`
	Grant  []string          `toml:"grant"` // capabilities
	KV     map[string]string `toml:"kv"`    // what kv_get finds
	Cases  []Case            `toml:"case"`
}

// Case is one call and what must come of it. Of Want only the fields that are
// given are compared.
type Case struct {
	Name            string      `toml:"name"`
	Hook            string      `toml:"hook"` // route, ttl, evict or admit
	Site            string      `toml:"site"` // "-" for the items API
	Key             string      `toml:"key"`
	Operation       string      `toml:"operation"` // read (default), write, delete, purge
	Method          string      `toml:"method"`    // default GET
	Tiers           []string    `toml:"tiers"`     // default L1 and L2
	Client          string      `toml:"client"`    // address
	NowMillis       uint64      `toml:"now_ms"`    // default 1,700,000,000,000
	Bytes           *uint64     `toml:"bytes"`     // of the content; default unknown
	Status          uint16      `toml:"status"`
	Lifetime        *uint32     `toml:"lifetime"` // as computed; default none
	Hits            uint32      `toml:"hits"`
	TLS             bool        `toml:"tls"`
	ClientCert      bool        `toml:"client_cert"` // implies TLS
	Headers         []Pair      `toml:"headers"`
	ResponseHeaders []Pair      `toml:"response_headers"`
	Candidates      []Candidate `toml:"candidates"` // for admit the newcomer first
	Pressure        float64     `toml:"pressure"`

	Want map[string]any `toml:"want"`
}

// Pair is a header line: name and value.
type Pair [2]string

// Candidate is one item of an evict or admit case, with the names of ABI.md.
type Candidate struct {
	ID         uint64  `toml:"id"`
	Size       uint32  `toml:"size"`
	AgeSeconds uint32  `toml:"age_s"`
	IdleMillis uint32  `toml:"idle_ms"`
	Hits       uint32  `toml:"hits"`
	Left       *uint32 `toml:"left_s"` // default: never expires
	TagClass   uint16  `toml:"tag_class"`
}

// AsComputed is what a case wants of a lifetime or window that is left as it is.
const AsComputed = "as computed"

// ReadCases reads a file of cases. Its errors name file and line.
func ReadCases(path string) (Cases, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Cases{}, err
	}
	c, err := ParseCases(string(b))
	if err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseCases reads cases from TOML. Unknown fields are an error.
func ParseCases(text string) (c Cases, err error) {
	meta, err := toml.Decode(text, &c)
	if err != nil {
		return c, err
	}
	for _, key := range meta.Undecoded() {
		if key[0] != "config" { // whose contents are the module's
			return c, fmt.Errorf("%s is no field of a case", key)
		}
	}
	for _, one := range c.Cases {
		if err := one.check(); err != nil {
			return c, fmt.Errorf("case %q: %w", one.Name, err)
		}
	}
	return c, nil
}

// Run runs all cases on a module with the real host and returns one line per
// difference. The error says that the module could not be loaded.
func (c Cases) Run(ctx context.Context, module []byte) (differences []string, err error) {
	outcomes, err := c.Outcomes(ctx, module)
	for _, o := range outcomes {
		for _, d := range o.Differences {
			differences = append(differences, fmt.Sprintf("%s: %s is %s, want %s", o.Name, d.Field, d.Got, d.Want))
		}
	}
	return differences, err
}

// items are what kv_get finds in a case.
type items map[string]string

// Get implements hooks.KV.
func (k items) Get(dst, key []byte) ([]byte, bool) {
	v, ok := k[string(key)]
	return append(dst, v...), ok
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
	case "evict":
		scores, ok := h.Score(nil, c.candidates(), c.Pressure, 0)
		return map[string]any{"ok": ok, "scores": scores, "order": order(scores)}, nil
	case "admit":
		all := c.candidates()
		admit, ok := h.Admit(all[0], all[1:], c.Pressure, 0)
		return map[string]any{"ok": ok, "admit": admit}, nil
	}
	return c.decide(h)
}

func (c *Case) candidates() []abi.Candidate {
	list := make([]abi.Candidate, len(c.Candidates))
	for i, k := range c.Candidates {
		list[i] = abi.Candidate{ID: k.ID, Size: k.Size, AgeSeconds: k.AgeSeconds, IdleMillis: k.IdleMillis,
			Hits: k.Hits, LeftSeconds: abi.NoLifetime, TagClass: k.TagClass}
		if k.Left != nil {
			list[i].LeftSeconds = *k.Left
		}
	}
	return list
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

func (c *Case) decide(h *hooks.Host) (map[string]any, error) {
	req, err := c.request()
	if err != nil {
		return nil, err
	}
	var d hooks.Decision
	asked := false
	if c.Hook == "route" {
		asked = h.Route(req, &d)
	} else {
		asked = h.TTL(req, &d)
	}
	return describe(asked, &d), nil
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
