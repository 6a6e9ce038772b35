package api

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// A Replica knows what belongs to another node, the hub: here it is read, and
// written there.
type Replica interface {
	// Covers reports whether the item of an id belongs to the hub.
	Covers(id []byte) bool
	// Reaches reports whether some, and whether all, of the ids that begin so do.
	Reaches(prefix string) (some, all bool)
	// Hub returns the hub's URL and Self what this node is called in Edge-Forwarded.
	Hub() string
	Self() string
	// Forwards reports whether writes go to the hub; else they are refused.
	Forwards() bool
	// Stale returns the age of what is here, below zero if it was never whole; that it
	// is too great; and that there is to be no answer then.
	Stale() (age time.Duration, stale, refuse bool)
	// Forward sends a write to the hub. An error may have Asked() bool, which is
	// true if the write may have been done.
	Forward(ctx context.Context, method, target string, header http.Header, body []byte) (status int, fields http.Header, answer []byte, err error)
	// Acknowledged waits a while until what the hub has acknowledged is here; Wanted
	// returns its version as long as it is not, else 0.
	Acknowledged(ctx context.Context, id string, v item.Version)
	Wanted(id []byte) item.Version
	// Caught waits a while until all that the hub has now is here.
	Caught(ctx context.Context)
	// Moved waits a moment, or until something has come, and reports whether ctx
	// still lasts.
	Moved(ctx context.Context) bool
}

// fieldsToHub are the fields of a write that go to the hub as they are.
var fieldsToHub = [...]field{
	fieldContentEncoding, fieldDurability, fieldIfVersion, fieldIfMatch, fieldIfNoneMatch, fieldIfUnmodifiedSince, fieldTraceParent, fieldTraceState,
}

// fieldsOfHub are the fields of its answer that are the client's.
var fieldsOfHub = [...]string{"Content-Type", "ETag", "Edge-Version", "Edge-Persisted", "Edge-Existed", "Retry-After", "Cache-Control"}

// theirs reports whether the item of id belongs to the hub.
func (c *call) theirs(id []byte) bool { return c.api.replica != nil && c.api.replica.Covers(id) }

// replicated refuses a write that belongs to the hub.
func (c *call) replicated(what string) *problem.Problem {
	return problem.Newf(problem.Replicated, "%s; the hub is %s", what, c.api.replica.Hub())
}

// toHub returns what a write's header is at the hub, or why it does not go there.
func (c *call) toHub() (http.Header, *problem.Problem) {
	r := c.api.replica
	if !r.Forwards() {
		return nil, c.replicated("the id is read-only here")
	}
	was := string(c.in.values[fieldForwarded])
	for name := range strings.SplitSeq(was, ",") {
		if strings.TrimSpace(name) == r.Self() {
			return nil, problem.New(problem.Loop, "the write has come back to a node that forwarded it: hubs follow each other")
		}
	}
	h := http.Header{}
	for _, f := range fieldsToHub {
		if v := c.in.values[f]; v != nil {
			h.Set(f.name(), string(v))
		}
	}
	if was != "" {
		was += ", "
	}
	h.Set(fieldForwarded.name(), was+r.Self())
	return h, nil
}

// describeTo adds what is decided about a put to its header.
func describeTo(h http.Header, w *tiers.Write) {
	set := func(f field, value string) {
		if value != "" {
			h.Set(f.name(), value)
		}
	}
	set(fieldContentType, w.MIME)
	set(fieldState, w.State)
	set(fieldTags, strings.Join(w.Tags, ","))
	if w.Tiers != 0 {
		set(fieldTiers, w.Tiers.String())
	}
	var ttl []string
	for _, t := range [...]struct {
		name string
		d    time.Duration
	}{{"l1", w.L1TTL}, {"l2", w.L2TTL}, {"l3", w.TTL}} {
		if t.d > 0 {
			ttl = append(ttl, fmt.Sprintf("%s=%dms", t.name, max(t.d.Milliseconds(), 1)))
		}
	}
	set(fieldTTL, strings.Join(ttl, ", "))
}

// hubTarget returns the path of an item; verb is appended as it is.
func hubTarget(id []byte, verb string) string {
	b := []byte(idPath)
	for _, c := range id {
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b = append(b, c)
		} else {
			b = fmt.Appendf(b, "%%%02X", c)
		}
	}
	return string(b) + verb
}

// forwardPut brings a put of an item to the hub.
func (c *call) forwardPut(w *tiers.Write) *problem.Problem {
	h, p := c.toHub()
	if p != nil {
		return p
	}
	describeTo(h, w)
	f := forwarded{method: "PUT", target: hubTarget(c.key.Own(), ""), header: h, body: w.Content, id: c.key.ID()}
	return c.relay(&f)
}

