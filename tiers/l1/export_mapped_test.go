//go:build linux && !race && !slabheap

package l1

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Regions returns the question whether no region of c is mapped, without a
// reference to c.
func Regions(c *Cache) func() bool {
	m := c.slab.memory
	return func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.regions) == 0
	}
}

// UsePages makes c, which must be empty, take the machine's pages for as large as page.
func UsePages(c *Cache, page int) {
	c.slab = slab{}
	c.slab.init(newMemory(page, c.MaxBytes()), chunkSizeFor(c.MaxBytes(), page), tableLen(c.MaxBytes(), 16<<10))
	c.used.Store(c.fixedBytes())
}

// UseHugePages makes c, which must be empty, take them whatever its budget.
func UseHugePages(c *Cache) { c.slab.memory.huge.Store(hugePage) }

// Holes compares what memory counts of the places in huge pages with what is there.
func Holes(c *Cache) error {
	m := c.slab.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	whole, holes := 0, 0
	for r := range m.regions {
		if r.wide {
			whole, holes = whole+int(r.fresh), holes+len(r.free)
		}
	}
	if whole != m.whole || holes != m.holes {
		return fmt.Errorf("%d places in huge pages, %d free, counted %d and %d", whole, holes, m.whole, m.holes)
	}
	return nil
}

// Collapses reports whether the system may make the page that is huge, and begins a
// region of huge pages of c, whole again.
func Collapses(c *Cache) bool {
	m := c.slab.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	for r := range m.regions {
		if r.wide {
			return unix.Madvise(r.base[:hugePage], unix.MADV_COLLAPSE) == nil
		}
	}
	return false
}

// Blocks returns the bytes of each block in use.
func Blocks(c *Cache) (sizes []int) {
	table := *c.slab.table.Load()
	for i := range table {
		if ch := table[i].Load(); ch != nil {
			sizes = append(sizes, len(ch.buf))
		}
	}
	return sizes
}

// RefuseMemory lets the system give no more regions; nil ends it.
func RefuseMemory(c *Cache, err error) {
	m := c.slab.memory
	m.mapRegion = mapAnonymous
	if err != nil {
		m.mapRegion = func(int) ([]byte, error) { return nil, err }
	}
}
