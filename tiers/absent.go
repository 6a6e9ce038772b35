package tiers

import (
	"github.com/edgenode/edgenode/tiers/filter"
	"github.com/edgenode/edgenode/tiers/item"
)

// What the filter saves is the read of L3 for a key that is not there. It is asked
// after L1, pending and L2, and never alone where the answer decides something:
// see ReadOptions.Sure. filterkeep.go keeps it true.

// missing reports whether key certainly has no live row in L3. The caller has
// looked into pending before: what leaves that is in the filter already.
func (e *Engine) missing(key item.Key, o ReadOptions) bool {
	return e.filter != nil && !o.sure() && e.filter.DefinitelyMissing(key)
}

// sure reports whether L3 must be asked whatever the filter says.
func (o *ReadOptions) sure() bool { return o.Sure || o.MinVersion > 0 }

// seen tells the filter that key has a row in L3: it was committed, or read. It is
// called before key leaves pending, and before who asked gets the row.
func (e *Engine) seen(key item.Key) {
	e.noteShown(key)
	if e.filter == nil {
		return
	}
	if err := e.filter.Seen(key); err != nil {
		signal(e.filter.wake)
	}
}

// seenElsewhere is seen for a key that another node may have written: what this
// node has shown once it does not deny.
func (e *Engine) seenElsewhere(key item.Key) {
	if e.options.L3Shared {
		e.seen(key)
	}
}

// seenInL2 is seenElsewhere for a copy in L2.
func (e *Engine) seenInL2(v item.View) {
	if v.Tiers()&item.L3 != 0 {
		e.seenElsewhere(v.Key())
	}
}

// askL3 reports whether a look into L3 is needed for a key that is neither in
// pending nor in L2, and whether finding nothing there is news.
func (e *Engine) askL3(key item.Key, sure bool) (needed, news bool) {
	switch {
	case e.filter == nil || sure:
		return true, false
	case e.l2 != nil && e.filter.DefinitelyMissing(key): // without L2 it was asked before
		return false, false
	}
	return true, e.filter.Trusted()
}

// falsePositive counts that L3 has nothing where the filter said "perhaps".
func (e *Engine) falsePositive(news bool, v item.View, ok bool) {
	if news && (!ok || v.Kind() == item.KindTombstone) {
		e.filter.FalsePositive()
	}
}

// neverWas reports whether nothing of key was there before the only write of it
// that is pending. On an L3 of its own a trusted filter knows. Where there is an
// L2, the item may have lived there alone.
func (e *Engine) neverWas(p *pendingID) bool {
	return e.filter != nil && !e.options.L3Shared && e.l2 == nil && len(p.records) == 1 && e.filter.DefinitelyMissing(item.Key(p.key))
}

// DefinitelyMissing reports whether there is certainly no item of key, in memory,
// pending or in L3, without any I/O. On a shared L3 that is as of a follow interval
// ago at most. Where there is an L2, it says nothing of items that live there alone.
// It is false while the filter is not trusted; then, and where the answer decides
// something, ask Contains.
func (e *Engine) DefinitelyMissing(key item.Key) bool {
	if e.filter == nil || e.closed.Load() {
		return false
	}
	hash := e.hash(key)
	if h, ok := e.fromL1(hash, key, e.clock.UnixMilli()); ok {
		h.Release()
		return false
	}
	s := e.pending.stripe(hash)
	s.mu.Lock()
	pending := s.ids[string(key)] != nil
	s.mu.Unlock()
	return !pending && e.filter.DefinitelyMissing(key)
}

// MightExist is the opposite of DefinitelyMissing.
func (e *Engine) MightExist(key item.Key) bool { return !e.DefinitelyMissing(key) }

// FilterHealth is what is known of the filter.
type FilterHealth struct {
	Trusted bool   // a miss that it knows of costs no read of L3
	Reason  string `json:",omitempty"` // why it is not trusted
	Items   uint64 // ids in it, deleted ones that it still has included
	Warming bool   // it is being filled anew from L3
	Warmed  uint64 // ids that this has taken so far
}

func (e *Engine) filterHealth() *FilterHealth {
	if e.filter == nil {
		return nil
	}
	s := e.filter.Stats()
	h := &FilterHealth{Trusted: s.Trusted, Items: s.Items, Warming: s.Warming}
	if !s.Trusted {
		h.Reason = s.Reason
	}
	if s.Warming {
		h.Warmed = s.Warmed
	}
	return h
}

var _ filter.Source = filterSource{}
