package tiers

import (
	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/l1"
)

// rankings are the built-in rankings by name.
var rankings = map[string]l1.Scorer{
	"auto":    eviction.Auto{},
	"objects": eviction.Auto{},
	"bytes":   eviction.Auto{Bytes: 1},
	"tan":     eviction.Tan{},
	"lru":     eviction.LRU{},
}

// openL1 makes the memory tier with the configured ranking.
func (e *Engine) openL1() *l1.Cache {
	o := &e.options
	return l1.New(l1.Options{
		MaxBytes: o.L1MaxBytes, Scorer: rankings[o.Eviction],
		Contest: o.Eviction == "auto" || o.Eviction == "objects", Queues: o.Eviction == "bytes",
		TimeIdle: o.Eviction == "tan" || o.Eviction == "lru",
		Seed:     uint64(e.clock.Last()), Now: e.clock.UnixMilli, Metrics: o.Metrics,
	})
}

// SetMemoryHooks changes who is asked what leaves L1, and what comes in at the
// price of others; nil is nobody, as at first. See l1.Cache.SetHooks. They may be
// called with locks of the engine held, and so must not write to it.
func (e *Engine) SetMemoryHooks(evict l1.Scorer, admit l1.Admitter) { e.l1.SetHooks(evict, admit) }
