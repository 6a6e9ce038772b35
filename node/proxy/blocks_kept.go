package proxy

import (
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// The kept form of the blocks, format 1 (little endian), which stands beside a
// snapshot of memory whose answers refer to them:
//
//	0 u8  format = 1           blocks: u64 number, u16 slot, u16 zero,
//	1 u8  kind = 8                     u32 length, lines
//	2 u16 zero                 end:    u64 xxHash of all before
//	4 u32 blocks
const (
	kindBlocks     = 8
	blocksHead     = 8
	keptBlockHead  = 16
	blocksChecksum = 8
)

// MaxKeptBlocks is the most that AppendBlocks appends, in bytes.
const MaxKeptBlocks = blocksHead + maxBlocks*keptBlockHead + maxBlockBytes + blocksChecksum

var errBlocks = errors.New("proxy: the kept header lines are damaged")

// AppendBlocks appends the header lines that stored answers share, for Options.Blocks
// of the process that will read the snapshot of this one's memory. It is called when
// nothing is stored any more, before that snapshot is written.
func (p *Proxy) AppendBlocks(dst []byte) []byte { return p.blocks.appendKept(dst) }

func (t *blocks) appendKept(dst []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	start := len(dst)
	dst = append(dst, 1, kindBlocks, 0, 0)
	dst = le.AppendUint32(dst, uint32(len(t.byLines)))
	for i := range t.slots {
		if b := t.slots[i].Load(); b != nil {
			dst = le.AppendUint64(dst, b.id)
			dst = le.AppendUint16(dst, b.slot)
			dst = le.AppendUint32(append(dst, 0, 0), uint32(len(b.lines)))
			dst = append(dst, b.lines...)
		}
	}
	return le.AppendUint64(dst, xxhash.Sum64(dst[start:]))
}

// restore puts kept blocks in, all or none. Nil is none.
func (t *blocks) restore(kept []byte) error {
	if kept == nil {
		return nil
	}
	if len(kept) < blocksHead+blocksChecksum || kept[1] != kindBlocks {
		return errBlocks
	}
	if kept[0] != 1 {
		return fmt.Errorf("%w: their format is %d, this version reads 1", errBlocks, kept[0])
	}
	end := len(kept) - blocksChecksum
	if xxhash.Sum64(kept[:end]) != le.Uint64(kept[end:]) {
		return errBlocks
	}
	list, err := keptBlocks(kept[:end])
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range list {
		t.putLocked(b)
	}
	return nil
}

// keptBlocks reads blocks, in ascending order of their slots and none twice.
func keptBlocks(kept []byte) ([]*block, error) {
	n, rest := le.Uint32(kept[4:]), kept[blocksHead:]
	list := make([]*block, 0, min(n, maxBlocks))
	lines, total := make(map[string]bool, cap(list)), 0
	for range n {
		if len(rest) < keptBlockHead || uint64(len(rest)-keptBlockHead) < uint64(le.Uint32(rest[12:])) {
			return nil, errBlocks
		}
		end := keptBlockHead + int(le.Uint32(rest[12:]))
		b := &block{id: le.Uint64(rest), slot: le.Uint16(rest[8:]), lines: append([]byte(nil), rest[keptBlockHead:end]...)}
		rest = rest[end:]
		total += len(b.lines)
		if b.slot >= maxBlocks || len(list) > 0 && b.slot <= list[len(list)-1].slot || lines[text(b.lines)] || total > maxBlockBytes {
			return nil, errBlocks
		}
		lines[text(b.lines)] = true
		b.vary, _ = varySpec(headerOf(b.lines)["Vary"])
		list = append(list, b)
	}
	if len(rest) != 0 {
		return nil, errBlocks
	}
	return list, nil
}
