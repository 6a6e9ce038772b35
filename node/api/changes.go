package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

const (
	typeEvents = "text/event-stream"

	// DefaultMaxFeeds is how many readers of the change feed are served at a time.
	DefaultMaxFeeds = 256

	maxWait        = time.Minute
	maxFeedContent = 1 << 20 // bytes of a content that comes with its event
	feedScan       = 10_000  // changes that one answer in lines looks at
	feedHeartbeat  = 15 * time.Second
	feedRetry      = time.Second // between two attempts while L3 is away
)

// errDraining ends feeds when the node is about to stop.
var errDraining = errors.New("api: the node is about to stop")

// Drain ends the feeds that are being read, in good order: long polls answer what
// they have, streams end. Readers go on elsewhere, or here after the restart.
func (a *API) Drain() { a.drain(errDraining) }

// A feed answers GET /v1/changes.
type feed struct {
	c      *call
	ctx    context.Context // of the client, and until Drain
	query  tiers.FeedQuery
	limit  int           // lines at most
	wait   time.Duration // for a first line
	events bool          // server-sent events instead of lines
	record bool          // lines with whole records, for a replica
	want   string        // the database that the number of since is of; empty: not said
	store  string        // the identity of the present one; empty: not known

	n   int // events so far
	buf []byte
	w   io.Writer // nil until the first bytes went out
}

// changes answers GET /v1/changes: lines, or server-sent events without end.
func (c *call) changes() *problem.Problem {
	if p := c.need(ScopeRead); p != nil {
		return p
	}
	f := feed{c: c, limit: defaultPage}
	if p := f.read(); p != nil {
		return p
	}
	if done, p := f.consult(); done || p != nil {
		return p
	}
	if n := c.api.feeds.Add(1); n > c.api.maxFeeds {
		c.api.feeds.Add(-1)
		c.api.metrics.feedsRefused.Inc()
		return &problem.Problem{Kind: problem.TooManyFeeds, Limit: c.api.maxFeeds, Value: n, RetryAfter: 5 * time.Second}
	}
	defer c.api.feeds.Add(-1)
	ctx, cancel := context.WithCancelCause(c.x.Context())
	defer cancel(nil)
	defer context.AfterFunc(c.api.draining, func() { cancel(errDraining) })()
	f.ctx = ctx
	if p := f.identify(); p != nil {
		return p
	}
	if f.events {
		return f.stream()
	}
	return f.poll()
}

// shortStore is how much of a database's identity, from its end, comes with the
// number of an event in a stream: 8 hex digits, all of them chance.
const shortStore = 8

// identify learns which database this is, and refuses to go on from a number of
// another one.
func (f *feed) identify() *problem.Problem {
	if f.c.api.merkle == nil {
		return nil
	}
	store, err := f.c.api.merkle.L3Name(f.ctx)
	switch {
	case f.ctx.Err() != nil:
		return nil // it ends in good order
	case err != nil:
		return f.c.fault(err)
	case f.want != "" && f.want != store && !(len(f.want) >= shortStore && strings.HasSuffix(store, f.want)):
		return f.broken(fmt.Errorf("%w: the number is one of the database %s, this is %s", tiers.ErrChangesGone, f.want, store))
	}
	f.store = store
	return nil
}

// consult asks the policy about each prefix.
func (f *feed) consult() (done bool, p *problem.Problem) {
	if len(f.query.Prefixes) == 0 {
		return f.c.consultBulk(OpRead, f.query.Prefix)
	}
	for _, prefix := range f.query.Prefixes {
		if done, p := f.c.consultBulk(OpRead, prefix); done || p != nil {
			return done, p
		}
	}
	return false, nil
}

