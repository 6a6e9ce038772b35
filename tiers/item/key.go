package item

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Namespaces separate key spaces: they never meet in scans, prefixes or purges
// by id.
const (
	NamespaceItem     byte = 'i' // items of the items API and of library callers
	NamespaceSite     byte = 's' // stored answers of HTTP origins
	NamespaceVariants byte = 'v' // variant indexes of stored answers
	NamespaceChunk    byte = 'c' // chunks of big stored answers
	NamespaceInternal byte = 'x' // the engine's own
)

// Limits of ids and keys, in bytes.
const (
	MaxIDLen  = 1024
	MaxKeyLen = 1 + 8<<10 // namespace byte and up to 8 KiB

	longKeyHead = 512
)

// Errors of ids, states, tags and keys. Nothing was written.
var (
	ErrBadID    = errors.New("item: bad id")
	ErrBadState = errors.New("item: bad state")
	ErrBadTag   = errors.New("item: bad tag")
	ErrBadKey   = errors.New("item: bad key")
)

// A Key is one namespace byte followed by 1 to 8,192 bytes of its own. Keys are
// compared as bytes; nothing is normalised. The holder of a Key must not change
// it.
type Key []byte

// IDKey returns the key of the item called id, or an error that wraps ErrBadID
// and says which rule id breaks. It allocates the key.
func IDKey(id string) (Key, error) {
	if err := CheckID(id); err != nil {
		return nil, err
	}
	return AppendKey(make(Key, 0, 1+len(id)), NamespaceItem, id), nil
}

// AppendKey appends namespace and own to dst and returns the extended key.
func AppendKey[S ~string | ~[]byte](dst Key, namespace byte, own S) Key {
	return append(append(dst, namespace), own...)
}

// Namespace returns the first byte of k, or 0 if k is empty.
func (k Key) Namespace() byte {
	if len(k) == 0 {
		return 0
	}
	return k[0]
}

// Own returns the bytes after the namespace. It shares memory with k.
func (k Key) Own() []byte {
	if len(k) == 0 {
		return nil
	}
	return k[1:]
}

// ID returns a copy of the bytes after the namespace as a string.
func (k Key) ID() string { return string(k.Own()) }

// Check reports an error that wraps ErrBadKey unless k has a known namespace
// and a length in range.
func (k Key) Check() error {
	switch k.Namespace() {
	case NamespaceItem, NamespaceSite, NamespaceVariants, NamespaceChunk, NamespaceInternal:
	default:
		return fmt.Errorf("%w: unknown namespace %#x", ErrBadKey, k.Namespace())
	}
	if len(k) < 2 || len(k) > MaxKeyLen {
		return fmt.Errorf("%w: %d bytes after the namespace, allowed are 1 to %d", ErrBadKey, len(k)-1, MaxKeyLen-1)
	}
	return nil
}

// StorageKey returns the key under which a backend with short keys keeps k: k
// itself up to 1,024 bytes after the namespace, else its first 512 bytes and
// the SHA-256 of all of them. Two long keys may share a storage key only if
// SHA-256 collides; the whole key is in the record and is compared on read.
// The result shares memory with k when k is short.
func (k Key) StorageKey() []byte {
	own := k.Own()
	if len(own) <= MaxIDLen {
		return k
	}
	sum := sha256.Sum256(own)
	b := make([]byte, 0, 1+longKeyHead+len(sum))
	b = append(b, k[:1+longKeyHead]...)
	return append(b, sum[:]...)
}

// CheckID reports an error that wraps ErrBadID unless id is 1 to 1,024 bytes of
// valid UTF-8 without control characters.
func CheckID(id string) error {
	if len(id) == 0 {
		return fmt.Errorf("%w: it is empty, allowed are 1 to %d bytes", ErrBadID, MaxIDLen)
	}
	if len(id) > MaxIDLen {
		return fmt.Errorf("%w: %d bytes, allowed are 1 to %d", ErrBadID, len(id), MaxIDLen)
	}
	for i, r := range id {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(id[i:]); n == 1 {
				return fmt.Errorf("%w: byte %d is not UTF-8", ErrBadID, i)
			}
		}
		if unicode.IsControl(r) {
			return fmt.Errorf("%w: control character %#U at byte %d", ErrBadID, r, i)
		}
	}
	return nil
}

// CheckIDPrefix is CheckID for the beginning of an id: it may be empty, which
// stands for every id, but must be well formed otherwise.
func CheckIDPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	return CheckID(prefix)
}

// Limits of states and tags.
const (
	MaxStateLen = 32
	MaxTags     = 256
	MaxTagLen   = 256
)

// CheckState reports an error that wraps ErrBadState unless state is empty or
// 1 to 32 of the characters a-z, 0-9, _ and -.
func CheckState(state string) error {
	if len(state) > MaxStateLen {
		return fmt.Errorf("%w: %d bytes, allowed are %d", ErrBadState, len(state), MaxStateLen)
	}
	for i := range len(state) {
		c := state[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return fmt.Errorf("%w: %q at byte %d, allowed are a-z 0-9 _ -", ErrBadState, c, i)
		}
	}
	return nil
}

// CheckTags reports an error that wraps ErrBadTag unless there are at most 256
// tags of 1 to 256 bytes of visible ASCII without comma.
func CheckTags(tags []string) error {
	if len(tags) > MaxTags {
		return fmt.Errorf("%w: %d tags, allowed are %d", ErrBadTag, len(tags), MaxTags)
	}
	for _, t := range tags {
		if err := checkTag(t); err != nil {
			return err
		}
	}
	return nil
}

func checkTag(t string) error {
	if len(t) == 0 || len(t) > MaxTagLen {
		return fmt.Errorf("%w: %d bytes, allowed are 1 to %d", ErrBadTag, len(t), MaxTagLen)
	}
	for i := range len(t) {
		if c := t[i]; c <= ' ' || c > '~' || c == ',' {
			return fmt.Errorf("%w: %q at byte %d, allowed is visible ASCII without comma", ErrBadTag, c, i)
		}
	}
	return nil
}

// PrefixEnd returns the least key greater than every key that begins with
// prefix, or nil if there is none (prefix is empty or all 0xff).
func PrefixEnd(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := append([]byte(nil), prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}
