package filter

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers/item"
)

// Errors of the filter. After each it goes on answering "perhaps".
var (
	// ErrGone is what a Source returns from Changes when changes after the asked
	// number are missing. The filter is not trusted until Warm has been through.
	ErrGone = errors.New("filter: changes are gone")
	// ErrGap is returned for a change whose number does not follow the last one.
	ErrGap = errors.New("filter: gap in the changes")
	// ErrFull is returned when entries find no place, which takes hashes that are
	// not random. Warm again: it takes a new secret.
	ErrFull = errors.New("filter: no place for an entry")
	// ErrIncomplete is returned by WriteSnapshot and Verify while not all keys are known to
	// be in the filter. Nothing was written or compared.
	ErrIncomplete = errors.New("filter: not complete")
	// ErrReset is returned by Warm when the changes it relied on went missing
	// meanwhile. Warm again.
	ErrReset = errors.New("filter: changes went missing during the warm-up")
)

// An Op says what a change means to the filter.
type Op byte

// What changes mean.
const (
	OpOther  Op = iota // nothing: a rule
	OpPut              // the key has a live row
	OpRemove           // it has none any more: deleted or expired
)

// A Change is one entry of the change sequence.
type Change struct {
	Seq     uint64
	Version item.Version
	Op      Op
	Key     item.Key
}

// A Source is the ground truth, as far as the filter reads it.
type Source interface {
	// LastSeq returns the number of the newest committed change. It asks the
	// store: what was committed before the call is counted.
	LastSeq(ctx context.Context) (uint64, error)
	// Changes calls fn for up to limit changes after the number after, in order
	// and without gap. It fails with ErrGone if some of them are missing, or if
	// that number was never given.
	Changes(ctx context.Context, after uint64, limit int, fn func(Change) error) error
	// Keys calls fn for up to limit live keys after the key after (nil begins at
	// the start), in the store's order, each of which was live at some moment of
	// the call; a key that was live throughout all calls of a walk is met by it. fn
	// does not keep key.
	Keys(ctx context.Context, after item.Key, limit int, fn func(key item.Key) error) error
}

// Options are the settings of a filter.
type Options struct {
	// Identity names the ground truth; snapshots of another one are refused.
	Identity string
	// MinItems is the room at least, in ids. Default DefaultMinItems, which takes
	// some 800 KiB. A filter wants a rebuild when it has grown sixtyfold.
	MinItems uint64
	// MaxLag is how old the last look at the end of the changes may be. 0 means
	// any: this node is the only writer, and feeds what it wrote before it lets
	// go of it. Below 0 is an error.
	MaxLag time.Duration
	// PageKeys is how many keys Warm and Verify ask for at once. Default 1000.
	PageKeys int
	// Clock returns Unix milliseconds. Default: the process's start and its
	// monotonic clock.
	Clock func() int64
	// Secret returns the secret of a table. Default: random.
	Secret func() uint64
	// Metrics takes the metrics until Close; nil means none.
	Metrics *metrics.Set
	// Log takes changes of trust. Default: discarded.
	Log *slog.Logger
}

// Defaults of Options.
const (
	DefaultMinItems = 256 << 10
	DefaultPageKeys = 1000
)

func (o *Options) fill() error {
	if o.MinItems == 0 {
		o.MinItems = DefaultMinItems
	}
	if o.PageKeys == 0 {
		o.PageKeys = DefaultPageKeys
	}
	if o.Clock == nil {
		start := time.Now()
		o.Clock = func() int64 { return start.UnixMilli() + time.Since(start).Milliseconds() }
	}
	if o.Secret == nil {
		o.Secret = randomSecret
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if o.MaxLag < 0 {
		errs = append(errs, fmt.Errorf("MaxLag is %s, allowed are 0 and more", o.MaxLag))
	}
	if o.PageKeys < 1 {
		errs = append(errs, fmt.Errorf("PageKeys is %d, allowed are 1 and more", o.PageKeys))
	}
	if o.MinItems > maxItems {
		errs = append(errs, fmt.Errorf("MinItems is %d, allowed are %d at most", o.MinItems, uint64(maxItems)))
	}
	if len(o.Identity) > maxIdentity {
		errs = append(errs, fmt.Errorf("length of Identity is %d bytes, allowed are %d", len(o.Identity), maxIdentity))
	}
	return errors.Join(errs...)
}

// Bounds of options.
const (
	maxItems    = 1 << 36
	maxIdentity = 256
)

func randomSecret() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.LittleEndian.Uint64(b[:])
}

// A view is what readers go by: a table, and whether it may say "not there".
type view struct {
	table   *table
	trusted bool
}

