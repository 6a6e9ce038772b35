package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/node/edit"
	"github.com/edgenode/edgenode/tiers/item"
)

// Defaults of pools and sites.
const (
	DefaultConnectTimeout   = 2 * time.Second
	DefaultFirstByteTimeout = 30 * time.Second
	DefaultIdleTimeout      = 55 * time.Second
	DefaultMaxConnections   = 512
	DefaultMaxObjectBytes   = 16 << 20
	DefaultChunkBytes       = 1 << 20
	DefaultFinishFillBytes  = 1 << 20
	DefaultStaleOnError     = time.Hour
	DefaultKeep             = 24 * time.Hour
	DefaultVariantsMax      = 64
	DefaultHeuristicMax     = 24 * time.Hour
	DefaultWaitersMax       = 50_000
)

// DefaultHeuristicFraction is the tenth that RFC 9111 §4.2.2 names.
const DefaultHeuristicFraction = 0.1

// A Pool is a named group of origins that serve the same.
type Pool struct {
	Name             string
	Origins          []string      // base URLs: scheme and authority
	Balance          string        // round-robin (default), least-connections, hash
	Host             string        // client (default), origin, or what is sent as it stands
	ConnectTimeout   time.Duration // for TCP and TLS each; 0 is DefaultConnectTimeout
	FirstByteTimeout time.Duration // to the answer's header; 0 is DefaultFirstByteTimeout
	IdleTimeout      time.Duration // of a kept connection; 0 is DefaultIdleTimeout
	MaxConnections   int           // to each origin; 0 is DefaultMaxConnections

	RetryPercent int // of requests that may be sent once more; 0 is DefaultRetryPercent, negative none
	RetryBurst   int // repeats at once that need not be earned; 0 is DefaultRetryBurst, negative none

	// An origin that failed MaxFailures requests in a row is not asked for Rest,
	// which doubles with each further failure up to RestMax.
	MaxFailures int           // 0 is DefaultMaxFailures
	Rest        time.Duration // 0 is DefaultRest
	RestMax     time.Duration // 0 is DefaultRestMax

	Health Health
	TLS    PoolTLS
}

// How an answer with Set-Cookie is treated.
const (
	CookieStrict = "strict" // stored only when it is explicitly shared
	CookieRFC    = "rfc"    // like any other answer
	CookieNever  = "never"  // never stored
)

// How much Cache-Status tells.
const (
	StatusFull  = "full"
	StatusShort = "short"
	StatusOff   = "off"
)

