package l1

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/item"
)

// Limits of namespaces.
const (
	MaxNamespaces = 255
	MinWeight     = 0.01
	MaxWeight     = 100

	// MaxShareOfBudget is how many records of the largest size that it takes fit a
	// namespace with a budget, as fit the cache.
	MaxShareOfBudget = 4
)

// A Namespace is a part of what is in the cache that is worth more or less than
// the rest, or may take so much of it.
type Namespace struct {
	// Name says it in metrics and errors, and which it is when namespaces change.
	Name string

	// Weight is what a hit is worth, from MinWeight to MaxWeight: rankings, the
	// contest and queues count a hit as so many. 0 means 1. Evict hooks decide among
	// those that are lowest with it.
	Weight float64

	// MaxBytes is what its records may take, by their slots; 0 is no budget. Above it
	// its own leave for what comes in, by the native ranking, and no record of more
	// than a quarter comes in. Only what is pinned may pass it.
	MaxBytes int64
}

// Namespaces are those of a cache. No two have one name.
type Namespaces struct {
	List []Namespace // at most MaxNamespaces

	// Of returns the position in List of the namespace of a record, or another
	// number for none. It is asked in each Put, at times with a lock held: it must be
	// short, must not block, and must say the same of each record of one key.
	Of func(record item.View) int
}

// Check returns what is wrong with n, all of it.
func (n Namespaces) Check() error {
	var errs []error
	if len(n.List) > MaxNamespaces {
		errs = append(errs, fmt.Errorf("l1: %d namespaces; at most %d can have a weight or a budget", len(n.List), MaxNamespaces))
	}
	if len(n.List) > 0 && n.Of == nil {
		errs = append(errs, errors.New("l1: namespaces, and nothing that says which records are theirs"))
	}
	names := map[string]bool{}
	for _, s := range n.List {
		if names[s.Name] {
			errs = append(errs, fmt.Errorf("l1: namespace %q is there twice", s.Name))
		}
		names[s.Name] = true
		if s.Weight != 0 && !(s.Weight >= MinWeight && s.Weight <= MaxWeight) {
			errs = append(errs, fmt.Errorf("l1: namespace %q: the weight %v is not from %v to %v", s.Name, s.Weight, MinWeight, MaxWeight))
		}
		if s.MaxBytes < 0 {
			errs = append(errs, fmt.Errorf("l1: namespace %q: a budget of %d bytes", s.Name, s.MaxBytes))
		}
	}
	return errors.Join(errs...)
}

// spaces are the namespaces at one time. It does not change; what is counted
// goes on from one to the next.
type spaces struct {
	list     []*namespace // as in Namespaces.List
	byNumber []*namespace // by the number in meta, nil where there is none
	budgeted []*namespace // those with a budget
	budgets  int64        // their sum
	assign   func(record item.View) int
	taken    int64 // bytes, while it lives
	metrics  *metrics.Set
}

// namespace is one of them.
type namespace struct {
	name      string
	id        uint8 // in meta, from 1
	logWeight int16
	limit     int64 // 0 for none
	unlisted  bool  // it has a budget since this change
	*tally
}

// tally is what is counted of a namespace as long as it has its number.
type tally struct {
	bytes   atomic.Int64 // of the slots of what is in the index, and of what is coming in
	items   atomic.Int64 // in the index
	evicted atomic.Uint64
	refused atomic.Uint64 // for its budget
	members members
}

// of returns the namespace of a record, nil for none.
func (sp *spaces) of(record []byte) *namespace {
	if len(sp.list) == 0 {
		return nil
	}
	if i := sp.assign(item.View(record)); i >= 0 && i < len(sp.list) {
		return sp.list[i]
	}
	return nil
}

// at returns the namespace with a number, nil for none.
func (sp *spaces) at(number uint8) *namespace {
	if int(number) < len(sp.byNumber) {
		return sp.byNumber[number]
	}
	return nil
}

func (sp *spaces) weight(m meta) int16 {
	if m.space() == 0 {
		return 0
	}
	return sp.at(m.space()).weight()
}

func (sp *spaces) countEvicted(number uint8) {
	if ns := sp.at(number); ns != nil {
		ns.evicted.Add(1)
	}
}

func (ns *namespace) weight() int16 {
	if ns == nil {
		return 0
	}
	return ns.logWeight
}

func (ns *namespace) number() uint8 {
	if ns == nil {
		return 0
	}
	return ns.id
}

// claim takes n bytes of the budget if they are free.
func (ns *namespace) claim(n int64) bool {
	for ns != nil {
		used := ns.bytes.Load()
		if ns.limit > 0 && n > ns.limit-used {
			return false
		}
		if ns.bytes.CompareAndSwap(used, used+n) {
			break
		}
	}
	return true
}

// take is claim that passes the budget.
func (ns *namespace) take(n int64) {
	if ns != nil {
		ns.bytes.Add(n)
	}
}

func (ns *namespace) unclaim(n int64) { ns.take(-n) }

func (ns *namespace) over() bool { return ns.limit > 0 && ns.bytes.Load() > ns.limit }

// enter counts what has claimed its bytes and is now in the index.
func (ns *namespace) enter() {
	if ns != nil {
		ns.items.Add(1)
	}
}

