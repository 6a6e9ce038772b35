package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// Defaults of Options.
const (
	DefaultMaxPayload = 16 << 20
	DefaultName       = "edgenode"
)

// Options configure an API.
type Options struct {
	Engine     Engine       // required
	MaxPayload int64        // greatest content in bytes; default 16 MiB. The engine's own limit may be lower
	Tokens     []Token      // none: only requests of this machine are answered
	Policy     Policy       // nil: none
	Merkle     Merkle       // nil: questions about the tree of hashes are refused
	Replica    Replica      // nil: no item belongs to another node
	Sites      SitePurge    // nil: purges by URL and host are refused
	MaxFeeds   int          // readers of the change feed at a time; default 256
	Name       string       // in Cache-Status and in the answer to purges; default edgenode
	Metrics    *metrics.Set // nil: no metrics
	Log        *slog.Logger // nil: nothing is logged
	Now        func() int64 // Unix ms; nil: the system's clock
}

// An API serves /v1. It is safe for concurrent use.
type API struct {
	engine     Engine
	maxPayload int64
	policy     Policy
	sites      SitePurge
	merkle     Merkle
	replica    Replica
	name       string
	log        *slog.Logger
	now        func() int64
	metrics    *counters
	maxFeeds   int64
	feeds      atomic.Int64 // being read
	draining   context.Context
	drain      context.CancelCauseFunc

	cacheStatus [5][]byte // by tiers.Source: the line up to its parameters
	missing     prepared  // 404 of an item
	bearers     atomic.Pointer[bearers]
	calls       sync.Pool // of *call
	bodies      sync.Pool // of *[]byte, each at most maxPooledBody
}

// New returns an API, or every fault of its options.
func New(o Options) (*API, error) {
	if o.MaxPayload == 0 {
		o.MaxPayload = DefaultMaxPayload
	}
	if o.MaxFeeds == 0 {
		o.MaxFeeds = DefaultMaxFeeds
	}
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = func() int64 { return time.Now().UnixMilli() }
	}
	tokens, err := newBearers(o.Tokens, nil)
	if err = errors.Join(err, o.check()); err != nil {
		return nil, err
	}
	a := &API{
		engine: o.Engine, maxPayload: o.MaxPayload, policy: o.Policy, sites: o.Sites, merkle: o.Merkle, replica: o.Replica,
		name: o.Name, log: o.Log, now: o.Now, maxFeeds: int64(o.MaxFeeds),
	}
	a.metrics = newCounters(o.Metrics, func() float64 { return float64(a.feeds.Load()) })
	a.draining, a.drain = context.WithCancelCause(context.Background())
	a.cacheStatus = [5][]byte{
		tiers.FromNone:    []byte("Cache-Status: " + o.Name + "; fwd=uri-miss"),
		tiers.FromL1:      []byte("Cache-Status: " + o.Name + "; hit; detail=l1"),
		tiers.FromPending: []byte("Cache-Status: " + o.Name + "; hit; detail=pending"),
		tiers.FromL2:      []byte("Cache-Status: " + o.Name + "; hit; detail=l2"),
		tiers.FromL3:      []byte("Cache-Status: " + o.Name + "; fwd=uri-miss; detail=l3"),
	}
	a.missing = prepareMissing(a.cacheStatus[tiers.FromNone])
	a.bearers.Store(tokens)
	a.calls.New = func() any { return newCall(a) }
	a.bodies.New = func() any { b := make([]byte, 0, minBody); return &b }
	return a, nil
}

func (o *Options) check() error {
	var errs []error
	if o.Engine == nil {
		errs = append(errs, errors.New("api: no engine given"))
	}
	if o.MaxPayload < 1 || o.MaxPayload > 1<<31-1 {
		errs = append(errs, fmt.Errorf("api: max payload of %d bytes, allowed are 1 to %d", o.MaxPayload, 1<<31-1))
	}
	if o.MaxFeeds < 1 {
		errs = append(errs, fmt.Errorf("api: %d feeds at most, allowed are 1 and more", o.MaxFeeds))
	}
	if !isToken(o.Name) {
		errs = append(errs, fmt.Errorf("api: name %q is not a letter followed by letters, digits, dots, - or _", o.Name))
	}
	return errors.Join(errs...)
}

// isToken reports whether s can stand in a structured field as a token.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || !('0' <= c && c <= '9' || c == '-' || c == '_' || c == '.')) {
			return false
		}
	}
	return s != ""
}

// SetTokens replaces the tokens for requests that begin from now on, or returns
// every fault and leaves the old ones. A token that stays keeps the state of
// its budgets.
func (a *API) SetTokens(tokens []Token) error {
	next, err := newBearers(tokens, a.bearers.Load())
	if err != nil {
		return err
	}
	a.bearers.Store(next)
	return nil
}

// Authorize returns nil if the Authorization field carries the secret of a
// token with all of scopes, else what to answer. Without tokens nobody has any.
func (a *API) Authorize(authorization []byte, scopes Scope) *problem.Problem {
	b, p := a.bearers.Load().bearer(authorization)
	if p != nil {
		return p
	}
	if b.Scopes&scopes != scopes {
		return problem.Newf(problem.ScopeMissing, "the scope %s is needed", scopes)
	}
	return nil
}

// Admin is Authorize for the scope admin; it serves the admin listener.
func (a *API) Admin(authorization []byte) *problem.Problem {
	return a.Authorize(authorization, ScopeAdmin)
}

