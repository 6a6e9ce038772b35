package hooktool

import (
	"context"
	"encoding/base64"
	"errors"
	"net/netip"
	"strconv"
	"strings"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
)

// A Decision is what a hook decided for one recorded request. Members that were
// not decided are left out.
type Decision struct {
	Line        int      `json:"line"`
	Hook        string   `json:"hook"`
	Method      string   `json:"method"`
	Key         string   `json:"key"`
	Verdict     string   `json:"verdict"` // continue, pass, deny, answer, or none if it was not asked
	Faulted     bool     `json:"faulted,omitempty"`
	Status      int      `json:"status,omitempty"`
	Reason      string   `json:"reason,omitempty"`
	Pool        string   `json:"pool,omitempty"`
	KeyAddition string   `json:"key_addition,omitempty"`
	Target      string   `json:"target,omitempty"`
	State       string   `json:"state,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	ReadTiers   *uint8   `json:"read_tiers,omitempty"`
	WriteTiers  *uint8   `json:"write_tiers,omitempty"`
	NoStore     bool     `json:"no_store,omitempty"`
	Lifetime    *uint32  `json:"lifetime,omitempty"` // seconds
	Reuse       uint32   `json:"reuse,omitempty"`    // seconds
	Edits       int      `json:"edits,omitempty"`
	Body        string   `json:"body,omitempty"` // base64
}

// A Tally counts decisions of one hook.
type Tally struct {
	Hook      string         `json:"hook"`
	Asked     int            `json:"asked"`
	Faulted   int            `json:"faulted"`
	Verdicts  map[string]int `json:"verdicts"`
	Pools     map[string]int `json:"pools,omitempty"`
	Tags      map[string]int `json:"tags,omitempty"`
	Statuses  map[string]int `json:"statuses,omitempty"`  // of deny and answer
	Lifetimes map[string]int `json:"lifetimes,omitempty"` // seconds, "as computed", "not stored"
	Keys      int            `json:"key_additions"`       // requests with an addition to the key
	Targets   int            `json:"targets"`             // requests with another path and query
	Edits     int            `json:"edits"`               // requests with changed header fields
	Reusable  int            `json:"reusable"`
}

// mostNames bounds what a Tally tells apart; what comes later is "other".
const mostNames = 100

func count(m *map[string]int, name string) {
	if *m == nil {
		*m = map[string]int{}
	}
	if _, ok := (*m)[name]; !ok && len(*m) >= mostNames {
		name = "other"
	}
	(*m)[name]++
}

// Decide asks the route and ttl hooks of the module about each request of a log,
// in order, and counts what they decide. Each, unless nil, is called with every
// decision. A ttl hook is asked about answers to GET that could be stored.
func Decide(ctx context.Context, m *Module, rec *Recording, each func(Decision) error) (tallies []Tally, err error) {
	names, err := m.hookNames(ctx, "route", "ttl")
	if err != nil || len(names) == 0 || rec.Requests == nil {
		return nil, err
	}
	h, err := m.open(ctx, nil, nil, names...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	for _, name := range names {
		tallies = append(tallies, Tally{Hook: name, Verdicts: map[string]int{}})
	}
	var d hooks.Decision
	for i := range rec.Requests {
		if i&1023 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r := &rec.Requests[i]
		for k := range tallies {
			if tallies[k].Hook == "ttl" && !r.storable() {
				continue
			}
			one := r.ask(h, &d, tallies[k].Hook)
			tallies[k].add(&one)
			if each != nil {
				if err := each(one); err != nil {
					return nil, err
				}
			}
		}
	}
	return tallies, nil
}

func (r *Recorded) storable() bool { return r.Method == "GET" && r.Status >= 200 && r.Status != 304 }

// ask asks one hook about the request.
func (r *Recorded) ask(h *hooks.Host, d *hooks.Decision, hook string) Decision {
	req := r.request(hook == "ttl")
	d.Reset()
	asked := false
	if hook == "route" {
		asked = h.Route(req, d)
	} else {
		asked = h.TTL(req, d)
	}
	out := Decision{Line: r.Line, Hook: hook, Method: r.Method, Key: r.Key, Verdict: "none"}
	if asked {
		out.take(d)
	}
	return out
}

func (r *Recorded) request(answer bool) *hooks.Request {
	req := &hooks.Request{Site: r.Site, Key: []byte(r.Key), Headers: r.Headers}
	req.Input = abi.Input{
		Operation: operationOf(r.Method, r.Site), Method: methodOf(r.Method), Tiers: abi.L1 | abi.L2,
		NowMillis: uint64(max(r.Millis, 0)), ContentBytes: abi.UnknownBytes, Client: clientOf(r.Client),
	}
	if r.Site != "" {
		req.Flags |= abi.FlagSite
	}
	if strings.HasPrefix(r.Key, "https://") {
		req.Flags |= abi.FlagTLS
	}
	if answer {
		req.Status, req.ContentBytes = uint16(min(max(r.Status, 0), 999)), uint64(max(r.Bytes, 0))
		if r.TTL != nil {
			req.Flags |= abi.FlagLifetimeKnown
			req.Lifetime = uint32(min(max(*r.TTL, 0), 1<<32-2))
		}
	}
	return req
}

func clientOf(a netip.Addr) [16]byte {
	if !a.IsValid() {
		return [16]byte{}
	}
	return a.As16()
}

func operationOf(method, site string) abi.Operation {
	switch {
	case method == "PURGE":
		return abi.Purge
	case site != "":
		return abi.Read
	case method == "PUT" || method == "POST" || method == "PATCH":
		return abi.Write
	case method == "DELETE":
		return abi.Delete
	}
	return abi.Read
}

func methodOf(name string) abi.Method {
	methods := map[string]abi.Method{
		"GET": abi.MethodGet, "HEAD": abi.MethodHead, "POST": abi.MethodPost, "PUT": abi.MethodPut,
		"DELETE": abi.MethodDelete, "PATCH": abi.MethodPatch, "OPTIONS": abi.MethodOptions,
	}
	return methods[name] // 0 is any other
}

// take copies what was decided.
func (out *Decision) take(d *hooks.Decision) {
	out.Verdict = [...]string{"continue", "pass", "deny", "answer"}[d.Verdict]
	out.Faulted, out.Status, out.Reason = d.Faulted, d.Status, string(d.Reason)
	out.Pool, out.KeyAddition, out.Target, out.State = d.Pool, string(d.KeyAddition), string(d.Target), string(d.State)
	for _, t := range d.Tags {
		out.Tags = append(out.Tags, string(t))
	}
	if d.TiersSet {
		read, write := uint8(d.ReadTiers), uint8(d.WriteTiers)
		out.ReadTiers, out.WriteTiers = &read, &write
	}
	out.NoStore, out.Reuse, out.Edits = d.NoStore, d.ReuseSeconds, len(d.Edits)
	if d.LifetimeSet {
		seconds := d.Lifetime
		out.Lifetime = &seconds
	}
	if d.Verdict == hooks.Answer {
		out.Status, out.Body = d.AnswerStatus, base64.StdEncoding.EncodeToString(d.AnswerBody)
	}
}

func (t *Tally) add(d *Decision) {
	if d.Verdict == "none" {
		return
	}
	t.Asked++
	t.Verdicts[d.Verdict]++
	add := func(n *int, yes bool) {
		if yes {
			*n++
		}
	}
	add(&t.Faulted, d.Faulted)
	add(&t.Keys, d.KeyAddition != "")
	add(&t.Targets, d.Target != "")
	add(&t.Edits, d.Edits > 0)
	add(&t.Reusable, d.Reuse > 0)
	if d.Pool != "" {
		count(&t.Pools, d.Pool)
	}
	for _, tag := range d.Tags {
		count(&t.Tags, tag)
	}
	if d.Status != 0 {
		count(&t.Statuses, strconv.Itoa(d.Status))
	}
	if t.Hook == "ttl" {
		count(&t.Lifetimes, d.lifetime())
	}
}

func (d *Decision) lifetime() string {
	switch {
	case d.NoStore:
		return "not stored"
	case d.Lifetime == nil:
		return "as computed"
	}
	return strconv.FormatUint(uint64(*d.Lifetime), 10)
}
