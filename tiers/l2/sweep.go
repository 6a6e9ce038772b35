package l2

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/edgenode/edgenode/tiers/item"
)

// sweepPage is how many keys a step of Sweep or Evict asks SCAN for.
const sweepPage = 512

// Sweep visits every data key, and removes those for which drop says so, unless
// they hold something newer by then. What is in Redis throughout is visited at
// least once; what comes or goes meanwhile may be visited or not. Tombstones are
// visited as well; fences and values of an unknown form are not.
//
// drop gets the record without its content, valid during the call only. It is
// called from this goroutine. visited counts the calls of drop.
//
// It holds one page in memory: 512 keys and the heads of their values, some
// 1 MiB. The context ends it between pages; each round trip has the time limit.
func (s *Store) Sweep(ctx context.Context, drop func(head item.View) bool) (visited, dropped int64, err error) {
	masters, err := s.masters(ctx)
	if err != nil {
		return 0, 0, s.classify(ctx, "sweep", err)
	}
	w := sweep{s: s, drop: drop}
	for _, m := range masters {
		if err = w.master(ctx, m); err != nil {
			err = s.classify(ctx, fmt.Sprintf("sweep, after %d items", w.visited), err)
			break
		}
	}
	s.metrics.swept.Add(int(w.dropped))
	return w.visited, w.dropped, err
}

// A sweep is the state of one call of Sweep.
type sweep struct {
	s                *Store
	drop             func(head item.View) bool
	visited, dropped int64
}

func (w *sweep) master(ctx context.Context, c *redis.Client) error {
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		keys, next, err := w.s.scan(ctx, c, cursor)
		if err != nil {
			return err
		}
		if err := w.page(ctx, c, keys); err != nil {
			return err
		}
		cursor = next
	}
	return nil
}

// scan returns a page of data keys.
func (s *Store) scan(ctx context.Context, c *redis.Client, cursor uint64) ([]string, uint64, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	return c.Scan(ctx, cursor, s.dataPattern(), sweepPage).Result()
}

// page visits keys and drops in one pipeline what is to go.
func (w *sweep) page(ctx context.Context, c *redis.Client, keys []string) error {
	heads, err := w.heads(ctx, c, keys)
	if err != nil {
		return err
	}
	var calls []call
	now := w.s.opts.Clock()
	for i, b := range heads {
		if b == nil {
			continue
		}
		if b, err = w.whole(ctx, c, keys[i], b); err != nil {
			return err
		}
		head, err := parseValue(b, nil, now)
		w.s.metrics.countValue(err)
		if head == nil {
			continue
		}
		w.visited++
		if w.drop(head) {
			calls = append(calls, w.s.dropCall(head.Key(), registersOf(head).next(), now))
		}
	}
	return w.remove(ctx, calls)
}

// heads returns the beginnings of the values of keys, nil for what is gone or is
// not a string.
func (w *sweep) heads(ctx context.Context, c *redis.Client, keys []string) ([][]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	ctx, cancel := w.s.bounded(ctx)
	defer cancel()
	pipe := c.Pipeline()
	cmds := make([]*redis.StringCmd, len(keys))
	for i, k := range keys {
		cmds[i] = pipe.GetRange(ctx, k, 0, maxHead-1)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	heads := make([][]byte, len(keys))
	for i, cmd := range cmds {
		b, err := cmd.Bytes()
		if redis.HasErrorPrefix(err, "WRONGTYPE") {
			w.s.metrics.foreign.Inc()
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(b) > 0 {
			heads[i] = b
		}
	}
	return heads, nil
}

// whole returns the value without content that begins with b; it is read again
// if its head is longer than b. A head longer than a page may be is not read:
// what it belongs to is corrupt or of someone else.
func (w *sweep) whole(ctx context.Context, c *redis.Client, key string, b []byte) ([]byte, error) {
	n := headLen(b)
	if n > len(b) {
		ctx, cancel := w.s.bounded(ctx)
		defer cancel()
		var err error
		b, err = c.GetRange(ctx, key, 0, int64(n-1)).Bytes()
		if err != nil {
			return nil, err
		}
		if headLen(b) != n {
			n = 0 // replaced meanwhile: what is there now is newer
		}
	}
	if n == 0 || n > len(b) {
		return b, nil
	}
	return cutContent(b[:n]), nil
}

// remove runs calls and counts what they removed.
func (w *sweep) remove(ctx context.Context, calls []call) error {
	if len(calls) == 0 {
		return nil
	}
	ctx, cancel := w.s.bounded(ctx)
	defer cancel()
	w.s.run(ctx, calls)
	for i := range calls {
		answer, err := calls[i].answer()
		if err != nil {
			return err
		}
		if answer == answerWon {
			w.dropped++
		}
	}
	return nil
}