// A Site is a set of hosts and paths that is answered from a cache in front of
// a pool. Negative durations mean none.
type Site struct {
	Name       string
	Hosts      []string // exact, "*.suffix" or "*"
	PathPrefix string   // on segment borders; "" is "/"
	Pool       string
	Tiers      item.Tiers // 0 is L1 and L2

	SetCookie      string // "" is CookieStrict
	CacheStatus    string // "" is StatusFull
	MaxObjectBytes int64  // of what is stored whole; 0 is DefaultMaxObjectBytes

	// ChunkBytes is above which size an answer with a strong ETag is stored in
	// segments, of this size, whatever its length. 0 is DefaultChunkBytes.
	ChunkBytes int64
	// FinishFillBytes is below how many missing bytes an answer is fetched to its
	// end after its last client left. 0 is DefaultFinishFillBytes; negative is none.
	FinishFillBytes int64

	TargetedFields []string // nil is Edgenode-Cache-Control, CDN-Cache-Control

	// DefaultLifetime gives a lifetime to answers of a status without freshness
	// of their own; nil gives none.
	DefaultLifetime func(status int) (time.Duration, bool)

	// HeuristicFraction is how much of the time between Last-Modified and Date an
	// answer without a lifetime is fresh (RFC 9111 §4.2.2); 0 is
	// DefaultHeuristicFraction, negative none. HeuristicMax bounds it; 0 is
	// DefaultHeuristicMax.
	HeuristicFraction float64
	HeuristicMax      time.Duration

	// RefreshAhead is how long before its end an answer that is asked for much is
	// fetched again, but no longer than the last quarter of its lifetime; 0 not at all.
	RefreshAhead time.Duration
	// StaleWhileRevalidate is the window of answers that do not give one; 0 none.
	StaleWhileRevalidate time.Duration

	StaleOnError time.Duration // 0 is DefaultStaleOnError
	StaleOn5xx   bool
	Keep         time.Duration // 0 is DefaultKeep

	IgnoreQuery             []string // names, or prefixes that end in "*"
	SortQuery               bool
	KeyFields               []string // request fields whose values are part of the key
	KeyCookies              []string // request cookies that are
	Methods                 []string // accepted; nil is all but CONNECT and TRACE
	HonourRequestDirectives []string // no-cache, no-store, max-age, min-fresh, max-stale
	RawAcceptEncoding       bool     // do not reduce it to zstd, br, gzip
	RawAcceptLanguage       bool     // compare it as a list of words, do not select by Content-Language
	VariantsMax             int      // 0 is DefaultVariantsMax
	WaitersMax              int      // 0 is DefaultWaitersMax

	// AllowOverride names what a hook's lifetime may override: must-revalidate,
	// proxy-revalidate, no-cache, s-maxage, no-store.
	AllowOverride []string

	Gate
	Upgrades Upgrades
	// ErrorPages are the content of the node's own answers, by status ("404") or
	// class ("5xx"), for clients that do not prefer problem+json.
	ErrorPages map[string]Page
	// Edits change the fields of requests and answers, after those of a Policy;
	// for one name they win. See package edit for what is refused.
	Edits []edit.Edit
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (p Pool) withDefaults() Pool {
	p.Balance = orDefault(p.Balance, "round-robin")
	p.Host = orDefault(p.Host, "client")
	p.ConnectTimeout = orDefault(p.ConnectTimeout, DefaultConnectTimeout)
	p.FirstByteTimeout = orDefault(p.FirstByteTimeout, DefaultFirstByteTimeout)
	p.IdleTimeout = orDefault(p.IdleTimeout, DefaultIdleTimeout)
	p.MaxConnections = orDefault(p.MaxConnections, DefaultMaxConnections)
	p.RetryPercent = max(orDefault(p.RetryPercent, DefaultRetryPercent), 0)
	p.RetryBurst = max(orDefault(p.RetryBurst, DefaultRetryBurst), 0)
	p.MaxFailures = orDefault(p.MaxFailures, DefaultMaxFailures)
	p.Rest = orDefault(p.Rest, DefaultRest)
	p.RestMax = max(orDefault(p.RestMax, DefaultRestMax), p.Rest)
	p.Health = p.Health.withDefaults()
	return p
}

func (p Pool) validate() error {
	var errs []error
	f := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("proxy: pool %q: %s", p.Name, fmt.Sprintf(format, args...)))
		}
	}
	f(p.Name != "", "it has no name")
	f(len(p.Origins) > 0, "it has no origins, name at least one base URL")
	for _, o := range p.Origins {
		u, err := url.Parse(o)
		f(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil &&
			(u.Path == "" || u.Path == "/") && u.RawQuery == "", "origin %q is not http(s)://host[:port]", o)
	}
	f(slices.Contains([]string{"round-robin", "least-connections", "hash"}, p.Balance), "unknown balance %q", p.Balance)
	f(p.ConnectTimeout > 0 && p.FirstByteTimeout > 0 && p.IdleTimeout > 0, "time-outs must be positive")
	f(p.MaxConnections > 0, "max_connections is %d, must be positive", p.MaxConnections)
	f(p.RetryPercent <= 100, "retry_percent is %d, at most 100", p.RetryPercent)
	f(p.MaxFailures > 0 && p.Rest > 0, "max_failures and rest must be positive")
	p.Health.validate(f)
	return errors.Join(errs...)
}

func (s Site) withDefaults() Site {
	s.PathPrefix = orDefault(s.PathPrefix, "/")
	s.Tiers = orDefault(s.Tiers, item.L1|item.L2)
	s.SetCookie = orDefault(s.SetCookie, CookieStrict)
	s.CacheStatus = orDefault(s.CacheStatus, StatusFull)
	s.MaxObjectBytes = orDefault(s.MaxObjectBytes, DefaultMaxObjectBytes)
	s.ChunkBytes = orDefault(s.ChunkBytes, DefaultChunkBytes)
	s.FinishFillBytes = max(orDefault(s.FinishFillBytes, DefaultFinishFillBytes), 0)
	if s.TargetedFields == nil {
		s.TargetedFields = []string{"Edgenode-Cache-Control", "CDN-Cache-Control"}
	}
	s.StaleOnError = max(orDefault(s.StaleOnError, DefaultStaleOnError), 0)
	s.Keep = max(orDefault(s.Keep, DefaultKeep), 0)
	s.VariantsMax = orDefault(s.VariantsMax, DefaultVariantsMax)
	s.HeuristicFraction = max(orDefault(s.HeuristicFraction, DefaultHeuristicFraction), 0)
	s.HeuristicMax = max(orDefault(s.HeuristicMax, DefaultHeuristicMax), 0)
	s.WaitersMax = orDefault(s.WaitersMax, DefaultWaitersMax)
	s.Upgrades.Max = orDefault(s.Upgrades.Max, DefaultUpgradesMax)
	s.Upgrades.Idle = orDefault(s.Upgrades.Idle, DefaultUpgradesIdle)
	return s
}

