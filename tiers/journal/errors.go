package journal

import "errors"

// Errors of a write. All are to be asked for with errors.Is.
var (
	// ErrFull is returned by Append when the quota, or the disk, has no room.
	// Nothing was appended. Room comes back when records are released, or when
	// the disk has space again.
	ErrFull = errors.New("journal: full")

	// ErrTooLarge is returned by Append for a payload above MaxPayload. Nothing
	// was appended.
	ErrTooLarge = errors.New("journal: payload too large")

	// ErrUnknown is returned by Sync, Written, Mark and Close when the operating
	// system reported an error for the write or the fsync that should have made
	// the record durable. The record keeps its place and stays live: it may or
	// may not be there after a crash. It is not safe to say to a client that
	// the write was done, nor that it was not.
	ErrUnknown = errors.New("journal: fate of the write unknown")

	// ErrReadOnly is returned by Append, and together with ErrUnknown by the
	// waiting calls, when a file failed and its live records could not be moved
	// to a fresh one. By Append: nothing was appended. Reads go on. The move is
	// tried again with a later Append, at most once per Options.RetryInterval.
	ErrReadOnly = errors.New("journal: read-only")

	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("journal: closed")
)

// Errors of reading and of opening.
var (
	// ErrCorrupt marks bytes that are not what was written: a checksum that
	// does not fit. The wrong bytes are never returned.
	ErrCorrupt = errors.New("journal: corrupt")

	// ErrGone is returned by ReadAt for a position that the journal does not
	// hold: its segment was deleted after all its records had been released, or
	// it never was a position of this journal.
	ErrGone = errors.New("journal: record gone")

	// ErrFormat is returned by Open when a segment has a format that this
	// binary does not know. Nothing was changed.
	ErrFormat = errors.New("journal: format not known")

	// ErrReplayed is returned by Replay when it ran before or when something
	// was appended already.
	ErrReplayed = errors.New("journal: replay must come first and once")

	// ErrLocked is returned by LockDir when another holder has the directory.
	ErrLocked = errors.New("journal: directory is locked")
)
