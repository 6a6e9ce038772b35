package tiers

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/journal"
)

// errTooManyRules is wrapped in ErrPressure's stead when bulk deletes and purges
// come faster than they can be swept.
var errTooManyRules = errors.New("tiers: too many bulk deletes and purges wait to be applied")

const (
	maxUnswept  = 16_384 // rules not yet applied everywhere
	maxRetained = 65_536 // rules kept for writes and fetches that began before them
)

// A liveRule is a rule with how far it has been applied.
type liveRule struct {
	item.Rule
	sweptL1 bool
	sweptL2 bool // or there is no L2, or the walk that makes it trusted will see to it
	sweptL3 bool
	inL3    bool        // the rules table holds it
	seq     uint64      // its change in L3, or a later one; set with inL3 by the node that made it
	order   uint64      // it was the order-th to be added
	sweptAt uint64      // sweptL3 was set as the sweptAt-th; 0 before
	pos     journal.Pos // its record, to be released once inL3
	logged  bool        // pos is set

	countL1, countL2, countL3 atomic.Int64 // what it has removed
}

// ruleSet holds the rules of this node. What a rule covers is absent from its
// acknowledgement on, before any sweep has removed it.
type ruleSet struct {
	// unsweptL1 is the greatest version of the rules not yet applied to L1, or
	// 0: an L1 entry at least as new needs no further look.
	unsweptL1 atomic.Uint64
	// newest is the greatest version of all rules.
	newest atomic.Uint64
	// installed counts the rules that were added: two may come in another order
	// than that of their versions.
	installed atomic.Uint64
	// swept counts those that have been applied to L3's rows.
	swept atomic.Uint64

	// stamping orders the versions of rules and of conditional writes: a rule
	// takes its version under it, a conditional write looks for rules and takes
	// its version under it (for reading). It guards the three fields below.
	stamping sync.RWMutex
	begun    uint64        // rules that have taken a version
	making   int           // of these, how many do not hold yet
	made     chan struct{} // closed when making falls to 0

	mu    sync.RWMutex
	rules []*liveRule // ascending by version, as are those below
	index ruleIndex   // of rules
	open  []*liveRule // of rules, the unapplied
	// forgotten is the greatest version of the rules that were let go: what a
	// fetch brings that began before it is not stored any more.
	forgotten item.Version
	// forgottenSoft is the same for soft purges: a stored answer in L3 that is
	// older is taken as stale, since nobody knows any more.
	forgottenSoft item.Version
}

// begin calls stamp, which gives a rule its version. From here until end no
// conditional write is decided: what it read might be what the rule removes.
func (s *ruleSet) begin(stamp func()) {
	s.stamping.Lock()
	defer s.stamping.Unlock()
	if s.making == 0 {
		s.made = make(chan struct{})
	}
	s.begun++
	s.making++
	stamp()
}

// end says that the rule holds, or never will.
func (s *ruleSet) end() {
	s.stamping.Lock()
	defer s.stamping.Unlock()
	if s.making--; s.making == 0 {
		close(s.made)
	}
}

// quiet waits until no rule is between its version and its effect, and returns
// how many have begun so far.
func (s *ruleSet) quiet(ctx context.Context) (begun uint64, err error) {
	for {
		s.stamping.RLock()
		begun, making, made := s.begun, s.making, s.made
		s.stamping.RUnlock()
		if making == 0 {
			return begun, nil
		}
		select {
		case <-made:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// add installs r. It holds for every read that begins after.
func (s *ruleSet) add(r *liveRule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(r)
}

// meet installs r unless the same rule is there. It returns the one that is there
// now, and whether it was.
func (s *ruleSet) meet(r *liveRule) (live *liveRule, met bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if live = s.findLocked(&r.Rule); live != nil {
		return live, true
	}
	s.addLocked(r)
	return r, false
}

func (s *ruleSet) addLocked(r *liveRule) {
	s.rules = insert(s.rules, r)
	s.index.add(r)
	if unapplied(r) {
		s.open = insert(s.open, r)
	}
	s.newest.Store(max(s.newest.Load(), uint64(r.Version)))
	r.order = s.installed.Add(1)
	s.noteSweptLocked(r)
	s.refreshLocked()
}

// noteSweptLocked remembers when r had been applied to L3's rows.
func (s *ruleSet) noteSweptLocked(r *liveRule) {
	if r.sweptL3 && r.sweptAt == 0 {
		r.sweptAt = s.swept.Add(1)
	}
}

func (s *ruleSet) refreshLocked() {
	var newest item.Version
	for _, r := range s.open {
		if !r.sweptL1 {
			newest = max(newest, r.Version)
		}
	}
	s.unsweptL1.Store(uint64(newest))
}

// crowded reports whether half of the room is taken.
func (s *ruleSet) crowded() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.open) >= maxUnswept/2
}

// room reports an error if no further rule can be taken now.
func (s *ruleSet) room() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if len(s.open) >= maxUnswept {
		return errTooManyRules
	}
	return nil
}

// A coverage says what the rules make of an item.
type coverage struct {
	deleted bool         // by a bulk delete
	purged  bool         // by a hard purge
	stale   bool         // by a soft purge
	by      item.Version // of the newest rule that deletes or purges hard
}

