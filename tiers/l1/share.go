package l1

// The budget of a namespace is kept as that of the cache is: bytes are claimed
// before a record comes in, and its own leave until they are free.
//
// Where budgets add up to more than there is, the share of a namespace is its
// budget in proportion, and when room is needed the one that is above its share by
// the most pays, before anybody else is looked at.

// claimIn claims what comes in of its namespace, whose own leave for it. What is
// new must beat them if there is a contest. It reports false if it does not come
// in.
func (c *Cache) claimIn(in *incomer, o PutOptions) bool {
	ns, n := in.ns, int64(in.size)
	if ns == nil {
		return true
	}
	if ns.limit > 0 && n > ns.limit/MaxShareOfBudget && !o.Pinned {
		ns.refused.Add(1)
		return false
	}
	if ns.claim(n) {
		return true
	}
	b := c.borrow(o.NowMilli)
	defer c.giveBack(b)
	if !in.replaces && !o.Pinned {
		c.challenge(b, in, o)
	}
	for !ns.claim(n) {
		switch {
		case c.evictFrom(ns, b):
		case b.lost:
			c.haunt(in, o.NowMilli)
			return false
		case o.Pinned:
			ns.take(n)
			return true
		default:
			ns.refused.Add(1)
			return false
		}
	}
	in.won = b.rivals
	return true
}

// evictFrom removes the lowest of some records of ns. It reports false if there is
// none that may leave, or if the rival of b is not above it.
func (c *Cache) evictFrom(ns *namespace, b *batch) bool {
	for range 8 {
		if !c.sampleFrom(ns, b) {
			break
		}
		v := c.lowest(b, false)
		if b.rivals && c.loses(b, v) {
			b.lost = true
			return false
		}
		if c.remove(v) {
			return true
		}
	}
	return ns.members.incomplete() && c.evictAnyFrom(ns, b)
}

// evictOver removes records of ns until it is within its budget, or none of the
// others may leave.
func (c *Cache) evictOver(ns *namespace, b *batch) {
	for ns.over() && c.evictFrom(ns, b) {
	}
}

// evictAnyFrom walks the table for a record of ns that may leave. It is for what
// could not be listed as there was no room for the list.
func (c *Cache) evictAnyFrom(ns *namespace, b *batch) bool {
	n := c.entries.len()
	for range n {
		number := (c.hand.Add(1) - 1) % n
		if b.facts = b.facts[:0]; meta(c.entries.at(number).meta.Load()).space() != ns.id {
			continue
		}
		c.consider(b, number, nil)
		if len(b.facts) > 0 && c.remove(&b.seen[0]) {
			return true
		}
	}
	return false
}

// evictPayer removes a record of the namespace that is above its share, if there is
// one. What comes into another namespace need not beat it.
func (c *Cache) evictPayer(b *batch) bool {
	sp := c.spaces.Load()
	if len(sp.budgeted) == 0 {
		return false
	}
	ns := sp.payer(c.slotRoom())
	if ns == nil {
		return false
	}
	rivals := b.rivals
	b.rivals = rivals && b.space == ns
	done := c.evictFrom(ns, b)
	b.rivals = rivals
	return done
}

// slotRoom returns about how many bytes the slots of records may have in all: what
// tables do not take, less a sixteenth for slots that are free at the moment.
func (c *Cache) slotRoom() int64 {
	const tables = entryBytes + 24 // an entry, and its words in an index and its ghosts
	return max(1, c.limit.Load()-c.external.Load()-c.fixedBytes()-tables*int64(c.entries.len())) / 16 * 15
}

// payer returns the namespace that is above its share of room bytes by the
// greatest factor, nil if none is.
func (sp *spaces) payer(room int64) (most *namespace) {
	scale := 1.0
	if sp.budgets > room {
		scale = float64(max(1, room)) / float64(sp.budgets)
	}
	worst := 1.0
	for _, ns := range sp.budgeted {
		if by := float64(ns.bytes.Load()) / (float64(ns.limit) * scale); by > worst {
			most, worst = ns, by
		}
	}
	return most
}

// sampleFrom fills b with some records of ns that may leave, as sample does.
func (c *Cache) sampleFrom(ns *namespace, b *batch) bool {
	var numbers [candidates]uint32
	n := c.draw(ns, b, &numbers)
	b.facts = b.facts[:0]
	for _, number := range numbers[:n] {
		before := len(b.facts)
		expired := c.consider(b, number, nil)
		if len(b.facts) > before && meta(c.entries.at(number).meta.Load()).space() != ns.id {
			b.facts = b.facts[:before] // it has just become another's
			continue
		}
		if expired {
			return true
		}
	}
	return len(b.facts) > 0
}
