package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Defaults of pools, besides those of site.go.
const (
	DefaultRetryPercent = 10
	DefaultRetryBurst   = 10
	DefaultMaxFailures  = 3
	DefaultRest         = 2 * time.Second
	DefaultRestMax      = time.Minute
)

// pool is a Pool in use: its origins and the transport to them.
type pool struct {
	Pool
	origins   []*origin
	transport *http.Transport
	prober    *http.Transport // of health checks: a connection each
	next      atomic.Uint32
	budget    atomic.Int64 // of repeats, in hundredths
	now       func() int64
	p         *Proxy
	ahead     aheadLimit
}

// origin is one server of a pool, with what is known of its health.
type origin struct {
	scheme, authority string
	breaker           *Pool // says when it rests
	line              *line // nil if only net/http asks it

	inFlight atomic.Int64
	// failures in a row; from MaxFailures on it rests until restUntil (Unix ms).
	failures  atomic.Int32
	restUntil atomic.Int64
	health    health
}

// maxAnswerHeader bounds the header of an answer in bytes.
const maxAnswerHeader = 256 << 10

// newPool makes a pool of cfg, whose defaults are filled in. Origins that old,
// the pool of this name so far, has too, keep what is known of their health.
func newPool(cfg Pool, p *Proxy, old *pool) (*pool, error) {
	pl := &pool{Pool: cfg, now: p.o.Now, p: p, ahead: newAheadLimit()}
	conf, err := cfg.TLS.load(p.o.TLS)
	if err != nil {
		return nil, fmt.Errorf("proxy: pool %q: %w", cfg.Name, err)
	}
	pl.budget.Store(pl.budgetMost())
	d := &dialer{net: net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: 30 * time.Second}, tls: conf, timeout: 2 * cfg.ConnectTimeout}
	lines := map[string]*line{}
	for _, base := range cfg.Origins {
		if u, err := url.Parse(base); err == nil {
			o := &origin{scheme: u.Scheme, authority: u.Host, breaker: &pl.Pool, line: pl.lineTo(u, d, lines)}
			o.inherit(old)
			pl.origins = append(pl.origins, o)
		}
	}
	pl.transport = &http.Transport{
		Proxy: nil, // never from the environment
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return tapped(pl.connect(ctx, d, lines[address], network, address))
		},
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return tapped(d.secure(ctx, network, address))
		},
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
		DisableCompression:     true,
		MaxIdleConnsPerHost:    cfg.MaxConnections,
		MaxConnsPerHost:        cfg.MaxConnections,
		IdleConnTimeout:        cfg.IdleTimeout,
		ResponseHeaderTimeout:  cfg.FirstByteTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: maxAnswerHeader,
	}
	pl.prober = &http.Transport{
		DialContext: d.plain, DialTLSContext: d.secure, DisableKeepAlives: true, DisableCompression: true,
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, MaxResponseHeaderBytes: maxAnswerHeader,
	}
	return pl, nil
}

// lineTo returns the line to an origin, nil if there is none. Those with the same
// address have one.
func (pl *pool) lineTo(u *url.URL, d *dialer, lines map[string]*line) *line {
	l := newLine(u, &pl.Pool, d, func() { pl.transport.CloseIdleConnections() })
	if l == nil {
		return nil
	}
	if other := lines[l.address]; other != nil {
		return other
	}
	lines[l.address] = l
	return l
}

// connect opens a connection for net/http. It counts on the line; nil is none.
func (pl *pool) connect(ctx context.Context, d *dialer, l *line, network, address string) (net.Conn, error) {
	if l == nil {
		return d.plain(ctx, network, address)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, pl.ConnectTimeout+pl.FirstByteTimeout, errFirstByte)
	defer cancel()
	if err := l.enter(ctx); err != nil {
		return nil, err
	}
	c, err := d.plain(ctx, network, address)
	if err != nil {
		l.leave()
		return nil, err
	}
	return &counted{Conn: c, line: l}, nil
}

// closeIdle closes connections that are not in use. With retire none is kept from
// now on.
func (pl *pool) closeIdle(retire bool) {
	pl.transport.CloseIdleConnections()
	for _, o := range pl.origins {
		if o.line != nil {
			o.line.closeIdle(retire)
		}
	}
}

