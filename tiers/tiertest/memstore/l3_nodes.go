package memstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/edgenode/edgenode/tiers/l3"
)

// RegisterNode is Store.RegisterNode; leases run by the store's clock.
func (s *L3) RegisterNode(ctx context.Context, n l3.NodeInfo) error {
	fault, err := s.enter(ctx, "RegisterNode")
	if err != nil {
		return err
	}
	if err := s.register(n); err != nil {
		return err
	}
	return s.leave(ctx, "RegisterNode", fault)
}

func (s *L3) register(n l3.NodeInfo) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.state.nodes, func(other l3.NodeInfo) bool { return other.ID == n.ID })
	if i < 0 {
		s.state.nodes = append(s.state.nodes, n)
		slices.SortFunc(s.state.nodes, func(a, b l3.NodeInfo) int { return cmp.Compare(a.ID, b.ID) })
		return nil
	}
	if other := &s.state.nodes[i]; other.Incarnation != n.Incarnation && other.LeaseUntil > s.now() {
		return fmt.Errorf("memstore: %w: %s is held by node %q", l3.ErrIdentityInUse, n.ID, other.Name)
	}
	s.state.nodes[i] = n
	return nil
}

// Nodes is Store.Nodes.
func (s *L3) Nodes(ctx context.Context) ([]l3.NodeInfo, error) {
	fault, err := s.enter(ctx, "Nodes")
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	list := slices.Clone(s.state.nodes)
	for i := range list {
		list[i].Live = list[i].LeaseUntil > s.now()
	}
	s.mu.Unlock()
	return list, s.leave(ctx, "Nodes", fault)
}

// RemoveNode is Store.RemoveNode.
func (s *L3) RemoveNode(ctx context.Context, id string) (existed bool, err error) {
	fault, err := s.enter(ctx, "RemoveNode")
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	before := len(s.state.nodes)
	s.state.nodes = slices.DeleteFunc(s.state.nodes, func(n l3.NodeInfo) bool { return n.ID == id })
	existed = len(s.state.nodes) < before
	s.mu.Unlock()
	return existed, s.leave(ctx, "RemoveNode", fault)
}

// AcquireLease is Store.AcquireLease.
func (s *L3) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (held bool, err error) {
	fault, err := s.enter(ctx, "AcquireLease")
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	if l, taken := s.state.leases[name]; !taken || l.holder == holder || l.until <= s.now() {
		if s.state.leases == nil {
			s.state.leases = map[string]lease{}
		}
		s.state.leases[name], held = lease{holder, s.now() + ttl.Milliseconds()}, true
	}
	s.mu.Unlock()
	return held, s.leave(ctx, "AcquireLease", fault)
}

// ReleaseLease is Store.ReleaseLease.
func (s *L3) ReleaseLease(ctx context.Context, name, holder string) error {
	fault, err := s.enter(ctx, "ReleaseLease")
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.state.leases[name].holder == holder {
		delete(s.state.leases, name)
	}
	s.mu.Unlock()
	return s.leave(ctx, "ReleaseLease", fault)
}
