package replay

import "container/list"

// LRU is the classic policy, exact, to compare with: the least recently used
// leaves. The node does not have it.
type LRU struct {
	capacity, charged int64
	order             list.List // of lruEntry, the most recent first
	at                map[uint32]*list.Element
}

type lruEntry struct{ id, size uint32 }

var _ Cache = (*LRU)(nil)

// NewLRU returns an empty cache for capacity bytes.
func NewLRU(capacity int64) *LRU { return &LRU{capacity: capacity, at: map[uint32]*list.Element{}} }

// Access implements Cache. An object is kept unless it is larger than the
// capacity.
func (c *LRU) Access(id, size uint32, _ int64) bool {
	if e, ok := c.at[id]; ok {
		c.order.MoveToFront(e)
		return true
	}
	if int64(size) > c.capacity {
		return false
	}
	for c.charged += int64(size); c.charged > c.capacity; {
		oldest := c.order.Remove(c.order.Back()).(lruEntry)
		delete(c.at, oldest.id)
		c.charged -= int64(oldest.size)
	}
	c.at[id] = c.order.PushFront(lruEntry{id, size})
	return false
}
