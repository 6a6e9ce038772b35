package l2

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Store keeps copies of items in Redis. It is safe for concurrent use.
type Store struct {
	opts    Options
	address address
	limits  atomic.Pointer[Limits]
	client  redis.UniversalClient
	servers servers
	metrics *storeMetrics
	scripts struct{ put, drop, evict, tree, lease script }

	usedBytes, maxBytes atomic.Int64 // as last probed
	newShare            atomic.Int64 // see mostlyNew
	values              sync.Pool    // of *[]byte: values of a batch

	evictMu sync.Mutex              // held for a whole call of Evict
	evictAt map[string]*evictCursor // by address of the master

	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error
}

// Open returns a store. It does no I/O: Redis may be down, and is connected when
// a call needs it. An error wraps ErrOptions and names every fault; it never
// shows a password.
func Open(o Options) (*Store, error) {
	o = o.withDefaults()
	a, urlErr := parseURL(o.URL)
	if err := joinFaults(urlErr, o.validate()); err != nil {
		return nil, err
	}
	s := &Store{opts: o, address: a, evictAt: make(map[string]*evictCursor)}
	s.scripts.put, s.scripts.drop, s.scripts.evict = newScript(putScript), newScript(dropScript), newScript(evictScript)
	s.scripts.tree, s.scripts.lease = newScript(treeScript), newScript(leaseScript)
	s.limits.Store(&Limits{o.Timeout, o.L2MaxTTL, o.EvictionStart, o.EvictionTarget})
	s.metrics = newMetrics(o.Metrics, s)
	s.client = s.newClient(a)
	return s, nil
}

func joinFaults(a, b error) error {
	switch {
	case a == nil && b == nil:
		return nil
	case a == nil:
		return fmt.Errorf("%w: %w", ErrOptions, b)
	case b == nil:
		return fmt.Errorf("%w: %w", ErrOptions, a)
	}
	return fmt.Errorf("%w: %w\n%w", ErrOptions, a, b)
}

// Close ends all connections and unregisters the metrics. Calls under way fail.
// It may be called more than once.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		if err := s.client.Close(); err != nil {
			s.closeErr = fmt.Errorf("l2: close: %w", err)
		}
		s.metrics.unregister()
	})
	return s.closeErr
}

func (s *Store) timeout() time.Duration { return s.limits.Load().Timeout }

// bounded returns ctx with the time limit of one round trip.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout())
}

// Generation returns a number that grows whenever a connection reached a server
// other than the one before it, or was made after an error, or a cluster moved
// slots. It is 0 before the first connection.
//
// What was read between two equal answers of Generation came from one server
// with one history of data. Whoever trusted what L2 held under an older
// generation must not any more. It costs one atomic load.
func (s *Store) Generation() uint64 { return s.servers.generation.Load() }

// A Server is what Probe learned.
type Server struct {
	// ID names the server and the history of its data; in a cluster it is made
	// of all masters. Equal IDs, same data unless it was deleted by command.
	ID string
	// Version is that of Redis; in a cluster the least of the masters'.
	Version string
	Mode    Mode
	Role    string // "master"
	Masters int
	// UsedMemory and MaxMemory are bytes, of all masters; MaxMemory is 0 if one
	// of them has no limit.
	UsedMemory, MaxMemory int64
	// Policy is maxmemory-policy: all but noeviction may evict tombstones and
	// the mark behind our back.
	Policy string
	// JSON and Search say whether every master knows JSON.SET and FT.SEARCH.
	JSON, Search bool
}

// Probe asks every master once who it is and what it can do.
func (s *Store) Probe(ctx context.Context) (Server, error) {
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	server, err := s.probe(ctx2)
	if err != nil {
		return Server{}, s.classify(ctx, "probe", err)
	}
	s.usedBytes.Store(server.UsedMemory)
	s.maxBytes.Store(server.MaxMemory)
	return server, nil
}

func (s *Store) probe(ctx context.Context) (Server, error) {
	server := Server{Mode: s.address.mode, Role: "master", JSON: true, Search: true}
	masters, err := s.masters(ctx)
	if err != nil {
		return server, err
	}
	var ids []string
	limited := true
	for _, m := range masters {
		info, err := serverInfo(ctx, m)
		if err != nil {
			return server, err
		}
		if info["role"] != "master" {
			return server, fmt.Errorf("%w: %w", ErrUnavailable, errReplica)
		}
		if err := server.capabilities(ctx, m); err != nil {
			return server, err
		}
		limit := number(info["maxmemory"])
		limited = limited && limit > 0
		server.UsedMemory += number(info["used_memory"])
		server.MaxMemory += limit
		server.Policy = info["maxmemory_policy"]
		if v := info["redis_version"]; server.Version == "" || v < server.Version {
			server.Version = v
		}
		ids = append(ids, identityOf(info))
	}
	if !limited {
		server.MaxMemory = 0
	}
	slices.Sort(ids)
	sum := sha256.New()
	for _, id := range ids {
		fmt.Fprintln(sum, id)
	}
	server.ID, server.Masters = hex.EncodeToString(sum.Sum(nil)[:16]), len(masters)
	return server, nil
}

// capabilities asks for commands that plain Redis does not have.
func (v *Server) capabilities(ctx context.Context, c *redis.Client) error {
	answer, err := c.Do(ctx, "COMMAND", "INFO", "JSON.SET", "FT.SEARCH").Slice()
	if err != nil {
		return err
	}
	known := func(i int) bool { return i < len(answer) && answer[i] != nil }
	v.JSON, v.Search = v.JSON && known(0), v.Search && known(1)
	return nil
}

// number reads a decimal field of INFO; 0 if it is none.
func number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
