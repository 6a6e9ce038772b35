package hooktool

import (
	"context"
	"errors"
	"fmt"
	"math"
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
	note(m.Has("evict") && !rec.Trace.Timed, "the trace has no times: those of a steady rate are taken")
	note(m.Has("admit"), "admit is not replayed: a replay makes room before it offers an object")
	return notes
}

// HitRatios plays a trace against caches of the given capacities, once with each
// policy. A policy is HookPolicy, LRUPolicy or one of replay.Policies. Progress,
// unless nil, is told which run is under way and its share, 0 to 1.
func HitRatios(ctx context.Context, m *Module, t *replay.Trace, capacities []int64, policies []string, progress func(policy string, share float64)) (rows []Row, err error) {
	var scorer *hookScorer
	if m != nil {
		h, err := m.open(ctx, nil, nil, "evict")
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, h.Close()) }()
		scorer = &hookScorer{host: h}
	}
	for _, capacity := range capacities {
		for _, policy := range policies {
			row, err := hitRatio(ctx, scorer, t, capacity, policy, progress)
			if err != nil {
				return nil, err
			}
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func hitRatio(ctx context.Context, scorer *hookScorer, t *replay.Trace, capacity int64, policy string, progress func(string, float64)) (Row, error) {
	row := Row{Policy: policy, Capacity: capacity, Share: float64(capacity) / float64(max(t.Footprint, 1))}
	var cache replay.Cache = replay.NewLRU(capacity)
	if policy != LRUPolicy {
		name, hook := policy, l1.Scorer(nil)
		if policy == HookPolicy && scorer != nil {
			name, hook = replay.DefaultPolicy, scorer
		}
		memory, err := replay.NewMemory(capacity, name, hook)
		if err != nil {
			return row, err
		}
		if hook != nil {
			scorer.now = memory.Now
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
	}
	return row, nil
}

// ServeReplay answers another program that plays a trace (replay.Serve) from the
// memory tier with the given policy, and with the module's evict hook unless m is
// nil.
func ServeReplay(ctx context.Context, m *Module, capacity int64, policy string, serve func(replay.Cache) error) (err error) {
	var hook l1.Scorer
	var scorer *hookScorer
	if m != nil {
		h, err := m.open(ctx, nil, nil, "evict")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.Close()) }()
		scorer = &hookScorer{host: h}
		hook = scorer
	}
	memory, err := replay.NewMemory(capacity, policy, hook)
	if err != nil {
		return err
	}
	if scorer != nil {
		scorer.now = memory.Now
	}
	return serve(memory)
}

// A hookScorer lets the module rank what may leave, as the node does. It is used
// by one goroutine.
type hookScorer struct {
	host  *hooks.Host
	now   func() int64 // Unix ms
	space []abi.Candidate
}

var _ l1.Scorer = (*hookScorer)(nil)

// Score implements l1.Scorer.
func (s *hookScorer) Score(dst []int32, c []item.Candidate, pressure float64) []int32 {
	s.space = s.space[:0]
	for i := range c {
		s.space = append(s.space, abi.Candidate{
			ID: c[i].Hash, Size: c[i].Size, AgeSeconds: c[i].Age, IdleMillis: c[i].Idle, Hits: c[i].Hits,
			LeftSeconds: c[i].Lifetime, Flags: uint16(c[i].Flags), TagClass: uint16(c[i].TagClass),
		})
	}
	dst, _ = s.host.Score(dst, s.space, pressure, uint64(s.now()))
	return dst
}