// tapped puts what watches answers around a new connection.
func tapped(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return newTap(&codingConn{Conn: c}), nil
}

// pick chooses an origin for a key, not the one called except if there is
// another. When none is well, one is asked all the same.
func (pl *pool) pick(key []byte, except *origin) *origin {
	now := pl.now()
	var best *origin
	var bestRank uint64
	start := int(pl.next.Add(1) - 1)
	for i := range pl.origins {
		o := pl.origins[(start+i)%len(pl.origins)]
		rank := pl.rank(o, key, i)
		if !o.well(now) {
			rank += 1 << 62
		}
		if o == except {
			rank += 1 << 63
		}
		if best == nil || rank < bestRank {
			best, bestRank = o, rank
		}
	}
	return best
}

// rank orders healthy origins; the lowest is asked. Hash is by rendezvous:
// each key prefers origins in an order of its own.
func (pl *pool) rank(o *origin, key []byte, place int) uint64 {
	switch pl.Balance {
	case "least-connections":
		return uint64(o.inFlight.Load())<<16 + uint64(place)
	case "hash":
		var d xxhash.Digest
		d.Reset()
		_, _ = d.Write(key)
		_, _ = d.WriteString(o.authority)
		return d.Sum64() >> 2
	}
	return uint64(place)
}

// retryPrice is what a repeat costs of the budget; each request earns
// RetryPercent.
const retryPrice = 100

func (pl *pool) budgetMost() int64 { return int64(pl.RetryBurst) * retryPrice }

// retryAllowed takes the price of a repeat from the budget, or reports that
// there is too little left.
func (pl *pool) retryAllowed() bool {
	for {
		n := pl.budget.Load()
		if n < retryPrice {
			return false
		}
		if pl.budget.CompareAndSwap(n, n-retryPrice) {
			return true
		}
	}
}

// earnRetry adds what one request earns. A lost race costs that much.
func (pl *pool) earnRetry() {
	if n, most := pl.budget.Load(), pl.budgetMost(); n < most {
		pl.budget.CompareAndSwap(n, min(n+int64(pl.RetryPercent), most))
	}
}

// well reports whether an origin is to be asked before others: it does not rest
// and its health checks succeed.
func (o *origin) well(now int64) bool { return o.restUntil.Load() <= now && !o.health.down.Load() }

// failed notes that a request failed at now, and reports whether the origin is
// put to rest for the first time since it worked.
func (o *origin) failed(now int64) (rests bool) {
	b := o.breaker
	n := int(o.failures.Add(1))
	if n < b.MaxFailures {
		return false
	}
	rest := min(b.Rest<<min(n-b.MaxFailures, 10), b.RestMax)
	o.restUntil.Store(now + rest.Milliseconds())
	return n == b.MaxFailures
}

// worked notes an answer, and reports whether the origin was at rest before.
func (o *origin) worked() (returned bool) {
	if o.failures.Load() == 0 {
		return false
	}
	o.restUntil.Store(0)
	return int(o.failures.Swap(0)) >= o.breaker.MaxFailures
}

// target returns the URL that makes net/http send the request target exactly
// as it was received.
func (o *origin) target(raw string) *url.URL {
	path, query, hasQuery := strings.Cut(raw, "?")
	u := &url.URL{Scheme: o.scheme, Host: o.authority, RawQuery: query, ForceQuery: hasQuery && query == ""}
	if !strings.HasPrefix(path, "//") {
		u.Opaque = path
		return u
	}
	// "//" would be taken for an authority. Give the path decoded and raw, and if
	// net/http would write it another way, send the absolute form.
	if decoded, err := url.PathUnescape(path); err == nil {
		u.Path, u.RawPath = decoded, path
		if u.EscapedPath() == path {
			return u
		}
	}
	u.Path, u.RawPath = "", ""
	u.Opaque = o.scheme + "://" + o.authority + path
	return u
}

// hostField is what the origin gets as Host.
func (pl *pool) hostField(o *origin, client string) string {
	switch pl.Host {
	case "client":
		return client
	case "origin":
		return o.authority
	}
	return pl.Host
}
