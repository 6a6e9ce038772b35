package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks/abi"
)

// maxTests bounds the vectors of a manifest.
const maxTests = 256

// SelfTest is what a module must decide before it may go live: vectors in its
// manifest. They run on an instance of their own, with the settings here instead
// of the operator's; kv_get finds nothing.
type SelfTest struct {
	Config map[string]any `json:"config,omitempty"`
	Pools  []string       `json:"pools,omitempty"`
	Cases  []Vector       `json:"cases"`
}

// Vector is one call and what must come of it. Of Want only the fields that are
// given are compared. Names and defaults are those of hooktest's cases.
type Vector struct {
	Name            string         `json:"name"`
	Hook            string         `json:"hook"`
	Site            string         `json:"site,omitempty"` // "-" for the items API
	Key             string         `json:"key,omitempty"`
	Operation       string         `json:"operation,omitempty"` // default read
	Method          string         `json:"method,omitempty"`    // default GET
	Client          string         `json:"client,omitempty"`
	Status          uint16         `json:"status,omitempty"`
	Lifetime        *uint32        `json:"lifetime,omitempty"`
	TLS             bool           `json:"tls,omitempty"`
	ClientCert      bool           `json:"client_cert,omitempty"` // implies tls
	Headers         [][2]string    `json:"headers,omitempty"`
	ResponseHeaders [][2]string    `json:"response_headers,omitempty"`
	Candidates      []VectorItem   `json:"candidates,omitempty"` // for admit the newcomer first
	Pressure        float64        `json:"pressure,omitempty"`
	Want            map[string]any `json:"want"`
}

// VectorItem is a candidate of evict or admit.
type VectorItem struct {
	ID         uint64  `json:"id,omitempty"`
	Size       uint32  `json:"size,omitempty"`
	AgeSeconds uint32  `json:"age_s,omitempty"`
	IdleMillis uint32  `json:"idle_ms,omitempty"`
	Hits       uint32  `json:"hits,omitempty"`
	Left       *uint32 `json:"left_s,omitempty"` // default: never expires
	TagClass   uint16  `json:"tag_class,omitempty"`
}

// selfTest runs the vectors of the manifest and says which do not hold. The
// module must not yet be in use.
func (m *module) selfTest(ctx context.Context) error {
	tests := m.manifest.Tests
	if tests == nil {
		return nil
	}
	t := &module{host: m.host, gen: m.gen, spec: m.spec, manifest: m.manifest, hash: m.hash, compiled: m.compiled,
		reactor: m.reactor, fuel: m.fuel, memoryBytes: m.memoryBytes, log: slog.New(slog.DiscardHandler)}
	t.spec.Config, t.spec.Pools = tests.Config, tests.Pools
	t.logs = limiter{now: m.host.o.Now}
	var names metricNames
	c := newHostMetrics(metrics.NewSet(), m.host).hook(&names, m.spec.Name)
	c.guest = newHostMetrics(metrics.NewSet(), m.host).guest(&names, m.spec.Name, m.manifest.Metrics)
	t.counters.Store(c)
	for _, name := range m.manifest.Hooks { // not only those that are configured
		h, _ := abi.ParseHook(name)
		t.uses[h] = true
	}
	if err := t.settleConfig(); err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	i, err := t.newInstance(0)
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	defer i.close()
	var faults []error
	for n := range tests.Cases {
		v := &tests.Cases[n]
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("self-test: %w", context.Cause(ctx))
		}
		if err := i.try(v); err != nil {
			faults = append(faults, fmt.Errorf("self-test %q: %w", v.Name, err))
		}
	}
	return errors.Join(faults...)
}

// try runs one vector.
func (i *instance) try(v *Vector) error {
	hook, ok := abi.ParseHook(v.Hook)
	if !ok || !i.m.uses[hook] {
		return fmt.Errorf("hook %q is none of the module's, %v", v.Hook, i.m.manifest.Hooks)
	}
	if len(v.Want) == 0 {
		return errors.New("want is missing: name at least one field that must hold")
	}
	got, why, err := map[string]any(nil), faultNone, error(nil)
	if hook == abi.Evict || hook == abi.Admit {
		got, why, err = i.tryRanking(hook, v)
	} else {
		var req *Request
		if req, err = v.request(); err != nil {
			return err
		}
		var d Decision
		d.Reset()
		why, err = i.decide(hook, req, &d)
		got = verdictFields(&d)
	}
	if why != faultNone {
		return errors.Join(fmt.Errorf("fault: %v", why), err)
	}
	return compareFields(got, v.Want)
}

