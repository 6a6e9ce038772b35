package tiers

import (
	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/l1"
)

// openL1 makes the memory tier with the configured ranking.
func (e *Engine) openL1() *l1.Cache {
	o := &e.options
	opt := l1.Options{
		MaxBytes: o.L1MaxBytes, Hook: o.Scorer, Metrics: o.Metrics, Now: e.clock.UnixMilli,
		Seed: uint64(e.clock.Last()),
	}
	switch o.Eviction {
	case "tan":
		opt.Scorer, opt.TimeIdle = eviction.Tan{}, true
	default:
		opt.Scorer = eviction.Auto{}
	}
	return l1.New(opt)
}
