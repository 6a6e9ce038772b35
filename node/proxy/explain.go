package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A Question is a request that somebody asks about. It is never sent anywhere.
type Question struct {
	Method string      // "" is GET
	URL    string      // scheme, host, path and query; without a scheme http
	Header [][2]string // name and value, in order
	Client netip.Addr  // the zero Addr is none
}

// An Explanation says what is stored for a URL and what a request for it would do
// now. Nothing was fetched, and nothing stored has changed.
type Explanation struct {
	URL     string   `json:"url"` // by the site's query rules, after rewriting
	Method  string   `json:"method"`
	Site    string   `json:"site"`
	Pool    string   `json:"pool"`
	Key     string   `json:"key"` // quoted
	Tiers   []string `json:"tiers"`
	Time    string   `json:"time"`
	Routed  *Routed  `json:"routed,omitempty"`
	Would   Would    `json:"would"`
	Objects []Stored `json:"objects"`
	Notes   []string `json:"notes,omitempty"`
}

// Routed is what the policy decided about the request.
type Routed struct {
	Verdict     string   `json:"verdict"` // continue, pass, deny, answer
	Pool        string   `json:"pool,omitempty"`
	KeyAddition string   `json:"key_addition,omitempty"` // quoted
	Target      string   `json:"target,omitempty"`
	Tags        []string `json:"tags,omitempty"`
	Edits       []string `json:"edits,omitempty"`
	Steps       []Step   `json:"steps,omitempty"` // of each module, in order
}

// A Step is what one module of the policy said.
type Step struct {
	Module  string `json:"module"`
	Verdict string `json:"verdict"` // continue, pass, deny, answer; fault: it failed; not asked
	Detail  string `json:"detail,omitempty"`
}

// A tracing Policy can say what each of its modules decides.
type tracing interface {
	Trace(in *RouteInput) []Step
}

// Would is what a request would do now.
type Would struct {
	Do     string `json:"do"`               // serve, serve-stale, validate, fetch, pass, answer
	Why    string `json:"why"`              // in one sentence
	Fwd    string `json:"fwd,omitempty"`    // as in Cache-Status
	Object int    `json:"object,omitempty"` // which of the objects, from 1
	Status int    `json:"status,omitempty"` // of an answer of the node's own
	// IfOriginFails says what the client would get then.
	IfOriginFails string `json:"if_origin_fails,omitempty"`
}

// Explain answers q. It fails with ErrBadURL.
func (p *Proxy) Explain(ctx context.Context, q Question) (*Explanation, error) {
	x, err := newProbe(ctx, q)
	if err != nil {
		return nil, err
	}
	st := p.states.Get().(*state)
	defer func() {
		st.end()
		p.states.Put(st)
	}()
	st.asked = x
	st.begin(x)
	e := &Explanation{Method: x.method, URL: x.scheme + "://" + x.host + x.target, Time: stamp(p.o.Now()), Objects: []Stored{}}
	through := p.arrive(st)
	if st.site != nil {
		e.Site, e.Pool, e.Tiers = st.site.Name, st.site.Pool, tierNames(orDefault(st.out.ReadTiers, st.site.Tiers))
		e.Routed = p.routed(st)
	}
	if !through {
		e.Would = Would{Do: "answer", Status: x.status, Why: x.why()}
		if st.site == nil {
			return e, nil
		}
		st.key, _, _ = st.site.appendKey(st.key[:0], st.scheme, st.host, st.target, nil)
	}
	if p.table.Load().pools[st.out.Pool] != nil {
		e.Pool = st.out.Pool
	}
	e.Key = fmt.Sprintf("%q", st.key)
	if u := st.url; len(u) > 0 {
		e.URL = string(u)
	}
	var selected item.Key
	if through {
		e.Would, selected = p.would(ctx, st)
	}
	e.Objects = p.stored(ctx, st, selected)
	for i := range e.Objects {
		if e.Objects[i].Selected {
			e.Would.Object = i + 1
		}
	}
	if len(q.Header) == 0 && p.routes() {
		e.Notes = append(e.Notes, "asked without header fields: a route hook may choose another key, target or pool for a real request; POST one to see")
	}
	return e, nil
}

