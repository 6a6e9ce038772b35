package merkle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Format is the number of the tree's form: paths, hashes, shape and rows.
const Format = 1

// ErrCorrupt is returned for a row or state that was never written. Rebuild the
// tree.
var ErrCorrupt = errors.New("merkle: corrupt row")

// fanOut is how many children a list has at most. More become a fan.
const fanOut = 16

var le = binary.LittleEndian

// A sum is what a parent knows of a node.
type sum struct {
	hash     Hash
	children uint64 // of the branch, below this node
	leaves   uint64 // items
}

// An entry is a child of a branch: an item, or a branch.
type entry struct {
	segment []byte
	leaf    bool
	hash    Hash
	leaves  uint64
}

// A node is a row: a fan by the next four bits of the children's hashes, or a
// list of at most sixteen children in the order of their bytes.
type node struct {
	fan  *[fanOut]sum
	list []entry
}

// sum returns hash and counts. An empty node has no children.
func (n *node) sum() (s sum) {
	h := sha256.New()
	if n.fan != nil {
		h.Write([]byte{domainInner, innerFan})
		for i := range n.fan {
			if c := &n.fan[i]; c.children > 0 {
				h.Write([]byte{byte(i)})
				h.Write(c.hash[:])
				s.children += c.children
				s.leaves += c.leaves
			}
		}
	} else {
		h.Write([]byte{domainInner, innerList})
		var length [4]byte
		for i := range n.list {
			e := &n.list[i]
			be.PutUint32(length[:], uint32(len(e.segment)))
			h.Write(length[:])
			h.Write(e.segment)
			h.Write(e.hash[:])
			s.leaves += e.leaves
		}
		s.children = uint64(len(n.list))
	}
	h.Sum(s.hash[:0])
	return s
}

// find returns the place of segment in the list, and whether it is there.
func (n *node) find(segment []byte) (int, bool) {
	return slices.BinarySearchFunc(n.list, segment, func(e entry, s []byte) int { return bytes.Compare(e.segment, s) })
}

// Kinds and lengths of rows.
const (
	rowList  = 1
	rowFan   = 2
	rowHead  = 4
	fanEntry = sha256.Size + 16
)

// appendRow appends the row of n.
func (n *node) appendRow(b []byte) []byte {
	if n.fan != nil {
		b = append(b, Format, rowFan)
		var present uint16
		for i := range n.fan {
			if n.fan[i].children > 0 {
				present |= 1 << i
			}
		}
		b = le.AppendUint16(b, present)
		for i := range n.fan {
			if c := &n.fan[i]; c.children > 0 {
				b = append(b, c.hash[:]...)
				b = le.AppendUint64(b, c.children)
				b = le.AppendUint64(b, c.leaves)
			}
		}
		return b
	}
	b = append(b, Format, rowList)
	b = le.AppendUint16(b, uint16(len(n.list)))
	for i := range n.list {
		e := &n.list[i]
		b = le.AppendUint16(b, uint16(len(e.segment)))
		b = append(b, e.segment...)
		b = append(b, e.hash[:]...)
		if e.leaf {
			b = append(b, 1)
			continue
		}
		b = append(b, 0)
		b = le.AppendUint64(b, e.leaves)
	}
	return b
}

// rowLen returns at least the length of the row.
func (n *node) rowLen() int {
	if n.fan != nil {
		return rowHead + fanOut*fanEntry
	}
	length := rowHead
	for i := range n.list {
		length += 2 + len(n.list[i].segment) + sha256.Size + 9
	}
	return length
}

// parseRow reads a row, nil for none. The node shares memory with b.
func parseRow(b []byte) (*node, error) {
	if b == nil {
		return nil, nil
	}
	if len(b) < rowHead || b[0] != Format {
		return nil, fmt.Errorf("%w: %d bytes that begin with %x, format is %d", ErrCorrupt, len(b), b[:min(len(b), 2)], Format)
	}
	n, rest, ok := &node{}, b[rowHead:], false
	switch count := le.Uint16(b[2:]); b[1] {
	case rowFan:
		rest, ok = n.parseFan(rest, count)
	case rowList:
		rest, ok = n.parseList(rest, int(count))
	}
	if !ok || len(rest) != 0 {
		return nil, fmt.Errorf("%w: kind %d, %d bytes, %d too many or too few", ErrCorrupt, b[1], len(b), len(rest))
	}
	return n, nil
}

func (n *node) parseFan(b []byte, present uint16) (rest []byte, ok bool) {
	n.fan = new([fanOut]sum)
	for i := range n.fan {
		if present>>i&1 == 0 {
			continue
		}
		if len(b) < fanEntry {
			return b, false
		}
		c := &n.fan[i]
		c.hash, c.children, c.leaves = Hash(b), le.Uint64(b[sha256.Size:]), le.Uint64(b[sha256.Size+8:])
		if c.children == 0 {
			return b, false
		}
		b = b[fanEntry:]
	}
	return b, present != 0
}

func (n *node) parseList(b []byte, count int) (rest []byte, ok bool) {
	if count == 0 || count > fanOut {
		return b, false
	}
	n.list = make([]entry, count, count+1)
	for i := range n.list {
		if len(b) < 2 || len(b) < 2+int(le.Uint16(b))+sha256.Size+1 {
			return b, false
		}
		e, length := &n.list[i], int(le.Uint16(b))
		e.segment, b = b[2:2+length:2+length], b[2+length:]
		e.hash, e.leaf, e.leaves = Hash(b), b[sha256.Size] == 1, 1
		if !e.leaf {
			if len(b) < sha256.Size+9 {
				return b, false
			}
			e.leaves = le.Uint64(b[sha256.Size+1:])
			b = b[8:]
		}
		b = b[sha256.Size+1:]
		if i > 0 && bytes.Compare(n.list[i-1].segment, e.segment) >= 0 {
			return b, false
		}
	}
	return b, true
}

// A placed entry knows its place among its siblings.
type placed struct {
	sum   Hash
	entry *entry
}

// byHash returns the entries in the order of their places.
func byHash(list []entry) []placed {
	p := make([]placed, len(list))
	for i := range list {
		p[i] = placed{sha256.Sum256(list[i].segment), &list[i]}
	}
	slices.SortFunc(p, func(a, b placed) int { return bytes.Compare(a.sum[:], b.sum[:]) })
	return p
}
