package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// The feed is L3's change sequence for readers outside the engine: what was
// committed, in the order of its numbers, without gap. What is pending comes when
// it is committed, items without L3 never.

const (
	feedPart = 100     // changes looked up together
	feedHeld = 1 << 20 // bytes of rows held for one part; more are read one by one
	feedPoll = 10 * time.Millisecond
	maxFeed  = 10_000 // changes that one call looks at
)

// Kinds of events.
const (
	EventPut    = "put"    // content, and with it perhaps metadata
	EventChange = "change" // metadata only
	EventDelete = "delete"
	EventExpire = "expire"
	EventPurge  = "purge"       // a rule: see Event.Rule
	EventBulk   = "bulk-delete" // a rule; each item that it removes has an event of its own
)

// A FeedQuery says what of the change sequence is read.
type FeedQuery struct {
	After  uint64 // the number of the last change seen; 0 is before the first
	Limit  int    // changes to look at, 1 to 10,000
	Prefix string // of ids; rules are told if they can reach one
	Scope  string // further prefix that ids must have (a token's namespace)
	// Prefixes narrow further: ids begin with one of them. None is no narrowing.
	Prefixes []string
	// Tombstones tells EventDelete with its tombstone.
	Tombstones bool
	// MaxContent is the longest content that comes with a row, in bytes; longer
	// ones are left out.
	MaxContent int
}

// An Event is one change of an item of the items API, or a rule.
type Event struct {
	Seq     uint64
	Prev    uint64 // of the event before in this feed, or where it began: a gap shows
	At      int64  // Unix ms of its commit
	Op      string // EventPut and so on
	Key     item.Key
	Version item.Version // the item's after it, or the rule's
	// Row is what L3 holds of the key, for EventPut and EventChange, and with
	// FeedQuery.Tombstones for EventDelete. It is nil if that is newer than the
	// event, which Newer says, or gone: a later event tells. Size is the length of
	// its content, which is empty if that is above FeedQuery.MaxContent.
	Row   item.View
	Size  int
	Newer bool
	Rule  *item.Rule // narrowed to the query's prefixes; not by Prefixes
}