// routes reports whether the policy may change keys.
func (p *Proxy) routes() bool {
	if p.o.Policy == nil {
		return false
	}
	r, ok := p.o.Policy.(routing)
	return !ok || r.Routes()
}

// routed shows what the policy said.
func (p *Proxy) routed(st *state) *Routed {
	if !p.routes() || st.in.Site == "" {
		return nil
	}
	d := &st.out
	r := &Routed{Verdict: "continue", Pool: d.Pool, Tags: d.Tags, Target: string(d.Target)}
	switch {
	case d.Deny != 0:
		r.Verdict = "deny"
	case d.Answer != nil:
		r.Verdict = "answer"
	case d.Pass:
		r.Verdict = "pass"
	}
	if len(d.Key) > 0 {
		r.KeyAddition = fmt.Sprintf("%q", d.Key)
	}
	for _, e := range d.Edits {
		side, what := "request", "set"
		if e.Response {
			side = "response"
		}
		if e.Remove {
			what = "remove"
		}
		r.Edits = append(r.Edits, fmt.Sprintf("%s %s %s", what, side, e.Name)) // values may be secrets
	}
	if t, ok := p.o.Policy.(tracing); ok {
		r.Steps = t.Trace(&st.in)
	}
	return r
}

// would decides as serve does, and changes nothing.
func (p *Proxy) would(ctx context.Context, st *state) (Would, item.Key) {
	method := st.x.Method()
	switch {
	case method == "PURGE" && len(st.site.PurgeACL) > 0:
		return Would{Do: "answer", Status: http.StatusOK, Why: "the client may purge: what is stored for the URL would be gone"}, nil
	case st.upgradeOf() != "":
		return Would{Do: "pass", Fwd: fwdBypass, Why: "the connection is handed through if the origin agrees to " + st.upgradeOf()}, nil
	case st.lastHop():
		return Would{Do: "answer", Status: http.StatusNoContent, Why: "Max-Forwards is 0"}, nil
	case method != http.MethodGet && method != http.MethodHead:
		return Would{Do: "pass", Fwd: fwdMethod, Why: "the method is never answered from the store; an answer without error makes what is stored unusable unless the method is safe"}, nil
	case st.out.Pass:
		return Would{Do: "pass", Fwd: fwdBypass, Why: "a hook said so"}, nil
	case len(st.key) > maxBaseKey:
		return Would{Do: "pass", Fwd: fwdBypass, Why: fmt.Sprintf("the key has %d bytes, more than %d", len(st.key), maxBaseKey)}, nil
	}
	f := p.seek(ctx, &st.seeker, st, tiers.ReadOptions{Tiers: orDefault(st.out.ReadTiers, st.site.Tiers)})
	if !f.ok {
		w := Would{Do: "fetch", Fwd: f.reason, IfOriginFails: "502 or 504"}
		switch {
		case f.failed:
			w.Why = "a tier could not be asked"
		case f.reason == fwdVary:
			w.Why = "variants are stored, but none for these request fields"
		default:
			w.Why = "nothing is stored for this URL"
		}
		return w, nil
	}
	defer f.hit.Release()
	w := p.wouldUse(st, &f)
	return w, bytes.Clone(f.hit.View.Key())
}

