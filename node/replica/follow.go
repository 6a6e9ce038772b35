package replica

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// Bounds of what is held before it is stored: whatever comes first.
const (
	groupRecords = 256
	groupBytes   = 4 << 20
	maxLine      = 4 << 20 // a record with 1 MiB of content in base64, tags and all
	recordSlack  = 1 << 20 // of a record beside its content
	pollLines    = 1000
)

// A line is one event of the feed in its form record, or the last line.
type line struct {
	Seq        uint64 `json:"seq,string"`
	Op         string `json:"op"`
	Version    string `json:"version"`
	ID         string `json:"id"`
	Record     []byte `json:"record"`
	Rule       []byte `json:"rule"`
	Size       int64  `json:"size"`
	Superseded bool   `json:"superseded"`

	End  bool   `json:"end"`
	Last uint64 `json:"last,string"`
	At   int64  `json:"at_ms"`
}

// poll reads what is next of the feed, waits for it if there is nothing yet, and
// stores it.
func (r *Replica) poll(ctx context.Context) error {
	target := fmt.Sprintf("/v1/changes?form=record&since=%d&limit=%d&wait=%dms", r.cursor.Seq, pollLines, r.o.Wait.Milliseconds())
	if r.behind.Load() > 0 || r.state != StateFollowing { // no time to lose
		target = fmt.Sprintf("/v1/changes?form=record&since=%d&limit=%d", r.cursor.Seq, pollLines)
	}
	for _, p := range r.o.Prefixes {
		target += "&prefix=" + escape(p)
	}
	sent := r.o.Now()
	a, err := r.hub.ask(ctx, http.MethodGet, target, nil, r.o.Wait+silence)
	if errors.Is(err, errGone) {
		return r.lost(whyGone)
	}
	if err != nil {
		return err
	}
	defer a.close()
	switch store := a.resp.Header.Get(storeField); {
	case store == "":
		return errBadHub
	case store != r.cursor.Store:
		return r.lost(whyStore)
	}
	end, err := r.take(ctx, a)
	if err != nil {
		return err
	}
	r.enter(StateFollowing)
	return r.reached(sent, end)
}

// lost notes that the feed is not enough.
func (r *Replica) lost(why string) error {
	r.log.Warn("the feed of the hub does not tell what is missing here; the trees are compared", "why", why, "hub", r.o.From, "seq", r.cursor.Seq)
	r.cursor.Compare = why
	return r.cursor.save()
}

// take stores what an answer of the feed brings, and returns its last line.
func (r *Replica) take(ctx context.Context, a *answer) (end line, err error) {
	g := group{r: r, ctx: ctx}
	lines := bufio.NewScanner(a)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return l, fmt.Errorf("%w: %w", errBadHub, err)
		}
		r.heard.Store(r.o.Now())
		if l.End {
			return l, g.store()
		}
		if l.Seq <= r.cursor.Seq {
			return l, fmt.Errorf("%w: change %d after %d", errBadHub, l.Seq, r.cursor.Seq)
		}
		if err := g.add(&l); err != nil {
			return l, err
		}
	}
	if err := lines.Err(); err != nil {
		return end, fmt.Errorf("replica: feed: %w", err)
	}
	return end, errors.New("replica: the hub's answer was cut off")
}

// reached notes that everything up to the last line of an answer is stored.
func (r *Replica) reached(sent int64, end line) error {
	moved := end.Seq != r.cursor.Seq
	r.cursor.Seq = end.Seq
	r.seq.Store(end.Seq)
	r.behind.Store(max(end.Last, end.Seq) - end.Seq)
	if end.Seq >= end.Last {
		fresh := sent + max(min(end.At, r.o.Now()-sent), 0)
		r.cursor.Fresh = max(r.cursor.Fresh, fresh)
		r.fresh.Store(r.cursor.Fresh)
	}
	if !moved {
		return nil
	}
	return r.cursor.save()
}

// A group is records that are stored together: the last of each id.
type group struct {
	r   *Replica
	ctx context.Context

	vs    []item.View
	at    map[string]int
	bytes int
	done  []arrival

	stored int // in all
}

// An arrival is a version of an id that is here now, or something newer.
type arrival struct {
	id      string
	version item.Version
}

