package api_test

import (
	"context"
	"fmt"
	"strings"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A feedLog is the change sequence of the store in a map.
type feedLog struct {
	events []tiers.Event // the i-th has number i+1
	gone   uint64        // of the last that is not kept
	grown  chan struct{} // closed by note
}

// note adds a change.
func (s *store) note(op, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ev := tiers.Event{Op: op, At: testTime, Version: item.Version(1000 + len(s.feed.events))}
	switch op {
	case tiers.EventPurge:
		ev.Rule = &item.Rule{Op: item.OpPurgeSoft, Match: item.MatchTag, Namespaces: item.InItems, Values: []string{id}}
	case tiers.EventPut:
		ev.Row = s.items["i"+id]
		ev.Size = len(ev.Row.Content())
		fallthrough
	default:
		ev.Key = item.Key("i" + id)
	}
	s.feed.events = append(s.feed.events, ev)
	if s.feed.grown != nil {
		close(s.feed.grown)
		s.feed.grown = nil
	}
}

func (s *store) Feed(ctx context.Context, q tiers.FeedQuery, fn func(ev *tiers.Event) error) (uint64, error) {
	last, prev := q.After, q.After
	for n := 0; n < q.Limit; n++ {
		s.mu.Lock()
		fail, end := s.fail, int(last) == len(s.feed.events)
		gone := q.After < s.feed.gone || int(last) > len(s.feed.events)
		s.mu.Unlock()
		switch {
		case fail != nil:
			return last, fail
		case gone:
			return last, fmt.Errorf("fake: %w", tiers.ErrChangesGone)
		case ctx.Err() != nil:
			return last, context.Cause(ctx)
		case end:
			return last, nil
		}
		s.mu.Lock()
		ev := s.feed.events[last]
		s.mu.Unlock()
		ev.Seq, ev.Prev = last+1, prev
		if ev.Size > q.MaxContent && ev.Row != nil {
			ev.Row = ev.Row.AppendHead(nil)
		}
		if ev.Rule != nil || strings.HasPrefix(ev.Key.ID(), q.Scope) && strings.HasPrefix(ev.Key.ID(), q.Prefix) {
			if err := fn(&ev); err != nil {
				return last, err
			}
			prev = ev.Seq
		}
		last++
	}
	return last, nil
}

func (s *store) LastChange() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return uint64(len(s.feed.events))
}

func (s *store) AwaitChange(ctx context.Context, after uint64) error {
	for {
		s.mu.Lock()
		if s.feed.grown == nil {
			s.feed.grown = make(chan struct{})
		}
		grown, more := s.feed.grown, uint64(len(s.feed.events)) > after
		s.mu.Unlock()
		if more {
			return nil
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// A fakeGroup are the nodes that share the store's L3.
type fakeGroup []tiers.Node

func (s *store) Nodes(context.Context) ([]tiers.Node, error) { return s.group, s.fail }

// AwaitApplied lets every node catch up.
func (s *store) AwaitApplied(_ context.Context, seq uint64) ([]tiers.Node, error) {
	for i := range s.group {
		s.group[i].Applied = max(s.group[i].Applied, seq)
	}
	return s.group, s.fail
}

func (s *store) RemoveNode(_ context.Context, id string) (bool, error) {
	for i, n := range s.group {
		if n.ID == id && n.Live {
			return false, tiers.ErrNodeLive
		}
		if n.ID == id {
			s.group = append(s.group[:i:i], s.group[i+1:]...)
			return true, s.fail
		}
	}
	return false, s.fail
}
