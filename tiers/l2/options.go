package l2

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Defaults and limits of Options.
const (
	DefaultPrefix        = "edgenode:"
	DefaultTimeout       = 5 * time.Second
	DefaultL2MaxTTL      = time.Hour
	DefaultMaxTTL        = 30 * 24 * time.Hour
	DefaultTombstoneTTL  = 10 * time.Minute
	DefaultPoolSize      = 16
	DefaultEvictionStart = 0.75
	DefaultEvictionGoal  = 0.60

	MinTimeout   = 10 * time.Millisecond
	MaxTimeout   = time.Minute
	MaxPoolSize  = 1024
	MaxPrefixLen = 128
)

// Options of Open.
type Options struct {
	// URL says where Redis is; see the forms in the package comment.
	URL string
	// Password is that of the server, SentinelPassword that of the sentinels.
	// A password here comes before the one in URL.
	Password, SentinelPassword string
	// Prefix begins every key; empty means DefaultPrefix. It has up to 128
	// bytes and neither '{' nor '}', which Redis Cluster reads.
	Prefix string
	// Timeout bounds each call: waiting for a connection, making it, and the
	// answer. A call of many parts is bounded per part. 0 means DefaultTimeout.
	Timeout time.Duration
	// L2MaxTTL bounds the life of a copy of an item that L3 holds as well, so
	// that a change that Redis has missed heals. 0 means DefaultL2MaxTTL.
	L2MaxTTL time.Duration
	// MaxTTL bounds the life of everything else: no key is without an end.
	// 0 means DefaultMaxTTL.
	MaxTTL time.Duration
	// TombstoneTTL is how long a tombstone keeps older writes out; it must be
	// longer than any write may be under way. 0 means DefaultTombstoneTTL.
	TombstoneTTL time.Duration
	// EvictionStart and EvictionTarget are shares of maxmemory: from the first
	// on Evict works, down to the second. 0 means the defaults 0.75 and 0.60.
	EvictionStart, EvictionTarget float64
	// PoolSize is the greatest number of connections (per cluster node), 0
	// means DefaultPoolSize.
	PoolSize int
	// Clock returns Unix milliseconds; nil means the system's. It decides what
	// is over.
	Clock func() int64
	// Logger receives changes of state; nil means none.
	Logger *slog.Logger
	// Metrics receives the metrics of the store until Close; nil means none.
	Metrics *metrics.Set
}

func (o Options) withDefaults() Options {
	fill(&o.Prefix, DefaultPrefix)
	fill(&o.Timeout, DefaultTimeout)
	fill(&o.L2MaxTTL, DefaultL2MaxTTL)
	fill(&o.MaxTTL, DefaultMaxTTL)
	fill(&o.TombstoneTTL, DefaultTombstoneTTL)
	fill(&o.EvictionStart, DefaultEvictionStart)
	fill(&o.EvictionTarget, DefaultEvictionGoal)
	fill(&o.PoolSize, DefaultPoolSize)
	if o.Clock == nil {
		o.Clock = func() int64 { return time.Now().UnixMilli() }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func fill[T comparable](field *T, standard T) {
	var zero T
	if *field == zero {
		*field = standard
	}
}

// validate reports every fault at once.
func (o *Options) validate() error {
	var errs []error
	f := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	f(len(o.Prefix) <= MaxPrefixLen, "Prefix has %d bytes, allowed are %d", len(o.Prefix), MaxPrefixLen)
	f(!strings.ContainsAny(o.Prefix, "{}"), "Prefix %q contains a brace, which Redis Cluster takes for a hash tag", o.Prefix)
	errs = append(errs, checkLimits(o.Timeout, o.L2MaxTTL))
	f(o.MaxTTL >= time.Millisecond, "MaxTTL is %v, it must be at least 1ms", o.MaxTTL)
	f(o.TombstoneTTL >= time.Millisecond, "TombstoneTTL is %v, it must be at least 1ms", o.TombstoneTTL)
	f(o.PoolSize >= 1 && o.PoolSize <= MaxPoolSize, "PoolSize is %d, allowed are 1 to %d", o.PoolSize, MaxPoolSize)
	errs = append(errs, checkEviction(o.EvictionStart, o.EvictionTarget))
	return errors.Join(errs...)
}

func checkLimits(timeout, l2MaxTTL time.Duration) error {
	var errs []error
	if timeout < MinTimeout || timeout > MaxTimeout {
		errs = append(errs, fmt.Errorf("redis_timeout is %v, allowed are %v to %v", timeout, MinTimeout, MaxTimeout))
	}
	if l2MaxTTL < time.Millisecond {
		errs = append(errs, fmt.Errorf("l2_max_ttl is %v, it must be at least 1ms", l2MaxTTL))
	}
	return errors.Join(errs...)
}

func checkEviction(start, target float64) error {
	if target > 0 && target < start && start <= 1 {
		return nil
	}
	return fmt.Errorf("redis_eviction_start %v and redis_eviction_target %v: it must hold that 0 < target < start <= 1", start, target)
}

// Limits are the options that Reload can change.
type Limits struct {
	Timeout                       time.Duration
	L2MaxTTL                      time.Duration
	EvictionStart, EvictionTarget float64
}

// Reload replaces the limits for calls that begin afterwards. What is 0 stays
// as it is. Timeout cannot rise above its value at Open. An error names every
// fault; then nothing was changed.
func (s *Store) Reload(l Limits) error {
	now := *s.limits.Load()
	fill(&l.Timeout, now.Timeout)
	fill(&l.L2MaxTTL, now.L2MaxTTL)
	fill(&l.EvictionStart, now.EvictionStart)
	fill(&l.EvictionTarget, now.EvictionTarget)
	err := errors.Join(checkLimits(l.Timeout, l.L2MaxTTL), checkEviction(l.EvictionStart, l.EvictionTarget))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	l.Timeout = min(l.Timeout, s.opts.Timeout)
	s.limits.Store(&l)
	return nil
}
