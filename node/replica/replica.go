package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// An Engine keeps the replica's items. Its methods are those of tiers.Engine.
type Engine interface {
	RepairMany(ctx context.Context, vs []item.View, out []tiers.Receipt)
	Row(ctx context.Context, key item.Key) (v item.View, pending bool, err error)
	Purge(ctx context.Context, p tiers.Purge) (tiers.BulkReceipt, error)
	Flush(ctx context.Context) error
	LastChange() uint64
	MerkleBranch(ctx context.Context, path string) (tiers.TreeHead, error)
	MerkleRows(ctx context.Context, path string, keys []string) ([][]byte, error)
}

// Defaults of Options.
const (
	DefaultGrace      = time.Minute
	DefaultWait       = 10 * time.Second
	DefaultCheckEvery = 10 * time.Minute
	DefaultRetryMax   = 5 * time.Second
	DefaultMaxPayload = 16 << 20
)

// Options configure a Replica.
type Options struct {
	Engine   Engine            // required
	From     string            // base URL of the hub, http or https; required
	Prefixes []string          // of the ids that are replicated, each ending in . / or : ; none is all
	Token    string            // bearer token at the hub; empty sends none
	Client   http.RoundTripper // to the hub; required. It is closed at the end if it can close idle connections
	Dir      string            // of the cursor; required
	Self     string            // identity of this node; required

	Forward bool          // writes go to the hub; else they are refused
	Grace   time.Duration // cut off for longer, answers are stale; default 1 m
	Refuse  bool          // and are refused then

	MaxPayload int64         // greatest content in bytes that can be stored here; default 16 MiB
	Wait       time.Duration // of a long poll; default 10 s, and no more than half of Grace
	CheckEvery time.Duration // between two comparisons of the trees; default 10 m
	RetryMax   time.Duration // longest pause after a failure, half of which is random; default 5 s

	Now     func() int64 // Unix ms, never going back; required
	Log     *slog.Logger // nil: nothing is logged
	Metrics *metrics.Set // nil: no metrics
}

// check fills defaults and reports every fault.
func (o *Options) check() error {
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Wait == 0 {
		o.Wait = min(DefaultWait, o.Grace/2)
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = DefaultMaxPayload
	}
	if o.CheckEvery == 0 {
		o.CheckEvery = DefaultCheckEvery
	}
	if o.RetryMax == 0 {
		o.RetryMax = DefaultRetryMax
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if u, err := url.Parse(o.From); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("replica: hub %q is not http://host or https://host", o.From))
	}
	for _, p := range o.Prefixes {
		if tiers.CheckTreePath(p) != nil || item.CheckIDPrefix(p) != nil || p == "" {
			errs = append(errs, fmt.Errorf("replica: prefix %q does not end in a separator: . or / or the colon", p))
		}
	}
	if o.Engine == nil || o.Client == nil || o.Dir == "" || o.Self == "" || o.Now == nil {
		errs = append(errs, errors.New("replica: engine, client, directory, identity and clock are required"))
	}
	return errors.Join(errs...)
}

// States of a replica.
const (
	StateConnecting = "connecting" // the hub has not answered yet
	StateRepairing  = "repairing"  // the trees are compared and what differs is fetched
	StateFollowing  = "following"  // the feed is read
	StateCutOff     = "cut-off"    // the hub does not answer, or not as it should
)

// A Replica follows a hub. Its methods may be called by any goroutine.
type Replica struct {
	o       Options
	hub     *hub
	log     *slog.Logger
	metrics *counters
	cursor  cursor // of the following goroutine

	stop  context.CancelFunc
	ended chan struct{}

	fresh   atomic.Int64  // Unix ms: all that the hub had then is here; 0: never
	heard   atomic.Int64  // Unix ms of the last answer of the hub; 0: none
	behind  atomic.Uint64 // changes of the hub that were not here when it answered last
	seq     atomic.Uint64 // the hub's last change that is here
	newer   atomic.Int64  // items that are newer here than there, as of the last comparison
	checked int64         // Unix ms of the last comparison

	mu      sync.Mutex
	state   string
	trouble string // why the hub is not followed now
	refused string // of the last record that cannot be stored here

	awaited awaited
}