// check reports whether q makes sense.
func (q *FeedQuery) check() error {
	err := errors.Join(item.CheckIDPrefix(q.Prefix), item.CheckIDPrefix(q.Scope))
	for _, p := range q.Prefixes {
		err = errors.Join(err, item.CheckIDPrefix(p))
	}
	if q.Limit < 1 || q.Limit > maxFeed {
		err = errors.Join(err, fmt.Errorf("limit %d, allowed are 1 to %d", q.Limit, maxFeed))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// prefix returns what ids begin with, and false if there are none.
func (q *FeedQuery) prefix() (string, bool) {
	l := Query{Prefix: q.Prefix, Scope: q.Scope}
	return l.keyPrefix(), !l.disjoint()
}

// asksFor reports whether ids that begin with p, or p as an id, can be among those
// that Prefixes leave.
func (q *FeedQuery) asksFor(p string, whole bool) bool {
	return len(q.Prefixes) == 0 || slices.ContainsFunc(q.Prefixes, func(prefix string) bool {
		return strings.HasPrefix(p, prefix) || !whole && strings.HasPrefix(prefix, p)
	})
}

// Feed calls fn with the events after q.After, in order. Of the next q.Limit
// changes it returns the number of the last one, whether or not it was an event
// for q: the next call begins there. It fails with ErrChangesGone if changes after
// q.After are not kept any more, and with ErrUnavailable while L3 is away; then
// last is that of the last event that was given to fn, or q.After.
//
// Events are valid until fn returns. An error of fn ends Feed and is returned. At
// most a mebibyte and one row are held in memory, and nothing of L3 while fn runs.
func (e *Engine) Feed(ctx context.Context, q FeedQuery, fn func(ev *Event) error) (last uint64, err error) {
	if err := e.enterRead(); err != nil {
		return q.After, err
	}
	defer e.leave()
	if err := q.check(); err != nil {
		return q.After, err
	}
	f := feeding{e: e, ctx: ctx, q: &q, last: q.After, prev: q.After}
	f.ids, f.any = q.prefix()
	for left := q.Limit; left > 0; {
		n, err := f.part(min(left, feedPart), fn)
		if err != nil {
			return f.last, err
		}
		if n < min(left, feedPart) {
			break
		}
		left -= n
	}
	return f.last, nil
}

// feeding is one call of Feed.
type feeding struct {
	e    *Engine
	ctx  context.Context
	q    *FeedQuery
	ids  string // what ids begin with
	any  bool   // there may be some
	last uint64
	prev uint64

	events []Event
	keys   []item.Key
	of     []int // events of keys
	late   []bool
	record []byte
}

// part reads up to limit changes and gives their events to fn.
func (f *feeding) part(limit int, fn func(ev *Event) error) (n int, err error) {
	seq := f.last
	f.events, f.keys, f.of = f.events[:0], f.keys[:0], f.of[:0]
	limited, cancel := context.WithTimeout(f.ctx, f.e.l3TimeoutNow())
	defer cancel()
	err = f.e.changesToTell(limited, seq, limit, func(c l3.Change) error {
		n++
		seq = c.Seq
		f.note(c)
		return nil
	})
	if err == nil {
		err = f.rows(limited)
	}
	if err != nil {
		return 0, f.e.feedError(f.ctx, err)
	}
	for i := range f.events {
		if err := f.give(i, fn); err != nil {
			return 0, err
		}
	}
	f.last = seq
	return n, nil
}

// feedError says what err means to a reader of the sequence.
func (e *Engine) feedError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, l3.ErrChangesGone):
		return fmt.Errorf("%w: %w", ErrChangesGone, err)
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	e.l3Failed(err)
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// note makes an event of c if it is one for the query.
func (f *feeding) note(c l3.Change) {
	ev := Event{Seq: c.Seq, At: c.At, Version: c.Version}
	if c.Op == l3.ChangeRule {
		if ev.Rule = f.narrow(c.Rule); ev.Rule == nil {
			return
		}
		ev.Version = c.Rule.Version
		ev.Op = EventPurge
		if c.Rule.Op == item.OpDelete {
			ev.Op = EventBulk
		}
		f.events = append(f.events, ev)
		return
	}
	if !f.any || c.Key.Namespace() != item.NamespaceItem || !bytes.HasPrefix(c.Key.Own(), []byte(f.ids)) || !f.q.asksFor(c.Key.ID(), true) {
		return
	}
	ev.Key, ev.Op = c.Key, eventOps[c.Op]
	if c.Op == l3.ChangeDelete && f.q.Tombstones {
		f.keys, f.of = append(f.keys, c.Key), append(f.of, len(f.events))
	}
	if c.Op == l3.ChangePut || c.Op == l3.ChangeMetadata {
		f.e.seenElsewhere(c.Key)
		f.keys, f.of = append(f.keys, c.Key), append(f.of, len(f.events))
	}
	f.events = append(f.events, ev)
}

var eventOps = [...]string{
	l3.ChangePut: EventPut, l3.ChangeMetadata: EventChange, l3.ChangeDelete: EventDelete, l3.ChangeExpire: EventExpire,
}

// narrow returns r as far as it speaks of the ids of the query, or nil. Without a
// prefix it is r itself.
func (f *feeding) narrow(r *item.Rule) *item.Rule {
	if r.Namespaces&item.InSites == 0 && !f.q.asksFor(string(r.Scope), false) {
		return nil
	}
	if f.ids == "" {
		return r
	}
	overlap := func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }
	if !f.any || r.Namespaces&item.InItems == 0 || !overlap(string(r.Scope), f.ids) {
		return nil
	}
	own := *r
	own.Namespaces = item.InItems
	if len(own.Scope) < len(f.ids) {
		own.Scope = []byte(f.ids)
	}
	if r.Match == item.MatchKey || r.Match == item.MatchKeyPrefix {
		own.Values = slices.DeleteFunc(slices.Clone(r.Values), func(v string) bool {
			return r.Match == item.MatchKey && !strings.HasPrefix(v, f.ids) || !overlap(v, f.ids)
		})
		if len(own.Values) == 0 {
			return nil
		}
	}
	return &own
}

