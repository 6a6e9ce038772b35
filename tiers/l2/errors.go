package l2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Errors of every call.
var (
	// ErrUnavailable marks an outage: no connection, no answer in time, a server
	// that loads its data or is a replica. What a write did is not known: it may
	// have been done, or be done a little later. It may be made again as it is.
	ErrUnavailable = errors.New("l2: redis is unavailable")
	// ErrRejected marks a command that the server understood and refused: out of
	// memory, read-only, wrong password, no permission. The message names the
	// remedy. What was refused was not done.
	ErrRejected = errors.New("l2: redis refused")
	// ErrClosed is returned by calls after Close. Nothing was done.
	ErrClosed = errors.New("l2: store is closed")
	// ErrGeneration is returned by WriteMark when the server is not the one that
	// the caller knows any more. The mark was not written.
	ErrGeneration = errors.New("l2: the server has changed")
	// ErrOptions is returned by Open; the message lists every fault.
	ErrOptions = errors.New("l2: options are not valid")
)

// Causes that a connection finds before it is used.
var errReplica = errors.New("the server is a replica, redis_url must name the master, or its sentinels by redis+sentinel://")

// refusals names the remedy of what a server answers. The code is the first
// word of an error answer, which is part of Redis' protocol.
var refusals = []struct {
	code   string
	marker error
	remedy string
}{
	{"OOM", ErrRejected, "redis has reached its maxmemory: raise it, or lower redis_eviction_start"},
	{"READONLY", ErrRejected, "the server is a replica: let redis_url name the master, or its sentinels by redis+sentinel://"},
	{"WRONGTYPE", ErrRejected, "another program keeps its data under our keys: choose another redis_prefix"},
	{"NOAUTH", ErrRejected, "the server asks for a password: put it into redis_url"},
	{"WRONGPASS", ErrRejected, "the user or password in redis_url is wrong"},
	{"NOPERM", ErrRejected, "grant the user all commands on keys that begin with redis_prefix, and info, scan, script and command"},
	{"MISCONF", ErrRejected, "redis cannot write its snapshot and so refuses writes: see its log, mostly a full disk"},
	{"NOREPLICAS", ErrRejected, "redis has too few replicas in step for min-replicas-to-write"},
	{"CROSSSLOT", ErrRejected, "the server is a cluster: use redis+cluster:// in redis_url"},
	{"MOVED", ErrUnavailable, "a cluster is moving its slots; a single cluster node needs redis+cluster:// in redis_url"},
	{"ASK", ErrUnavailable, "a cluster is moving its slots"},
	{"LOADING", ErrUnavailable, "the server is loading its data"},
	{"BUSY", ErrUnavailable, "a script of another program is running for too long"},
	{"CLUSTERDOWN", ErrUnavailable, "the cluster lacks a master for some slots"},
	{"TRYAGAIN", ErrUnavailable, "a cluster is moving its slots"},
	{"MASTERDOWN", ErrUnavailable, "the replica has lost its master"},
	{"ERR max number of clients", ErrUnavailable, "raise maxclients of redis, or lower the connections of its clients"},
}

// classify wraps err, the failure of what doing names, in the errors of this
// package. An end of the caller's own context is passed on as what it is.
func (s *Store) classify(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	err = s.mark(ctx, err)
	s.metrics.count(err)
	return fmt.Errorf("l2: %s: %w", doing, err)
}

func (s *Store) mark(ctx context.Context, err error) error {
	var refused redis.Error
	switch {
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrRejected), errors.Is(err, ErrClosed):
		return err
	case s.closed.Load(), errors.Is(err, redis.ErrClosed):
		return ErrClosed
	case errors.Is(err, redis.Nil): // not the answer to a command of ours
		return fmt.Errorf("%w: the sentinels do not know the master %q that redis_url names: %w", ErrUnavailable, s.address.master, err)
	case errors.As(err, &refused):
		return refusal(err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, redis.ErrPoolTimeout): // no connection has failed
		return fmt.Errorf("%w: all connections are in use: %w", ErrUnavailable, err)
	}
	s.servers.broken.Store(true)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: no answer within redis_timeout %v: %w", ErrUnavailable, s.timeout(), err)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: the server closed the connection: %w", ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// refusal marks an error answer of a server.
func refusal(err error) error {
	for _, r := range refusals {
		if redis.HasErrorPrefix(err, r.code) || redis.HasErrorPrefix(err, strings.TrimPrefix(r.code, "ERR ")) {
			return fmt.Errorf("%w: %w (%s)", r.marker, err, r.remedy)
		}
	}
	return fmt.Errorf("%w: %w", ErrRejected, err)
}