// Open begins to follow the hub. It does not wait for it.
func Open(o Options) (*Replica, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	r := &Replica{o: o, log: o.Log, ended: make(chan struct{}), state: StateConnecting}
	r.hub = &hub{base: strings.TrimSuffix(o.From, "/"), token: o.Token, client: &http.Client{Transport: o.Client, CheckRedirect: noRedirect}}
	var err error
	if r.cursor, err = loadCursor(filepath.Join(o.Dir, cursorFile)); err != nil {
		return nil, err
	}
	if r.cursor.adopt(o.From, o.Prefixes) {
		r.fresh.Store(r.cursor.Fresh)
	}
	r.seq.Store(r.cursor.Seq)
	r.metrics = newCounters(o.Metrics, r)
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go r.run(ctx)
	return r, nil
}

// Close ends what Open started, one goroutine, and waits for it. What was stored
// stays, and where it is too.
func (r *Replica) Close() {
	r.stop()
	<-r.ended
	r.hub.client.CloseIdleConnections()
}

// run follows until Close.
func (r *Replica) run(ctx context.Context) {
	defer close(r.ended)
	for failures := 0; ctx.Err() == nil; {
		err := r.round(ctx)
		if err == nil {
			failures = 0
			continue
		}
		if ctx.Err() != nil {
			return
		}
		r.fail(err)
		failures++
		r.rest(ctx, failures)
	}
}

