package l1

import "math"

// Prices let a record cost something else than the bytes that it takes: what it
// stands for in a replay, whose objects are not at hand. Who leaves, who comes in
// and how many stay are decided by prices, as they are by bytes without them.
//
// A cache with prices must be used by one goroutine and have no namespaces. What its
// records take counts against MaxBytes, which must not run out.
type Prices struct {
	// Budget is what all records may cost. One of more than a quarter of it is
	// refused.
	Budget int64

	// Of returns the price of the record of the key with this hash, the same as long
	// as it is there, and when it comes in.
	Of func(hash uint64) uint32
}

// prices are those of a cache, and the sum of those of what is in it. Nil is none.
type prices struct {
	Prices
	held int64
}

func newPrices(p *Prices) *prices {
	if p == nil {
		return nil
	}
	return &prices{Prices: *p}
}

// of returns the price of a record, or without prices the bytes that it takes.
func (p *prices) of(hash uint64, bytes int) int {
	if p == nil {
		return bytes
	}
	return int(p.Of(hash))
}

// budget returns that of the prices, or without prices, bytes.
func (p *prices) budget(bytes int64) int64 {
	if p == nil {
		return bytes
	}
	return p.Budget
}

func (p *prices) enter(hash uint64) {
	if p != nil {
		p.held += int64(p.Of(hash))
	}
}

func (p *prices) leave(hash uint64) {
	if p != nil {
		p.held -= int64(p.Of(hash))
	}
}

// afford evicts until the price of what comes in is within the budget. It reports
// false if nothing more may leave, or the rival of b is not above what would.
func (c *Cache) afford(b *batch, in *incomer) bool {
	p := c.prices
	for p != nil && p.held+int64(in.size) > p.Budget {
		if !c.evict(b, nil) {
			return false
		}
	}
	if p != nil {
		b.rivals, b.asks = false, false // what it takes is there
	}
	return true
}

// HeldPrice returns what all records cost, 0 without prices.
func (c *Cache) HeldPrice() int64 {
	if c.prices == nil {
		return 0
	}
	return c.prices.held
}

// priced returns what ranks a record by its size: its bytes and log2 of them, or of
// its price.
func (c *Cache) priced(hash uint64, ch *chunk) (size uint32, log float32) {
	if c.prices == nil {
		return uint32(min(ch.slotSize, math.MaxUint32)), ch.logSize
	}
	size = max(1, c.prices.Of(hash))
	return size, log2(float32(size))
}
