package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exchange is a request and what was answered.
type exchange struct {
	method, target, host string
	fields               [][2]string
	body                 io.Reader
	length               int64
	remote               bool

	code    int
	head    []string // lines of the answer without CRLF
	out     output
	sized   int64 // announced by SendSized or Stream; -1 otherwise
	done    int   // answers begun
	aborted bool
	closed  bool
	flushes int
	onFlush func()
	broken  error           // of writing a streamed answer
	ctx     context.Context // nil: one without end
}

// An output is what a client has got. A feed writes it while the test looks.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.b.Bytes())
}

func (o *output) String() string { return string(o.Bytes()) }
func (o *output) Len() int       { return len(o.Bytes()) }

func (o *output) Reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Reset()
}

// request builds an exchange from "METHOD target", header lines and a body.
func request(line, body string, fields ...string) *exchange {
	method, target, _ := strings.Cut(line, " ")
	x := &exchange{method: method, target: target, host: "localhost:8080", body: strings.NewReader(body), length: int64(len(body)), sized: -1}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		x.fields = append(x.fields, [2]string{name, value})
	}
	return x
}

func (x *exchange) Method() string       { return x.method }
func (x *exchange) Target() []byte       { return []byte(x.target) }
func (x *exchange) Host() []byte         { return []byte(x.host) }
func (x *exchange) Scheme() string       { return "http" }
func (x *exchange) ContentLength() int64 { return x.length }
func (x *exchange) Body() io.Reader      { return x.body }
func (x *exchange) Client() netip.Addr   { return netip.MustParseAddr("192.0.2.7") }
func (x *exchange) Local() bool          { return !x.remote }
func (x *exchange) Context() context.Context {
	if x.ctx != nil {
		return x.ctx
	}
	return context.Background()
}
func (x *exchange) Fields(yield func(name, value []byte) bool) {
	for _, f := range x.fields {
		if !yield([]byte(f[0]), []byte(f[1])) {
			return
		}
	}
}

func (x *exchange) Status(code int)        { x.code = code }
func (x *exchange) Add(name, value string) { x.head = append(x.head, name+": "+value) }
func (x *exchange) AddBlock(block []byte) {
	lines := strings.Split(string(block), "\r\n")
	if lines[len(lines)-1] != "" {
		panic("a header block that does not end in CRLF")
	}
	x.head = append(x.head, lines[:len(lines)-1]...)
}
func (x *exchange) AddUndated(block []byte) {
	if bytes.Contains(bytes.ToLower(append([]byte("\n"), block...)), []byte("\ndate:")) {
		panic("a Date among lines that have none")
	}
	x.AddBlock(block)
}

func (x *exchange) begin() {
	if x.done++; x.done > 1 || x.code == 0 {
		panic(fmt.Sprintf("answer begun %d times, status %d", x.done, x.code))
	}
}

func (x *exchange) Send(body []byte) error {
	x.begin()
	if x.method != "HEAD" {
		x.out.Write(body)
	}
	x.sized = int64(len(body))
	return nil
}

func (x *exchange) SendSized(length int64) error { x.begin(); x.sized = length; return nil }

func (x *exchange) Stream(length int64) (io.Writer, error) {
	x.begin()
	x.sized = length
	return stream{x}, nil
}
func (x *exchange) Abort()      { x.aborted = true }
func (x *exchange) CloseAfter() { x.closed = true }

type stream struct{ x *exchange }

func (s stream) Write(b []byte) (int, error) {
	if s.x.broken != nil {
		return 0, s.x.broken
	}
	return s.x.out.Write(b)
}
func (s stream) Flush() error {
	s.x.flushes++
	if s.x.onFlush != nil {
		s.x.onFlush()
	}
	return nil
}

// field returns the first value of an answer's field, "" if absent.
func (x *exchange) field(name string) string {
	for _, line := range x.head {
		if n, v, _ := strings.Cut(line, ": "); strings.EqualFold(n, name) {
			return v
		}
	}
	return ""
}

