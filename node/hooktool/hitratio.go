package hooktool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/node/hooktool/replay"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

// A Row is how one policy did in one size of cache.
type Row struct {
	Policy       string  `json:"policy"` // hook, or the name of a built-in one, or lru
	Capacity     int64   `json:"capacity"`
	Share        float64 `json:"share"` // of the footprint
	HitRatio     float64 `json:"hit_ratio"`
	ByteHitRatio float64 `json:"byte_hit_ratio"`
	HookCalls    uint64  `json:"hook_calls,omitempty"`
	HookFaults   uint64  `json:"hook_faults,omitempty"`
	HookRefused  uint64  `json:"hook_refused,omitempty"` // objects that admit did not let in
	replay.Result
}

// HookPolicy names the row of the module, LRUPolicy that of a plain LRU.
const (
	HookPolicy = "hook"
	LRUPolicy  = "lru"
)

// ParseCapacity reads the size of a cache: bytes, a number with KiB, MiB or GiB,
// or a share of the footprint in per cent.
func ParseCapacity(s string, footprint int64) (int64, error) {
	number, factor := s, 1.0
	for suffix, f := range map[string]float64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "%": float64(footprint) / 100} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			number, factor = rest, f
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v*factor >= 1 && v*factor < 1<<50) {
		return 0, fmt.Errorf("capacity %q must be at least a byte: write 1048576, 64MiB, or 10%% of the bytes of all objects", s)
	}
	return int64(math.Round(v * factor)), nil
}

// ReplayNotes says what a replay of the recording leaves out.
func ReplayNotes(m *Module, rec *Recording) (notes []string) {
	note := func(yes bool, format string, args ...any) {
		if yes {
			notes = append(notes, fmt.Sprintf(format, args...))
		}
	}
	manifest := m.Info.Manifest
	note(rec.Skipped > 0, "%d lines are no requests; the first is %s", rec.Skipped, rec.First)
	note(rec.Requests == nil && (m.Has("route") || m.Has("ttl")), "a trace has no requests for route and ttl: give an access log")
	note(rec.Requests != nil && (m.Has("route") || m.Has("ttl")) && len(manifest.Headers)+len(manifest.ResponseHeaders) > 0,
		"an access log has few header fields: user-agent and referer, and what a member \"headers\" of its lines adds")
	note(m.Ranks() && !rec.Trace.Timed, "the trace has no times: those of a steady rate are taken")
	return notes
}

// HitRatios plays a trace against caches of the given capacities, once with each
// policy. A policy is HookPolicy, LRUPolicy or one of replay.Policies. Progress,
// unless nil, is told which run is under way and its share, 0 to 1.
func HitRatios(ctx context.Context, m *Module, t *replay.Trace, capacities []int64, policies []string, progress func(policy string, share float64)) (rows []Row, err error) {
	var hook *memoryHook
	if m != nil {
		if hook, err = m.openMemory(ctx); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, hook.host.Close()) }()
	}
	for _, capacity := range capacities {
		for _, policy := range policies {
			row, err := hitRatio(ctx, hook, t, capacity, policy, progress)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func hitRatio(ctx context.Context, hook *memoryHook, t *replay.Trace, capacity int64, policy string, progress func(string, float64)) (Row, error) {
	row := Row{Policy: policy, Capacity: capacity, Share: float64(capacity) / float64(max(t.Footprint, 1))}
	var cache replay.Cache = replay.NewLRU(capacity)
	if policy != LRUPolicy {
		name, asked := policy, (*memoryHook)(nil)
		if policy == HookPolicy && hook != nil {
			name, asked = replay.DefaultPolicy, hook
		}
		memory, err := asked.newMemory(capacity, name)
		if err != nil {
			return row, err
		}
		cache = memory
	}
	var report func(int)
	if progress != nil {
		report = func(done int) { progress(policy, float64(done)/float64(len(t.IDs))) }
	}
	var err error
	if row.Result, err = replay.Run(ctx, t, cache, report); err != nil {
		return row, err
	}
	row.HitRatio, row.ByteHitRatio = row.Result.HitRatio(), row.Result.ByteHitRatio()
	if memory, ok := cache.(*replay.Memory); ok {
		row.HookCalls, row.HookFaults = memory.HookCalls()
		row.HookRefused = memory.Refused()
	}
	return row, nil
}

// ServeReplay answers another program that plays a trace (replay.Serve) from the
// memory tier with the given policy, and with the module's evict and admit hooks
// unless m is nil.
func ServeReplay(ctx context.Context, m *Module, capacity int64, policy string, serve func(replay.Cache) error) (err error) {
	var hook *memoryHook
	if m != nil {
		if hook, err = m.openMemory(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, hook.host.Close()) }()
	}
	memory, err := hook.newMemory(capacity, policy)
	if err != nil {
		return err
	}
	return serve(memory)
}

// Ranks reports whether the module has a say in what memory keeps: an evict or an
// admit hook.
func (m *Module) Ranks() bool { return m.Has("evict") || m.Has("admit") }

// A memoryHook lets a module rank what may leave memory and say what comes in, as
// the node does. It is used by one goroutine.
type memoryHook struct {
	host         *hooks.Host
	evict, admit bool         // the module has the hook
	now          func() int64 // Unix ms
	space        []abi.Candidate
}

var (
	_ l1.Scorer   = (*memoryHook)(nil)
	_ l1.Admitter = (*memoryHook)(nil)
)

// openMemory loads the module for the hooks of the memory tier. The caller closes
// the host.
func (m *Module) openMemory(ctx context.Context) (*memoryHook, error) {
	names, err := m.hookNames(ctx, "evict", "admit")
	if err == nil && len(names) == 0 {
		err = fmt.Errorf("%s has neither an evict nor an admit hook: memory has nothing to ask it", m.Path)
	}
	if err != nil {
		return nil, err
	}
	host, err := m.open(ctx, nil, nil, names...)
	if err != nil {
		return nil, err
	}
	return &memoryHook{host: host, evict: slices.Contains(names, "evict"), admit: slices.Contains(names, "admit")}, nil
}

// newMemory returns a memory tier that asks h, which may be nil.
func (h *memoryHook) newMemory(capacity int64, policy string) (*replay.Memory, error) {
	var asked replay.Hooks
	if h != nil && h.evict {
		asked.Evict = h
	}
	if h != nil && h.admit {
		asked.Admit = h
	}
	memory, err := replay.NewMemory(capacity, policy, asked)
	if err == nil && h != nil {
		h.now = memory.Now
	}
	return memory, err
}

// Score implements l1.Scorer.
func (h *memoryHook) Score(dst []int32, c []item.Candidate, pressure float64) []int32 {
	dst, _ = h.host.Score(dst, h.candidates(c), pressure, uint64(h.now()))
	return dst
}

// Admit implements l1.Admitter.
func (h *memoryHook) Admit(newcomer item.Candidate, victims []item.Candidate, pressure float64) (admit, ok bool) {
	return h.host.Admit(abiCandidate(&newcomer), h.candidates(victims), pressure, uint64(h.now()))
}

func (h *memoryHook) candidates(c []item.Candidate) []abi.Candidate {
	h.space = h.space[:0]
	for i := range c {
		h.space = append(h.space, abiCandidate(&c[i]))
	}
	return h.space
}

func abiCandidate(c *item.Candidate) abi.Candidate {
	return abi.Candidate{
		ID: c.Hash, Size: c.Size, AgeSeconds: c.Age, IdleMillis: c.Idle, Hits: c.Hits,
		LeftSeconds: c.Lifetime, Flags: uint16(c.Flags), TagClass: uint16(c.TagClass),
	}
}
