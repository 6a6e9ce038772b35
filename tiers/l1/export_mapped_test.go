//go:build linux && !race && !slabheap

package l1

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
