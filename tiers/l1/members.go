package l1

import "sync"

// members are the records of a namespace with a budget, in no order, so that some
// can be drawn by chance whatever else is in the cache. Those that have left stay
// listed until they are come across: each that is added looks at two others, so
// that they never are the greater part for long.
type members struct {
	// mu guards the fields below. It is a leaf lock.
	mu       sync.Mutex
	on       bool
	missed   bool // there was no room to list one
	segments []*memberSegment
	count    int
	hand     int // the next to be looked at
}

// member is an entry, if it still is of this namespace and of a key with this tag.
type member struct{ tag, number uint32 }

type memberSegment [segmentMembers]member

const (
	segmentMembers     = 512
	memberSegmentBytes = segmentMembers*8 + 2*8 // and its pointer, in a list that doubles
)

// enable says whether members are listed; if not, it returns how many bytes the
// list took.
func (l *members) enable(on bool) (freed int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on = on; !on {
		freed = int64(len(l.segments)) * memberSegmentBytes
		l.segments, l.count, l.hand, l.missed = nil, 0, 0, false
	}
	return freed
}

func (l *members) incomplete() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.missed
}

func (l *members) at(i int) *member { return &l.segments[i/segmentMembers][i%segmentMembers] }

// removeLocked takes the one at position i off the list, and returns how many
// bytes became free.
func (l *members) removeLocked(i int) (freed int64) {
	l.count--
	*l.at(i) = *l.at(l.count)
	if spare := len(l.segments)*segmentMembers - l.count; spare >= 2*segmentMembers {
		l.segments[len(l.segments)-1] = nil
		l.segments = l.segments[:len(l.segments)-1]
		return memberSegmentBytes
	}
	return 0
}

// enlistMember lists m, which has just come into ns, if that has a budget.
func (c *Cache) enlistMember(ns *namespace, m member, nowMilli int64) {
	if ns == nil || ns.limit == 0 {
		return
	}
	l := &ns.members
	l.mu.Lock()
	if freed := c.tidyLocked(ns); freed > 0 {
		c.unclaim(freed)
	}
	for l.on && l.count == len(l.segments)*segmentMembers {
		l.mu.Unlock()
		room := c.makeRoom(memberSegmentBytes, nowMilli)
		l.mu.Lock()
		switch {
		case !room:
			l.missed = true
			l.mu.Unlock()
			return
		case l.on && l.count == len(l.segments)*segmentMembers:
			l.segments = append(l.segments, new(memberSegment))
		default:
			c.unclaim(memberSegmentBytes)
		}
	}
	if l.on {
		l.count++
		*l.at(l.count - 1) = m
	}
	l.mu.Unlock()
}

// joined lists m, which has come into ns. If namespaces have changed since room was
// claimed for it, ns may be above its budget now.
func (c *Cache) joined(ns *namespace, m member, nowMilli int64) {
	c.enlistMember(ns, m, nowMilli)
	if ns.over() {
		b := c.borrow(nowMilli)
		c.evictOver(ns, b)
		c.giveBack(b)
	}
}

// tidyLocked looks at two members and takes those off the list that have left. If
// after a turn the list is long all the same, some are there many times.
func (c *Cache) tidyLocked(ns *namespace) (freed int64) {
	l := &ns.members
	for range 2 {
		if l.hand >= l.count {
			if l.hand = 0; int64(l.count) > 3*ns.items.Load()+2*segmentMembers {
				freed += c.dedupLocked(ns)
			}
		}
		switch {
		case l.count == 0:
		case c.belongs(*l.at(l.hand), ns):
			l.hand++
		default:
			freed += l.removeLocked(l.hand)
		}
	}
	return freed
}

// dedupLocked leaves each member once on the list. What leaves and comes in again,
// as the same key often does with the number that it had, is listed each time while
// the former member seems to be right again. It looks at all of them, and takes a
// bit for each entry meanwhile; there must be as many additions between two calls.
func (c *Cache) dedupLocked(ns *namespace) (freed int64) {
	l, seen := &ns.members, make([]uint64, c.entries.len()/64+1)
	for i := 0; i < l.count; {
		m := *l.at(i)
		word, bit := int(m.number/64), uint64(1)<<(m.number%64)
		if !c.belongs(m, ns) || word < len(seen) && seen[word]&bit != 0 {
			freed += l.removeLocked(i)
			continue
		}
		if word < len(seen) { // else the table has grown just now
			seen[word] |= bit
		}
		i++
	}
	return freed
}

// belongs reports whether m still is what it was listed for. It may change.
func (c *Cache) belongs(m member, ns *namespace) bool {
	if m.number >= c.entries.len() {
		return false
	}
	e := c.entries.at(m.number)
	return e.refs.Load()&seized != closed && tagOf(e.hash.Load()) == m.tag && meta(e.meta.Load()).space() == ns.id
}

// draw writes the numbers of some records of ns to dst, by chance unless these
// are all, and returns how many there are.
func (c *Cache) draw(ns *namespace, b *batch, dst *[candidates]uint32) (n int) {
	l, freed := &ns.members, int64(0)
	l.mu.Lock()
	defer l.mu.Unlock()
	for tries := 0; tries < 8*candidates && n < candidates && l.count > 0; tries++ {
		i := n
		if l.count > candidates {
			i = b.below(l.count)
		} else if n >= l.count {
			break
		}
		if m := *l.at(i); c.belongs(m, ns) {
			dst[n] = m.number
			n++
		} else {
			freed += l.removeLocked(i)
		}
	}
	if freed > 0 {
		c.unclaim(freed)
	}
	return n
}
