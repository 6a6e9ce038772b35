package tiers

import "sync"

// A bufferPool lends buffers for records. One that grew beyond maxPooled is not
// kept.
type bufferPool struct{ pool sync.Pool }

const maxPooled = 256 << 10

func (p *bufferPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	return new([]byte)
}

func (p *bufferPool) put(b *[]byte) {
	if cap(*b) <= maxPooled {
		p.pool.Put(b)
	}
}