// A Filter knows which keys certainly have no live row in the ground truth. All
// methods are safe for concurrent use.
type Filter struct {
	opts    Options
	metrics *filterMetrics
	now     atomic.Pointer[view]
	headAt  atomic.Int64 // Unix ms before the last look that found no more changes
	maxLag  atomic.Int64 // ms; see Options.MaxLag

	feeding  chan struct{} // token: one CatchUp at a time
	scanning chan struct{} // token: one Warm or Verify at a time; taken before feeding

	applied atomic.Uint64 // number of the last change; written under mu
	warmed  atomic.Uint64 // keys that the warm-up under way has taken

	// mu guards the fields below and all writes to tables. No I/O is done under
	// it; it is a leaf lock. It is held for one change, or a page of keys.
	mu       sync.Mutex
	next     *table       // what Warm fills, fed like the present one; or nil
	complete bool         // all keys live at applied are in the present table
	version  item.Version // of the last change; 0 if not known
	removed  uint64       // entries of keys that were removed since the table began
	later    uint64       // the same, of next
	reason   string       // why it is not trusted
	savedSeq uint64       // of the last snapshot
	resets   uint64       // how often trust was lost
	proved   bool         // the last change was seen in the sequence, in this process
}

// New returns an empty filter that trusts nothing. Load or Warm make it complete,
// and CatchUp trusted.
func New(opts Options) (*Filter, error) {
	if err := opts.fill(); err != nil {
		return nil, fmt.Errorf("filter: options: %w", err)
	}
	f := &Filter{opts: opts, feeding: make(chan struct{}, 1), scanning: make(chan struct{}, 1), reason: "never warmed up", proved: true}
	f.maxLag.Store(opts.MaxLag.Milliseconds())
	f.now.Store(&view{table: newTable(opts.Secret(), opts.MinItems)})
	f.metrics = newMetrics(opts.Metrics, f)
	return f, nil
}

// Close takes the metrics back. The filter goes on answering.
func (f *Filter) Close() { f.metrics.unregister() }

// DefinitelyMissing reports whether key certainly had no live row when the last
// change was applied. Ask what is pending first. It does no I/O and allocates
// nothing.
func (f *Filter) DefinitelyMissing(key item.Key) bool {
	v := f.now.Load()
	if !v.trusted || f.lags() {
		f.metrics.untrusted.Inc()
		return false
	}
	if v.table.has(v.table.hash(key)) {
		f.metrics.maybe.Inc()
		return false
	}
	f.metrics.missing.Inc()
	return true
}

// MightExist is the opposite of DefinitelyMissing.
func (f *Filter) MightExist(key item.Key) bool { return !f.DefinitelyMissing(key) }

// FalsePositive counts that the ground truth did not have what MightExist said
// it might.
func (f *Filter) FalsePositive() { f.metrics.falsePositives.Inc() }

// Trusted reports whether DefinitelyMissing can be true.
func (f *Filter) Trusted() bool { return f.now.Load().trusted && !f.lags() }

// Applied returns the number of the last change that is in the filter.
func (f *Filter) Applied() uint64 { return f.applied.Load() }

func (f *Filter) lags() bool {
	limit := f.maxLag.Load()
	return limit > 0 && f.opts.Clock()-f.headAt.Load() > limit
}

// SetMaxLag changes Options.MaxLag, from now on.
func (f *Filter) SetMaxLag(d time.Duration) { f.maxLag.Store(max(0, d.Milliseconds())) }

// Identify changes Options.Identity, where the ground truth could not say its name
// when the filter was made, or is another one now.
func (f *Filter) Identify(identity string) error {
	if len(identity) > maxIdentity {
		return fmt.Errorf("filter: length of Identity is %d bytes, allowed are %d", len(identity), maxIdentity)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opts.Identity = identity
	return nil
}

func (f *Filter) identity() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.opts.Identity
}

// Seen notes that key has a row, without waiting for its change. To be called
// with what was read from the ground truth, or committed to it, before it leaves
// pending or memory: from then on it is not "definitely missing". It is never
// wrong to call it.
func (f *Filter) Seen(key item.Key) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.addLocked(key)
}

func (f *Filter) addLocked(key item.Key) error {
	t := f.now.Load().table
	ok := t.add(t.hash(key))
	if f.next != nil && !f.next.add(f.next.hash(key)) {
		f.next = nil // Warm finds it gone
	}
	if !ok {
		f.resetLocked(ErrFull.Error())
		return ErrFull
	}
	return nil
}

// Apply takes the next change. A number that it has had already changes nothing;
// one that leaves a gap makes it distrust itself and returns ErrGap. It keeps
// nothing of c.
func (f *Filter) Apply(c Change) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	applied := f.applied.Load()
	switch {
	case c.Seq == applied && !f.proved:
		return f.proveLocked(c)
	case c.Seq <= applied:
		return nil
	case c.Seq != applied+1:
		f.resetLocked("gap in the changes")
		return fmt.Errorf("%w: %d follows %d; warm it up", ErrGap, c.Seq, applied)
	}
	switch c.Op {
	case OpPut:
		if err := f.addLocked(c.Key); err != nil {
			return err
		}
	case OpRemove:
		f.removeLocked(c.Key)
	}
	f.version = c.Version
	f.applied.Store(c.Seq)
	return nil
}

