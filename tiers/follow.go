package tiers

import (
	"context"
	"errors"
	"time"

	"github.com/edgenode/edgenode/tiers/filter"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
	"github.com/edgenode/edgenode/tiers/l3"
)

// Where other nodes write to the same L3, a node follows its change sequence once
// a follow interval: what another has written leaves L1, and its rules hold here.
// This is apart from the walk for L2, which stands still while Redis is away.

// runFollower follows until the engine closes.
func (e *Engine) runFollower() {
	last := ""
	for e.pause(time.Duration(e.followInterval.Load()), e.followNow) {
		if !e.loaded.Load() || !e.l3Up() {
			continue
		}
		begin := e.clock.UnixMilli()
		err := e.follow(e.ctx)
		switch {
		case err == nil:
			e.followedAt.Store(begin)
			last = ""
		case e.ctx.Err() == nil && err.Error() != last: // once, not every interval
			last = err.Error()
			e.logger.Warn("changes of other nodes are not seen now", "err", err)
		}
	}
}

// followNamed is for how long after its interval a look at the changes may be
// missing until health says so.
const followNamed = 1500 * time.Millisecond

// followAge returns how long ago all changes of other nodes were known here, and
// whether that is longer than it should be. It is 0 where no other node writes, and
// until L3 is known.
func (e *Engine) followAge() (age time.Duration, late bool) {
	at := e.followedAt.Load()
	if !e.options.L3Shared || at == 0 {
		return 0, false
	}
	age = time.Duration(max(0, e.clock.UnixMilli()-at)) * time.Millisecond
	return age, age > time.Duration(e.followInterval.Load())+followNamed
}

// follow applies all changes since the last call.
func (e *Engine) follow(ctx context.Context) error {
	for more := true; more; {
		n, err := e.followPage(ctx)
		if errors.Is(err, l3.ErrChangesGone) {
			return e.followAnew(ctx, err)
		}
		if err != nil {
			return err
		}
		more = n == walkPage
	}
	err := e.compareTold(ctx)
	if err != nil && !errors.Is(err, l3.ErrChangesGone) {
		e.l3Failed(err)
	}
	return err
}

func (e *Engine) followPage(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	after, begin := e.followed.Load(), e.clock.UnixMilli()
	seq, rules := after, false
	var page []filter.Change
	last, err := e.changesAfter(ctx, seq, e.followedLast, walkPage, func(c l3.Change) error {
		n++
		seq = c.Seq
		page = append(page, filterChange(&c))
		switch {
		case c.Op == l3.ChangeRule:
			rules = true
			e.observe(c.Rule.Version)
			e.meetRule(c.Rule, false)
		case c.Op != l3.ChangeExpire: // which L1 knows by itself
			e.observe(c.Version)
			hash := e.hash(c.Key)
			if own, _ := e.mine.find(hash, c.Version); !own {
				e.supersedeInL1(hash, c.Key, c.Version+1)
			}
		}
		return nil
	})
	if err != nil {
		if !errors.Is(err, l3.ErrChangesGone) {
			e.l3Failed(err)
		}
		return 0, err
	}
	e.followed.Store(seq)
	e.followedLast = last
	if rules {
		e.node.tell.Store(true)
		signal(e.node.soon)
	}
	e.feedFilter(begin, after, page, n < walkPage)
	return n, nil
}

// followAnew begins at the last change: those in between are gone, as cause says.
// So L1 lets go of every item that lives in L3, and all rules are read again.
func (e *Engine) followAnew(ctx context.Context, cause error) error {
	seq, err := e.endOfL3(ctx)
	if err != nil {
		return err
	}
	if seen := max(e.followed.Load(), e.history.lostUpTo()); seen > seq || errors.Is(cause, errRewritten) {
		if err := e.rewritten(ctx, seen); err != nil {
			return err
		}
		if seq, err = e.endOfL3(ctx); err != nil {
			return err
		}
	}
	limited, cancel := context.WithTimeout(ctx, e.l3TimeoutNow())
	defer cancel()
	rules, err := e.l3.Rules(limited)
	if err != nil {
		return err
	}
	for i := range rules {
		e.meetRule(&rules[i].Rule, false)
	}
	e.logger.Warn("the changes that this node has not seen are gone; its memory lets go of what is in L3", "seen", e.followed.Load(), "last", seq)
	for i := range e.pending.epochs {
		e.pending.epochs[i].Add(1)
	}
	for i := range e.pending.stripes {
		e.pending.stripes[i].pass()
	}
	var cursor l1.Cursor
	for !e.l1.Sweep(&cursor, sweepStep, func(record []byte, _ bool) l1.Verdict {
		if item.View(record).Tiers()&item.L3 != 0 {
			return l1.Drop
		}
		return l1.Keep
	}) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	e.followed.Store(seq)
	if e.history.lostUpTo() > 0 {
		e.begunAnew()
	}
	return nil
}

// noteOwn remembers what this node has written to a shared L3, so that following
// passes it over, and tells the others.
func (e *Engine) noteOwn(items []flushItem, out []l3.Outcome) {
	if !e.options.L3Shared {
		return
	}
	for i := range items {
		if out[i].Won {
			e.mine.note(items[i].p.hash, out[i].Version, true)
		}
	}
	signal(e.wrote)
}