func (s Site) validate() error {
	var errs []error
	f := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("proxy: site %q: %s", s.Name, fmt.Sprintf(format, args...)))
		}
	}
	f(s.Name != "" && len(s.Name) <= 63, "its name must have 1 to 63 bytes")
	f(!strings.ContainsAny(s.Name, "\x00/"), "its name must not contain NUL or /")
	f(len(s.Hosts) > 0, "it has no hosts")
	f(strings.HasPrefix(s.PathPrefix, "/"), "path_prefix %q does not begin with /", s.PathPrefix)
	f(slices.Contains([]string{CookieStrict, CookieRFC, CookieNever}, s.SetCookie), "unknown set_cookie %q", s.SetCookie)
	f(slices.Contains([]string{StatusFull, StatusShort, StatusOff}, s.CacheStatus), "unknown cache_status %q", s.CacheStatus)
	f(s.MaxObjectBytes > 0, "max_object_bytes is %d, must be positive", s.MaxObjectBytes)
	f(s.ChunkBytes > 0, "chunk_bytes is %d, must be positive", s.ChunkBytes)
	f(s.VariantsMax > 0 && s.VariantsMax <= maxVariants, "variants_max is %d, allowed are 1 to %d", s.VariantsMax, maxVariants)
	for _, u := range s.Upgrades.Protocols {
		f(u == "websocket", "connections cannot be upgraded to %q, only to websocket", u)
	}
	f(s.Upgrades.Max > 0 && s.Upgrades.Idle > 0, "limits of upgrades must be positive")
	f(s.Rate >= 0 && s.Burst >= 0, "rate and burst must not be negative")
	if _, _, no := edit.Admit(s.Edits, nil); no.Count > 0 {
		f(false, "header field %q cannot be changed, or to this value", no.Name)
	}
	f(s.WaitersMax > 0, "waiters_max is %d, must be positive", s.WaitersMax)
	f(s.HeuristicFraction <= 1, "heuristic_fraction is %v, must be 0 to 1", s.HeuristicFraction)
	f(s.StaleWhileRevalidate >= 0 && s.RefreshAhead >= 0, "stale_while_revalidate and refresh_ahead must not be negative")
	for _, name := range slices.Concat(s.KeyFields, s.KeyCookies, s.Methods) {
		f(name != "" && tokenLen(name) == len(name), "%q is not a token, as the names of fields, cookies and methods are", name)
	}
	for _, name := range s.TargetedFields {
		f(name != "" && tokenLen(name) == len(name), "targeted field %q is not a field name", name)
	}
	for _, d := range s.HonourRequestDirectives {
		f(slices.Contains([]string{"no-cache", "no-store", "max-age", "min-fresh", "max-stale", "only-if-cached"}, d), "request directive %q cannot be honoured", d)
	}
	for _, d := range s.AllowOverride {
		f(slices.Contains([]string{"must-revalidate", "proxy-revalidate", "no-cache", "s-maxage", "no-store"}, d), "nothing may override %q", d)
	}
	return errors.Join(errs...)
}

// site is a Site in use.
type site struct {
	Site
	pool     *pool
	targeted []string // canonical names
	honour   bool     // HonourRequestDirectives is not empty
	gated    bool     // the gate decides anything
	limits   *limits  // of clients; nil without
	upgraded *atomic.Int64
}

// honours reports whether a request directive is obeyed.
func (s *site) honours(name string) bool { return slices.Contains(s.HonourRequestDirectives, name) }

// table is one configuration: sites by host, pools by name. It is immutable.
type table struct {
	hosts map[string][]*site // exact name, ".suffix" for a wildcard, "" for "*"; longest prefix first
	pools map[string]*pool
	names map[string]*site
	stop  context.CancelFunc // of the health checks; set by begin
}

// begin starts the health checks and shows the pools in the metrics. It is
// called once, before or after the table is the one in use.
func (t *table) begin(p *Proxy) {
	var ctx context.Context
	ctx, t.stop = context.WithCancel(p.ctx)
	for _, pl := range t.pools {
		p.m.pool(p, pl.Name)
		pl.watch(ctx)
		if pl.TLS.Insecure {
			p.o.Log.Warn("certificates of origins are not verified: anybody on the way can be the origin", "pool", pl.Name)
		}
	}
}