// covers asks the rules newer than v's content, as far as they are relevant,
// about v.
func (s *ruleSet) covers(v item.View, relevant func(*liveRule) bool) coverage {
	var c coverage
	version := v.ContentVersion()
	if uint64(version) >= s.newest.Load() {
		return c
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	c.stale = version < s.forgottenSoft
	for r := range s.index.newerOf(v, version) {
		if relevant(r) && r.Covers(v) {
			c.note(&r.Rule)
		}
	}
	return c
}

// Which rules matter to whom.
func everyRule(*liveRule) bool       { return true }
func notInL1(r *liveRule) bool       { return !r.sweptL1 }
func unapplied(r *liveRule) bool     { return !r.sweptL1 || !r.inL3 || !r.sweptL2 || !r.sweptL3 }
func notSweptInL2(r *liveRule) bool  { return !r.sweptL2 }
func notSweptInL3(r *liveRule) bool  { return !r.sweptL3 }
func deleteNotInL3(r *liveRule) bool { return r.Op == item.OpDelete && !r.sweptL3 }

// A moment says which rules there were, and which of them had been applied to
// L3's rows. It is taken before a read of L3 begins.
type moment struct{ installed, swept uint64 }

func (s *ruleSet) now() moment { return moment{installed: s.installed.Load(), swept: s.swept.Load()} }

// sinceRead returns what matters to an answer of L3 that was asked for at m:
// rules that L3 had not applied to all its rows then, whether or not it has
// meanwhile, rules that came since, and soft purges, which L3 does not apply.
func sinceRead(m moment) func(*liveRule) bool {
	return func(r *liveRule) bool { return r.sweptAt == 0 || r.sweptAt > m.swept || r.Op == item.OpPurgeSoft }
}

// knownAt is sinceRead without the rules that came after m.
func knownAt(m moment) func(*liveRule) bool {
	since := sinceRead(m)
	return func(r *liveRule) bool { return r.order <= m.installed && since(r) }
}

func (c *coverage) note(r *item.Rule) {
	if r.Op == item.OpPurgeSoft {
		c.stale = true
		return
	}
	c.deleted = c.deleted || r.Op == item.OpDelete
	c.purged = c.purged || r.Op == item.OpPurge
	c.by = max(c.by, r.Version)
}

// coversFetch asks about an answer that is about to be stored under key with
// tags and was asked for at version since.
func (s *ruleSet) coversFetch(key item.Key, tags []string, since item.Version) bool {
	if uint64(since) >= s.newest.Load() {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if since < s.forgotten {
		return true
	}
	for r := range s.index.newer(key, tags, since) {
		if r.InScope(key) && names(&r.Rule, key, tags) {
			return true
		}
	}
	return false
}

func names(r *item.Rule, key item.Key, tags []string) bool {
	switch r.Match {
	case item.MatchAll:
		return true
	case item.MatchKey, item.MatchKeyPrefix:
		return r.MatchesKey(key)
	}
	for _, t := range tags {
		if r.MatchesTag(t) {
			return true
		}
	}
	return false
}

// is asks f about r, whose state others may change meanwhile.
func (s *ruleSet) is(r *liveRule, f func(*liveRule) bool) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return f(r)
}

// which returns the rules for which f is true, oldest first.
func (s *ruleSet) which(f func(*liveRule) bool) []*liveRule {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return selected(s.rules, f)
}

// waiting is which for an f that is true of unapplied rules only.
func (s *ruleSet) waiting(f func(*liveRule) bool) []*liveRule {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return selected(s.open, f)
}

func selected(list []*liveRule, f func(*liveRule) bool) (found []*liveRule) {
	for _, r := range list {
		if f(r) {
			found = append(found, r)
		}
	}
	return found
}

// findLocked returns the live rule that is the same as r, or nil.
func (s *ruleSet) findLocked(r *item.Rule) *liveRule {
	for i := len(s.rules) - 1; i >= 0 && s.rules[i].Version >= r.Version; i-- {
		if live := s.rules[i]; live.Version == r.Version && bytes.Equal(live.AppendTo(nil), r.AppendTo(nil)) {
			return live
		}
	}
	return nil
}

// update changes rules under the lock and renews what is derived from them.
func (s *ruleSet) update(f func(*liveRule), rules ...*liveRule) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range rules {
		was := unapplied(r)
		f(r)
		if !was && unapplied(r) && slices.Contains(s.rules, r) { // it may be forgotten already
			s.open = insert(s.open, r)
		}
		s.noteSweptLocked(r)
	}
	s.open = slices.DeleteFunc(s.open, func(r *liveRule) bool { return !unapplied(r) })
	s.refreshLocked()
}

// forget lets go of rules that have been applied everywhere: those older than
// before, soft purges older than beforeSoft, and the oldest beyond the bound.
func (s *ruleSet) forget(before, beforeSoft item.Version) {
	s.mu.Lock()
	defer s.mu.Unlock()
	excess := len(s.rules) - maxRetained
	kept := s.rules[:0]
	for _, r := range s.rules {
		over := r.Version < before
		if r.Op == item.OpPurgeSoft {
			over = r.Version < beforeSoft
		}
		if unapplied(r) || !over && excess <= 0 {
			kept = append(kept, r)
			continue
		}
		excess--
		s.forgotten = max(s.forgotten, r.Version)
		if r.Op == item.OpPurgeSoft {
			s.forgottenSoft = max(s.forgottenSoft, r.Version)
		}
	}
	if len(kept) == len(s.rules) {
		return
	}
	clear(s.rules[len(kept):])
	s.rules, s.index = kept, ruleIndex{}
	for _, r := range kept {
		s.index.add(r)
	}
}
