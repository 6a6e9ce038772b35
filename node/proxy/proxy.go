package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers"
)

// Defaults of Options.
const (
	DefaultName         = "edgenode"
	DefaultStallTimeout = time.Minute
	DefaultMaxLifetime  = 30 * 24 * time.Hour
	DefaultMaxFillBytes = 256 << 20
)

// Options say what a Proxy works with.
type Options struct {
	Engine Engine
	Sites  []Site
	Pools  []Pool
	Policy Policy // nil decides nothing

	// Now returns Unix milliseconds; nil is the system's clock. It must be the
	// engine's clock.
	Now func() int64
	// Name stands for this node in Via and Cache-Status; a token. "" is
	// DefaultName.
	Name string
	// StallTimeout ends an answer whose origin sends nothing for so long. 0 is
	// DefaultStallTimeout.
	StallTimeout time.Duration
	// MaxLifetime bounds how long anything is stored. 0 is DefaultMaxLifetime.
	MaxLifetime time.Duration
	// MaxFillBytes bounds the memory of all answers that are being fetched;
	// beyond it they are streamed, not stored. 0 is DefaultMaxFillBytes.
	MaxFillBytes int64
	// TLS is the configuration for https origins; nil verifies against the
	// system's authorities.
	TLS *tls.Config

	// ShareAfter is how many more answers of a site than others must have had lines
	// that came before until they are stored once for all, see blocks. 0 is
	// DefaultShareAfter; below 0 all are at once.
	ShareAfter int
	// Blocks are the shared lines of an earlier process, as AppendBlocks gave them;
	// nil for none.
	Blocks []byte

	Log     *slog.Logger // nil discards
	Metrics *metrics.Set // nil is not read by anybody

	ticks func(d time.Duration) (<-chan time.Time, func()) // for tests; nil is ticker
}

func (o *Options) setDefaults() {
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Name = orDefault(o.Name, DefaultName)
	o.ShareAfter = orDefault(o.ShareAfter, DefaultShareAfter)
	o.StallTimeout = orDefault(o.StallTimeout, DefaultStallTimeout)
	o.MaxLifetime = orDefault(o.MaxLifetime, DefaultMaxLifetime)
	o.MaxFillBytes = orDefault(o.MaxFillBytes, DefaultMaxFillBytes)
}

func (o *Options) validate() error {
	var errs []error
	if o.Engine == nil {
		errs = append(errs, errors.New("proxy: Options.Engine is nil"))
	}
	if tokenLen(o.Name) != len(o.Name) || isDigit(o.Name[0]) {
		errs = append(errs, fmt.Errorf("proxy: name %q is not a token that begins with a letter", o.Name))
	}
	if o.StallTimeout < 0 || o.MaxLifetime < 0 || o.MaxFillBytes < 0 {
		errs = append(errs, errors.New("proxy: limits must not be negative"))
	}
	return errors.Join(errs...)
}

// copyBytes is how much of a body of unknown length, or of one that is only passed
// on, is read at once.
const copyBytes = 32 << 10

// Proxy answers requests for sites. It is safe for concurrent use.
type Proxy struct {
	o      Options
	m      *proxyMetrics
	table  atomic.Pointer[table]
	states sync.Pool // *state
	// buffers are *[]byte of copyBytes, for what comes from origins.
	buffers sync.Pool

	// ticks is the clock of health checks.
	ticks func(d time.Duration) (tick <-chan time.Time, stop func())

	drained  context.Context // ends with Drain
	drain    context.CancelCauseFunc
	upgrades atomic.Int64 // open now

	ctx    context.Context // of fetches that no client owns
	stop   context.CancelCauseFunc
	tasks  sync.WaitGroup // fills, health checks
	lonely lonely
	recent recent
	ahead  ahead
	blocks *blocks
	seed   maphash.Seed

	told                      atomic.Int64 // Unix ms of the last warning of refused edits
	fills, fillBytes, waiters atomic.Int64

	indexLocks [64]sync.Mutex // by base key; held while an index is changed
	partLocks  [64]sync.Mutex // by base key; held while a part joins what is stored

	// refillMu guards refills. It is a leaf lock.
	refillMu       sync.Mutex
	refills        map[string]*claim // by key of the segment; none is over
	refillPatience time.Duration     // see claim

	// mu guards the fields below. No other lock is taken while it is held but a
	// flight's, and nothing is called that waits.
	mu      sync.Mutex
	closed  bool
	flights map[string]*flight // by class; those that may be joined
	filling map[string]int     // by base key: fetches that may store an answer
}