func (i *instance) tryRanking(hook abi.Hook, v *Vector) (map[string]any, reason, error) {
	if n := len(v.Candidates); n < 1 || n > abi.MaxCandidates {
		return nil, faultInput, fmt.Errorf("%d candidates, must be 1 to %d", n, abi.MaxCandidates)
	}
	var list []abi.Candidate
	for _, c := range v.Candidates {
		left := uint32(abi.NoLifetime)
		if c.Left != nil {
			left = *c.Left
		}
		list = append(list, abi.Candidate{ID: c.ID, Size: c.Size, AgeSeconds: c.AgeSeconds, IdleMillis: c.IdleMillis,
			Hits: c.Hits, LeftSeconds: left, TagClass: c.TagClass})
	}
	res, why, err := i.rank(hook, list, v.Pressure, testNow)
	if why != faultNone {
		return nil, why, err
	}
	got := map[string]any{"ok": res.Status() == abi.OK}
	switch {
	case res.Status() > abi.Default || res.Flags() != 0:
		return nil, faultResult, nil
	case res.Status() == abi.Default:
	case hook == abi.Admit:
		got["admit"] = res.Value() == 1
	default:
		scores, ok := abi.AppendScores(nil, i.output(), int(res.Value()))
		if !ok || len(scores) != len(v.Candidates) {
			return nil, faultResult, nil
		}
		order := make([]int, len(scores))
		for k := range order {
			order[k] = k
		}
		slices.SortStableFunc(order, func(a, b int) int { return int(int64(scores[a]) - int64(scores[b])) })
		got["scores"], got["order"] = scores, order
	}
	return got, faultNone, nil
}

// testNow is the time of the vectors' requests, Unix ms.
const testNow = 1_700_000_000_000

func (v *Vector) request() (*Request, error) {
	in := abi.Input{Operation: abi.Read, Method: abi.MethodGet, Tiers: abi.L1 | abi.L2, NowMillis: testNow,
		ContentBytes: abi.UnknownBytes, Status: v.Status}
	if k := slices.Index([]string{"", "read", "write", "delete", "purge"}, v.Operation); k > 0 {
		in.Operation = abi.Operation(k)
	} else if k < 0 {
		return nil, fmt.Errorf("operation %q, must be read, write, delete or purge", v.Operation)
	}
	if v.Method != "" {
		k := slices.Index([]string{"other", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}, v.Method)
		if k < 0 {
			return nil, fmt.Errorf("method %q is none of the ABI's", v.Method)
		}
		in.Method = abi.Method(k)
	}
	if v.Client != "" {
		a, err := netip.ParseAddr(v.Client)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		in.Client = a.As16()
	}
	if v.Lifetime != nil {
		in.Flags, in.Lifetime = in.Flags|abi.FlagLifetimeKnown, *v.Lifetime
	}
	if v.Site != "-" {
		in.Flags |= abi.FlagSite
	}
	if v.TLS || v.ClientCert {
		in.Flags |= abi.FlagTLS
	}
	if v.ClientCert {
		in.Flags |= abi.FlagClientCert
	}
	return &Request{Input: in, Site: v.Site, Key: []byte(v.Key), Headers: v}, nil
}

// AppendHeader implements Headers.
func (v *Vector) AppendHeader(dst [][]byte, name string, response bool) [][]byte {
	list := v.Headers
	if response {
		list = v.ResponseHeaders
	}
	for _, f := range list {
		if strings.EqualFold(f[0], name) {
			dst = append(dst, []byte(f[1]))
		}
	}
	return dst
}

// verdictFields are the fields that a vector may want of a verdict.
func verdictFields(d *Decision) map[string]any {
	tags := []string{}
	for _, t := range d.Tags {
		tags = append(tags, string(t))
	}
	got := map[string]any{
		"verdict": d.Verdict.String(), "status": d.Status, "reason": string(d.Reason), "pool": d.Pool,
		"key_addition": string(d.KeyAddition), "target": string(d.Target), "state": string(d.State), "tags": tags,
		"no_store": d.NoStore, "reuse": d.ReuseSeconds, "lifetime": nil,
		"stale_while_revalidate": nil, "stale_if_error": nil, "read_tiers": nil, "write_tiers": nil,
	}
	if d.Verdict == Answer {
		got["status"] = d.AnswerStatus
	}
	for name, v := range map[string]uint32{"stale_while_revalidate": d.StaleWhileRevalidate, "stale_if_error": d.StaleIfError} {
		if v != abi.AsComputed {
			got[name] = v
		}
	}
	if d.LifetimeSet {
		got["lifetime"] = d.Lifetime
	}
	if d.TiersSet {
		got["read_tiers"], got["write_tiers"] = d.ReadTiers, d.WriteTiers
	}
	return got
}

// compareFields compares what is wanted, as JSON.
func compareFields(got, want map[string]any) error {
	var faults []error
	for _, field := range slices.Sorted(maps.Keys(want)) {
		if _, ok := got[field]; !ok {
			faults = append(faults, fmt.Errorf("want has no field %q here", field))
			continue
		}
		text, err := json.Marshal(got[field])
		var have any
		if err == nil {
			err = json.Unmarshal(text, &have)
		}
		if err != nil || !reflect.DeepEqual(have, want[field]) {
			faults = append(faults, fmt.Errorf("%s is %s, want %v", field, text, want[field]))
		}
	}
	return errors.Join(faults...)
}
