package proxy

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A packer gathers the bytes of an object into segments and stores each when it
// is whole. One goroutine writes; others may look at the last bytes meanwhile.
// It holds two chunks of memory at most, which its owner has reserved.
type packer struct {
	p     *Proxy
	main  item.Key
	site  string      // its name
	like  tiers.Write // of every segment
	spare []byte
	over  bool // purged since: nothing more is stored

	// mu guards the fields below. It is a leaf lock.
	mu     sync.Mutex
	man    manifest // of what is stored
	pos    int64    // of the next byte
	buf    []byte   // the bytes before pos that are no whole segment yet
	last   []byte   // the segment before, as long as its memory is not needed
	lastAt int64
}

// newPacker returns a packer whose first byte is at pos. man is what is stored
// already.
func newPacker(p *Proxy, main item.Key, man manifest, like tiers.Write, pos int64) *packer {
	site, _, _ := strings.Cut(string(main.Own()), "\x00")
	return &packer{p: p, main: main, site: site, man: man.clone(), like: like, pos: pos}
}

// write takes the next bytes of the object. It keeps no reference to b.
func (k *packer) write(b []byte) {
	for len(b) > 0 {
		room := k.man.chunk - k.pos%k.man.chunk
		n := int(min(room, int64(len(b))))
		k.mu.Lock()
		if k.buf == nil {
			k.buf, k.spare = k.take(), nil
		}
		k.buf = append(k.buf, b[:n]...)
		k.pos += int64(n)
		k.mu.Unlock()
		if b = b[n:]; int64(n) == room {
			k.flush()
		}
	}
}

// take returns the memory of a segment: that of the last but one, or new. It
// begins small, as most parts of objects are.
func (k *packer) take() []byte {
	if k.spare != nil {
		return k.spare[:0]
	}
	return make([]byte, 0, min(k.man.chunk, 64<<10))
}

// flush stores what is gathered as a segment.
func (k *packer) flush() {
	if len(k.buf) == 0 {
		return
	}
	first := k.pos - int64(len(k.buf))
	stored := !k.man.holds(span{first, k.pos - 1}) && k.store(first)
	k.mu.Lock()
	defer k.mu.Unlock()
	if stored {
		k.man.add(run{first, k.pos})
	}
	k.spare, k.last, k.lastAt, k.buf = k.last, k.buf, first, nil
}

func (k *packer) store(first int64) bool {
	if k.over {
		return false
	}
	w := k.like
	w.Key = segmentKey(nil, k.main, k.man.gen, first)
	w.Response = appendSegmentMeta(nil, k.site, k.man.gen, first)
	w.Content = k.buf
	_, err := k.p.o.Engine.Submit(context.Background(), &w)
	if err != nil {
		k.over = errors.Is(err, tiers.ErrPurged)
		k.p.m.chunksRefused.Inc()
		return false
	}
	k.p.m.chunks.Inc()
	return true
}

// seek stores what is gathered and goes on at pos.
func (k *packer) seek(pos int64) {
	k.flush()
	k.mu.Lock()
	k.pos = pos
	k.mu.Unlock()
}

// at returns the position of the next byte.
func (k *packer) at() int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pos
}

// copyAt copies bytes from pos on that are still in memory, or says where those at
// pos are: lookStored, lookWait if they have not come, else lookGone. Another
// goroutine may write meanwhile, so that all of it is one answer.
func (k *packer) copyAt(pos int64, to []byte) (n int, where looked) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if from := k.pos - int64(len(k.buf)); from <= pos && pos < k.pos {
		return copy(to, k.buf[pos-from:]), lookBytes
	}
	if k.lastAt <= pos && pos < k.lastAt+int64(len(k.last)) {
		return copy(to, k.last[pos-k.lastAt:]), lookBytes
	}
	if _, _, stored := k.man.segment(pos); stored {
		return 0, lookStored
	}
	if pos >= k.pos {
		return 0, lookWait
	}
	return 0, lookGone
}

// manifest returns what is stored by now.
func (k *packer) manifest() manifest {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.man.clone()
}
