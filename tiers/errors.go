package tiers

import (
	"errors"
	"fmt"
	"time"
)

// Errors of the life cycle. Nothing was read or written.
var (
	// ErrClosed is returned by every call on an engine that is closed or closing.
	ErrClosed = errors.New("tiers: the engine is closed")
	// ErrShuttingDown is returned by writes once Close has begun.
	ErrShuttingDown = errors.New("tiers: shutting down, no writes are taken")
)

// Errors of reads.
var (
	// ErrUnavailable is returned when the answer lies in L3 and L3 cannot be
	// asked. It says nothing about whether the item exists.
	ErrUnavailable = errors.New("tiers: L3 is not available")
	// ErrCorrupt is returned by GetVerified when content and hash differ. The
	// copy is not served and has been dropped from L1.
	ErrCorrupt = errors.New("tiers: content does not match its hash")
	// ErrBusy is returned when too many readers already wait for this item, or
	// the wait took too long.
	ErrBusy = errors.New("tiers: too many readers wait for this item")
	// ErrBadCursor is returned for a cursor of another query, another format or
	// not of ours.
	ErrBadCursor = errors.New("tiers: bad cursor")
	// ErrChangesGone is returned by Feed for a number after which changes are not
	// kept any more: the reader has to compare what it has with what is here.
	ErrChangesGone = errors.New("tiers: changes after this number are not kept any more")
	// ErrNodeLive is returned by RemoveNode for a node that renews its registration.
	ErrNodeLive = errors.New("tiers: the node is alive; stop it first")
	// ErrNoFilter is returned by VerifyFilter when there is none.
	ErrNoFilter = errors.New("tiers: the filter is off (filter_enabled)")
	// ErrFilterIncomplete is returned by VerifyFilter while the filter is being
	// filled. Nothing was compared.
	ErrFilterIncomplete = errors.New("tiers: the filter is not complete yet")
	// ErrTooOld is returned when no version as new as asked for is known here.
	ErrTooOld = errors.New("tiers: no version that new is known here")
)

// Errors of writes. Unless said otherwise nothing was stored.
var (
	// ErrInvalid is returned for options that contradict each other or limits.
	ErrInvalid = errors.New("tiers: invalid write")
	// ErrTooLarge is returned for content above the effective payload limit.
	ErrTooLarge = errors.New("tiers: content too large")
	// ErrNoItem is returned by a metadata change of an item that does not exist.
	ErrNoItem = errors.New("tiers: no such item")
	// ErrPrecondition is returned by a conditional write whose condition does
	// not hold.
	ErrPrecondition = errors.New("tiers: precondition failed")
	// ErrStateUnknown is returned by a conditional write or metadata change when
	// L3 must be asked for the present item and cannot be.
	ErrStateUnknown = errors.New("tiers: the item's present state is unknown while L3 is not available")
	// ErrPressure is returned by writes refused under pressure; see also
	// Refusal.
	ErrPressure = errors.New("tiers: write refused under pressure")
	// ErrFull is returned when the journal's quota or the disk is exhausted.
	ErrFull = errors.New("tiers: journal quota or disk exhausted")
	// ErrReadOnly is returned after a failed fsync that could not be healed.
	ErrReadOnly = errors.New("tiers: read-only after a failed write to disk")
	// ErrUnknownFate is returned when the write may or may not survive: its
	// fsync failed, or the wait for its level was given up. Writing the same
	// again is safe.
	ErrUnknownFate = errors.New("tiers: the fate of the write is unknown")
	// ErrPurged is returned when what was fetched has been purged or deleted
	// since the fetch began.
	ErrPurged = errors.New("tiers: purged while it was fetched")
	// ErrSuperseded is returned when a newer version of a fetched answer is
	// stored already.
	ErrSuperseded = errors.New("tiers: a newer version is stored")
)

// A Refusal is the error of a write refused under pressure. It wraps
// ErrPressure.
type Refusal struct {
	Level      string        // name of the pressure level
	Pressure   float64       // 0 to 1 and above
	Throttled  bool          // refused by probability: 429; else 503
	RetryAfter time.Duration // when to try again
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("tiers: write refused: pressure %.2f, level %s", r.Pressure, r.Level)
}

// Unwrap returns ErrPressure.
func (r *Refusal) Unwrap() error { return ErrPressure }