// removeLocked counts an entry that is of no use any more. It stays: another key
// may share it.
func (f *Filter) removeLocked(key item.Key) {
	if t := f.now.Load().table; t.has(t.hash(key)) {
		f.removed++
	}
	if f.next != nil && f.next.has(f.next.hash(key)) {
		f.later++
	}
}

// proveLocked compares the change at which a snapshot was taken.
func (f *Filter) proveLocked(c Change) error {
	if c.Version != f.version {
		f.resetLocked("the changes are of another history")
		return fmt.Errorf("%w: change %d has version %s, and had %s; warm it up", ErrGone, c.Seq, c.Version, f.version)
	}
	f.proved = true
	return nil
}

// Distrust makes the filter say "perhaps" to everything until Warm has been
// through. reason is for the log and Stats.
func (f *Filter) Distrust(reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resetLocked(reason)
}

// resetLocked distrusts what is there, and what a warm-up under way has taken.
func (f *Filter) resetLocked(reason string) {
	if f.complete {
		f.opts.Log.Warn("filter is not trusted", "reason", reason, "applied", f.applied.Load())
	}
	f.complete, f.next, f.reason = false, nil, reason
	f.resets++
	f.now.Store(&view{table: f.now.Load().table})
}

// CatchUp applies the changes up to the end of the sequence. If the filter is
// complete it is trusted afterwards, and not older than the begin of the call. An
// outage of src leaves things as they were; changes that are gone make it
// distrust itself.
func (f *Filter) CatchUp(ctx context.Context, src Source) error {
	if err := take(ctx, f.feeding); err != nil {
		return fmt.Errorf("filter: catch up: %w", err)
	}
	defer func() { <-f.feeding }()
	was := f.compareAgain()
	for {
		begin, n := f.opts.Clock(), 0
		after := f.nextRead()
		err := src.Changes(ctx, after, changesPage, func(c Change) error {
			n++
			return f.Apply(c)
		})
		if errors.Is(err, ErrGone) && f.skipProof() {
			continue
		}
		if err != nil {
			f.stillProved(was)
			return f.failed(err)
		}
		if n < changesPage {
			f.atHead(begin, after+uint64(n))
			return nil
		}
	}
}

const changesPage = 1000

// nextRead returns the number after which to read: one less while the last
// change of a snapshot is to be compared.
func (f *Filter) nextRead() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if applied := f.applied.Load(); f.proved || applied == 0 {
		return applied
	} else {
		return applied - 1
	}
}

// compareAgain has the last change compared that was applied, if its version is
// known: a ground truth that crashed may have forgotten it and given its number to
// another one. It returns whether it had been.
func (f *Filter) compareAgain() (was bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if was = f.proved; f.complete && f.version != 0 {
		f.proved = false
	}
	return was
}

// stillProved takes compareAgain back where nothing could be compared.
func (f *Filter) stillProved(was bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proved = f.proved || was
}

// skipProof gives up comparing: the change is not kept any more, but those after
// it may be.
func (f *Filter) skipProof() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	skip := !f.proved && f.complete
	f.proved = true
	return skip
}

// Walked is CatchUp for whoever walks along the sequence anyway: it takes the
// changes that were read after the number after, in order. end says that there were
// no more at the time begin (of Options.Clock). It returns false, and takes
// nothing, if the filter is not that far, or is catching up by itself: then
// CatchUp is needed. It keeps nothing of page.
func (f *Filter) Walked(begin int64, after uint64, page []Change, end bool) (bool, error) {
	select {
	case f.feeding <- struct{}{}:
	default:
		return false, nil
	}
	defer func() { <-f.feeding }()
	// A snapshot's change is to be compared first: then one earlier is needed.
	if f.nextRead() < after {
		return false, nil
	}
	for i := range page {
		if err := f.Apply(page[i]); err != nil {
			return true, err
		}
	}
	if end {
		f.atHead(begin, after+uint64(len(page)))
	}
	return true, nil
}

func (f *Filter) failed(err error) error {
	if errors.Is(err, ErrGone) {
		f.Distrust("changes are gone")
	}
	return fmt.Errorf("filter: catch up after %d: %w", f.Applied(), err)
}

// atHead notes that at the time begin there was no change beyond seq.
func (f *Filter) atHead(begin int64, seq uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.applied.Load() < seq {
		return // the warm-up has set it back
	}
	if !f.proved && f.complete {
		f.resetLocked("it is ahead of the ground truth")
		return
	}
	f.headAt.Store(max(begin, f.headAt.Load()))
	f.trustLocked()
}

func (f *Filter) trustLocked() {
	if v := f.now.Load(); f.complete && f.proved && !v.trusted {
		f.reason = ""
		f.now.Store(&view{table: v.table, trusted: true})
		f.opts.Log.Info("filter is trusted", "items", v.table.items.Load(), "applied", f.applied.Load())
	}
}

// take takes the token of c, or returns the cause of ctx's end.
func take(ctx context.Context, c chan struct{}) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
