package tiers

import "github.com/edgenode/edgenode/tiers/l1"

// Hottest tells which keys were found in memory most often, in a window of 10 s.
type Hottest = l1.Hottest

// A HotKey is one of them.
type HotKey = l1.HotKey

// Hottest returns up to n, at most 64, of the keys that were found in memory
// most often in the last window of 10 s that is over, or in the first one. It
// may be called at any time; it costs the same whatever the number of items.
func (e *Engine) Hottest(n int) Hottest { return e.l1.Hottest(n, e.clock.UnixMilli()) }