// end ends what begin started, and closes connections that are not in use.
func (t *table) end() {
	t.stop()
	for _, pl := range t.pools {
		pl.closeIdle(true)
	}
}

func newTable(sites []Site, pools []Pool, p *Proxy) (*table, error) {
	t := &table{hosts: map[string][]*site{}, pools: map[string]*pool{}, names: map[string]*site{}}
	var errs []error
	for _, cfg := range pools {
		cfg = cfg.withDefaults()
		if err := cfg.validate(); err != nil {
			errs = append(errs, err)
			continue
		}
		if t.pools[cfg.Name] != nil {
			errs = append(errs, fmt.Errorf("proxy: two pools are called %q", cfg.Name))
			continue
		}
		var was *pool
		if old := p.table.Load(); old != nil {
			was = old.pools[cfg.Name]
		}
		pl, err := newPool(cfg, p, was)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		t.pools[cfg.Name] = pl
	}
	for _, cfg := range sites {
		errs = append(errs, t.add(cfg.withDefaults(), p.table.Load()))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, list := range t.hosts {
		slices.SortStableFunc(list, func(a, b *site) int { return len(b.PathPrefix) - len(a.PathPrefix) })
	}
	return t, nil
}

// add puts a site in; old is the table so far, or nil.
func (t *table) add(cfg Site, old *table) error {
	if err := cfg.validate(); err != nil {
		return err
	}
	s := &site{Site: cfg, pool: t.pools[cfg.Pool], honour: len(cfg.HonourRequestDirectives) > 0}
	if s.pool == nil {
		return fmt.Errorf("proxy: site %q: there is no pool %q", cfg.Name, cfg.Pool)
	}
	var was *limits
	s.upgraded = new(atomic.Int64)
	if old != nil && old.names[cfg.Name] != nil {
		was, s.upgraded = old.names[cfg.Name].limits, old.names[cfg.Name].upgraded
	}
	s.limits = newLimits(&s.Gate, was)
	s.gated = s.Gate.decides()
	if t.names[cfg.Name] != nil {
		return fmt.Errorf("proxy: two sites are called %q", cfg.Name)
	}
	t.names[cfg.Name] = s
	for _, name := range cfg.TargetedFields {
		s.targeted = append(s.targeted, http.CanonicalHeaderKey(name))
	}
	for _, host := range cfg.Hosts {
		name := strings.ToLower(strings.TrimSuffix(host, "."))
		switch {
		case name == "*":
			name = ""
		case strings.HasPrefix(name, "*."):
			name = name[1:]
		}
		for _, other := range t.hosts[name] {
			if strings.TrimSuffix(other.PathPrefix, "/") == strings.TrimSuffix(s.PathPrefix, "/") {
				return fmt.Errorf("proxy: sites %q and %q both claim %s%s", other.Name, s.Name, host, s.PathPrefix)
			}
		}
		t.hosts[name] = append(t.hosts[name], s)
	}
	return nil
}

// claims reports whether a site has this host, a bare lower-case name, and
// returns its sites: exact, then the longest wildcard, then "*".
func (t *table) claims(name []byte) []*site {
	if list := t.hosts[string(name)]; list != nil && len(name) > 0 && name[0] != '.' {
		return list
	}
	for rest := name; ; {
		dot := bytes.IndexByte(rest, '.')
		if dot < 0 {
			return t.hosts[""]
		}
		if list := t.hosts[string(rest[dot:])]; list != nil && dot > 0 {
			return list
		}
		rest = rest[dot+1:]
	}
}

// find returns the site for a bare lower-case host name and a target, or nil.
func (t *table) find(name, target []byte) *site { return under(t.claims(name), target) }

// under returns the site of a host's for a target, or nil.
func under(claims []*site, target []byte) *site {
	for _, s := range claims {
		if underPrefix(target, s.PathPrefix) {
			return s
		}
	}
	return nil
}

// underPrefix reports whether the path of target lies under prefix on a segment
// border: /a has /a, /a/b and /a?q but not /ab.
func underPrefix(target []byte, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	if len(target) < len(prefix) || string(target[:len(prefix)]) != prefix {
		return false
	}
	return prefix == "" || len(target) == len(prefix) || target[len(prefix)] == '/' || target[len(prefix)] == '?'
}
