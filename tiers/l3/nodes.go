package l3

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// A NodeInfo is what a node says of itself.
type NodeInfo struct {
	ID   string // its identity, 1 to 64 bytes
	Name string // for operators, up to 255 bytes
	Addr string // where others reach it, up to 255 bytes
	// Incarnation tells processes of one identity apart: each has another, 1 to
	// 64 bytes.
	Incarnation string
	AppliedSeq  uint64 // the last change that it has applied
	// LeaseUntil is when its registration ends unless it is renewed (Unix ms, by
	// the caller's clock; given back by that of the database).
	LeaseUntil int64
	Live       bool // set by Nodes: LeaseUntil is to come, by the database's clock
}

// RegisterNode stores n, or renews its lease and what it says of itself: it is
// the heartbeat too. While another incarnation holds the identity it fails with
// ErrIdentityInUse, which names the other and when its lease ends: after a crash
// a node waits for that, or sees the other renew it and must not start. To leave
// in order, register with a LeaseUntil that is over.
//
// The lease runs by the database's clock, so clocks of nodes need not agree.
func (s *Store) RegisterNode(ctx context.Context, n NodeInfo) error {
	err := n.check()
	if err == nil {
		_, err = s.write(ctx, func(w *work) error { return s.register(w, n) })
	}
	return s.wrap("register node "+n.ID, err)
}

func (n *NodeInfo) check() error {
	for _, f := range [...]struct {
		name, value string
		least, most int
	}{{"id", n.ID, 1, 64}, {"name", n.Name, 0, 255}, {"address", n.Addr, 0, 255}, {"incarnation", n.Incarnation, 1, 64}} {
		if len(f.value) < f.least || len(f.value) > f.most {
			return fmt.Errorf("%w: %s of a node has %d bytes, allowed are %d to %d", ErrRejected, f.name, len(f.value), f.least, f.most)
		}
	}
	if n.AppliedSeq > uint64(maxStored) {
		return fmt.Errorf("%w: applied change %d of a node", ErrRejected, n.AppliedSeq)
	}
	return nil
}

func (s *Store) register(w *work, n NodeInfo) error {
	now, err := s.databaseTime(w.ses)
	if err != nil {
		return err
	}
	st := stmtNodeNew
	err = w.ses.query(stmtNode, func(row []driver.Value) error {
		st = stmtNodeSet
		other, until := string(bytesOf(row[2])), intOf(row[3])
		if other == n.Incarnation || until <= now {
			return nil
		}
		return fmt.Errorf("%w: %s is held by node %q at %q until %s; if that is this node's last run, wait, else remove the copied identity from one of the data directories",
			ErrIdentityInUse, n.ID, bytesOf(row[0]), bytesOf(row[1]), time.UnixMilli(until).UTC().Format(time.RFC3339Nano))
	}, n.ID)
	if err != nil {
		return err
	}
	until := now + n.LeaseUntil - s.opts.Clock()
	_, err = w.ses.exec(st, n.Name, n.Addr, n.Incarnation, int64(n.AppliedSeq), until, n.ID)
	return err
}

// databaseTime returns the clock by which leases run, in Unix ms.
func (s *Store) databaseTime(ses *session) (now int64, err error) {
	if !s.dialect.server() {
		return s.opts.Clock(), nil
	}
	err = ses.query(stmtServerTime, func(row []driver.Value) error {
		now = intOf(row[0])
		return nil
	})
	if err == nil && now == 0 {
		err = errors.New("the server does not tell its time")
	}
	return now, err
}

// Nodes returns all nodes that have registered and were not removed, by id.
func (s *Store) Nodes(ctx context.Context) (list []NodeInfo, err error) {
	err = s.read(ctx, func(ses *session) error {
		now, err := s.databaseTime(ses)
		if err != nil {
			return err
		}
		return ses.query(stmtNodes, func(row []driver.Value) error {
			list = append(list, NodeInfo{
				ID: string(bytesOf(row[0])), Name: string(bytesOf(row[1])), Addr: string(bytesOf(row[2])), Incarnation: string(bytesOf(row[3])),
				AppliedSeq: uint64(intOf(row[4])), LeaseUntil: intOf(row[5]), Live: intOf(row[5]) > now,
			})
			return nil
		})
	})
	if err != nil {
		return nil, s.wrap("list nodes", err)
	}
	return list, nil
}

// RemoveNode forgets a node, live or not, and reports whether it was there. One
// that lives registers again with its next heartbeat.
func (s *Store) RemoveNode(ctx context.Context, id string) (existed bool, err error) {
	_, err = s.write(ctx, func(w *work) error {
		n, err := w.ses.exec(stmtNodeRemove, id)
		existed = n > 0
		return err
	})
	if err != nil {
		return false, s.wrap("remove node "+id, err)
	}
	return existed, nil
}

// AcquireLease makes holder the only one with the lease called name for ttl from
// now, by the database's clock, and reports whether it did: it does not while
// another holder has it. A holder renews it by the same call, in time: a lease
// that it lost may be another's. Name and holder have 1 to 64 bytes.
func (s *Store) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	if len(name) < 1 || len(name) > 64 || len(holder) < 1 || len(holder) > 64 || ttl < time.Millisecond {
		err = fmt.Errorf("%w: lease %q of %q for %v, want names of 1 to 64 bytes and at least a millisecond", ErrRejected, name, holder, ttl)
		return false, s.wrap("acquire lease", err)
	}
	_, err = s.write(ctx, func(w *work) error {
		held, err = s.acquire(w, name, holder, ttl.Milliseconds())
		return err
	})
	if err != nil {
		return false, s.wrap("acquire lease "+name, err)
	}
	return held, nil
}

func (s *Store) acquire(w *work, name, holder string, ttl int64) (held bool, err error) {
	now, err := s.databaseTime(w.ses)
	if err != nil {
		return false, err
	}
	st, free := stmtLeaseNew, true
	err = w.ses.query(stmtLease, func(row []driver.Value) error {
		st, free = stmtLeaseSet, string(bytesOf(row[0])) == holder || intOf(row[1]) <= now
		return nil
	}, name)
	if err != nil || !free {
		return false, err
	}
	_, err = w.ses.exec(st, holder, now+ttl, name)
	return err == nil, err
}

// ReleaseLease ends holder's lease at once, if holder has it.
func (s *Store) ReleaseLease(ctx context.Context, name, holder string) error {
	_, err := s.write(ctx, func(w *work) error {
		_, err := w.ses.exec(stmtLeaseDrop, name, holder)
		return err
	})
	return s.wrap("release lease "+name, err)
}
