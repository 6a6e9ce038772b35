//go:build !race

package l1

import (
	"sync/atomic"
	"unsafe"
)

// touched bounds what fetch reads of a record, in bytes; further on the processor
// has seen that it is read in order. The last line may be on another page.
const touched = 1 << 10

// fetch begins to bring a record into the processor's caches, all lines at once:
// who reads it line by line waits for memory as often as for its head, its fields
// and its content. It costs a load per line. An atomic load is a plain one here,
// and not left out though nobody wants what it loads.
func fetch(record []byte) {
	end := len(record) - 4
	if end < line {
		return
	}
	at := unsafe.Pointer(unsafe.SliceData(record))
	atomic.LoadUint32((*uint32)(unsafe.Add(at, end&^3)))
	for off := line; off < min(end, touched); off += line {
		atomic.LoadUint32((*uint32)(unsafe.Add(at, off)))
	}
}

// line is the size of a line of the caches, in bytes.
const line = 64