// wouldUse decides about an answer that is stored.
func (p *Proxy) wouldUse(st *state, f *found) Would {
	now, fr := p.o.Now(), f.meta.freshness()
	use := fr.usable(now, f.hit.Stale)
	left := fr.lifetime - fr.age(now)
	if st.site.honour && (st.cacheControl || st.pragma) && !p.agreeable(st, &fr, now, &use) {
		return Would{Do: "fetch", Fwd: fwdRequest, Why: "the request's own directives, which the site honours, refuse what is stored"}
	}
	switch use {
	case useFresh:
		return Would{Do: "serve", Why: fmt.Sprintf("it is fresh for %s more", seconds(left))}
	case useWhileStale:
		return Would{Do: "serve-stale", Why: fmt.Sprintf("it is stale since %s, within stale-while-revalidate; one request renews it behind", seconds(-left))}
	}
	w := Would{Do: "fetch", Fwd: fwdStale, IfOriginFails: "502 or 504"}
	if f.meta.hasValidator() {
		w.Do = "validate"
	}
	switch {
	case fr.flags&metaNoCache != 0:
		w.Why = "no-cache: it is validated before every use"
	case f.hit.Stale && left > 0:
		w.Why = "it was purged softly"
	default:
		w.Why = fmt.Sprintf("it is stale since %s", seconds(-left))
	}
	if st.site.standsIn(&fr, now, 0) {
		w.IfOriginFails = "the stored answer stands in"
	}
	return w
}

func seconds(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).Round(time.Second).String()
}

func stamp(ms int64) string {
	if ms == noTime {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}

func tierNames(t item.Tiers) (names []string) {
	for _, x := range []struct {
		tier item.Tiers
		name string
	}{{item.L1, "l1"}, {item.L2, "l2"}, {item.L3, "l3"}} {
		if t&x.tier != 0 {
			names = append(names, x.name)
		}
	}
	return names
}

// errQuestion wraps what is wrong with a question.
var errQuestion = errors.New("proxy: the question cannot be asked")

// splitURL reads scheme, host and target of a question as they stand: nothing is
// decoded or normalised.
func splitURL(raw string) (scheme, host, target string, err error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		scheme, rest = "http", raw
	}
	scheme = strings.ToLower(scheme)
	n := strings.IndexAny(rest, "/?#")
	if n < 0 {
		n = len(rest)
	}
	host, target = rest[:n], rest[n:]
	target, _, _ = strings.Cut(target, "#")
	if target == "" || target[0] == '?' {
		target = "/" + target
	}
	if _, perr := url.Parse("http://" + host); perr != nil || host == "" || scheme != "http" && scheme != "https" || !validTarget(target) {
		return "", "", "", fmt.Errorf("%w: %q; write scheme, host and path, as in https://shop.example/a?b", ErrBadURL, raw)
	}
	return scheme, host, target, nil
}

// stored lists what is stored under the base key and its variants.
func (p *Proxy) stored(ctx context.Context, st *state, selected item.Key) []Stored {
	list := []Stored{}
	base := bytes.Clone(st.key)
	add := func(key item.Key) {
		hit, ok, err := p.o.Engine.Get(ctx, key, tiers.ReadOptions{Tiers: st.site.Tiers})
		if err != nil {
			list = append(list, Stored{Key: fmt.Sprintf("%q", key), Error: err.Error()})
			return
		}
		if !ok {
			return
		}
		defer hit.Release()
		if m, ok := p.metaOf(hit.View.Response()); ok {
			s := p.describe(st.site, &hit, m)
			s.Selected = bytes.Equal(key, selected)
			list = append(list, s)
		}
	}
	hit, ok, err := p.o.Engine.Get(ctx, base, tiers.ReadOptions{Tiers: st.site.Tiers})
	if err != nil || !ok {
		if err != nil {
			list = append(list, Stored{Key: fmt.Sprintf("%q", base), Error: err.Error()})
		}
		return list
	}
	view, indexed := parseIndex(hit.View.Response())
	var x *index
	if indexed {
		x = view.decode()
	}
	hit.Release()
	if !indexed {
		add(base)
		return list
	}
	for _, entry := range x.entries {
		add(variantKey(nil, base, entry.hash[:]))
	}
	return list
}
