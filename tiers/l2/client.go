package l2

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// newClient returns the client of a. It connects when it is used.
//
// Nothing is retried below us: when and whether is the engine's decision. In a
// cluster the client follows MOVED and ASK; what it sends again on that way is
// conditional on versions, so neither order nor number matters.
func (s *Store) newClient(a address) redis.UniversalClient {
	o := &redis.UniversalOptions{
		Addrs: a.hosts, DB: a.db, Username: a.username, Password: a.password,
		MasterName: a.master, SentinelPassword: s.opts.SentinelPassword,
		IsClusterMode: a.mode == Cluster, TLSConfig: a.tls,
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		OnConnect:                s.onConnect,
		MaxRetries:               -1, DialerRetries: 1,
		DialTimeout: s.opts.Timeout, ReadTimeout: s.opts.Timeout, WriteTimeout: s.opts.Timeout,
		PoolTimeout: s.opts.Timeout, ContextTimeoutEnabled: true,
		PoolSize: s.opts.PoolSize, PipelinePoolSize: -1,
	}
	if s.opts.Password != "" {
		o.Password = s.opts.Password
	}
	if a.network == "unix" {
		o.Dialer = func(ctx context.Context, _, path string) (net.Conn, error) {
			return (&net.Dialer{Timeout: s.opts.Timeout}).DialContext(ctx, "unix", path)
		}
	}
	client := redis.NewUniversalClient(o)
	if c, ok := client.(*redis.ClusterClient); ok {
		c.OnNewNode(func(node *redis.Client) { node.AddHook(movedHook{s}) })
	}
	return client
}

// servers knows which servers the connections have reached.
type servers struct {
	generation atomic.Uint64
	// broken is set by a call that failed on its way to the server or back; the
	// next connection ends it and makes a new generation.
	broken atomic.Bool

	// mu guards last. It is a leaf lock.
	mu   sync.Mutex
	last map[string]string // identity of the last server seen, by place
}

// maxPlaces bounds servers.last; a cluster has one place per node.
const maxPlaces = 4096

// reached notes that a connection is made to the server with this identity. The
// place is the cluster node's id, or "" where there is one server at a time. It
// reports whether a new generation began.
func (v *servers) reached(place, identity string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	same := v.last[place] == identity && !v.broken.Swap(false)
	if same {
		return false
	}
	if v.last == nil || len(v.last) >= maxPlaces {
		v.last = make(map[string]string)
	}
	v.last[place] = identity
	v.broken.Store(false)
	v.generation.Add(1)
	return true
}

// onConnect asks a new connection's server who it is, before the first command
// of a caller is sent on it: so a new generation is visible before the first
// answer of a new server. It also leaves the scripts there.
func (s *Store) onConnect(ctx context.Context, cn *redis.Conn) error {
	info, err := serverInfo(ctx, cn)
	if err != nil {
		return err
	}
	if info["redis_mode"] == "sentinel" { // the client connects to these by the same hook
		return nil
	}
	place := ""
	if s.address.mode == Cluster {
		if place, err = cn.Do(ctx, "CLUSTER", "MYID").Text(); err != nil {
			return err
		}
	} else if info["role"] != "master" {
		return fmt.Errorf("%w: %w", ErrUnavailable, errReplica)
	}
	pipe := cn.Pipeline()
	for _, sc := range []*script{&s.scripts.put, &s.scripts.drop, &s.scripts.evict, &s.scripts.tree, &s.scripts.lease} {
		pipe.ScriptLoad(ctx, sc.source)
	}
	_, _ = pipe.Exec(ctx) // a refusal costs speed only: the source is sent with each call then
	if s.servers.reached(place, identityOf(info)) {
		s.opts.Logger.Info("redis connected", "version", info["redis_version"], "run_id", info["run_id"],
			"generation", s.servers.generation.Load())
	}
	return nil
}

// identityOf names a server and the history of its data: the replication id
// changes when a replica becomes master, also if it was master before.
func identityOf(info map[string]string) string {
	return info["run_id"] + " " + info["master_replid"]
}

// serverInfo returns the fields of the INFO sections that we read.
func serverInfo(ctx context.Context, c redis.Cmdable) (map[string]string, error) {
	pipe := c.Pipeline()
	var answers []*redis.StringCmd
	for _, section := range []string{"server", "replication", "memory"} {
		answers = append(answers, pipe.Info(ctx, section))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, err
	}
	fields := make(map[string]string)
	for _, a := range answers {
		for line := range strings.Lines(a.Val()) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				fields[name] = value
			}
		}
	}
	return fields, nil
}

// A movedHook sees the commands of one cluster node. A node that sends us away
// is not the master of the slot any more: a new generation begins before the
// command goes to the new one.
type movedHook struct{ s *Store }

func (h movedHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h movedHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err != nil {
			h.look(err)
		}
		return err
	}
}

func (h movedHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, c := range cmds {
			if e := c.Err(); e != nil && h.look(e) {
				break
			}
		}
		return err
	}
}

func (h movedHook) look(err error) bool {
	_, moved := redis.IsMovedError(err)
	if moved {
		h.s.servers.generation.Add(1)
	}
	return moved
}

// masters returns the clients of all masters.
func (s *Store) masters(ctx context.Context) ([]*redis.Client, error) {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return []*redis.Client{s.client.(*redis.Client)}, nil
	}
	var mu sync.Mutex
	var list []*redis.Client
	err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		list = append(list, c)
		return nil
	})
	return list, err
}