// rows reads what L3 holds of the keys. What exceeds feedHeld is left for give.
func (f *feeding) rows(ctx context.Context) error {
	f.late = append(f.late[:0], make([]bool, len(f.events))...)
	held := 0
	return f.e.l3.GetMany(ctx, f.keys, func(i int, v item.View) error {
		ev := &f.events[f.of[i]]
		if !ev.is(v) {
			ev.Newer = true
			return nil
		}
		ev.Size = len(v.Content())
		n := len(v)
		if ev.Size > f.q.MaxContent {
			n -= ev.Size
		}
		if held += n; held > feedHeld {
			f.late[f.of[i]] = true
			return nil
		}
		ev.Row = f.copyRow(nil, v)
		return nil
	})
}

// is reports whether the row v is what the event has made.
func (ev *Event) is(v item.View) bool {
	return v.Version() == ev.Version && (v.Kind() == item.KindTombstone) == (ev.Op == EventDelete)
}

// copyRow appends v to dst, without its content if that is too long.
func (f *feeding) copyRow(dst []byte, v item.View) item.View {
	if len(v.Content()) > f.q.MaxContent {
		return v.AppendHead(dst)
	}
	return append(dst, v...)
}

// give gives an event to fn.
func (f *feeding) give(i int, fn func(ev *Event) error) error {
	ev := &f.events[i]
	ev.Prev = f.prev
	if f.late[i] {
		if err := f.readLate(ev); err != nil {
			return err
		}
	}
	if err := fn(ev); err != nil {
		return err
	}
	ev.Row = nil
	f.prev, f.last = ev.Seq, ev.Seq
	return nil
}

func (f *feeding) readLate(ev *Event) error {
	limited, cancel := context.WithTimeout(f.ctx, f.e.l3TimeoutNow())
	defer cancel()
	var found bool
	var err error
	if f.record, found, err = f.e.l3.Get(limited, ev.Key, f.record[:0]); err != nil {
		return f.e.feedError(f.ctx, err)
	}
	v := item.View(f.record)
	if !found || !ev.is(v) {
		ev.Newer = found
		return nil
	}
	if ev.Row = v; ev.Size > f.q.MaxContent {
		ev.Row = v.AppendHead(nil)
	}
	return nil
}

// LastChange returns the number of the last change of L3 that is known here: it
// is exact on an L3 of its own, and a follow interval old at most on a shared one.
func (e *Engine) LastChange() uint64 {
	return max(e.l3.LastSeq(), e.followed.Load())
}

// AwaitChange returns when there is a change after a number, or with the cause of
// ctx. It costs one goroutine of the engine while anybody waits.
func (e *Engine) AwaitChange(ctx context.Context, after uint64) error {
	for {
		more, err := e.watchFeed()
		if err != nil {
			return err
		}
		if e.LastChange() > after {
			e.feed.left()
			return nil
		}
		select {
		case <-more:
			e.feed.left()
			continue
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-e.closing:
			err = ErrShuttingDown
		}
		e.feed.left()
		return err
	}
}

// feedWatch tells those who wait that the sequence has grown. Changes come from
// many places (the flusher, the sweeper, other nodes), and all of them show in
// LastChange: so that is looked at, often, while anybody waits.
type feedWatch struct {
	mu      sync.Mutex
	waiting int
	more    chan struct{} // closed when there may be more than at from
	from    uint64
	running bool
}

// watchFeed returns a channel that is closed once the sequence has grown. left
// must be called when it is not waited for any more.
func (e *Engine) watchFeed() (<-chan struct{}, error) {
	if err := e.enterRead(); err != nil {
		return nil, err
	}
	defer e.leave()
	w := &e.feed
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waiting++; w.more == nil {
		w.more, w.from = make(chan struct{}), e.LastChange()
	}
	if !w.running {
		w.running = true
		e.tasks.Go(func() { w.run(e) })
	}
	return w.more, nil
}

func (w *feedWatch) left() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting--
}

// run ends when nobody has waited for a second.
func (w *feedWatch) run(e *Engine) {
	for idle := 0; e.pause(feedPoll, nil); {
		if w.mu.Lock(); w.waiting == 0 {
			idle++
		} else if idle = 0; w.more != nil && e.LastChange() != w.from {
			close(w.more)
			w.more = nil
		}
		if w.running = idle < int(time.Second/feedPoll); !w.running {
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}
