package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
)

// pool is a Pool in use: its origins and the transport to them.
type pool struct {
	Pool
	origins   []*origin
	transport *http.Transport
	next      atomic.Uint32
	now       func() int64
}

// origin is one server of a pool, with what is known of its health.
type origin struct {
	scheme, authority string

	inFlight atomic.Int64
	// failures in a row; from maxFailures on it rests until restUntil (Unix ms).
	failures  atomic.Int32
	restUntil atomic.Int64
}

// An origin that failed maxFailures times in a row is not asked for restFirst,
// which doubles with each further failure up to restMost.
const (
	maxFailures = 3
	restFirst   = 2 * time.Second
	restMost    = time.Minute
)

// maxAnswerHeader bounds the header of an answer in bytes.
const maxAnswerHeader = 256 << 10

func newPool(cfg Pool, p *Proxy) *pool {
	pl := &pool{Pool: cfg, now: p.o.Now}
	for _, base := range cfg.Origins {
		if u, err := url.Parse(base); err == nil {
			pl.origins = append(pl.origins, &origin{scheme: u.Scheme, authority: u.Host})
		}
	}
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, KeepAlive: 30 * time.Second}
	pl.transport = &http.Transport{
		Proxy: nil, // never from the environment
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return newTap(c), nil
		},
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, 2*cfg.ConnectTimeout)
			defer cancel()
			d := tls.Dialer{NetDialer: dialer, Config: p.tlsConfig()}
			c, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return newTap(c), nil
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
	return pl
}

// pick chooses an origin for a key, not the one called except if there is
// another. When all rest, one is asked all the same.
func (pl *pool) pick(key []byte, except *origin) *origin {
	now := pl.now()
	var best *origin
	var bestRank uint64
	start := int(pl.next.Add(1) - 1)
	for i := range pl.origins {
		o := pl.origins[(start+i)%len(pl.origins)]
		rank := pl.rank(o, key, i)
		if o.restUntil.Load() > now {
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

// failed notes that a request failed at now, and reports whether the origin is
// put to rest for the first time since it worked.
func (o *origin) failed(now int64) (rests bool) {
	n := o.failures.Add(1)
	if n < maxFailures {
		return false
	}
	rest := min(restFirst<<min(n-maxFailures, 10), restMost)
	o.restUntil.Store(now + rest.Milliseconds())
	return n == maxFailures
}

// worked notes an answer, and reports whether the origin was at rest before.
func (o *origin) worked() (returned bool) {
	if o.failures.Load() == 0 {
		return false
	}
	o.restUntil.Store(0)
	return o.failures.Swap(0) >= maxFailures
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
