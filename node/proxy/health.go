package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of Health.
const (
	DefaultHealthInterval = 5 * time.Second
	DefaultHealthTimeout  = time.Second
	DefaultHealthy        = 2
	DefaultUnhealthy      = 3
)

// Health says how the origins of a pool are asked whether they are well. Without
// a Path they are not; only failed requests tell then.
type Health struct {
	Path      string        // path and query of the check, a GET
	Host      string        // sent as Host; "" is the origin's own
	Interval  time.Duration // from one check of an origin to its next; 0 is DefaultHealthInterval
	Timeout   time.Duration // of a check, connecting included; 0 is DefaultHealthTimeout
	Healthy   int           // checks in a row that bring an origin back; 0 is DefaultHealthy
	Unhealthy int           // failed checks in a row that take it out; 0 is DefaultUnhealthy
	Status    []int         // statuses of an origin that is well; nil is 200
}

func (h Health) withDefaults() Health {
	h.Interval = orDefault(h.Interval, DefaultHealthInterval)
	h.Timeout = orDefault(h.Timeout, DefaultHealthTimeout)
	h.Healthy = orDefault(h.Healthy, DefaultHealthy)
	h.Unhealthy = orDefault(h.Unhealthy, DefaultUnhealthy)
	if len(h.Status) == 0 {
		h.Status = []int{http.StatusOK}
	}
	return h
}

func (h *Health) validate(f func(ok bool, format string, args ...any)) {
	f(h.Path == "" || validTarget(h.Path) && h.Path[0] == '/', "health path %q does not begin with / or has spaces", h.Path)
	f(h.Interval > 0 && h.Timeout > 0, "times of the health check must be positive")
	f(h.Healthy > 0 && h.Unhealthy > 0, "counts of the health check must be positive")
	for _, s := range h.Status {
		f(s >= 200 && s <= 599, "health status %d is not 200 to 599", s)
	}
}

// health is what checks have found out about an origin.
type health struct {
	down atomic.Bool // told to pick

	// mu guards the fields below. It is a leaf lock.
	mu        sync.Mutex
	good, bad int    // checks in a row
	last      string // what the last failed check met; "" after one that succeeded
	checked   int64  // Unix ms of the last check; 0 never
}

// note takes the outcome of a check and reports whether the origin has changed
// sides.
func (h *health) note(rule *Health, now int64, err error) (changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checked = now
	if err != nil {
		h.good, h.bad, h.last = 0, h.bad+1, err.Error()
		return h.bad >= rule.Unhealthy && !h.down.Swap(true)
	}
	h.good, h.bad, h.last = h.good+1, 0, ""
	return h.good >= rule.Healthy && h.down.Swap(false)
}

// inherit takes over what the pool so far knows of the same server.
func (o *origin) inherit(old *pool) {
	if old == nil {
		return
	}
	i := slices.IndexFunc(old.origins, func(x *origin) bool { return x.scheme == o.scheme && x.authority == o.authority })
	if i < 0 {
		return
	}
	was := old.origins[i]
	o.failures.Store(was.failures.Load())
	o.restUntil.Store(was.restUntil.Load())
	if o.breaker.Health.Path == "" {
		return // nobody would ever bring it back
	}
	was.health.mu.Lock()
	defer was.health.mu.Unlock()
	o.health.down.Store(was.health.down.Load())
	o.health.good, o.health.bad, o.health.last, o.health.checked = was.health.good, was.health.bad, was.health.last, was.health.checked
}

// watch starts one goroutine for each origin that is to be checked; they end
// with ctx, and Proxy.Close waits for them.
func (pl *pool) watch(ctx context.Context) {
	if pl.Health.Path == "" {
		return
	}
	for _, o := range pl.origins {
		pl.p.tasks.Go(func() {
			tick, stop := pl.p.ticks(pl.Health.Interval)
			defer stop()
			for {
				pl.check(ctx, o)
				select {
				case <-tick:
				case <-ctx.Done():
					return
				}
			}
		})
	}
}

