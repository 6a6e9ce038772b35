package l2

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A Mark says that L2 has seen every change of an L3 up to a number. It is kept
// in Redis beside the data: a replica or an older snapshot carries its own.
type Mark struct {
	L3  string // identity of the L3
	Seq uint64 // of its change sequence
}

const (
	markName   = "mark"
	markFormat = 1
	markHead   = 1 + 8
	maxL3Len   = 256
)

// ReadMark returns the mark, or false if there is none that this version
// reads.
func (s *Store) ReadMark(ctx context.Context) (Mark, bool, error) {
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	b, err := s.client.Get(ctx2, s.infraKey(markName)).Bytes()
	switch {
	case absent(err), redis.HasErrorPrefix(err, "WRONGTYPE"):
		return Mark{}, false, nil
	case err != nil:
		return Mark{}, false, s.classify(ctx, "read mark", err)
	}
	m, ok := parseMark(b)
	if !ok {
		s.metrics.foreign.Inc()
	}
	return m, ok, nil
}

// WriteMark stores m, but only on the server that was connected at generation:
// a mark that arrived at another one would promise changes that it never saw.
// Otherwise it returns ErrGeneration and the mark is as it was. In a cluster
// this holds for the node that keeps the mark; the caller asks Probe for the
// others.
func (s *Store) WriteMark(ctx context.Context, m Mark, generation uint64) error {
	if len(m.L3) > maxL3Len {
		return fmt.Errorf("%w: write mark: identity of L3 has %d bytes, allowed are %d", ErrRejected, len(m.L3), maxL3Len)
	}
	ctx2, cancel := s.bounded(ctx)
	defer cancel()
	err := s.writeMark(ctx2, m, generation)
	if errors.Is(err, ErrGeneration) {
		return fmt.Errorf("l2: write mark: %w", err)
	}
	return s.classify(ctx, "write mark", err)
}

// writeMark takes one connection, which is to one process for all its life, and
// compares the generation before it writes on it.
func (s *Store) writeMark(ctx context.Context, m Mark, generation uint64) error {
	key := s.infraKey(markName)
	client, err := s.masterOf(ctx, key)
	if err != nil {
		return err
	}
	cn := client.Conn()
	defer cn.Close()
	if err := cn.Ping(ctx).Err(); err != nil {
		return err
	}
	if s.Generation() != generation {
		return ErrGeneration
	}
	return cn.Set(ctx, key, appendMark(nil, m), 0).Err()
}

// masterOf returns the client of the master that holds key.
func (s *Store) masterOf(ctx context.Context, key string) (*redis.Client, error) {
	if cluster, ok := s.client.(*redis.ClusterClient); ok {
		return cluster.MasterForKey(ctx, key)
	}
	return s.client.(*redis.Client), nil
}

func appendMark(dst []byte, m Mark) []byte {
	dst = append(dst, markFormat)
	return append(be.AppendUint64(dst, m.Seq), m.L3...)
}

func parseMark(b []byte) (Mark, bool) {
	if len(b) < markHead || b[0] != markFormat || len(b) > markHead+maxL3Len {
		return Mark{}, false
	}
	return Mark{L3: string(b[markHead:]), Seq: be.Uint64(b[1:])}, true
}