// problem returns the name of the problem that was answered.
func (x *exchange) problem() string {
	_, rest, _ := strings.Cut(x.out.String(), `urn:edgenode:problem:`)
	name, _, _ := strings.Cut(rest, `"`)
	return name
}

// store is an engine in a map. It is honest about versions, conditions,
// expiry, tombstones and order; it has one tier.
type store struct {
	mu      sync.Mutex
	now     int64
	clock   *item.Clock
	items   map[string]item.View // puts and tombstones
	source  tiers.Source
	stale   bool
	fail    error // answered by every operation
	purges  []tiers.Purge
	changes []item.Durability
	writes  []tiers.Write
	perList int // List breaks after so many items, if above 0

	dead  []tiers.DeadLetter
	feed  feedLog
	group fakeGroup
	seq   uint64 // of the next purge

	refuse string // id of the one that a retry does not help
}

const testTime = 1_700_000_000_000

func newStore() *store {
	s := &store{now: testTime, items: map[string]item.View{}, source: tiers.FromL1, group: fakeGroup{{ID: "id1", Name: "host1", Self: true, Live: true}}}
	s.clock = item.NewClock(0, func() int64 { return s.now })
	return s
}

// live returns the item under key unless it is absent, deleted or expired.
func (s *store) live(key item.Key) item.View {
	v := s.items[string(key)]
	if v == nil || v.Kind() == item.KindTombstone || v.Expired(s.now) {
		return nil
	}
	return v
}

func (s *store) Get(_ context.Context, key item.Key, o tiers.ReadOptions) (tiers.Hit, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(key, o)
}

func (s *store) get(key item.Key, o tiers.ReadOptions) (tiers.Hit, bool, error) {
	if s.fail != nil {
		return tiers.Hit{}, false, s.fail
	}
	v := s.live(key)
	if o.MinVersion != 0 && (v == nil || v.Version() < o.MinVersion) {
		return tiers.Hit{}, false, tiers.ErrTooOld
	}
	return tiers.Hit{View: v, Source: s.source, Stale: s.stale}, v != nil, nil
}

func (s *store) GetMany(_ context.Context, keys []item.Key, o tiers.ReadOptions, fn func(int, *tiers.Hit, bool, error)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, k := range keys {
		h, ok, err := s.get(k, o)
		fn(i, &h, ok, err)
	}
}

func (s *store) holds(c *tiers.Condition, v item.View) bool {
	if c.None() {
		return true
	}
	if v == nil {
		return !c.MatchAny && c.Match == nil && c.Version == 0 && !c.NeverMatch
	}
	switch {
	case c.NeverMatch, c.Match != nil && !slices.Contains(c.Match, v.ETag()):
		return false
	case c.NoneAny, slices.Contains(c.NoneMatch, v.ETag()):
		return false
	}
	return c.Version == 0 || c.Version == v.Version()
}

func (s *store) Submit(_ context.Context, w *tiers.Write) (tiers.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.submit(w)
}

func (s *store) submit(w *tiers.Write) (tiers.Receipt, error) {
	if s.fail != nil {
		return tiers.Receipt{}, s.fail
	}
	was := s.live(w.Key)
	if !s.holds(w.If, was) {
		return tiers.Receipt{}, fmt.Errorf("put: %w", tiers.ErrPrecondition)
	}
	version := s.clock.Stamp()
	it := item.Item{
		Kind: item.KindPut, Tiers: w.Tiers, Key: w.Key, Version: version, ContentVersion: version, MetadataVersion: version,
		UpdatedAt: s.now, MIME: w.MIME, State: w.State, Tags: w.Tags, Response: w.Response, Content: w.Content,
	}
	if w.TTL != 0 {
		it.ExpiresAt = s.now + w.TTL.Milliseconds()
	}
	it.Seal()
	s.put(&it)
	copied := *w
	copied.Content = bytes.Clone(w.Content)
	copied.Key = slices.Clone(w.Key)
	s.writes = append(s.writes, copied)
	persisted := w.Durability
	if persisted == item.DurabilityDefault {
		persisted = item.DurabilitySync
	}
	return tiers.Receipt{Version: version, ETag: it.ETag, Persisted: persisted, Existed: existed(was)}, nil
}

