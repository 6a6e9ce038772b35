package proxy

import (
	"context"

	"github.com/edgenode/edgenode/tiers"
)

// hold sees to it that a big answer that was read below L1, and so is a copy of
// our own, is bounded while its client reads: it takes the one that lies in L1
// by now, or counts it in Proxy.fillBytes. It reports false if there is no room
// for another.
func (p *Proxy) hold(ctx context.Context, f *found) bool {
	n := int64(len(f.hit.View.Content()))
	if f.hit.Source == tiers.FromL1 || n <= smallBody || p.holdInL1(ctx, f) {
		return true
	}
	if p.reserve(n) {
		f.reserved = n
		return true
	}
	return false
}

// holdInL1 takes the same version from L1, whose budget bounds it.
func (p *Proxy) holdInL1(ctx context.Context, f *found) bool {
	again, ok, err := p.o.Engine.Get(ctx, f.hit.View.Key(), tiers.ReadOptions{})
	if err != nil || !ok {
		return false
	}
	m, ok := p.metaOf(again.View.Response())
	if !ok || again.Source != tiers.FromL1 || again.View.Version() != f.hit.View.Version() {
		again.Release()
		return false
	}
	source := f.hit.Source // where it was found
	f.hit.Release()
	f.hit, f.meta = again, m
	f.hit.Source = source
	return true
}

// letGo releases what is stored, and what hold took for it.
func (p *Proxy) letGo(f *found) {
	f.hit.Release()
	if f.reserved != 0 { // else all cores would write there for each hit
		p.fillBytes.Add(-f.reserved)
		f.reserved = 0
	}
}
