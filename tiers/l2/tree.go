package l2

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// A copy of the tree of hashes (package merkle) is one hash in Redis: a field for
// each row, that of the state has an empty name. So it is in one slot, changes in one
// command, and is gone as a whole. Beside it is a lease, by which one node writes it.
const (
	treeName      = "tree"
	treeLeaseName = "tree-lease"
)

// ErrTreeMoved is returned by TreeCommit when the state is not the one expected.
// Nothing was written.
var ErrTreeMoved = errors.New("l2: somebody else has written the copy of the tree")

// A TreeRow is a row of the tree.
type TreeRow struct {
	Key   string
	Value []byte
}

// A TreeBatch is what one commit writes, all or nothing.
type TreeBatch struct {
	Was, State []byte // the state's row, as it must be and as it becomes; Was nil: there must be none
	Puts       []TreeRow
	Deletes    []string
}

// treeScript: KEYS[1], state as it must be, or empty, state as it becomes, number of
// deleted fields, these, then fields and values.
const treeScript = `
local was = redis.call('HGET', KEYS[1], '') or ''
if was ~= ARGV[1] then return 0 end
local n = tonumber(ARGV[3])
for i = 4, 3 + n do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = 4 + n, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], '', ARGV[2])
return 1`

// leaseScript: KEYS[1], holder, ms.
const leaseScript = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`

// TreeRows returns the rows of the copy with these keys, nil for those that are not
// there; that of the state has the key "".
func (s *Store) TreeRows(ctx context.Context, keys []string) ([][]byte, error) {
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	values, err := s.client.HMGet(ctx2, s.infraKey(treeName), keys...).Result()
	if err == nil && len(values) != len(keys) {
		err = fmt.Errorf("%w: %d answers for %d fields", ErrRejected, len(values), len(keys))
	}
	if err != nil {
		return nil, s.classify(ctx, "rows of the tree", err)
	}
	rows := make([][]byte, len(keys))
	for i, v := range values {
		if text, ok := v.(string); ok {
			rows[i] = []byte(text)
		}
	}
	return rows, nil
}

// TreeCommit writes b if the state's row is b.Was, else it fails with ErrTreeMoved. It
// blocks the server for as long as it takes: some 1 µs a row.
func (s *Store) TreeCommit(ctx context.Context, b TreeBatch) error {
	args := make([]any, 0, 3+len(b.Deletes)+2*len(b.Puts))
	args = append(args, b.Was, b.State, len(b.Deletes))
	for _, k := range b.Deletes {
		args = append(args, k)
	}
	for _, p := range b.Puts {
		args = append(args, p.Key, p.Value)
	}
	done, err := s.eval(ctx, &s.scripts.tree, treeName, args)
	if err != nil {
		return s.classify(ctx, "write the copy of the tree", err)
	}
	if done == 0 {
		return ErrTreeMoved
	}
	return nil
}

// TreeDrop removes the copy.
func (s *Store) TreeDrop(ctx context.Context) error {
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	if err := s.client.Unlink(ctx2, s.infraKey(treeName)).Err(); err != nil {
		return s.classify(ctx, "drop the copy of the tree", err)
	}
	return nil
}

// TreeLease takes or renews the lease to write the copy, for a time, and reports
// whether holder has it.
func (s *Store) TreeLease(ctx context.Context, holder string, ttl time.Duration) (held bool, err error) {
	done, err := s.eval(ctx, &s.scripts.lease, treeLeaseName, []any{holder, ttl.Milliseconds()})
	if err != nil {
		return false, s.classify(ctx, "lease of the tree", err)
	}
	return done == 1, nil
}

// eval runs a script on a key of our own.
func (s *Store) eval(ctx context.Context, sc *script, name string, args []any) (int, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	keys := []string{s.infraKey(name)}
	n, err := s.client.EvalSha(ctx, sc.sha, keys, args...).Int()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		n, err = s.client.Eval(ctx, sc.source, keys, args...).Int()
	}
	return n, err
}