// New returns a Proxy. It starts nothing; each fetch has a goroutine, which
// Close ends and waits for.
func New(o Options) (*Proxy, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	p := &Proxy{o: o, flights: map[string]*flight{}, filling: map[string]int{}, refills: map[string]*claim{}, refillPatience: defaultRefillPatience, seed: maphash.MakeSeed(), ticks: orTicker(o.ticks)}
	p.blocks = newBlocks(o.ShareAfter)
	if err := p.blocks.restore(o.Blocks); err != nil {
		o.Log.Warn("shared header lines of the process before not used: stored answers with them are fetched again", "error", err)
	}
	p.states.New = func() any { return newState() }
	p.buffers.New = func() any { b := make([]byte, copyBytes); return &b }
	p.ctx, p.stop = context.WithCancelCause(context.Background())
	p.drained, p.drain = context.WithCancelCause(p.ctx)
	t, err := newTable(o.Sites, o.Pools, p)
	if err != nil {
		return nil, err
	}
	p.table.Store(t)
	p.m = newMetrics(o.Metrics, p)
	t.begin(p)
	return p, nil
}

// Configure replaces sites and pools. Requests under way go on with the old
// ones. On an error nothing has changed.
func (p *Proxy) Configure(sites []Site, pools []Pool) error {
	t, err := newTable(sites, pools, p)
	if err != nil {
		return err
	}
	t.begin(p)
	old := p.table.Swap(t)
	old.end()
	p.m.forget(old, t)
	p.blocks.forget(t.names)
	return nil
}

// Drain ends upgraded connections, and those being made, in good order: it comes
// before the listener waits for requests under way.
func (p *Proxy) Drain() { p.drain(errClosed) }

// whenDrained calls f in a goroutine of its own once Drain was called; the
// returned function ends that.
func (p *Proxy) whenDrained(f func()) (forget func() bool) { return context.AfterFunc(p.drained, f) }

// Close ends all fetches and waits for their goroutines. Serve must not be
// running any more, or ends with an error answer. It may be called more than
// once.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop(errClosed)
	p.tasks.Wait()
	p.table.Load().end()
}

// Serve answers one request. It returns when the answer is written.
func (p *Proxy) Serve(x Exchange) { p.ServeTold(x, nil) }

// ServeTold is Serve. It says in out, unless that is nil, how the answer came
// about.
func (p *Proxy) ServeTold(x Exchange, out *Outcome) {
	st := p.states.Get().(*state)
	st.told = out
	st.begin(x)
	p.serve(st)
	if out != nil && st.site != nil {
		out.Site = st.site.Name
	}
	st.end()
	p.states.Put(st)
}

func (p *Proxy) serve(st *state) {
	if !p.arrive(st) {
		return
	}
	if protocol := st.upgradeOf(); protocol != "" {
		p.upgrade(st, protocol)
		return
	}
	switch method := st.x.Method(); {
	case st.lastHop():
		st.x.Status(http.StatusNoContent)
		st.x.Add("Allow", st.site.allowed())
		p.sendOwn(st, how{neither: true, detail: "max-forwards"}, nil)
	case method != http.MethodGet && method != http.MethodHead:
		p.pass(st, fwdMethod)
	case st.bypasses():
		p.pass(st, fwdBypass)
	default:
		p.serveCached(st)
	}
}

// bypasses reports whether a GET or HEAD goes past the cache.
func (st *state) bypasses() bool {
	return st.out.Pass || len(st.key) > maxBaseKey || st.x.ContentLength() != 0
}

// arrive finds the site of a request, lets it through the gate, asks the policy
// and makes the key. It reports false if the request has had its answer.
func (p *Proxy) arrive(st *state) bool {
	x := st.x
	st.target = x.Target()
	st.host, st.name = splitHost(st.host[:0], x.Host(), st.scheme)
	t := p.table.Load()
	claims := t.claims(st.name)
	if st.site = under(claims, st.target); st.site == nil {
		p.refuse(st, failMisdirected, how{neither: true})
		return false
	}
	method := x.Method()
	switch {
	case method == http.MethodConnect:
		p.refuse(st, failConnect, how{neither: true})
		return false
	case method == http.MethodTrace, len(st.site.Methods) > 0 && !slices.Contains(st.site.Methods, method):
		p.refuse(st, failMethod, how{neither: true})
		return false
	case !validTarget(text(st.target)), !validHost(st.host):
		p.refuse(st, failTarget, how{neither: true})
		return false
	case misspelt(claims, st.site, st.target):
		p.refuse(st, failSpelling, how{neither: true})
		return false
	}
	if !p.enter(st) {
		return false
	}
	if p.o.Policy == nil {
		p.editOwn(st)
	} else if !p.route(st) {
		return false
	}
	st.addParts()
	var at, end int
	st.key, at, end = st.site.appendKey(st.key[:0], st.scheme, st.host, st.target, st.out.Key)
	st.url = st.key[at:end]
	return true
}

// route asks the policy. It reports false if the request has had its answer.
func (p *Proxy) route(st *state) bool {
	in, out := &st.in, &st.out
	in.Now = p.timeOf(st)
	in.Site, in.Request, in.Tiers = st.site.Name, st.x, st.site.Tiers
	in.Scheme, in.Host, in.Target = st.scheme, st.host, st.target
	p.o.Policy.Route(in, out)
	if len(out.Edits)+len(st.site.Edits) > 0 {
		p.edit(st)
	}
	if out.Deny != 0 {
		no := failDenied
		if out.Deny >= 400 && out.Deny < 600 {
			no.status = out.Deny
		}
		no.text = orDefault(out.Reason, no.text)
		p.refuse(st, no, how{neither: true, detail: "denied"})
		return false
	}
	if out.Answer != nil {
		p.reply(st, out.Answer)
		return false
	}
	if len(out.Key) > maxKeyAddition {
		out.Key, out.Pass = nil, true // two keys might become one
	}
	if len(out.Target) > 0 {
		if !validTarget(text(out.Target)) {
			out.Target, out.Pass = nil, true
		} else {
			st.target = out.Target
		}
	}
	return true
}

