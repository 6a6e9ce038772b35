package tiers

import (
	"fmt"

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
func (e *Engine) openL1() (*l1.Cache, error) {
	o := &e.options
	var line seldom
	c := l1.New(l1.Options{
		MaxBytes: o.L1MaxBytes, Scorer: rankings[o.Eviction],
		Contest: o.Eviction == "auto" || o.Eviction == "objects", Queues: o.Eviction == "bytes",
		TimeIdle: o.Eviction == "tan" || o.Eviction == "lru",
		Seed:     uint64(e.clock.Last()), Now: e.clock.UnixMilli, Metrics: o.Metrics,
		Events: l1.Events{NoMemory: func(err error) {
			if kept, ok := line.now(e.clock.UnixMilli()); ok {
				e.logger.Warn("the system gives the memory tier no memory; it holds less than it may", "err", err, "more", kept)
			}
		}},
	})
	if err := c.Check(); err != nil {
		c.Close()
		return nil, fmt.Errorf("tiers: memory tier of %d bytes: %w", o.L1MaxBytes, err)
	}
	return c, nil
}

// L1HeapBytes returns what of the memory tier's budget is taken on the heap: its
// tables, and what else counts against it. Its records lie outside.
func (e *Engine) L1HeapBytes() int64 { return max(0, e.l1.UsedBytes()-e.l1.MappedBytes()) }

// idleChunks is how many chunks of memory that nobody needs L1 gives back to the
// system at a time, so that as after a purge it takes what it holds.
const idleChunks = 64

// A Namespace is a part of what is in L1 with a weight or a budget of its own.
type Namespace = l1.Namespace

func (o *Options) namespaces() l1.Namespaces {
	return l1.Namespaces{List: o.Namespaces, Of: o.NamespaceOf}
}

// SetMemoryHooks changes who is asked what leaves L1, and what comes in at the
// price of others; nil is nobody, as at first. See l1.Cache.SetHooks. They may be
// called with locks of the engine held, and so must not write to it.
func (e *Engine) SetMemoryHooks(evict l1.Scorer, admit l1.Admitter) { e.l1.SetHooks(evict, admit) }