// read reads the query, and Last-Event-ID, which a client that comes back sends.
func (f *feed) read() *problem.Problem {
	c := f.c
	f.events = prefersEvents(c.in.values[fieldAccept])
	f.query = tiers.FeedQuery{Scope: c.who.Namespace, After: c.api.engine.LastChange()}
	p := paramsRepeating(c.query, "prefix", func(name, value string) (bool, *problem.Problem) {
		switch name {
		case "since":
			return true, f.since("since", value)
		case "prefix":
			f.query.Prefixes = append(f.query.Prefixes, value)
			return true, idProblem(item.CheckIDPrefix(value))
		case "form":
			if f.record = value == "record"; !f.record || f.events {
				return true, problem.Newf(problem.BadParameter, "form is %q, allowed is record, in lines", value)
			}
			return true, nil
		case "content":
			with := false
			p := flagParam(name, value, &with)
			if with {
				f.query.MaxContent = maxFeedContent
			}
			return true, p
		case "limit", "wait":
			if f.events {
				return true, problem.Newf(problem.BadParameter, "%s is for an answer in lines, and %s was asked for", name, typeEvents)
			}
			if name == "limit" {
				return true, intParam(name, value, 1, maxPage, &f.limit)
			}
			return true, waitParam(value, &f.wait)
		}
		return false, nil
	})
	if p == nil {
		p = f.narrow()
	}
	if last := c.in.values[fieldLastEventID]; p == nil && len(last) > 0 {
		p = f.since("Last-Event-ID", string(last))
	}
	return p
}

// maxFeedPrefixes bounds the prefixes of one feed.
const maxFeedPrefixes = 64

// narrow turns one prefix into that of the query, which rules are narrowed to.
func (f *feed) narrow() *problem.Problem {
	if len(f.query.Prefixes) > maxFeedPrefixes {
		return problem.Newf(problem.BadParameter, "%d prefixes, allowed are %d", len(f.query.Prefixes), maxFeedPrefixes)
	}
	if len(f.query.Prefixes) == 1 {
		f.query.Prefix, f.query.Prefixes = f.query.Prefixes[0], nil
	}
	if f.record {
		f.query.Tombstones, f.query.MaxContent = true, maxFeedContent
		if f.c.api.merkle == nil {
			return problem.New(problem.NotConfigured, "this node has no records to give")
		}
	}
	return nil
}

// since reads a number of a change, or "now".
func (f *feed) since(name, value string) *problem.Problem {
	if value == "now" {
		return nil
	}
	number, store, _ := strings.Cut(value, "@")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return problem.Newf(problem.BadParameter, "%s is %q, allowed are decimal numbers of changes, these with @ and their store, and now", name, value)
	}
	f.query.After, f.want = n, store
	return nil
}

// waitParam reads a time to wait: 30s, or seconds.
func waitParam(value string, dst *time.Duration) *problem.Problem {
	d, err := time.ParseDuration(value)
	if seconds, err2 := strconv.Atoi(value); err2 == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxWait {
		return problem.Newf(problem.BadParameter, "wait is %q, allowed are 0s to %v", value, maxWait)
	}
	*dst = d
	return nil
}

// prefersEvents reports whether an Accept field asks for server-sent events.
func prefersEvents(accept []byte) bool {
	events, other := 0.0, 0.0
	for e := range func(yield func([]byte) bool) { elements(accept, yield) } {
		if name, q := weight(e); name == typeEvents {
			events = max(events, q)
		} else if name == typeNDJSON || name == typeJSON {
			other = max(other, q)
		}
	}
	return events > other
}

// next gathers the events of the next changes, up to limit of them, and moves on.
func (f *feed) next(limit int) error {
	f.query.Limit = limit
	last, err := f.c.api.engine.Feed(f.ctx, f.query, f.add)
	f.query.After = last
	return err
}

func (f *feed) add(ev *tiers.Event) error {
	f.n++
	f.c.api.metrics.feedEvents.Inc()
	if f.events {
		f.buf = f.appendID(f.buf, ev.Seq)
		f.buf = append(append(append(f.buf, "\nevent: "...), ev.Op...), "\ndata: "...)
	}
	if f.record {
		f.buf = appendRecordEvent(f.buf, ev)
	} else {
		f.buf = AppendEvent(f.buf, ev)
	}
	f.buf = append(f.buf, '\n')
	if f.events {
		f.buf = append(f.buf, '\n')
	}
	if len(f.buf) < pageChunk {
		return nil
	}
	return f.flush()
}