// A call is the state of one request, reused.
type call struct {
	api      *API
	x        Exchange
	who      *bearer
	in       header
	add      func(name, value []byte) bool // in.add, bound once
	route    route
	query    []byte // raw
	key      item.Key
	block    []byte // header lines of the answer
	modified date   // of the item of the request before
	hit      tiers.Hit
	d        Decision
	spans    [maxRanges]span
	code     int           // status of the answer
	stale    bool          // the answer is to say that it may be old
	age      time.Duration // how old; below zero if nobody knows
}

func newCall(a *API) *call {
	c := &call{api: a, key: make(item.Key, 0, 256), block: make([]byte, 0, 512)}
	c.add = c.in.add
	return c
}

// Serve answers one request.
func (a *API) Serve(x Exchange) {
	c := a.calls.Get().(*call)
	c.x = x
	c.in.reset()
	if p := c.serve(); p != nil {
		c.fail(p)
	}
	a.metrics.requests[c.route][min(c.code/100, 5)].Inc()
	c.x, c.who, c.query, c.route, c.code = nil, nil, nil, routeUnknown, 0
	c.hit, c.d = tiers.Hit{}, Decision{}
	c.stale, c.age = false, 0
	a.calls.Put(c)
}

// serve answers, or returns what to answer. Nothing was answered when it
// returns a problem.
func (c *call) serve() *problem.Problem {
	c.x.Fields(c.add)
	if p := c.authenticate(); p != nil {
		return p
	}
	if p := c.in.check(); p != nil {
		return p
	}
	path, query, _ := bytes.Cut(c.x.Target(), []byte("?"))
	c.query = query
	var p *problem.Problem
	if c.route, c.key, p = parsePath(path, c.key[:0]); p != nil {
		return p
	}
	return c.dispatch(c.x.Method())
}

// dispatch calls the method of the route.
func (c *call) dispatch(method string) *problem.Problem {
	switch c.route {
	case routeItem:
		return c.item(method)
	case routeItems:
		switch method {
		case "GET", "HEAD":
			return c.list()
		case "DELETE":
			return c.deleteMatching()
		}
	case routeCount:
		if method == "GET" || method == "HEAD" {
			return c.count()
		}
	case routeStatus:
		if method == "GET" || method == "HEAD" {
			return c.itemStatus()
		}
	case routeDead:
		if method == "GET" || method == "HEAD" {
			return c.deadLetters()
		}
	case routeChanges:
		if method == "GET" {
			return c.changes()
		}
	case routeNodes:
		if method == "GET" || method == "HEAD" {
			return c.nodes()
		}
	case routeNode:
		if method == "DELETE" {
			return c.removeNode()
		}
	case routePurged:
		if method == "GET" || method == "HEAD" {
			return c.purged()
		}
	case routeMerkleRoot, routeMerkleNodes, routeMerkleDirty:
		if method == "GET" || method == "HEAD" {
			return c.merkleGet()
		}
	case routeMerkleRecord:
		if method == "GET" || method == "PUT" {
			return c.record(method)
		}
	case routeUnknown:
		return &problem.Problem{Kind: problem.UnknownPath}
	default:
		if method == "POST" {
			return c.post()
		}
	}
	return &problem.Problem{Kind: problem.MethodNotAllowed, Allow: c.route.allow()}
}

// item calls the method of a request for one item.
func (c *call) item(method string) *problem.Problem {
	switch method {
	case "GET", "HEAD":
		return c.get()
	case "PUT":
		return c.put()
	case "DELETE":
		return c.delete()
	}
	return &problem.Problem{Kind: problem.MethodNotAllowed, Allow: c.route.allow()}
}

// post calls the method of a route that takes only POST.
func (c *call) post() *problem.Problem {
	switch c.route {
	case routeState:
		return c.change()
	case routePurge:
		return c.purge()
	case routeGetMany:
		return c.getMany()
	case routePutMany:
		return c.putMany()
	case routeDeadRetry:
		return c.retryDead()
	case routeDeadDrop:
		return c.dropDead()
	case routeMerkleDiff, routeMerkleRecords, routeMerkleAudit, routeMerkleRebuild:
		return c.merklePost()
	}
	return c.deleteMany()
}

// status begins the answer.
func (c *call) status(code int) {
	c.code = code
	c.x.Status(code)
}

// fail answers with p.
func (c *call) fail(p *problem.Problem) {
	c.code = p.Code()
	if p.Kind == problem.ShuttingDown {
		c.x.CloseAfter()
	}
	c.sent(problem.Write(c.x, p))
}

// sent takes the outcome of writing an answer. A client that is gone is no
// error of ours and nobody is left to tell.
func (c *call) sent(error) {}

// consult asks the policy about a request. It returns a problem if the policy
// denies, and done if it has answered.
func (c *call) consult(op Op, id []byte, size int64) (done bool, p *problem.Problem) {
	c.api.policy.Route(c.x, op, id, size, &c.d)
	if len(c.d.Edits) > 0 {
		c.edit()
	}
	if p := c.denial(); p != nil {
		return false, p
	}
	if c.d.Answer == nil || c.d.Answer.Status < 200 || c.d.Answer.Status > 599 {
		return false, nil
	}
	c.api.metrics.denied.Inc()
	c.status(c.d.Answer.Status)
	c.addOwn(c.d.Answer.Block)
	c.sent(c.x.Send(c.d.Answer.Body))
	return true, nil
}

// denial returns the problem of a policy that denies, else nil.
func (c *call) denial() *problem.Problem {
	if c.d.Deny == 0 {
		return nil
	}
	c.api.metrics.denied.Inc()
	p := &problem.Problem{Kind: problem.Denied, Detail: c.d.Reason}
	if c.d.Deny >= 400 && c.d.Deny <= 599 {
		p.Status = c.d.Deny
	}
	return p
}