// add takes an event of the feed.
func (g *group) add(l *line) error {
	if l.Rule != nil {
		return g.rule(l)
	}
	key, ok := g.r.keyOf(l.ID)
	if !ok {
		return fmt.Errorf("%w: an event of %q", errBadHub, l.ID)
	}
	version, err := item.ParseVersion(l.Version)
	if err != nil {
		return fmt.Errorf("%w: %w", errBadHub, err)
	}
	if l.Superseded {
		return nil // what has superseded it comes later
	}
	switch {
	case l.Record != nil:
		err = g.record(key, l.Record)
	case l.Size > 0:
		err = g.long(key)
	case l.Op == tiers.EventDelete: // its tombstone is forgotten at the hub
		err = g.record(key, tombstone(key, version))
	}
	if err != nil {
		return err
	}
	g.done = append(g.done, arrival{l.ID, version})
	if len(g.vs) < groupRecords && g.bytes < groupBytes {
		return nil
	}
	return g.store()
}

// record takes one record of key.
func (g *group) record(key item.Key, raw []byte) error {
	v, err := item.Parse(raw)
	if err == nil && string(v.Key()) != string(key) {
		err = errors.New("it is of another id")
	}
	if err != nil {
		return fmt.Errorf("%w: record of %q: %w", errBadHub, key.ID(), err)
	}
	if g.at == nil {
		g.at = map[string]int{}
	}
	g.bytes += len(v)
	if i, ok := g.at[string(key)]; ok {
		g.vs[i] = v
		return nil
	}
	g.at[string(key)] = len(g.vs)
	g.vs = append(g.vs, v)
	return nil
}

// long takes a record whose content is too long for a line: it is stored alone.
func (g *group) long(key item.Key) error {
	if err := g.store(); err != nil {
		return err
	}
	raw, err := g.r.hub.record(g.ctx, key.ID(), g.r.o.MaxPayload+recordSlack+1)
	switch {
	case err != nil || len(raw) == 0:
		return err // gone: a later event tells
	case int64(len(raw)) > g.r.o.MaxPayload+recordSlack:
		g.r.cannot(key.ID(), fmt.Errorf("%w: more than max_payload_bytes (%d)", tiers.ErrTooLarge, g.r.o.MaxPayload))
		return nil
	}
	if err := g.record(key, raw); err != nil {
		return err
	}
	return g.store()
}

// rule carries a purge over. What a bulk delete removes comes item by item.
func (g *group) rule(l *line) error {
	rule, err := item.ParseRule(l.Rule)
	if err != nil {
		return fmt.Errorf("%w: rule of change %d: %w", errBadHub, l.Seq, err)
	}
	if rule.Op == item.OpDelete {
		return nil
	}
	if err := g.store(); err != nil {
		return err
	}
	_, err = g.r.o.Engine.Purge(g.ctx, tiers.Purge{
		Soft: rule.Op == item.OpPurgeSoft, Namespaces: rule.Namespaces, Match: rule.Match, Values: rule.Values, Scope: string(rule.Scope),
	})
	return err
}

// store stores the group; what it brought is on disk when it returns.
func (g *group) store() error {
	out := make([]tiers.Receipt, len(g.vs))
	if len(g.vs) > 0 {
		g.r.o.Engine.RepairMany(g.ctx, g.vs, out)
	}
	stored := 0
	for i, receipt := range out {
		if err := g.r.outcome(g.vs[i], receipt.Err); err != nil {
			return err
		}
		if receipt.Err == nil {
			stored++
		}
	}
	g.stored += stored
	g.r.metrics.records.Add(stored)
	g.r.awaited.arrived(g.done)
	clear(g.vs)
	clear(g.at)
	clear(g.done)
	g.vs, g.done, g.bytes = g.vs[:0], g.done[:0], 0
	return nil
}

// outcome says what an error of storing v means: nil is for what is settled, an
// error for what is to be tried again.
func (r *Replica) outcome(v item.View, err error) error {
	switch {
	case err == nil, errors.Is(err, tiers.ErrSuperseded):
		return nil
	case errors.Is(err, item.ErrClockSkew):
		return fmt.Errorf("replica: the hub's clock is ahead of this node's by more than clock_skew_max: %w", err)
	case errors.Is(err, tiers.ErrInvalid), errors.Is(err, tiers.ErrTooLarge), errors.Is(err, tiers.ErrPurged), errors.Is(err, tiers.ErrRefused):
		r.cannot(v.Key().ID(), err)
		return nil
	}
	return fmt.Errorf("replica: store what the hub has: %w", err)
}

// cannot notes that an item of the hub is not stored here, and that nothing waits
// for it.
func (r *Replica) cannot(id string, err error) {
	r.metrics.refused.Inc()
	r.log.Error("an item of the hub cannot be stored here", "id", id, "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = strconv.Quote(id) + ": " + err.Error()
}

// awaitedPatience is how long a write that was forwarded waits to be seen here.
const awaitedPatience = 2 * time.Second
