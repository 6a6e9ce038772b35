package l3

import (
	"errors"
	"fmt"
)

// Errors of every call. A call that fails with one of the first three may be
// made again later, as it is.
var (
	// ErrUnavailable marks an outage: a full disk, an I/O error, a lock held by
	// someone else, no memory. The transaction was rolled back, except when the
	// commit itself failed: then the batch may be found stored after a restart,
	// and applying it again changes nothing.
	ErrUnavailable = errors.New("l3: unavailable")
	// ErrClosed is returned by calls after Close. Nothing was done.
	ErrClosed = errors.New("l3: store is closed")
	// ErrCorrupt marks a database whose file or rows contradict themselves.
	// Nothing was changed.
	ErrCorrupt = errors.New("l3: database is corrupt")
	// ErrRejected marks an operation that can never succeed as it is: malformed,
	// too large, a version out of range. Nothing of its batch was stored. See
	// OpError.
	ErrRejected = errors.New("l3: operation rejected")
)

// Errors of Open.
var (
	// ErrNotOurs is returned for a database of another program. It was not
	// changed.
	ErrNotOurs = errors.New("l3: not a database of edgenode")
	// ErrNewer is returned for a database that a newer edgenode has migrated to
	// a form this one cannot use. It was not changed.
	ErrNewer = errors.New("l3: database needs a newer edgenode")
	// ErrSetting is returned when a connection does not keep a setting on which
	// durability rests.
	ErrSetting = errors.New("l3: setting not kept by the connection")
)

// ErrChangesGone is returned by Changes for a number after which changes are
// missing: they were trimmed, or the database is older than the number (a
// restored copy). The reader must compare and repair.
var ErrChangesGone = errors.New("l3: changes after this number are gone")

// ErrNoRule is returned by SweepRule for a rule that is not stored.
var ErrNoRule = errors.New("l3: rule is not stored")

// An OpError says which operation of a batch made it fail. It wraps
// ErrRejected. The others may succeed without it.
type OpError struct {
	Index int // in the ops given to Apply
	Err   error
}

func (e *OpError) Error() string { return fmt.Sprintf("operation %d: %v", e.Index, e.Err) }

// Unwrap returns ErrRejected and the cause.
func (e *OpError) Unwrap() []error { return []error{ErrRejected, e.Err} }

// ErrIdentityInUse is returned by RegisterNode while another process holds the
// identity; the text names it. Nothing was changed.
var ErrIdentityInUse = errors.New("l3: node identity is in use")

// errStop ends a query early without being an error, and so does errFull, with
// much of the answer still to come.
var (
	errStop = errors.New("stop")
	errFull = errors.New("full")
)

// errAgain marks a transaction that was in another's way on a server. It was
// rolled back and is made again.
var errAgain = errors.New("transaction in the way of another")
