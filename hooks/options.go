package hooks

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/hooks/abi"
)

// Defaults of Options and Spec.
const (
	DefaultRouteFuel      = 20_000
	DefaultTTLFuel        = 20_000
	DefaultEvictFuel      = 200_000
	DefaultAdmitFuel      = 20_000
	DefaultInitFuel       = 100_000_000
	DefaultMemoryBytes    = 4 << 20
	DefaultWASIMemory     = 16 << 20
	DefaultModuleBytes    = 8 << 20
	DefaultFaultLimit     = 5
	DefaultFaultWindow    = 10 * time.Second
	DefaultBreakerOpen    = time.Second
	DefaultBreakerMaxOpen = time.Minute
	DefaultLoadTimeout    = time.Minute

	// MaxFuel bounds what may be granted to one call, MaxInitFuel to the start
	// of an instance.
	MaxFuel     = 1_000_000_000
	MaxInitFuel = 100_000_000_000
	// MaxMemoryBytes bounds what may be granted to one instance.
	MaxMemoryBytes = 1 << 30
	// MaxInstances bounds the instances of one hook.
	MaxInstances = 1024
)

// Options configure a Host. The zero value is usable.
type Options struct {
	// Logger receives changes of state, faults and what guests log. Nil
	// discards.
	Logger *slog.Logger
	// Metrics is where metrics are registered until Close; nil for nowhere.
	Metrics *metrics.Set
	// CacheDir keeps compiled modules between runs. It holds native code, so it
	// is made with mode 0700 and refused if others may write to it. Empty
	// keeps nothing.
	CacheDir string
	// Instances is the size of a pool whose Spec does not say, 1 to
	// MaxInstances. Default: the number of processors plus one, at least 2.
	Instances int
	// MaxModuleBytes bounds a module's file. Default DefaultModuleBytes.
	MaxModuleBytes int64
	// LoadTimeout bounds a load: compilation, starts and self-tests of all
	// modules. It is looked at between functions, instances and tests. Default
	// DefaultLoadTimeout.
	LoadTimeout time.Duration
	// TrustedKeys are the keys, by id, whose signatures are accepted.
	TrustedKeys map[string]ed25519.PublicKey
	// RequireSigned refuses modules without a valid signature. With any
	// trusted key it is implied.
	RequireSigned bool
	// KV answers kv_get. Nil answers that every key is absent.
	KV KV
	// FaultLimit faults within FaultWindow switch a hook off for BreakerOpen,
	// doubled each time up to BreakerMaxOpen.
	FaultLimit     int
	FaultWindow    time.Duration
	BreakerOpen    time.Duration
	BreakerMaxOpen time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time

	// unmetered leaves fuel out, to measure what it costs. Tests only.
	unmetered bool
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Instances == 0 {
		o.Instances = max(2, runtime.GOMAXPROCS(0)+1)
	}
	if o.MaxModuleBytes == 0 {
		o.MaxModuleBytes = DefaultModuleBytes
	}
	if o.FaultLimit == 0 {
		o.FaultLimit = DefaultFaultLimit
	}
	if o.FaultWindow == 0 {
		o.FaultWindow = DefaultFaultWindow
	}
	if o.BreakerOpen == 0 {
		o.BreakerOpen = DefaultBreakerOpen
	}
	if o.BreakerMaxOpen == 0 {
		o.BreakerMaxOpen = max(DefaultBreakerMaxOpen, o.BreakerOpen)
	}
	if o.LoadTimeout == 0 {
		o.LoadTimeout = DefaultLoadTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.RequireSigned = o.RequireSigned || len(o.TrustedKeys) > 0
	return o
}

func (o Options) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.Instances < 1 || o.Instances > MaxInstances {
		fault("instances is %d, must be 1 to %d", o.Instances, MaxInstances)
	}
	if o.MaxModuleBytes < 8 || o.MaxModuleBytes > 1<<28 {
		fault("max module bytes is %d, must be 8 to %d", o.MaxModuleBytes, 1<<28)
	}
	if o.FaultLimit < 1 || o.FaultLimit > maxFaultLimit {
		fault("fault limit is %d, must be 1 to %d", o.FaultLimit, maxFaultLimit)
	}
	if o.LoadTimeout < 0 {
		fault("load timeout is %v, must be above 0", o.LoadTimeout)
	}
	if o.FaultWindow < 0 || o.BreakerOpen < 0 || o.BreakerMaxOpen < o.BreakerOpen {
		fault("breaker times must be positive and the longest %v not below the first %v", o.BreakerMaxOpen, o.BreakerOpen)
	}
	for id, key := range o.TrustedKeys {
		if len(key) != ed25519.PublicKeySize {
			fault("trusted key %q has %d bytes, must be %d", id, len(key), ed25519.PublicKeySize)
		}
	}
	if o.RequireSigned && len(o.TrustedKeys) == 0 {
		fault("signatures are required but no key is trusted: add one or set require_signed = false")
	}
	if o.CacheDir != "" {
		if err := privateDir(o.CacheDir); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// privateDir makes dir, or checks that nobody else may write native code there.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("compilation cache: %w", err)
	}
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("compilation cache: %w", err)
	}
	if st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("compilation cache %s has mode %v: it holds native code, run chmod 700", dir, st.Mode().Perm())
	}
	return nil
}