// leaveSpace counts that e, of a shard that the caller has locked, is no longer in
// the index.
func (c *Cache) leaveSpace(e *entry) {
	number := meta(e.meta.Load()).space()
	if number == 0 {
		return
	}
	if ns := c.spaces.Load().at(number); ns != nil {
		ns.unclaim(int64(c.slab.chunk(place(e.place.Load())).slotSize))
		ns.items.Add(-1)
	}
}

// SetNamespaces divides the cache anew. What is in it is looked at, each record
// once, and what is above a new budget leaves before it returns, unless it is
// pinned or read at the moment. A namespace that keeps its name keeps its counts,
// unless old and new together are more than MaxNamespaces.
// After an error nothing has changed.
func (c *Cache) SetNamespaces(n Namespaces) error {
	if err := n.Check(); err != nil {
		return err
	}
	c.hooking.Lock()
	defer c.hooking.Unlock()
	old := c.spaces.Load()
	if len(n.List) == 0 && len(old.list) == 0 {
		return nil
	}
	if old.together(n) > MaxNamespaces { // not enough numbers: begin anew
		if err := c.setSpaces(old, Namespaces{}); err != nil {
			return err
		}
		old = c.spaces.Load()
	}
	return c.setSpaces(old, n)
}

// setSpaces puts n in the place of old. The caller holds c.hooking.
func (c *Cache) setSpaces(old *spaces, n Namespaces) error {
	next := old.next(n)
	if !c.makeRoom(next.taken, 0) {
		return errors.New("l1: no room for the tables of namespaces: too much is pinned")
	}
	for _, ns := range next.budgeted {
		ns.members.enable(true)
	}
	old.unregister()
	next.register()
	c.spaces.Store(next)
	// A Put that goes by the table before looks again with the lock of the shard
	// held: what it has linked before this line is found by relabel, and what it
	// links later is of the table that is now.
	for i := range c.shards {
		c.shards[i].pass()
	}
	c.relabel(next)
	c.forgetSpaces(old, next)
	b := c.borrow(0)
	defer c.giveBack(b)
	for _, ns := range next.budgeted {
		c.evictOver(ns, b)
	}
	return nil
}

// pass waits for who holds the lock.
func (s *shard) pass() {
	s.mu.Lock()
	defer s.mu.Unlock()
}

// together returns how many namespaces there are in sp and n, by their names.
func (sp *spaces) together(n Namespaces) int {
	sum := len(sp.list)
	for _, s := range n.List {
		if !slices.ContainsFunc(sp.list, func(ns *namespace) bool { return ns.name == s.Name }) {
			sum++
		}
	}
	return sum
}

// next returns the spaces for n, in which those of sp that are no longer there
// keep their numbers.
func (sp *spaces) next(n Namespaces) *spaces {
	out := &spaces{assign: n.Of, metrics: sp.metrics, byNumber: make([]*namespace, MaxNamespaces+1)}
	copy(out.byNumber, sp.byNumber)
	free := uint8(1)
	for _, s := range n.List {
		ns := &namespace{name: s.Name, limit: s.MaxBytes, unlisted: s.MaxBytes > 0}
		if s.Weight > 0 {
			ns.logWeight = int16(math.Round(math.Log2(s.Weight) * item.WeightUnit))
		}
		for _, before := range sp.list {
			if before.name == s.Name {
				ns.id, ns.tally, ns.unlisted = before.id, before.tally, ns.unlisted && before.limit == 0
			}
		}
		out.list = append(out.list, ns)
	}
	for _, ns := range out.list {
		if ns.tally == nil {
			for out.byNumber[free] != nil { // there is one, see SetNamespaces
				free++
			}
			ns.id, ns.tally = free, &tally{}
		}
		out.byNumber[ns.id] = ns
		if ns.limit > 0 {
			out.budgeted = append(out.budgeted, ns)
			out.budgets += ns.limit
		}
	}
	out.taken = int64(unsafe.Sizeof(*out)) + 8*int64(len(out.byNumber)) +
		int64(len(out.list))*int64(unsafe.Sizeof(namespace{})+unsafe.Sizeof(tally{})+3*8)
	return out
}

// forgetSpaces frees what only the table before needed, and the numbers of
// namespaces that are gone: nothing in the cache has them.
func (c *Cache) forgetSpaces(old, next *spaces) {
	last := *next
	last.byNumber = slices.Clone(next.byNumber)
	for _, ns := range old.list {
		now := next.at(ns.id)
		if now == ns {
			last.byNumber[ns.id] = nil
		}
		if now == ns || now.limit == 0 {
			c.unclaim(ns.members.enable(false))
		}
	}
	c.spaces.Store(&last)
	c.unclaim(old.taken)
}

// relabel gives each record the number of its namespace in sp, and lists it there.
func (c *Cache) relabel(sp *spaces) {
	for number := range c.entries.len() {
		e := c.entries.at(number)
		if !c.pinPatiently(e, number) {
			continue
		}
		hash, ns, list := e.hash.Load(), sp.of(c.record(e)), false
		c.settle(hash, number, func(*shard, int) {
			m := meta(e.meta.Load())
			if list = ns != nil && ns.unlisted; m.space() == ns.number() {
				return
			}
			c.leaveSpace(e)
			e.meta.Store(uint64(m.in(ns.number())))
			ns.take(int64(c.slab.chunk(place(e.place.Load())).slotSize))
			ns.enter()
			list = true
		})
		c.unpin(e, number)
		if list {
			c.enlistMember(ns, member{tagOf(hash), number}, 0)
		}
	}
}
