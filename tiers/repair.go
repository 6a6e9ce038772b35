package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/merkle"
)

// Two stores that a comparison of their trees has found different are made equal
// by giving each the newer rows of the other, with the versions that they have.
// The order of versions decides as everywhere else: a newer row stays, a tombstone
// or bulk delete that is newer is not undone.

// Row returns what L3 holds under key: a live record, over or not, or a tombstone;
// nil if it holds neither. What is pending is not in it; pending says that there is
// some. v is the caller's. It fails with ErrUnavailable.
func (e *Engine) Row(ctx context.Context, key item.Key) (v item.View, pending bool, err error) {
	if err := e.enterRead(); err != nil {
		return nil, false, err
	}
	defer e.leave()
	if err := key.Check(); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	_, pending = e.copyPending(e.hash(key), key)
	v, ok, err := e.readL3(ctx, key)
	if err != nil || !ok {
		return nil, pending, err
	}
	return v, pending, nil
}

// Repair stores a record of another node, a live item of the items API or a
// tombstone, with its versions, and returns once it has durability sync. Where
// this store has newer content or newer metadata, that stays. It keeps nothing of
// v.
//
// It fails with ErrSuperseded if nothing of v is newer than what is here, with
// ErrPurged if a newer bulk delete covers it, with ErrInvalid for what is no such
// record, whose content is not that of its hash, or whose version is further ahead
// of this clock than ClockSkewMax; and as Submit and reads do.
func (e *Engine) Repair(ctx context.Context, v item.View) (Receipt, error) {
	if err := e.enterWrite(); err != nil {
		return Receipt{}, err
	}
	defer e.leave()
	row, _, err := e.readL3(ctx, v.Key())
	if err != nil {
		return Receipt{}, err
	}
	wr, err := e.repairOver(ctx, v, row)
	if errors.Is(err, errTied) {
		return e.repairTied(ctx, v)
	}
	if err != nil {
		return Receipt{}, err
	}
	return e.complete(ctx, wr)
}

// checkRepair refuses what is no whole record of an item.
func (e *Engine) checkRepair(v item.View) error {
	it := v.Item()
	errs := []error{it.Check()}
	f := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	f(it.Kind == item.KindPut || it.Kind == item.KindTombstone, "a record of kind %d, allowed are items and tombstones", it.Kind)
	f(it.Kind == item.KindTombstone || it.Tiers&item.L3 != 0, "a record that does not live in L3")
	f(it.Version == max(it.ContentVersion, it.MetadataVersion) && it.ContentVersion > 0, "versions that contradict each other")
	if it.Key.Namespace() != item.NamespaceItem {
		errs = append(errs, errors.New("a record of no item of the items API"))
	} else {
		errs = append(errs, item.CheckID(string(it.Key.Own())), item.CheckState(it.State), item.CheckTags(it.Tags))
	}
	if it.Kind == item.KindPut {
		hash, tag, flags := it.ContentHash, it.ETag, it.Flags
		it.Seal()
		f(hash == it.ContentHash && tag == it.ETag && flags == it.Flags, "content that is not that of its hash")
	}
	if limit := e.maxPayload.Load(); int64(len(it.Content)) > limit {
		return fmt.Errorf("%w: %d bytes, the limit is %d (max_payload_bytes)", ErrTooLarge, len(it.Content), limit)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := e.clock.Observe(it.Version, e.options.ClockSkewMax); err != nil {
		return fmt.Errorf("%w: version %s: %w", ErrInvalid, it.Version, err)
	}
	return nil
}

// merged returns what v and row make together, or nil if that is row.
func merged(v, row item.View) item.View {
	switch {
	case row == nil:
		return v
	case v.ContentVersion() > row.ContentVersion():
		if v.Kind() == item.KindPut && row.Kind() == item.KindPut {
			return mergeMetadata(v, row)
		}
		return v
	case v.ContentVersion() < row.ContentVersion():
		if v.Kind() == item.KindTombstone || row.Kind() == item.KindTombstone || v.MetadataVersion() <= row.MetadataVersion() {
			return nil
		}
		return mergeMetadata(row, v)
	case v.Version() != row.Version():
		if v.Version() > row.Version() {
			return v
		}
		return nil
	case v.Kind() == item.KindTombstone || row.Kind() == item.KindTombstone:
		return nil // L3 decides a tie with a tombstone when it is written
	}
	mine, theirs := merkle.LeafOf(row), merkle.LeafOf(v)
	if bytes.Compare(theirs[:], mine[:]) > 0 {
		return v
	}
	return nil
}

// beginRepair carries it, which has its versions, to where it waits for its level.
func (e *Engine) beginRepair(it *item.Item) (underway, error) {
	hash := e.hash(it.Key)
	s := e.pending.stripe(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.newerHeldLocked(hash, it) {
		return underway{}, ErrSuperseded
	}
	if err := e.reserve(pendingIDBytes + int64(len(it.Key))); err != nil && it.Kind != item.KindTombstone {
		return underway{}, err
	}
	return e.logLocked(s, hash, it, e.clock.UnixMilli())
}