func orTicker(f func(time.Duration) (<-chan time.Time, func())) func(time.Duration) (<-chan time.Time, func()) {
	if f == nil {
		return ticker
	}
	return f
}

// ticker is the clock of health checks.
func ticker(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTicker(d)
	return t.C, t.Stop
}

// check asks an origin once and notes what it finds.
func (pl *pool) check(ctx context.Context, o *origin) {
	err := pl.ask(ctx, o)
	if ctx.Err() != nil {
		return
	}
	pl.p.m.healthCheck(err == nil)
	if !o.health.note(&pl.Health, pl.now(), err) {
		return
	}
	if err != nil {
		pl.p.o.Log.Warn("origin is down: its health checks fail", "pool", pl.Name, "origin", o.authority, "failures", pl.Health.Unhealthy, "error", err)
		return
	}
	o.worked() // it need not rest any longer
	pl.p.o.Log.Info("origin is up again", "pool", pl.Name, "origin", o.authority)
}

// maxHealthBody is how much of the answer to a check is read, in bytes.
const maxHealthBody = 64 << 10

// ask makes one check: over a connection of its own, so that a full pool does
// not count as an origin that is down.
func (pl *pool) ask(ctx context.Context, o *origin) error {
	ctx, cancel := context.WithTimeoutCause(ctx, pl.Health.Timeout, errHealthSlow)
	defer cancel()
	req := (&http.Request{
		Method: http.MethodGet, URL: o.target(pl.Health.Path), Host: orDefault(pl.Health.Host, o.authority),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"User-Agent": {pl.p.o.Name + "-health"}},
	}).WithContext(ctx)
	resp, err := pl.prober.RoundTrip(req)
	if err != nil {
		if errors.Is(context.Cause(ctx), errHealthSlow) {
			return errHealthSlow
		}
		return err
	}
	defer resp.Body.Close()
	if !slices.Contains(pl.Health.Status, resp.StatusCode) {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxHealthBody)); err != nil {
		return fmt.Errorf("body: %w", err)
	}
	return nil
}

var errHealthSlow = errors.New("no answer in time")

// A PoolState is what is known of a pool's origins.
type PoolState struct {
	Name    string        `json:"name"`
	Balance string        `json:"balance"`
	Checked bool          `json:"checked"` // by health checks
	Origins []OriginState `json:"origins"`
}

// An OriginState is what is known of an origin. State is up, resting (it failed
// several times in a row) or down (its health checks fail).
type OriginState struct {
	Origin    string `json:"origin"`
	State     string `json:"state"`
	InFlight  int64  `json:"in_flight"`
	Failures  int32  `json:"failures"` // of requests, in a row
	RestsMS   int64  `json:"rests_ms,omitempty"`
	CheckedMS int64  `json:"checked_ms,omitempty"` // Unix ms of the last check
	LastError string `json:"last_error,omitempty"` // of the last check
}

// Pools returns the state of every pool, by name.
func (p *Proxy) Pools() []PoolState {
	t, now := p.table.Load(), p.o.Now()
	list := make([]PoolState, 0, len(t.pools))
	for _, pl := range t.pools {
		s := PoolState{Name: pl.Name, Balance: pl.Balance, Checked: pl.Health.Path != ""}
		for _, o := range pl.origins {
			s.Origins = append(s.Origins, o.state(now))
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b PoolState) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (o *origin) state(now int64) OriginState {
	o.health.mu.Lock()
	defer o.health.mu.Unlock()
	s := OriginState{
		Origin: o.scheme + "://" + o.authority, State: "up", InFlight: o.inFlight.Load(), Failures: o.failures.Load(),
		CheckedMS: o.health.checked, LastError: o.health.last,
	}
	if rests := o.restUntil.Load() - now; rests > 0 {
		s.State, s.RestsMS = "resting", rests
	}
	if o.health.down.Load() {
		s.State = "down"
	}
	return s
}
