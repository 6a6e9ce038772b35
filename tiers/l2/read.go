package l2

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/edgenode/edgenode/tiers/item"
)

// Get appends the record of key to dst and returns the extended slice. It
// reports false, and dst as it was, if there is none, it is over, or what is
// there is not a value of ours. A tombstone is a found record.
//
// One round trip. The answer is that of one server only if Generation is the
// same before and after.
func (s *Store) Get(ctx context.Context, key item.Key, dst []byte) ([]byte, bool, error) {
	start := time.Now()
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	value, err := s.client.Get(ctx2, s.dataKey(key)).Bytes()
	s.metrics.getTime.UpdateDuration(start)
	v, err := s.read(value, err, key)
	if err != nil {
		return dst, false, s.classify(ctx, "get", err)
	}
	if v == nil {
		return dst, false, nil
	}
	return append(dst, v...), true, nil
}

// GetMany calls fn for each key that has a record, in the order of keys, with
// the key's position. The view is valid during the call only. An error of fn
// ends GetMany and is returned as it is.
//
// One round trip, or one per node of a cluster; all answers are in memory at
// once, so the caller bounds the number of keys. If a part of a cluster does
// not answer, fn is not called at all.
func (s *Store) GetMany(ctx context.Context, keys []item.Key, fn func(i int, v item.View) error) error {
	if len(keys) == 0 {
		return nil
	}
	start := time.Now()
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	pipe := s.client.Pipeline()
	cmds := make([]*redis.StringCmd, len(keys))
	for i, k := range keys {
		cmds[i] = pipe.Get(ctx2, s.dataKey(k))
	}
	_, _ = pipe.Exec(ctx2) // each command has its own error
	s.metrics.getTime.UpdateDuration(start)
	views := make([]item.View, len(keys))
	for i, c := range cmds {
		value, err := c.Bytes()
		if views[i], err = s.read(value, err, keys[i]); err != nil {
			return s.classify(ctx, "get many", err)
		}
	}
	for i, v := range views {
		if v == nil {
			continue
		}
		if err := fn(i, v); err != nil {
			return err
		}
	}
	return nil
}

// read turns the answer to GET into a record, nil for a miss, and counts it.
func (s *Store) read(value []byte, err error, key item.Key) (item.View, error) {
	switch {
	case absent(err):
		s.metrics.misses.Inc()
		return nil, nil
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		s.metrics.foreign.Inc()
		s.metrics.misses.Inc()
		return nil, nil
	case err != nil:
		return nil, err
	}
	v, err := parseValue(value, key, s.opts.Clock())
	s.metrics.countValue(err)
	if v == nil {
		s.metrics.misses.Inc()
		return nil, nil
	}
	s.metrics.hits.Inc()
	return v, nil
}

// absent reports whether err is the answer "no such key". It is compared as it
// is: an outage may wrap the same error, when sentinels do not know a master.
func absent(err error) bool { return err == redis.Nil }
