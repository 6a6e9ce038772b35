package proxy

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// A verdict is what the cache may do with an answer. reason says why it is not
// stored, in a word for Cache-Status.
type verdict struct {
	freshness
	store, share bool
	reason       string
	refused      bool // a hook asked for more than it may
	explicit     bool // the origin gave the lifetime
	vary         string
	tags         []string // surrogate and policy tags
	withhold     []string // canonical names of fields that are not stored
	l1TTL, l2TTL time.Duration
}

// An answer is what judge looks at.
type answer struct {
	method        string // of the request
	authorization bool   // the request carried Authorization
	ranged        bool   // the request carried ranges or conditions
	status        int
	header        http.Header
	sent          int64 // Unix ms, when the request left
	received      int64 // Unix ms, when the header arrived
}

// judge decides after RFC 9111 §3 and §4.2 and the site's rules whether an
// answer may be stored and shared, and for how long it is fresh.
func (s *site) judge(a *answer) verdict {
	cc, targeted := s.control(a.header)
	v := verdict{store: true, share: true}
	v.computeAge(a)
	v.computeLifetime(s, a, &cc, targeted)
	v.vary, _ = varySpec(a.header["Vary"])
	v.withhold = append(append(v.withhold, cc.noCacheFields...), cc.privateFields...)
	v.flags |= restrictions(&cc)
	if cc.ifError != absent {
		v.flags |= metaIfError
		v.ifError = cc.ifError * 1000
	}
	v.whileRevalidate = cc.whileRevalidate * 1000
	if cc.whileRevalidate == absent {
		v.whileRevalidate = s.StaleWhileRevalidate.Milliseconds()
	}
	if v.flags&(metaNoCache|metaNeverStale) != 0 {
		v.whileRevalidate = 0
	}
	if s.neverShared(a, &cc, targeted, &v) || !s.storable(a, &cc, &v) {
		v.store, v.share = false, false
	}
	return v
}

// control returns the directives that hold for us: those of the first targeted
// field that is valid (RFC 9213 §2.2), else Cache-Control. private, no-store and
// malformed lists in Cache-Control do not hold if a targeted field does.
func (s *site) control(h http.Header) (d directives, targeted bool) {
	for _, name := range s.targeted {
		if lines := h[name]; len(lines) > 0 {
			if d, ok := parseTargeted(lines); ok {
				return d, true
			}
		}
	}
	return parseCacheControl(h["Cache-Control"]), false
}

func restrictions(cc *directives) (f metaFlags) {
	if cc.flags&ccNoCache != 0 {
		f |= metaNoCache
	}
	if cc.flags&(ccMustRevalidate|ccProxyRevalidate) != 0 || cc.sMaxage != absent {
		f |= metaNeverStale
	}
	return f
}

// neverShared applies what nothing may override: private, Authorization,
// cookies, Vary: *.
func (s *site) neverShared(a *answer, cc *directives, targeted bool, v *verdict) bool {
	_, star := varySpec(a.header["Vary"])
	explicitlyShared := cc.flags&ccPublic != 0 || cc.sMaxage != absent || targeted
	authorized := cc.flags&(ccPublic|ccMustRevalidate) != 0 || cc.sMaxage != absent
	switch {
	case cc.flags&ccPrivate != 0:
		v.reason = "private"
	case cc.malformed:
		v.reason = "malformed"
	case a.authorization && !authorized:
		v.reason = "authorization"
	case star:
		v.reason = "vary-star"
	case len(a.header["Set-Cookie"]) > 0 && (s.SetCookie == CookieNever || s.SetCookie == CookieStrict && !explicitlyShared) &&
		!slices.Contains(v.withhold, "Set-Cookie"):
		v.reason = "set-cookie"
	}
	return v.reason != ""
}