// What a call that faults does.
const (
	OnFaultDefault = "default" // as if the module were absent
	OnFaultBypass  = "bypass"  // pass
	OnFaultDeny    = "deny"    // 503 hook-fault
)

// Spec configures one hook: one [[hook]] table.
type Spec struct {
	// Name is unique, 1 to 64 of a-z 0-9 _ -.
	Name string
	// Path of the module; its signature is Path + ".sig". Ignored with Bytes.
	Path string
	// Bytes of the module, read already, and its signature file's content.
	Bytes, Signature []byte
	// Hooks to use; empty for all that the module lists.
	Hooks []string
	Match Match
	// Config is given to the module as JSON.
	Config map[string]any
	// Pools are the origin pools it may choose, by position.
	Pools []string
	// Grant lists the capabilities given, names of host functions. Only header
	// and kv_get need it, the others are always given.
	Grant []string
	// OnFault is default, bypass or deny; empty is default.
	OnFault string
	// Fuel per call by hook, or "init". A module that asks for more than the
	// default needs it here.
	Fuel map[string]uint64
	// MemoryBytes of one instance. A module that asks for more than the
	// default needs it here. 0 is the default.
	MemoryBytes uint64
	// Instances is the size of the pool, 1 to MaxInstances: so many calls run at
	// once. 0 is Options.Instances.
	Instances int
	// RecycleCalls is after how many calls an instance is replaced. 0 is never.
	RecycleCalls uint64
}

// Match restricts route and ttl hooks to some requests.
type Match struct {
	Sites      []string // empty for all, the items API included
	PathPrefix string   // of the path or id, on segment borders; "" or "/" for all
}

func (s *Spec) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if s.Name == "" || len(s.Name) > 64 || strings.Trim(s.Name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		fault("name %q must be 1 to 64 of a-z 0-9 _ -", s.Name)
	}
	if s.Path == "" && s.Bytes == nil {
		fault("no module is given")
	}
	for _, name := range s.Hooks {
		if _, ok := abi.ParseHook(name); !ok {
			fault("hook %q is unknown, there are route, ttl, evict, admit", name)
		}
	}
	if !slices.Contains([]string{"", OnFaultDefault, OnFaultBypass, OnFaultDeny}, s.OnFault) {
		fault("on_fault %q, must be default, bypass or deny", s.OnFault)
	}
	for _, c := range s.Grant {
		if edgeFunctions[c].call == nil {
			fault("grant %q is unknown, host functions are those of hooks/abi/ABI.md, section 6", c)
		}
	}
	for name, n := range s.Fuel {
		if _, ok := abi.ParseHook(name); !ok && name != "init" {
			fault("fuel for %q: there are route, ttl, evict, admit, init", name)
		}
		limit := uint64(MaxFuel)
		if name == "init" {
			limit = MaxInitFuel
		}
		if n < 1 || n > limit {
			fault("fuel for %s is %d, must be 1 to %d", name, n, limit)
		}
	}
	if s.MemoryBytes > MaxMemoryBytes {
		fault("memory is %d bytes, the most is %d", s.MemoryBytes, MaxMemoryBytes)
	}
	if s.Instances < 0 || s.Instances > MaxInstances {
		fault("instances is %d, must be 1 to %d, or 0 for the default", s.Instances, MaxInstances)
	}
	if len(s.Pools) > 1<<16 {
		fault("%d pools, the most is %d", len(s.Pools), 1<<16)
	}
	return errors.Join(faults...)
}
