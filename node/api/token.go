package api

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/edgenode/edgenode/node/loopback"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers/item"
)

// A Scope is a set of what a token may do.
type Scope byte

// The scopes.
const (
	ScopeRead Scope = 1 << iota
	ScopeWrite
	ScopePurge
	ScopeAdmin

	allScopes = ScopeRead | ScopeWrite | ScopePurge | ScopeAdmin
)

// ParseScope returns the scope called name.
func ParseScope(name string) (Scope, error) {
	switch name {
	case "read":
		return ScopeRead, nil
	case "write":
		return ScopeWrite, nil
	case "purge":
		return ScopePurge, nil
	case "admin":
		return ScopeAdmin, nil
	}
	return 0, fmt.Errorf("api: unknown scope %q, allowed are read, write, purge, admin", name)
}

// String returns the names of the scopes in s.
func (s Scope) String() string {
	var names []string
	for i, name := range [...]string{"read", "write", "purge", "admin"} {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// A Token lets its bearer in. Only the hash of the secret is known.
type Token struct {
	Name      string   // in logs
	SHA256    [32]byte // of the secret
	Scopes    Scope
	Namespace string // prefix of the ids it reaches, ending in . / or :; empty is all

	WritesPerSecond float64 // puts, changes and deletes; 0 is unlimited
	BytesPerSecond  float64 // of content written; 0 is unlimited
}

// check reports every fault of t.
func (t *Token) check() error {
	var errs []error
	if t.SHA256 == [32]byte{} {
		errs = append(errs, fmt.Errorf("api: token %q has no SHA-256", t.Name))
	}
	if t.Scopes == 0 || t.Scopes&^allScopes != 0 {
		errs = append(errs, fmt.Errorf("api: token %q has no scope, or an unknown one; allowed are read, write, purge, admin", t.Name))
	}
	if n := t.Namespace; n != "" && !strings.ContainsRune("./:", rune(n[len(n)-1])) {
		errs = append(errs, fmt.Errorf("api: token %q: namespace %q must end in a separator: . or / or the colon", t.Name, n))
	}
	if err := item.CheckIDPrefix(t.Namespace); err != nil {
		errs = append(errs, fmt.Errorf("api: token %q: namespace: %w", t.Name, err))
	}
	for _, v := range [...]float64{t.WritesPerSecond, t.BytesPerSecond} {
		if v < 0 || math.IsNaN(v) || math.IsInf(v, 0) {
			errs = append(errs, fmt.Errorf("api: token %q: budget %v must be 0 or above", t.Name, v))
		}
	}
	return errors.Join(errs...)
}

// A bearer is a token with the state of its budgets.
type bearer struct {
	Token
	namespace     []byte
	writes, bytes *rate.Limiter // nil is unlimited
}

// bearers is one generation of tokens.
type bearers struct {
	list  []*bearer
	local *bearer // who asks while there are no tokens
}

// newBearers checks tokens. Budgets go on from those of the generation before
// where a token keeps its hash and its budgets.
func newBearers(tokens []Token, old *bearers) (*bearers, error) {
	next := &bearers{local: &bearer{Token: Token{Name: "local", Scopes: allScopes}}}
	var errs []error
	for _, t := range tokens {
		errs = append(errs, t.check())
		if next.find(t.SHA256) != nil {
			errs = append(errs, fmt.Errorf("api: token %q has the SHA-256 of another token", t.Name))
		}
		b := &bearer{Token: t, namespace: []byte(t.Namespace), writes: newLimiter(t.WritesPerSecond), bytes: newLimiter(t.BytesPerSecond)}
		if was := old.find(t.SHA256); was != nil && was.WritesPerSecond == t.WritesPerSecond && was.BytesPerSecond == t.BytesPerSecond {
			b.writes, b.bytes = was.writes, was.bytes
		}
		next.list = append(next.list, b)
	}
	return next, errors.Join(errs...)
}

// newLimiter allows perSecond events per second and as many at once, at least
// one.
func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	burst := int(min(math.Ceil(perSecond), math.MaxInt32))
	return rate.NewLimiter(rate.Limit(perSecond), max(burst, 1))
}

// find returns the bearer whose secret has the hash sum, or nil. It compares
// with each token, each in constant time.
func (s *bearers) find(sum [32]byte) *bearer {
	if s == nil {
		return nil
	}
	var found *bearer
	for _, b := range s.list {
		if subtle.ConstantTimeCompare(sum[:], b.SHA256[:]) == 1 {
			found = b
		}
	}
	return found
}

// bearer returns whose secret an Authorization field carries.
func (s *bearers) bearer(authorization []byte) (*bearer, *problem.Problem) {
	const scheme = "bearer "
	if len(authorization) < len(scheme) || !equalFold(authorization[:len(scheme)], scheme) {
		return nil, &problem.Problem{Kind: problem.Unauthorized, Detail: "no bearer token was sent", Challenge: `Bearer realm="edgenode"`}
	}
	b := s.find(sha256.Sum256(trim(authorization[len(scheme):])))
	if b == nil {
		return nil, &problem.Problem{Kind: problem.Unauthorized, Detail: "the token is not known", Challenge: `Bearer realm="edgenode", error="invalid_token"`}
	}
	return b, nil
}

// authenticate says who asks. Without tokens only requests of this machine are
// answered: see package loopback for what that takes.
func (c *call) authenticate() *problem.Problem {
	set := c.api.bearers.Load()
	if len(set.list) > 0 {
		var p *problem.Problem
		c.who, p = set.bearer(c.in.values[fieldAuthorization])
		return p
	}
	if !c.x.Local() {
		return problem.New(problem.NotLocal, "the peer is not this machine, or the request was forwarded")
	}
	if !loopback.Host(c.x.Host()) {
		return problem.New(problem.NotLocal, "Host is not localhost or a loopback address")
	}
	if !loopback.SameOrigin(c.in.values[fieldOrigin], c.x.Scheme(), c.x.Host()) {
		return &problem.Problem{Kind: problem.ForeignOrigin}
	}
	c.who = set.local
	return nil
}

// need refuses who lacks a scope.
func (c *call) need(s Scope) *problem.Problem {
	if c.who.Scopes&s == s {
		return nil
	}
	return problem.Newf(problem.ScopeMissing, "the scope %s is needed", s)
}

// reaches refuses an id outside the namespace.
func (c *call) reaches(id []byte) *problem.Problem {
	if bytes.HasPrefix(id, c.who.namespace) {
		return nil
	}
	return problem.New(problem.OutsideNamespace, "the id is outside the token's namespace")
}

// spend takes one write of size bytes from the budgets. Content above what the
// budget allows at once costs all of that.
func (c *call) spend(writes, size int) *problem.Problem {
	if p := spend(c.who.writes, writes, "writes per second"); p != nil {
		return p
	}
	return spend(c.who.bytes, size, "bytes per second")
}

func spend(l *rate.Limiter, n int, unit string) *problem.Problem {
	if l == nil || n == 0 {
		return nil
	}
	now := time.Now()
	r := l.ReserveN(now, min(n, l.Burst()))
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &problem.Problem{
		Kind: problem.OverBudget, Detail: "the budget is in " + unit, Limit: int64(math.Ceil(float64(l.Limit()))), Value: int64(n), RetryAfter: wait,
	}
}
