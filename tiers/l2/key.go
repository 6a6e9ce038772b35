package l2

import (
	"bytes"
	"strings"

	"github.com/edgenode/edgenode/tiers/item"
)

// Keys in Redis. Redis Cluster takes what stands between the first '{' and the
// next '}' as the text that decides the slot. The prefix has no brace, and in
// the storage key '}' is escaped, so that this text is always the whole storage
// key: everything of one item is in one slot, whatever its id, and ids that
// contain braces spread as all others do.
const (
	tagOpen  = '{'
	tagClose = '}'

	// Escapes of storage keys: 0xff never occurs in UTF-8, so only ids with '}'
	// and keys of other bytes get longer.
	escape      = 0xff
	escapeClose = 0x01 // 0xff 0x01 is '}'
	escapeSelf  = 0x02 // 0xff 0x02 is 0xff
)

// dataKey returns prefix { storage key } with the storage key escaped.
func (s *Store) dataKey(k item.Key) string {
	storage := k.StorageKey()
	var b strings.Builder
	b.Grow(len(s.opts.Prefix) + len(storage) + 2)
	b.WriteString(s.opts.Prefix)
	b.WriteByte(tagOpen)
	if bytes.IndexByte(storage, tagClose) < 0 && bytes.IndexByte(storage, escape) < 0 {
		b.Write(storage)
	} else {
		writeEscaped(&b, storage)
	}
	b.WriteByte(tagClose)
	return b.String()
}

func writeEscaped(b *strings.Builder, storage []byte) {
	for _, c := range storage {
		switch c {
		case tagClose:
			b.WriteByte(escape)
			b.WriteByte(escapeClose)
		case escape:
			b.WriteByte(escape)
			b.WriteByte(escapeSelf)
		default:
			b.WriteByte(c)
		}
	}
}

// infraKey returns the key of something of our own. No data key is equal to it:
// what follows the prefix there is a brace.
func (s *Store) infraKey(name string) string { return s.opts.Prefix + name }

// dataPattern is the glob pattern of all data keys.
func (s *Store) dataPattern() string {
	var b strings.Builder
	for _, c := range []byte(s.opts.Prefix) {
		if strings.IndexByte(`*?[]\^-`, c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String() + string(tagOpen) + "*" + string(tagClose)
}
