package l2

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/edgenode/edgenode/tiers/item"
)

// A Scorer ranks candidates: the lowest score leaves first. It appends one score
// per candidate to dst, in order, and does not keep c. Pressure is the share of
// maxmemory in use.
type Scorer interface {
	Score(dst []int32, c []item.Candidate, pressure float64) []int32
}

// evictPages is how many pages of keys one call of Evict looks at, per master.
const evictPages = 64

// Shares of a page that leave, at least and at most.
const (
	minShare = 1.0 / 64
	maxShare = 1.0 / 2
)

// An Eviction is what a call of Evict did.
type Eviction struct {
	Evicted   int64 // keys
	Used, Max int64 // bytes, of the master that is fullest, at the end
	// More says that a master is still above its target: call again.
	More bool
}

// An evictCursor is where the eviction of one master stands.
type evictCursor struct {
	active bool   // above the start once, not yet below the target
	cursor uint64 // of SCAN
}

// Evict removes items from each master whose memory is at EvictionStart of its
// maxmemory or above, until it is at EvictionTarget. A master without maxmemory
// is left alone.
//
// It walks the keys in the order of SCAN, which is random with regard to their
// use, in pages of some 512. Of each page the share that is to go overall leaves,
// lowest score first. Candidates carry what can be asked without touching the
// key's clock: size, idle time (or frequency, under an LFU policy) and lifetime.
// Only live items leave: tombstones, fences and infrastructure keys stay.
//
// One call looks at 64 pages of each master at most and remembers where it was.
// Calls exclude each other.
func (s *Store) Evict(ctx context.Context, rank Scorer) (Eviction, error) {
	s.evictMu.Lock()
	defer s.evictMu.Unlock()
	var sum Eviction
	masters, err := s.masters(ctx)
	if err != nil {
		return sum, s.classify(ctx, "evict", err)
	}
	for _, m := range masters {
		e, err := s.evictMaster(ctx, m, rank)
		sum.Evicted += e.Evicted
		sum.More = sum.More || e.More
		if sum.Max == 0 || e.Max > 0 && e.Used*sum.Max > sum.Used*e.Max {
			sum.Used, sum.Max = e.Used, e.Max
		}
		if err != nil {
			return sum, s.classify(ctx, "evict", err)
		}
	}
	return sum, nil
}

func (s *Store) evictMaster(ctx context.Context, c *redis.Client, rank Scorer) (Eviction, error) {
	at := s.evictAt[c.Options().Addr]
	if at == nil {
		at = &evictCursor{}
		s.evictAt[c.Options().Addr] = at
	}
	var e Eviction
	limits := s.limits.Load()
	for range evictPages {
		m, err := s.memory(ctx, c)
		if err != nil {
			return e, err
		}
		e.Used, e.Max = m.used, m.limit
		target := limits.EvictionTarget * float64(e.Max)
		used := float64(e.Used)
		if e.Max == 0 || used <= target || !at.active && used < limits.EvictionStart*float64(e.Max) {
			at.active = false
			break
		}
		at.active = true
		n, err := s.evictPage(ctx, c, at, rank, m, (used-target)/used)
		e.Evicted += n
		s.metrics.evicted.Add(int(n))
		if err != nil {
			return e, err
		}
	}
	e.More = at.active
	return e, nil
}

// A memory is the state of a master's memory.
type memory struct {
	used, limit int64 // bytes; limit 0 means none
	lfu         bool  // the server counts uses instead of noting their time
}

func (s *Store) memory(ctx context.Context, c *redis.Client) (memory, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	info, err := serverInfo(ctx, c)
	if err == nil && info["role"] != "master" {
		err = fmt.Errorf("%w: %w", ErrUnavailable, errReplica)
	}
	policy := info["maxmemory_policy"]
	return memory{number(info["used_memory"]), number(info["maxmemory"]), strings.HasSuffix(policy, "-lfu")}, err
}

// evictPage removes share of the next page of keys and returns how many left.
func (s *Store) evictPage(ctx context.Context, c *redis.Client, at *evictCursor, rank Scorer, m memory, share float64) (int64, error) {
	keys, next, err := s.scan(ctx, c, at.cursor)
	if err != nil {
		return 0, err
	}
	at.cursor = next
	if len(keys) == 0 {
		return 0, nil
	}
	candidates, err := s.candidates(ctx, c, keys, m.lfu)
	if err != nil {
		return 0, err
	}
	scores := rank.Score(make([]int32, 0, len(keys)), candidates, float64(m.used)/float64(m.limit))
	if len(scores) != len(keys) {
		return 0, errors.New("the scorer did not return one score per candidate")
	}
	order := make([]int, len(keys))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(int64(scores[a]) - int64(scores[b])) })
	// A little more than the share: keys that came meanwhile are not in it.
	n := math.Ceil(float64(len(keys)) * min(maxShare, max(minShare, share*1.1)))
	return s.evictKeys(ctx, c, keys, order[:int(n)])
}

func (s *Store) evictKeys(ctx context.Context, c *redis.Client, keys []string, which []int) (int64, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	calls := make([]call, len(which))
	for i, k := range which {
		calls[i] = call{script: &s.scripts.evict, key: keys[k]}
	}
	s.run(ctx, calls)
	var n int64
	for i := range calls {
		answer, err := calls[i].answer()
		if err != nil && !redis.HasErrorPrefix(err, "WRONGTYPE") {
			return n, err
		}
		n += int64(answer)
	}
	return n, nil
}

// candidates asks for size, use and lifetime of keys, in one round trip. None of
// the commands counts as a use of the key.
func (s *Store) candidates(ctx context.Context, c *redis.Client, keys []string, lfu bool) ([]item.Candidate, error) {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	pipe := c.Pipeline()
	useCommand := "IDLETIME"
	if lfu {
		useCommand = "FREQ"
	}
	type answers struct {
		size, use *redis.Cmd
		ttl       *redis.DurationCmd
	}
	asked := make([]answers, len(keys))
	for i, k := range keys {
		asked[i] = answers{pipe.Do(ctx, "MEMORY", "USAGE", k), pipe.Do(ctx, "OBJECT", useCommand, k), pipe.PTTL(ctx, k)}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	list := make([]item.Candidate, len(keys))
	var idle float64
	for i, a := range asked {
		size, err := a.size.Int64()
		if err != nil && !absent(err) {
			return nil, err
		}
		use, _ := a.use.Int64() // 0 if the key is gone
		list[i] = candidate(size, a.ttl.Val().Milliseconds())
		if lfu {
			list[i].Hits, list[i].LogFrequency = saturated(use), float32(use)
		} else {
			list[i].Idle = saturated(use * 1000)
			idle += float64(list[i].Idle)
		}
	}
	// Half-life: the mean idle time of the page, so that no constant in seconds
	// decides (see package eviction).
	half := max(idle/float64(len(keys)), 1)
	for i := range list {
		list[i].LogFrequency -= float32(float64(list[i].Idle) / half)
	}
	return list, nil
}

func candidate(size, lifeMilli int64) item.Candidate {
	c := item.Candidate{Size: saturated(max(size, 1)), Hits: 1, Lifetime: item.NoLifetime}
	if lifeMilli >= 0 {
		c.Lifetime = saturated(lifeMilli / 1000)
	}
	c.LogSize = float32(math.Log2(float64(c.Size)))
	return c
}

func saturated(n int64) uint32 { return uint32(min(max(n, 0), math.MaxUint32)) }