// storable applies RFC 9111 §3.
func (s *site) storable(a *answer, cc *directives, v *verdict) bool {
	noStore := cc.flags&ccNoStore != 0
	if cc.flags&ccMustUnderstand != 0 {
		if !understood(a.status) {
			v.reason = "must-understand"
			return false
		}
		noStore = false // §5.2.2.3
	}
	validator := v.lastModified != noTime || len(a.header["Etag"]) > 0
	reusable := v.explicit || v.lifetime > 0 || validator && (heuristicStatus(a.status) || cc.flags&ccPublic != 0)
	switch {
	case a.status < 200 || a.status == http.StatusPartialContent || a.status == http.StatusNotModified,
		a.ranged && a.status != http.StatusOK:
		v.reason = "status"
	case a.method == http.MethodPost && (!v.explicit || v.lifetime <= 0):
		v.reason = "method"
	case noStore:
		v.reason = "no-store"
	case !reusable:
		v.reason = "no-freshness"
	case v.flags&metaNoCache != 0 && !validator:
		v.reason = "no-cache"
	}
	return v.reason == ""
}

// heuristicStatus reports statuses that are cacheable by definition (RFC 9110
// §15.1), without 206.
func heuristicStatus(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// understood reports statuses whose caching rules this cache follows.
func understood(status int) bool {
	return status != http.StatusPartialContent && status != http.StatusNotModified && http.StatusText(status) != ""
}

// computeAge sets received, initialAge and date (RFC 9111 §4.2.3).
func (f *freshness) computeAge(a *answer) {
	f.received = a.received
	f.date = a.received
	if d, ok := singleDate(a.header["Date"], a.received); ok {
		f.date = d
	}
	apparent := max(a.received-a.received%1000-f.date, 0) // Date has no fractions
	corrected := ageValue(a.header["Age"]) + max(a.received-a.sent, 0)
	f.initialAge = max(apparent, corrected)
	f.lastModified = noTime
	if d, ok := singleDate(a.header["Last-Modified"], a.received); ok {
		f.lastModified = d
	}
}

// ageValue returns the first member of Age in ms, 0 if it cannot be read.
func ageValue(lines []string) int64 {
	if len(lines) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(lines[0], ",")
	n, ok := deltaSeconds(strings.Trim(first, " \t"))
	if !ok {
		return 0
	}
	return n * 1000
}

func singleDate(lines []string, now int64) (int64, bool) {
	if len(lines) != 1 {
		return 0, false
	}
	return parseDate(lines[0], now)
}

// computeLifetime sets lifetime, by falling authority: s-maxage, max-age,
// Expires less Date, the operator's default, the heuristic of RFC 9111 §4.2.2.
func (v *verdict) computeLifetime(s *site, a *answer, cc *directives, targeted bool) {
	v.explicit = true
	switch {
	case cc.sMaxage != absent:
		v.lifetime = cc.sMaxage * 1000
		return
	case cc.maxAge != absent:
		v.lifetime = cc.maxAge * 1000
		return
	case len(a.header["Expires"]) > 0 && !targeted:
		if at, ok := singleDate(a.header["Expires"], a.received); ok {
			v.lifetime = max(at-v.date, 0)
		}
		return
	}
	v.explicit = false
	v.flags |= metaHeuristic
	if s.DefaultLifetime != nil {
		if d, ok := s.DefaultLifetime(a.status); ok {
			v.lifetime = max(d.Milliseconds(), 0)
			return
		}
	}
	if v.lastModified != noTime && v.date > v.lastModified && (heuristicStatus(a.status) || cc.flags&ccPublic != 0) {
		since := v.date - v.lastModified
		v.lifetime = min(int64(s.HeuristicFraction*float64(since)), s.HeuristicMax.Milliseconds())
	}
}

// apply lets a policy's decision work on the verdict, as far as the order of
// authority allows. cc are the directives that the verdict rests on.
func (v *verdict) apply(s *site, d *TTLDecision, cc *directives) {
	v.tags = append(v.tags, d.Tags...)
	if d.NoStore {
		v.store, v.share, v.reason = false, false, "policy"
		return
	}
	if d.HasLifetime {
		v.setLifetime(s, max(d.Lifetime.Milliseconds(), 0), cc)
	}
	if d.HasStale && v.share {
		v.setWindows(s, d, cc)
	}
	v.l1TTL, v.l2TTL = max(d.L1TTL, 0), max(d.L2TTL, 0)
}

func (v *verdict) setLifetime(s *site, lifetime int64, cc *directives) {
	longer := lifetime > v.lifetime || !v.store
	if longer && (!s.mayLengthen(cc) || !v.share && v.reason != "no-store" && v.reason != "no-freshness" && v.reason != "no-cache") {
		v.refused = true
		return
	}
	if longer {
		v.store, v.share, v.reason = true, true, ""
		v.flags &^= metaNoCache
	}
	v.lifetime = lifetime
}

func (v *verdict) setWindows(s *site, d *TTLDecision, cc *directives) {
	revalidate, ifError := v.whileRevalidate, v.ifError
	if d.Revalidate >= 0 {
		revalidate = d.Revalidate.Milliseconds()
	}
	if d.IfError >= 0 {
		ifError = d.IfError.Milliseconds()
	}
	if (revalidate > v.whileRevalidate || ifError > v.ifError) && !s.mayLengthen(cc) {
		v.refused = true
		return
	}
	v.whileRevalidate, v.ifError = revalidate, ifError
	if d.IfError >= 0 {
		v.flags |= metaIfError
	}
}

// mayLengthen reports whether a policy may give more time than the origin did.
func (s *site) mayLengthen(cc *directives) bool {
	f := func(present bool, name string) bool { return !present || slices.Contains(s.AllowOverride, name) }
	return f(cc.flags&ccMustRevalidate != 0, "must-revalidate") && f(cc.flags&ccProxyRevalidate != 0, "proxy-revalidate") &&
		f(cc.flags&ccNoCache != 0, "no-cache") && f(cc.sMaxage != absent, "s-maxage") && f(cc.flags&ccNoStore != 0, "no-store")
}

// expiresIn returns for how many ms from received on an answer is of any use:
// its freshness, its largest stale window and, with a validator, keep.
func (s *site) expiresIn(f *freshness, validator bool) int64 {
	stale := int64(0)
	if f.flags&(metaNeverStale|metaNoCache) == 0 {
		stale = max(f.whileRevalidate, f.ifError, s.StaleOnError.Milliseconds())
	}
	left := f.lifetime - f.initialAge + stale
	if validator {
		left = max(left, 0) + s.Keep.Milliseconds()
	}
	return left
}

// How a stored answer may be used now.
type usability byte

const (
	useNot        usability = iota // validate or fetch
	useFresh                       // as it is
	useWhileStale                  // as it is, while one refresh runs
)

// usable decides how an answer may be used at now. softly says that it was
// purged softly: it is stale whatever its lifetime says.
func (f *freshness) usable(now int64, softly bool) usability {
	if f.flags&metaNoCache != 0 {
		return useNot
	}
	past := f.age(now) - f.lifetime
	if past < 0 && !softly {
		return useFresh
	}
	if f.whileRevalidate > 0 && past < f.whileRevalidate && f.flags&metaNeverStale == 0 {
		return useWhileStale
	}
	return useNot
}

// isError reports what stale-if-error speaks of (RFC 5861 §4): no whole answer, 0,
// or one of four statuses.
func isError(status int) bool {
	switch status {
	case 0, http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// standsIn reports whether an answer may stand in for one that could not be
// had: status is 0 for no whole answer, else the origin's 5xx.
func (s *site) standsIn(f *freshness, now int64, status int) bool {
	if f.flags&(metaNoCache|metaNeverStale) != 0 {
		return false
	}
	window := int64(0)
	if f.flags&metaIfError != 0 && isError(status) {
		window = f.ifError
	}
	if status == 0 || s.StaleOn5xx {
		window = max(window, s.StaleOnError.Milliseconds())
	}
	return f.age(now)-f.lifetime < window
}
