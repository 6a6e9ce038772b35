package l2

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// streamName is the key, after the prefix, of the stream of changes. An entry's id
// is its number and "-0", so that Redis itself refuses an entry that is not above
// the last. Fields:
//
//	seq   the number, decimal
//	data  the event
//	enc   "zstd" if data is compressed so; else absent
const streamName = "cdc"

// ErrPassed is returned by StreamAdd when the stream has the entry, or a later one:
// another writer was quicker. Entries before it may have been added.
var ErrPassed = errors.New("l2: the stream has an entry at least as new")

// ErrStreamLost is returned by StreamAdd when there is no stream to append to. Nothing
// was added.
var ErrStreamLost = errors.New("l2: the stream is gone")

// A StreamEntry is one entry of the stream of changes.
type StreamEntry struct {
	Seq  uint64
	Data []byte
	Zstd bool // Data is compressed
}

// StreamLast returns the number of the last entry of the stream, and false if it
// has none.
func (s *Store) StreamLast(ctx context.Context) (seq uint64, found bool, err error) {
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	list, err := s.client.XRevRangeN(ctx2, s.infraKey(streamName), "+", "-", 1).Result()
	if err != nil {
		return 0, false, s.classify(ctx, "last entry of the stream", err)
	}
	if len(list) == 0 {
		return 0, false, nil
	}
	text, _, _ := strings.Cut(list[0].ID, "-")
	if seq, err = strconv.ParseUint(text, 10, 64); err != nil {
		return 0, false, fmt.Errorf("%w: last entry of the stream: id %q is not ours", ErrRejected, list[0].ID)
	}
	return seq, true, nil
}

// StreamLimits say how entries are added.
type StreamLimits struct {
	MaxLen int64 // older entries go, about
	Begin  bool  // a stream that is not there is begun; else it is ErrStreamLost
}

// StreamAdd appends entries, which rise. It stops at the first error: those before it
// are there, those behind it perhaps; StreamLast tells.
func (s *Store) StreamAdd(ctx context.Context, entries []StreamEntry, l StreamLimits) error {
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	pipe := s.client.Pipeline()
	key := s.infraKey(streamName)
	for i := range entries {
		e := &entries[i]
		number := strconv.FormatUint(e.Seq, 10)
		values := []any{"seq", number, "data", e.Data}
		if e.Zstd {
			values = append(values, "enc", "zstd")
		}
		pipe.XAdd(ctx2, &redis.XAddArgs{Stream: key, ID: number + "-0", MaxLen: l.MaxLen, NoMkStream: !l.Begin, Approx: true, Values: values})
	}
	_, err := pipe.Exec(ctx2)
	switch {
	case err == nil:
		return nil
	case absent(err):
		return ErrStreamLost
	case redis.HasErrorPrefix(err, "ERR The ID specified in XADD"):
		return fmt.Errorf("%w: %w", ErrPassed, err)
	}
	return s.classify(ctx, "append to the stream", err)
}

// StreamDrop removes the stream.
func (s *Store) StreamDrop(ctx context.Context) error {
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.client.Del(ctx2, s.infraKey(streamName)).Err(); err != nil {
		return s.classify(ctx, "drop the stream", err)
	}
	return nil
}