func existed(v item.View) tiers.Existence {
	if v == nil {
		return tiers.ExistedNo
	}
	return tiers.ExistedYes
}

func (s *store) put(it *item.Item) {
	v, err := item.Parse(it.AppendTo(nil))
	if err != nil {
		panic(err)
	}
	s.items[string(it.Key)] = v
}

func (s *store) SubmitMany(_ context.Context, ws []*tiers.Write, out []tiers.Receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range ws {
		var err error
		if out[i], err = s.submit(w); err != nil {
			out[i].Err = err
		}
	}
}

func (s *store) Delete(_ context.Context, key item.Key, c *tiers.Condition, d item.Durability) (tiers.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remove(key, c, d)
}

func (s *store) remove(key item.Key, c *tiers.Condition, d item.Durability) (tiers.Receipt, error) {
	if s.fail != nil {
		return tiers.Receipt{}, s.fail
	}
	was := s.live(key)
	if !s.holds(c, was) {
		return tiers.Receipt{}, tiers.ErrPrecondition
	}
	version := s.clock.Stamp()
	s.put(&item.Item{Kind: item.KindTombstone, Key: key, Version: version, ContentVersion: version})
	if d == item.DurabilityDefault {
		d = item.DurabilitySync
	}
	return tiers.Receipt{Version: version, Persisted: d, Existed: existed(was)}, nil
}

func (s *store) DeleteMany(_ context.Context, keys []item.Key, d item.Durability, out []tiers.Receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, k := range keys {
		var err error
		if out[i], err = s.remove(k, nil, d); err != nil {
			out[i].Err = err
		}
	}
}

func (s *store) Change(_ context.Context, key item.Key, m tiers.MetadataChange) (tiers.Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return tiers.Receipt{}, s.fail
	}
	v := s.live(key)
	if v == nil {
		return tiers.Receipt{}, tiers.ErrNoItem
	}
	if !s.holds(m.If, v) {
		return tiers.Receipt{}, tiers.ErrPrecondition
	}
	it := v.Item()
	it.Version = s.clock.Stamp()
	it.MetadataVersion = it.Version
	if m.State != nil {
		it.State = *m.State
	}
	if m.Tags != nil {
		it.Tags = *m.Tags
	}
	if m.TTL != nil {
		it.ExpiresAt = 0
		if *m.TTL != 0 {
			it.ExpiresAt = s.now + m.TTL.Milliseconds()
		}
	}
	s.put(&it)
	s.changes = append(s.changes, m.Durability)
	return tiers.Receipt{Version: it.Version, Persisted: item.DurabilitySync, Existed: tiers.ExistedYes}, nil
}

// matching yields the live items that q selects, by key.
func (s *store) matching(q tiers.Query) iter.Seq[item.View] {
	keys := make([]string, 0, len(s.items))
	for k := range s.items {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return func(yield func(item.View) bool) {
		for _, k := range keys {
			v := s.live(item.Key(k))
			if v == nil || !strings.HasPrefix(k[1:], q.Scope) || !strings.HasPrefix(k[1:], q.Prefix) ||
				q.State != "" && v.State() != q.State || q.Tag != "" && !slices.Contains(v.Item().Tags, q.Tag) {
				continue
			}
			if !yield(v) {
				return
			}
		}
	}
}

func (s *store) List(_ context.Context, q tiers.Query, fn func(v item.View) error) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Cursor != "" && !strings.HasPrefix(q.Cursor, "after ") {
		return "", tiers.ErrBadCursor
	}
	n, last := 0, ""
	for v := range s.matching(q) {
		id := v.Key().ID()
		if q.Cursor != "" && id <= strings.TrimPrefix(q.Cursor, "after ") {
			continue
		}
		if n == q.Limit {
			return "after " + last, nil
		}
		if s.perList > 0 && n == s.perList {
			return "", tiers.ErrUnavailable
		}
		if err := fn(v); err != nil {
			return "", err
		}
		n, last = n+1, id
	}
	return "", s.fail
}

