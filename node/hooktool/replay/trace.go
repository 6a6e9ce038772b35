package replay

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Limits of what is read.
const (
	MaxRequests = 1 << 28
	MaxKeys     = 1 << 26
	maxHeader   = 64 << 10
)

// DefaultRate is how many requests a second are assumed for a trace without
// times.
const DefaultRate = 100

// ErrTrace is wrapped by the errors about a trace that cannot be read.
var ErrTrace = errors.New("replay: bad trace")

// A Trace is recorded requests. Keys are numbers from 0 in the order in which
// they first came.
type Trace struct {
	Name      string
	IDs       []uint32 // key of each request
	Millis    []int64  // time of each request since the first, ms
	Sizes     []uint32 // of each key, bytes, at least 1
	Footprint int64    // sum of Sizes
	Timed     bool     // times were recorded; otherwise they are of a steady rate
}

// IsTrace reports whether a file that begins with head is for ReadTrace: a
// compressed one, or one with the mark of the format. An access log that is
// compressed is told apart by ReadTrace only.
func IsTrace(head []byte) bool { return bytes.HasPrefix(head, []byte("ECT1 ")) }

// Uncompress returns a reader of what r holds, be it compressed by gzip or not.
func Uncompress(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("%w: gzip: %w", ErrTrace, err)
	}
	return bufio.NewReaderSize(z, 1<<16), nil
}

// header is the first line of a trace, after its mark.
type header struct {
	Name     string `json:"name"`
	Requests int    `json:"requests"`
	Unique   int    `json:"unique"`
	HasTime  bool   `json:"has_time"`
}

// ReadTrace reads a trace in the format ECT1, uncompressed: one line "ECT1 " and
// a JSON object, then per request unsigned varints: twice the distance of the
// key from the number of keys so far (0 for a new key), plus one if a size in
// bytes follows, as it does for every new key; that size; and, if the line says
// has_time, the ms since the request before. A key keeps its first size. Rate
// is for traces without times.
func ReadTrace(r *bufio.Reader, rate float64) (*Trace, error) {
	h, err := readHeader(r)
	if err != nil {
		return nil, err
	}
	if rate <= 0 {
		rate = DefaultRate
	}
	t := &Trace{Name: h.Name, Timed: h.HasTime}
	now := int64(0)
	for {
		id, err := t.readKey(r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && h.HasTime {
			var gap uint64
			gap, err = binary.ReadUvarint(r)
			now += int64(min(gap, 1<<40))
		} else if !h.HasTime {
			now = int64(float64(len(t.IDs)) / rate * 1000)
		}
		if err == nil && len(t.IDs) == MaxRequests {
			err = fmt.Errorf("more than %d requests; cut the trace", MaxRequests)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: request %d: %w", ErrTrace, len(t.IDs)+1, notEOF(err))
		}
		t.IDs, t.Millis = append(t.IDs, id), append(t.Millis, now)
	}
	if len(t.IDs) != h.Requests || len(t.Sizes) != h.Unique {
		return nil, fmt.Errorf("%w: %d requests of %d keys, its first line says %d of %d; it is cut off or damaged",
			ErrTrace, len(t.IDs), len(t.Sizes), h.Requests, h.Unique)
	}
	return t, nil
}

func readHeader(r *bufio.Reader) (h header, err error) {
	var line []byte
	for len(line) < maxHeader {
		c, err := r.ReadByte()
		if err != nil {
			return h, fmt.Errorf("%w: its first line: %w", ErrTrace, notEOF(err))
		}
		if c == '\n' {
			break
		}
		line = append(line, c)
	}
	if !IsTrace(line) {
		return h, fmt.Errorf("%w: it does not begin with ECT1", ErrTrace)
	}
	if err := json.Unmarshal(line[5:], &h); err != nil {
		return h, fmt.Errorf("%w: its first line: %w", ErrTrace, err)
	}
	return h, nil
}

// readKey reads the key of one request, and the size if the key is new. Only
// the end before the first byte is io.EOF.
func (t *Trace) readKey(r *bufio.Reader) (uint32, error) {
	v, err := binary.ReadUvarint(r)
	if err != nil {
		return 0, err
	}
	back, known := v>>1, uint64(len(t.Sizes))
	if back > known || back == 0 && v&1 == 0 {
		return 0, fmt.Errorf("key %d before the newest of %d, or a new one without a size", back, known)
	}
	size := uint64(0)
	if v&1 == 1 {
		if size, err = binary.ReadUvarint(r); err != nil {
			return 0, notEOF(err)
		}
	}
	if back > 0 {
		return uint32(known - back), nil
	}
	if known == MaxKeys {
		return 0, fmt.Errorf("more than %d keys; cut the trace", MaxKeys)
	}
	size = max(1, min(size, 1<<32-1))
	t.Sizes = append(t.Sizes, uint32(size))
	t.Footprint += int64(size)
	return uint32(known), nil
}

// notEOF tells an end in the middle from one where an end may be.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A Builder makes a trace of requests with names. The zero value is ready. A
// key has the largest size that it was seen with.
type Builder struct {
	trace Trace
	ids   map[string]uint32
	first int64
}

// Add adds a request for key at nowMilli, Unix ms. A time before that of the
// request before it is taken as that. It keeps nothing of key.
func (b *Builder) Add(key []byte, size uint32, nowMilli int64) error {
	t := &b.trace
	id, ok := b.ids[string(key)]
	if !ok {
		if len(t.Sizes) == MaxKeys {
			return fmt.Errorf("%w: more than %d keys; cut the log", ErrTrace, MaxKeys)
		}
		if b.ids == nil {
			b.ids, b.first = map[string]uint32{}, nowMilli
		}
		id = uint32(len(t.Sizes))
		b.ids[string(key)] = id
		t.Sizes = append(t.Sizes, 1)
	}
	if len(t.IDs) == MaxRequests {
		return fmt.Errorf("%w: more than %d requests; cut the log", ErrTrace, MaxRequests)
	}
	at := nowMilli - b.first
	if n := len(t.Millis); n > 0 {
		at = max(at, t.Millis[n-1])
	}
	t.Sizes[id] = max(t.Sizes[id], size)
	t.IDs, t.Millis = append(t.IDs, id), append(t.Millis, at)
	return nil
}

// Trace returns what was added. The Builder must not be used afterwards.
func (b *Builder) Trace(name string) *Trace {
	t := &b.trace
	t.Name, t.Timed = name, true
	for _, size := range t.Sizes {
		t.Footprint += int64(size)
	}
	return t
}
