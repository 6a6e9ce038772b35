package l3

import (
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
)

// The row keeps the record of an item (item.View) in two parts: the head, which
// is the record of the same item without content, and the content. The head is
// a whole record by itself. Heads of former formats are read as those of the
// newest one.

// headOf returns the record v without its content. The result is a copy.
func headOf(v item.View) item.View {
	return v.AppendHead(make([]byte, 0, len(v)-len(v.Content())))
}

// appendRecord appends the record made of head and content to dst.
func appendRecord(dst []byte, head item.View, content []byte) []byte {
	return head.AppendWith(dst, content)
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