// rest waits before the next try: longer each time, and not together with other
// replicas.
func (r *Replica) rest(ctx context.Context, failures int) {
	d := min(100*time.Millisecond<<min(failures, 10), r.o.RetryMax)
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// round does what is next: a comparison if one is due, else a look at the feed.
func (r *Replica) round(ctx context.Context) error {
	if r.cursor.Compare != "" {
		return r.compare(ctx, r.cursor.Compare)
	}
	if due := r.checked + r.o.CheckEvery.Milliseconds(); r.o.Now() >= due && r.behind.Load() == 0 {
		if r.checked == 0 { // a start is no reason
			r.checked = r.o.Now()
			return nil
		}
		return r.compare(ctx, whyCheck)
	}
	return r.poll(ctx)
}

// enter notes a state, and that there is no trouble.
func (r *Replica) enter(state string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state != state {
		r.log.Info("replica", "state", state, "hub", r.o.From, "seq", r.cursor.Seq)
	}
	r.state, r.trouble = state, ""
}

// fail notes why the hub is not followed now.
func (r *Replica) fail(err error) {
	r.metrics.failures.Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.trouble != err.Error() { // once, not at every try
		r.log.Warn("the hub is not followed now", "hub", r.o.From, "error", err)
	}
	r.state, r.trouble = StateCutOff, err.Error()
}

// Covers reports whether the item of an id belongs to the hub.
func (r *Replica) Covers(id []byte) bool {
	if len(r.o.Prefixes) == 0 {
		return true
	}
	for _, p := range r.o.Prefixes {
		if len(id) >= len(p) && string(id[:len(p)]) == p {
			return true
		}
	}
	return false
}

// Reaches reports whether some, and whether all, of the ids that begin with prefix
// belong to the hub.
func (r *Replica) Reaches(prefix string) (some, all bool) {
	if r.Covers([]byte(prefix)) {
		return true, true
	}
	for _, p := range r.o.Prefixes {
		some = some || strings.HasPrefix(p, prefix)
	}
	return some, false
}

// Hub returns where the hub is, for people.
func (r *Replica) Hub() string { return r.o.From }

// Self returns what this node is called in Edge-Forwarded.
func (r *Replica) Self() string { return r.o.Self }

// Forwards reports whether writes go to the hub; else they are refused.
func (r *Replica) Forwards() bool { return r.o.Forward }

// Stale returns how old answers are about what belongs to the hub, and false while
// that is within the grace. refuse says that there is to be no answer then. An age
// below zero means that this node never had all that the hub had.
func (r *Replica) Stale() (age time.Duration, stale, refuse bool) {
	fresh := r.fresh.Load()
	if fresh == 0 {
		return -1, true, r.o.Refuse
	}
	age = max(time.Duration(r.o.Now()-fresh)*time.Millisecond, 0)
	stale = age > r.o.Grace
	return age, stale, stale && r.o.Refuse
}

// A Health is a replica as /healthz shows it.
type Health struct {
	Hub        string   `json:"hub"`
	State      string   `json:"state"`       // connecting, repairing, following or cut-off
	Seq        uint64   `json:"seq,string"`  // the hub's last change that is here
	HeardMS    int64    `json:"heard_ms"`    // Unix ms of the last that the hub sent; 0: nothing
	LagChanges uint64   `json:"lag_changes"` // that the hub had more when it answered last
	LagSeconds float64  `json:"lag_seconds"` // since all that the hub had was here; -1: never
	Stale      bool     `json:"stale"`       // that is longer than partition_grace
	Newer      int64    `json:"newer_here"`  // items that are newer than the hub's
	Error      string   `json:"error,omitempty"`
	Reasons    []string `json:"-"` // why the node is degraded
}

// Health returns how the replica is. It does no I/O.
func (r *Replica) Health() Health {
	age, stale, refuse := r.Stale()
	r.mu.Lock()
	h := Health{Hub: r.o.From, State: r.state, Error: r.trouble}
	refused := r.refused
	r.mu.Unlock()
	h.Seq, h.LagChanges, h.LagSeconds, h.Stale, h.Newer = r.seq.Load(), r.behind.Load(), age.Seconds(), stale, r.newer.Load()
	if h.HeardMS = r.heard.Load(); age < 0 {
		h.LagSeconds = -1
	}
	if h.State == StateCutOff {
		h.Reasons = append(h.Reasons, fmt.Sprintf("the hub %s is not followed: %s", h.Hub, h.Error))
	}
	if stale {
		what := "answers about its items say so (Edge-Stale)"
		if refuse {
			what = "its items are refused"
		}
		h.Reasons = append(h.Reasons, fmt.Sprintf("what the hub %s has now is not known here, longer than partition_grace: %s", h.Hub, what))
	}
	if h.Newer > 0 {
		h.Reasons = append(h.Reasons, fmt.Sprintf("%d items are newer here than at the hub, which has lost them (restored from a backup?); edgenode verify --with the hub --repair gives them back", h.Newer))
	}
	if refused != "" {
		h.Reasons = append(h.Reasons, "an item of the hub cannot be stored here: "+refused)
	}
	return h
}

// paths returns the branches of the tree that are replicated.
func (r *Replica) paths() []string {
	if len(r.o.Prefixes) == 0 {
		return []string{""}
	}
	var paths []string
	for _, p := range r.o.Prefixes {
		inside := false
		for _, q := range r.o.Prefixes {
			inside = inside || len(q) < len(p) && strings.HasPrefix(p, q)
		}
		if !inside {
			paths = append(paths, p)
		}
	}
	return paths
}

// keyOf returns the key of an id that the hub names, and false if it is none of
// those that were asked for.
func (r *Replica) keyOf(id string) (item.Key, bool) {
	key, err := item.IDKey(id)
	return key, err == nil && r.Covers(key.Own())
}

// tombstone returns a record that says that there is no item of key.
func tombstone(key item.Key, v item.Version) item.View {
	it := item.Item{
		Kind: item.KindTombstone, Key: bytes.Clone(key), Tiers: item.AllTiers, Durability: item.DurabilitySync,
		Version: v, ContentVersion: v, MetadataVersion: v, UpdatedAt: v.UnixMilli(),
	}
	return it.AppendTo(nil)
}