// forwardItem brings another write of the item to the hub.
func (c *call) forwardItem(method, verb string, body []byte) *problem.Problem {
	h, p := c.toHub()
	if p != nil {
		return p
	}
	if body != nil {
		h.Set("Content-Type", typeJSON)
	}
	return c.relay(&forwarded{method: method, target: hubTarget(c.key.Own(), verb), header: h, body: body, id: c.key.ID()})
}

// A forwarded is one request to the hub, and what came of it.
type forwarded struct {
	method, target string
	header         http.Header
	body           []byte
	id             string // whose version is awaited; empty: all

	status int
	fields http.Header
	answer []byte
	failed *problem.Problem
}

// run asks the hub, and waits until what it has acknowledged is here.
func (f *forwarded) run(ctx context.Context, r Replica) {
	var err error
	f.status, f.fields, f.answer, err = r.Forward(ctx, f.method, f.target, f.header, f.body)
	var asked interface{ Asked() bool }
	switch {
	case errors.As(err, &asked) && asked.Asked():
		f.failed = problem.New(problem.UnknownFate, "the hub was asked and did not answer")
	case err != nil:
		f.failed = &problem.Problem{Kind: problem.HubUnreachable, RetryAfter: time.Second}
	case f.status == 401 || f.status == 403:
		f.failed = problem.Newf(problem.HubRefuses, "the hub answered %d", f.status)
	case f.status >= 300:
	case f.id == "":
		r.Caught(ctx)
	default:
		if v, err := item.ParseVersion(f.fields.Get("Edge-Version")); err == nil {
			r.Acknowledged(ctx, f.id, v)
		}
	}
}

// relay brings f to the hub and gives the client its answer.
func (c *call) relay(f *forwarded) *problem.Problem {
	if f.run(c.x.Context(), c.api.replica); f.failed != nil {
		return f.failed
	}
	c.status(f.status)
	for _, name := range fieldsOfHub {
		if v := f.fields.Get(name); v != "" {
			c.x.Add(name, v)
		}
	}
	c.sent(c.x.Send(f.answer))
	return nil
}

// matching brings a bulk delete to the hub, if all that it reaches belongs there.
// local reports that none does.
func (c *call) matching(q *listing) (local bool, p *problem.Problem) {
	r := c.api.replica
	if r == nil {
		return true, nil
	}
	prefix := q.Prefix
	switch {
	case strings.HasPrefix(q.Scope, q.Prefix):
		prefix = q.Scope
	case !strings.HasPrefix(q.Prefix, q.Scope):
		return true, nil // nothing
	}
	switch some, all := r.Reaches(prefix); {
	case !some:
		return true, nil
	case !all:
		return false, c.replicated("some of these ids are the hub's and some are not: name a prefix of one or the other")
	}
	h, p := c.toHub()
	if p != nil {
		return false, p
	}
	var query []string
	for _, s := range [...][2]string{{"prefix", prefix}, {"state", q.State}, {"tag", q.Tag}} {
		if s[1] != "" {
			query = append(query, s[0]+"="+strings.ReplaceAll(strings.TrimPrefix(hubTarget([]byte(s[1]), ""), idPath), "/", "%2F"))
		}
	}
	if query == nil {
		query = []string{"all=true"}
	}
	return false, c.relay(&forwarded{method: "DELETE", target: "/v1/items?" + strings.Join(query, "&"), header: h})
}

// lineToHub makes a line of a batch one that is brought to the hub.
func (c *call) lineToHub(e *entry, method string, key item.Key, w *tiers.Write) *problem.Problem {
	h, p := c.toHub()
	if p != nil {
		return p
	}
	for _, f := range [...]field{fieldContentEncoding, fieldIfVersion, fieldIfMatch, fieldIfNoneMatch, fieldIfUnmodifiedSince} {
		h.Del(f.name()) // of a batch they say nothing
	}
	e.forward = &forwarded{method: method, target: hubTarget(key.Own(), ""), header: h, id: key.ID()}
	if w == nil {
		return nil
	}
	describeTo(h, w)
	e.forward.body = w.Content
	if encoding := contentEncodingOf(w.Response); len(encoding) > 0 {
		h.Set("Content-Encoding", string(encoding))
	}
	if w.If != nil && w.If.Version != 0 {
		h.Set(fieldIfVersion.name(), w.If.Version.String())
	}
	return nil
}

// forwardersMax is how many lines of a batch are brought to the hub at a time.
const forwardersMax = 8