// reply answers with what the policy gave.
func (p *Proxy) reply(st *state, a *Ready) {
	x := st.x
	x.Status(a.Status)
	st.addOwn(a.Block)
	p.sendOwn(st, how{neither: true, detail: "policy"}, a.Body)
}

// serveCached answers GET and HEAD: from the store if it may, else by a fetch.
func (p *Proxy) serveCached(st *state) {
	for try := 0; ; try++ {
		if try == 0 && st.site.honour && st.cacheControl && st.site.honours("no-store") {
			st.storeNot = requestDirectives(st).flags&ccNoStore != 0
		}
		o := tiers.ReadOptions{Tiers: orDefault(st.out.ReadTiers, st.site.Tiers)}
		if try == 0 {
			o.Now = p.timeOf(st)
		}
		f := p.seek(st.x.Context(), &st.seeker, st, o)
		if f.failed {
			p.m.storeErrors.Inc()
		}
		if f.ok {
			if p.sendFound(st, &f, p.foundAt(st, &f, try)) {
				return
			}
			f.hit.Release()
		}
		if p.fill(st, &f, try) {
			return
		}
	}
}

// timeOf returns when the request came, Unix ms: when it is asked for first. Most
// hits look at the clock once.
func (p *Proxy) timeOf(st *state) int64 {
	if st.in.Now == 0 {
		st.in.Now = p.o.Now()
	}
	return st.in.Now
}

// nowOr returns at, or what the clock says if that is 0.
func (p *Proxy) nowOr(at int64) int64 {
	if at == 0 {
		return p.o.Now()
	}
	return at
}

// foundAt returns the time for a look at what was found, Unix ms. In memory at the
// first try it is found at once, and when the request came is near enough.
func (p *Proxy) foundAt(st *state, f *found, try int) int64 {
	if try == 0 && f.hit.Source == tiers.FromL1 {
		return p.timeOf(st)
	}
	return p.o.Now()
}

// sendFound answers with what is stored if it may be used now, and releases it.
// It reports false if the origin must be asked.
func (p *Proxy) sendFound(st *state, f *found, now int64) bool {
	if f.meta.flags()&metaParted != 0 && !p.enough(st, f) {
		return false
	}
	fr := f.meta.freshness()
	use := fr.usable(now, f.hit.Stale)
	if st.site.honour && (st.cacheControl || st.pragma) && !p.agreeable(st, &fr, now, &use) {
		st.refetch = true
		return false
	}
	switch use {
	case useNot:
		return false
	case useWhileStale:
		p.refreshBehind(st)
		p.m.stale.Inc()
	default:
		if st.site.RefreshAhead > 0 {
			p.refreshAhead(st, f, &fr, now)
		}
		p.m.hits.Inc()
	}
	defer p.letGo(f)
	if !p.hold(st.x.Context(), f) {
		p.refuse(st, failMemory, how{neither: true, detail: "memory"})
		return true
	}
	r := reply{meta: f.meta, content: f.hit.View.Content(), how: how{hasTTL: true, ttl: fr.lifetime - fr.age(now), source: f.hit.Source}, stored: f.hit.View, now: now}
	p.send(st, &r)
	return true
}

// agreeable applies the request directives that the site honours (RFC 9111
// §5.2.1). It reports false if the stored answer is not to be used, and may
// make a stale one usable.
func (p *Proxy) agreeable(st *state, fr *freshness, now int64, use *usability) bool {
	cc := requestDirectives(st)
	honours := st.site.honours
	age, left := fr.age(now), fr.lifetime-fr.age(now)
	switch {
	case honours("no-cache") && (cc.flags&ccNoCache != 0 || st.pragma && !st.cacheControl), // §5.4
		honours("max-age") && cc.maxAge != absent && (age > cc.maxAge*1000 || *use == useWhileStale),
		honours("min-fresh") && cc.minFresh != absent && left < cc.minFresh*1000:
		return false
	}
	if *use == useNot && honours("max-stale") && fr.flags&(metaNoCache|metaNeverStale) == 0 &&
		(cc.flags&ccMaxStaleAny != 0 || cc.maxStale != absent && -left <= cc.maxStale*1000) {
		*use = useFresh
	}
	return true
}

func requestDirectives(st *state) directives {
	var lines []string
	st.x.Fields(func(name, value []byte) bool {
		if equalFold(name, "cache-control") {
			lines = append(lines, string(value))
		}
		return true
	})
	return parseCacheControl(lines)
}
