package node

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/edgenode/edgenode/node/accesslog"
	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/front"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/node/proxy"
)

// A table says whose a request is. It is immutable.
type table struct {
	*config.Router
	sites bool // there are any
}

func newTable(cfg *config.Config) *table {
	return &table{Router: config.NewRouter(cfg), sites: len(cfg.Sites) > 0}
}

// serveData answers a request of the data listener and records it.
func (n *Node) serveData(x *front.Exchange) {
	if !n.access.On() {
		n.answerData(x, nil)
		return
	}
	begin := time.Now()
	var out proxy.Outcome
	n.answerData(x, &out)
	n.record(x, begin, &out)
}

// record writes the line of a request to the access log, if it is sampled.
func (n *Node) record(x *front.Exchange, begin time.Time, out *proxy.Outcome) {
	status, body, cut := x.Answered()
	if !n.access.Wants(status) {
		return
	}
	now := time.Now()
	n.access.Write(&accesslog.Record{
		Time: now, Took: now.Sub(begin), Client: x.Client(), Method: x.Method(), Scheme: x.Scheme(), Host: x.Host(), Target: x.Target(),
		HTTP10: x.HTTP10(), Agent: x.Header("User-Agent"), Referer: x.Header("Referer"), Status: status, Bytes: body, Cut: cut,
		Site: out.Site, Cache: out.Cache, Detail: out.Detail, Origin: out.FwdStatus, Stored: out.Stored, Waited: out.Collapsed,
		HasTTL: out.HasTTL, TTL: out.TTL, Upgraded: status == 101,
	})
}

// answerData answers a request of the data listener: a site owns every path of
// its hosts, the items API has the rest as far as api_hosts allows. What a site
// did is told in out unless that is nil.
func (n *Node) answerData(x *front.Exchange, out *proxy.Outcome) {
	t := n.table.Load()
	open := false
	if !t.sites {
		open = t.API(x.Host())
	} else {
		site, claimed := t.Match(x.Host(), x.Target())
		if name := x.ServerName(); name != "" && !t.sameSite(name, x.Target(), site, claimed) {
			n.metrics.misdirected.Inc()
			n.problem(x, problem.New(problem.Misdirected, "the TLS handshake named the host of another site (RFC 9110 section 7.4)"))
			return
		}
		if claimed {
			n.proxy.ServeTold(x, out)
			return
		}
		open = t.Unclaimed(x.Host())
	}
	if !open {
		n.metrics.misdirected.Inc()
		n.problem(x, problem.New(problem.Misdirected, "no site has this host, and api_hosts leaves it out"))
		return
	}
	if x.ContentLength() != 0 {
		n.serveBody(x)
		return
	}
	n.api.Serve(x)
}

// serveBody lets the items API answer a request with a body, within
// inflight_max_bytes: an announced length counts from the beginning, a chunked
// body as it comes.
func (n *Node) serveBody(x *front.Exchange) {
	length := x.ContentLength()
	if length < 0 {
		counted := &countedExchange{Exchange: x, body: countedBody{n: n, r: x.Body()}}
		defer func() { n.inflight.give(counted.body.held) }()
		n.api.Serve(counted)
		return
	}
	if !n.inflight.take(length) {
		n.metrics.bodiesRefused.Inc()
		n.problem(x, n.inflight.refusal(length))
		return
	}
	defer n.inflight.give(length)
	n.api.Serve(x)
}

// sameSite reports whether the name of a TLS handshake belongs to the site that
// was found by Host: a client whose connection was made for one site, and vetted
// for it, must not reach another one over it.
func (t *table) sameSite(name string, target []byte, site int, claimed bool) bool {
	s, c := t.Match([]byte(name), target)
	return s == site && c == claimed
}

// problem answers with p.
func (n *Node) problem(x *front.Exchange, p *problem.Problem) {
	if err := problem.Write(x, p); err != nil {
		n.log.Debug("an answer was not taken", "error", err)
	}
}

// inflight bounds the bytes of request bodies that are held in memory at once.
type inflight struct {
	limit int64 // set once, before the first request
	used  atomic.Int64
}

// take reserves size bytes, or reports that they do not fit.
func (f *inflight) take(size int64) bool {
	if f.used.Add(size) <= f.limit {
		return true
	}
	f.used.Add(-size)
	return false
}

func (f *inflight) give(size int64) { f.used.Add(-size) }

// refusal says that there is no room for a body.
func (f *inflight) refusal(size int64) *problem.Problem {
	return &problem.Problem{
		Kind: problem.Busy, Detail: "bodies under way fill inflight_max_bytes",
		Limit: f.limit, Value: f.used.Load() + size, RetryAfter: time.Second,
	}
}

// A countedExchange is an exchange whose body counts as it comes.
type countedExchange struct {
	*front.Exchange
	body countedBody
}

var _ api.Exchange = (*countedExchange)(nil)

// Body returns the counted body.
func (x *countedExchange) Body() io.Reader { return &x.body }

// A countedBody takes room for what is read of a body.
type countedBody struct {
	n    *Node
	r    io.Reader
	held int64
}

// Read fails with errNoRoom when the bytes under way would pass their limit.
func (b *countedBody) Read(p []byte) (int, error) {
	got, err := b.r.Read(p)
	if !b.n.inflight.take(int64(got)) {
		b.n.metrics.bodiesRefused.Inc()
		return 0, errNoRoom{}
	}
	b.held += int64(got)
	return got, err
}

// errNoRoom says that there is no room for a body now.
type errNoRoom struct{}

func (errNoRoom) Error() string { return "node: bodies under way fill inflight_max_bytes" }
func (errNoRoom) Busy() bool    { return true }