func (s *store) Count(_ context.Context, q tiers.Query) (int64, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := int64(0)
	for range s.matching(q) {
		n++
	}
	return n, true, s.fail
}

func (s *store) DeleteMatching(_ context.Context, q tiers.Query, d item.Durability) (tiers.BulkReceipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := tiers.BulkReceipt{Complete: true, Persisted: max(d, item.DurabilityMemory)}
	for v := range s.matching(q) {
		if _, err := s.remove(slices.Clone(v.Key()), nil, d); err != nil {
			return r, err
		}
		r.L3++
	}
	r.Version = s.clock.Stamp()
	return r, s.fail
}

func (s *store) Purge(_ context.Context, p tiers.Purge) (tiers.BulkReceipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purges = append(s.purges, p)
	return tiers.BulkReceipt{Version: s.clock.Stamp(), Seq: s.seq, L1: 1, Complete: true, Persisted: item.DurabilitySync}, s.fail
}

func (s *store) Status(_ context.Context, key item.Key) (tiers.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.items[string(key)]
	if v == nil {
		return tiers.Status{Where: tiers.StatusMissing}, s.fail
	}
	return tiers.Status{Where: tiers.StatusSynced, Version: v.Version(), L1: true, L3: true, Tombstone: v.Kind() == item.KindTombstone}, s.fail
}

var errStrange = errors.New("strange")

// harness is an API in front of a store.
type harness struct {
	testing.TB
	*store
	api *api.API
}

func newHarness(t testing.TB, change ...func(*api.Options)) *harness {
	t.Helper()
	s := newStore()
	o := api.Options{Engine: s, Now: func() int64 { return s.now }, MaxPayload: 1000}
	for _, f := range change {
		f(&o)
	}
	a, err := api.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &harness{TB: t, store: s, api: a}
}

// do serves one request.
func (h *harness) do(line, body string, fields ...string) *exchange {
	h.Helper()
	x := request(line, body, fields...)
	h.api.Serve(x)
	if x.done != 1 {
		h.Fatalf("%s: answered %d times", line, x.done)
	}
	return x
}

// want serves one request and compares its status and, for errors, the name of
// the problem.
func (h *harness) want(code int, problem, line, body string, fields ...string) *exchange {
	h.Helper()
	x := h.do(line, body, fields...)
	if x.code != code || x.problem() != problem {
		h.Errorf("%s %q: %d %s, want %d %s\n%s", line, fields, x.code, x.problem(), code, problem, x.out.String())
	}
	return x
}

// has compares a field of an answer.
func (h *harness) has(x *exchange, name, want string) {
	h.Helper()
	if got := x.field(name); got != want {
		h.Errorf("%s %s: %s is %q, want %q", x.method, x.target, name, got, want)
	}
}

// DeadLetters pages with the index as the cursor.
func (s *store) DeadLetters(_ context.Context, cursor string, limit int) ([]tiers.DeadLetter, string, error) {
	first, _ := strconv.Atoi(cursor)
	rest := s.dead[min(first, len(s.dead)):]
	if len(rest) > limit {
		return rest[:limit], strconv.Itoa(first + limit), nil
	}
	return rest, "", nil
}

func (s *store) RetryDeadLetter(ctx context.Context, key item.Key) error {
	if key.ID() == s.refuse {
		return fmt.Errorf("%w: too long", tiers.ErrRefused)
	}
	return s.DropDeadLetter(ctx, key)
}

func (s *store) DropDeadLetter(_ context.Context, key item.Key) error {
	i := slices.IndexFunc(s.dead, func(d tiers.DeadLetter) bool { return bytes.Equal(d.Key, key) })
	if i < 0 {
		return tiers.ErrNoItem
	}
	s.dead = slices.Delete(s.dead, i, i+1)
	return nil
}
