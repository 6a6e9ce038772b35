package l3

import (
	"encoding/binary"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
)

// The row keeps the record of an item (item.View) in two parts: the head, which
// is the record of the same item without content, and the content. The head is
// a whole record by itself. Only the length of the content differs, a field
// that the record form draws at this offset.
const contentLenOffset = 148

// headOf returns the record v without its content. The result is a copy.
func headOf(v item.View) item.View {
	head := append(item.View(nil), v[:len(v)-len(v.Content())]...)
	binary.LittleEndian.PutUint32(head[contentLenOffset:], 0)
	return head
}

// appendRecord appends the record made of head and content to dst.
func appendRecord(dst []byte, head item.View, content []byte) []byte {
	start := len(dst)
	dst = append(dst, head...)
	binary.LittleEndian.PutUint32(dst[start+contentLenOffset:], uint32(len(content)))
	return append(dst, content...)
}

// parseHead checks the head of a row. A row whose head does not parse is
// corruption.
func parseHead(value any) (item.View, error) {
	b, _ := value.([]byte)
	head, err := item.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: head of a row: %w", ErrCorrupt, err)
	}
	if len(head.Content()) != 0 {
		return nil, fmt.Errorf("%w: head of a row has content", ErrCorrupt)
	}
	return head, nil
}