// flush lets the gathered bytes go out. It waits for a client that is slow: the
// front cuts one that takes nothing.
func (f *feed) flush() (err error) {
	defer func() { f.buf = f.buf[:0] }()
	if f.w == nil {
		f.c.status(200)
		if f.events {
			f.c.x.Add("Content-Type", typeEvents)
			f.c.x.Add("X-Accel-Buffering", "no") // some proxies would gather
		} else {
			f.c.x.Add("Content-Type", typeNDJSON)
		}
		f.c.x.Add("Cache-Control", "no-store")
		f.c.x.Add("Vary", "Accept")
		if f.record {
			f.c.x.Add("Edge-Store", f.store)
		}
		if f.w, err = f.c.x.Stream(-1); err != nil {
			return err
		}
	}
	if _, err = f.w.Write(f.buf); err != nil {
		return err
	}
	if w, ok := f.w.(interface{ Flush() error }); ok {
		return w.Flush()
	}
	return nil
}

// poll answers in lines.
func (f *feed) poll() *problem.Problem {
	ctx, cancel := context.WithTimeout(f.ctx, f.wait)
	defer cancel()
	begin := time.Now()
	last, at := f.c.api.engine.LastChange(), time.Since(begin)
	for scanned := 0; ; last, at = f.c.api.engine.LastChange(), time.Since(begin) {
		before := f.query.After
		if err := f.next(f.limit - f.n); err != nil && !errors.Is(err, errDraining) {
			return f.broken(err)
		}
		moved := f.query.After != before
		if scanned += int(f.query.After - before); f.n == f.limit || scanned >= feedScan || f.ctx.Err() != nil {
			break
		}
		if moved {
			continue
		}
		if f.n > 0 || f.wait == 0 {
			break
		}
		if f.c.api.engine.AwaitChange(ctx, f.query.After) != nil {
			last, at = f.c.api.engine.LastChange(), time.Since(begin)
			break
		}
	}
	f.buf = appendInt(append(f.buf, `{"end":true,"count":`...), int64(f.n))
	f.buf = strconv.AppendUint(append(f.buf, `,"seq":"`...), f.query.After, 10)
	f.buf = append(f.buf, '"')
	if f.record {
		// What is not above last was here at_ms after the request began: so a
		// reader knows as of when it has everything.
		f.buf = strconv.AppendUint(append(f.buf, `,"last":"`...), last, 10)
		f.buf = appendInt(append(f.buf, `","at_ms":`...), at.Milliseconds())
	}
	if f.store != "" {
		f.buf = appendString(append(f.buf, `,"store":`...), f.store)
	}
	f.buf = append(f.buf, "}\n"...)
	f.c.sent(f.flush())
	return nil
}

// broken ends a feed that cannot be completed.
func (f *feed) broken(err error) *problem.Problem {
	if errors.Is(err, tiers.ErrChangesGone) {
		f.c.api.metrics.feedsGone.Inc()
	}
	if f.w == nil {
		return f.c.fault(err)
	}
	f.c.x.Abort()
	return nil
}

// stream answers with server-sent events until the client leaves.
func (f *feed) stream() *problem.Problem {
	first := f.query.After
	if err := f.next(defaultPage); err != nil {
		return f.broken(err)
	}
	f.buf = append(f.buf, "retry: 2000\n\n"...)
	if f.query.After == first {
		f.beat() // so that the client knows where it is
	}
	for {
		if f.flush() != nil || f.ctx.Err() != nil {
			return nil // gone, or told to end
		}
		f.await()
		switch err := f.next(defaultPage); {
		case err == nil:
		case errors.Is(err, tiers.ErrUnavailable):
			f.beat()
			f.rest()
		case f.ctx.Err() == nil:
			f.tell(err)
			return nil
		}
	}
}

// await returns when there is more, or after a heartbeat.
func (f *feed) await() {
	ctx, cancel := context.WithTimeout(f.ctx, feedHeartbeat)
	defer cancel()
	if err := f.c.api.engine.AwaitChange(ctx, f.query.After); err != nil {
		f.beat()
		if f.ctx.Err() == nil && ctx.Err() == nil {
			f.rest() // the engine is closing
		}
	}
}

// beat tells the client that it is connected, and how far it is.
func (f *feed) beat() {
	f.buf = append(f.appendID(append(f.buf, ":\n"...), f.query.After), "\n\n"...)
}