// forward brings the lines that belong to the hub there. Those of one id go in
// order.
func (b *batch) forward() {
	var lanes [forwardersMax][]*forwarded
	seed, some := maphash.MakeSeed(), false
	for i := range b.entries {
		if f := b.entries[i].forward; f != nil {
			lane := &lanes[maphash.String(seed, f.id)%forwardersMax]
			*lane, some = append(*lane, f), true
		}
	}
	if !some {
		return
	}
	ctx, r := b.c.x.Context(), b.c.api.replica
	var all sync.WaitGroup
	for _, lane := range lanes {
		if len(lane) > 0 {
			all.Go(func() {
				for _, f := range lane {
					f.run(ctx, r)
				}
			})
		}
	}
	all.Wait()
}

// appendForwarded appends the members of a line that the hub has answered.
func appendForwarded(b []byte, f *forwarded) ([]byte, bool) {
	if f.failed != nil {
		return appendProblem(b, f.failed), false
	}
	b = appendInt(append(b, `,"status":`...), int64(f.status))
	if f.status >= 300 {
		if text := strings.TrimSpace(string(f.answer)); strings.HasPrefix(text, "{") {
			b = append(append(b, `,"problem":`...), text...)
		}
		return b, false
	}
	b = appendString(append(b, `,"version":`...), f.fields.Get("Edge-Version"))
	b = appendString(append(b, `,"persisted":`...), f.fields.Get("Edge-Persisted"))
	if etag := f.fields.Get("ETag"); etag != "" {
		b = appendString(append(b, `,"etag":`...), strings.Trim(etag, `"`))
	}
	switch existed := f.fields.Get("Edge-Existed"); existed {
	case "":
	case "true", "false":
		b = append(append(b, `,"existed":`...), existed...)
	default:
		b = append(b, `,"existed":"unknown"`...)
	}
	return b, true
}

// partition refuses a read of what belongs to the hub while this node does not know
// what that is now, or notes that the answer is to say so.
func (c *call) partition() *problem.Problem {
	age, stale, refuse := c.api.replica.Stale()
	if refuse {
		return &problem.Problem{Kind: problem.Partitioned, RetryAfter: 5 * time.Second}
	}
	c.stale, c.age = stale, age
	return nil
}

// partitionOf is partition if ids that begin with prefix belong to the hub.
func (c *call) partitionOf(prefix string) *problem.Problem {
	if c.api.replica == nil {
		return nil
	}
	if len(prefix) < len(c.who.Namespace) {
		prefix = c.who.Namespace
	}
	if some, _ := c.api.replica.Reaches(prefix); !some {
		return nil
	}
	return c.partition()
}

// addStale says in the answer that it may be old. The status stands already.
func (c *call) addStale() {
	if c.stale {
		c.x.AddBlock(c.appendAge([]byte("Edge-Stale: true\r\n")))
	}
}

// appendAge appends for how long the hub was not heard.
func (c *call) appendAge(b []byte) []byte {
	if c.age < 0 {
		return b
	}
	return append(strconv.AppendInt(append(b, "Edge-Replica-Age: "...), int64(c.age/time.Second), 10), "\r\n"...)
}

// theirsPatience bounds the wait for a version that this node is to have.
const theirsPatience = 2 * time.Second

// getTheirs reads an item that belongs to the hub: one that the hub has acknowledged
// to a client of this node, or that the client asks for, may still be on its way.
func (c *call) getTheirs(o tiers.ReadOptions) (h tiers.Hit, ok bool, err error) {
	r, asked, id := c.api.replica, o.MinVersion, c.key.Own()
	ctx := c.x.Context()
	var cancel context.CancelFunc
	for {
		if o.MinVersion = max(asked, r.Wanted(id)); o.MinVersion == 0 {
			return c.api.engine.Get(ctx, c.key, o)
		}
		if h, ok, err = c.api.engine.Get(ctx, c.key, o); ok || err != nil && !errors.Is(err, tiers.ErrTooOld) {
			return h, ok, err
		}
		if err == nil { // absent: as of that version, or is that still to come?
			s, err := c.api.engine.Status(ctx, c.key)
			if err != nil || s.Version >= o.MinVersion {
				return h, false, err
			}
		}
		if cancel == nil {
			ctx, cancel = context.WithTimeout(ctx, theirsPatience)
			defer cancel()
		}
		if !r.Moved(ctx) {
			return tiers.Hit{}, false, fmt.Errorf("%w: version %s is still at the hub", tiers.ErrTooOld, o.MinVersion)
		}
	}
}

// notHereYet reports whether a client of this node was promised a newer version of
// id than v, which is 0 if there is none.
func (c *call) notHereYet(id []byte, v item.Version) bool {
	return c.theirs(id) && v < c.api.replica.Wanted(id)
}