// appendID appends the field by which a client says, when it comes back, what it had
// last: a number and of which database it is.
func (f *feed) appendID(b []byte, seq uint64) []byte {
	b = strconv.AppendUint(append(b, "id: "...), seq, 10)
	if f.store != "" {
		b = append(append(b, '@'), f.store[max(0, len(f.store)-shortStore):]...)
	}
	return b
}

// rest waits while L3 is away.
func (f *feed) rest() {
	t := time.NewTimer(feedRetry)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.ctx.Done():
	}
}

// tell ends a stream with the problem that ended it.
func (f *feed) tell(err error) {
	if errors.Is(err, tiers.ErrChangesGone) {
		f.c.api.metrics.feedsGone.Inc()
	}
	f.buf = append(f.buf, "event: problem\ndata: "...)
	f.buf = f.c.fault(err).AppendJSON(f.buf)
	f.buf = append(f.buf, "\n\n"...)
	f.c.sent(f.flush())
}

// AppendEvent appends the JSON object of an event, on one line.
func AppendEvent(b []byte, ev *tiers.Event) []byte {
	b = strconv.AppendUint(append(b, `{"seq":"`...), ev.Seq, 10)
	b = strconv.AppendUint(append(b, `","prev":"`...), ev.Prev, 10)
	b = appendInt(append(b, `","at_ms":`...), ev.At)
	b = appendString(append(b, `,"op":`...), ev.Op)
	if ev.Op == tiers.EventReset {
		return append(b, '}')
	}
	if ev.Rule != nil {
		return append(appendRule(appendVersion(b, ev.Version), ev.Rule), '}')
	}
	b = appendString(append(b, `,"id":`...), ev.Key.Own())
	b = appendVersion(b, ev.Version)
	switch {
	case ev.Row != nil:
		b = appendMetadata(append(b, ','), ev.Row, int64(ev.Size))
		if len(ev.Row.Content()) > 0 {
			b = appendContent(append(b, ','), ev.Row)
		}
	case ev.Op == tiers.EventPut || ev.Op == tiers.EventChange:
		b = append(b, `,"superseded":true`...)
	}
	return append(b, '}')
}

// appendRecordEvent appends the JSON object of an event with the whole record, for
// a replica. Where size stands instead the content is too long for a line.
func appendRecordEvent(b []byte, ev *tiers.Event) []byte {
	b = strconv.AppendUint(append(b, `{"seq":"`...), ev.Seq, 10)
	b = strconv.AppendUint(append(b, `","prev":"`...), ev.Prev, 10)
	b = appendInt(append(b, `","at_ms":`...), ev.At)
	b = appendVersion(appendString(append(b, `,"op":`...), ev.Op), ev.Version)
	switch {
	case ev.Rule != nil:
		return append(appendBase64(append(b, `,"rule":`...), ev.Rule.AppendTo(nil)), '}')
	case ev.Row != nil && ev.Size > len(ev.Row.Content()):
		b = appendInt(append(b, `,"size":`...), int64(ev.Size))
	case ev.Row != nil:
		b = appendBase64(append(b, `,"record":`...), ev.Row)
	case ev.Newer:
		b = append(b, `,"superseded":true`...)
	}
	return append(appendString(append(b, `,"id":`...), ev.Key.Own()), '}')
}

// appendBase64 appends a JSON string.
func appendBase64(b, raw []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), raw), '"')
}

var predicates = [...]string{
	item.MatchAll: "all", item.MatchKey: "id", item.MatchKeyPrefix: "prefix", item.MatchTag: "tag", item.MatchTagPrefix: "tag-prefix",
}

// appendRule appends the members of a purge or bulk delete.
func appendRule(b []byte, r *item.Rule) []byte {
	b = appendString(append(b, `,"match":`...), predicates[r.Match])
	b = appendStrings(append(b, `,"values":`...), r.Values)
	if len(r.Scope) > 0 {
		b = appendString(append(b, `,"namespace":`...), r.Scope)
	}
	b = strconv.AppendBool(append(b, `,"items":`...), r.Namespaces&item.InItems != 0)
	b = strconv.AppendBool(append(b, `,"sites":`...), r.Namespaces&item.InSites != 0)
	if r.Op == item.OpPurgeSoft {
		b = append(b, `,"soft":true`...)
	}
	return b
}
