package tiers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// ErrNoTables is returned by operations on tables of prefixes when L3 has none.
var ErrNoTables = errors.New("tiers: this L3 keeps all items in one table")

// A TableMapping gives the items whose ids begin with Prefix a table of their own
// in L3.
type TableMapping struct {
	Prefix string
	Table  string // as configured; 1 to 48 of a-z 0-9 _
	// What Mappings tells beside: the table's name in the database, and whether
	// rows are being moved into it or out of it.
	Name            string
	Moving, Leaving bool
	Version         int64 // of the last change, in the order of all
}

// tableKeeper is what an L3 with tables of prefixes can do; see package l3.
type tableKeeper interface {
	MapPrefix(ctx context.Context, prefix item.Key, table string) error
	UnmapPrefix(ctx context.Context, prefix item.Key) error
	Mappings(ctx context.Context) ([]l3.Mapping, error)
	MoveMapped(ctx context.Context, limit int) (moved int, more bool, err error)
}

// movePage is how many rows a transaction moves, and moveRetry the pause of the
// background after an error.
const (
	movePage  = 500
	moveRetry = time.Second
)

func (e *Engine) tableKeeper() (tableKeeper, error) {
	if k, ok := e.l3.(tableKeeper); ok {
		return k, nil
	}
	return nil, ErrNoTables
}

// MapPrefix gives the items whose ids begin with prefix (1 to 512 bytes) a table
// of their own, for all nodes of this L3, and returns when all rows are in it; of
// two prefixes the longer wins. Every answer is the same before, meanwhile and
// after. When ctx ends meanwhile, the mapping stays and the rest is moved by the
// next call of MapPrefix, Unmap or KeepTables. It fails with ErrUnavailable,
// ErrInvalid (a name or prefix that cannot be), l3.ErrMapped (one of the two is
// mapped otherwise) or ErrNoTables. Cost: each row is written once more, in
// transactions of 500 rows.
func (e *Engine) MapPrefix(ctx context.Context, prefix, table string) error {
	key := item.AppendKey(nil, item.NamespaceItem, prefix)
	return e.remap(ctx, fmt.Sprintf("map prefix %q to table %s", prefix, table), func(k tableKeeper) error {
		return k.MapPrefix(ctx, key, table)
	})
}

// Unmap ends the mapping of prefix and returns when its rows are where they are
// without it; the table stays, empty. It fails as MapPrefix does, or with
// l3.ErrNotMapped.
func (e *Engine) Unmap(ctx context.Context, prefix string) error {
	key := item.AppendKey(nil, item.NamespaceItem, prefix)
	return e.remap(ctx, fmt.Sprintf("unmap prefix %q", prefix), func(k tableKeeper) error {
		return k.UnmapPrefix(ctx, key)
	})
}

// Mappings returns the mappings as L3 has them now, in the order of prefixes.
func (e *Engine) Mappings(ctx context.Context) ([]TableMapping, error) {
	if err := e.enterRead(); err != nil {
		return nil, err
	}
	defer e.leave()
	k, err := e.tableKeeper()
	if err != nil {
		return nil, err
	}
	have, err := k.Mappings(ctx)
	if err != nil {
		return nil, fmt.Errorf("tiers: mappings: %w", mappingFault(err))
	}
	list := make([]TableMapping, 0, len(have))
	for _, m := range have {
		list = append(list, TableMapping{
			Prefix: m.Prefix.ID(), Table: m.Table, Name: m.Name, Moving: m.Moving, Leaving: m.Leaving, Version: m.Version,
		})
	}
	return list, nil
}

// remap makes a change of the mappings, after the move that is under way, and
// moves the rows. It lets Close in between two pages.
func (e *Engine) remap(ctx context.Context, what string, change func(k tableKeeper) error) error {
	changed := false
	for {
		more, err := e.remapStep(ctx, &changed, change)
		if err != nil {
			return fmt.Errorf("tiers: %s: %w", what, mappingFault(err))
		}
		if !more {
			return nil
		}
	}
}

func (e *Engine) remapStep(ctx context.Context, changed *bool, change func(k tableKeeper) error) (more bool, err error) {
	if err := e.enterWrite(); err != nil {
		return false, err
	}
	defer e.leave()
	k, err := e.tableKeeper()
	if err != nil {
		return false, err
	}
	if !*changed {
		if err = change(k); err == nil {
			*changed = true
		} else if !errors.Is(err, l3.ErrMoving) {
			return false, err
		}
	}
	_, more, err = k.MoveMapped(ctx, movePage)
	return more || !*changed, err
}

// mappingFault gives an error of L3 the marker of this package.
func mappingFault(err error) error {
	switch {
	case errors.Is(err, l3.ErrRejected):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	case errors.Is(err, l3.ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// KeepTables brings the mappings to what list says, in the background: it maps
// each prefix, unmaps one whose Table is empty, leaves all others as they are, and
// ends a move that was cut short. While L3 does not answer it tries again; what
// can never be is logged. To be called once, before Close.
func (e *Engine) KeepTables(list []TableMapping) {
	if _, err := e.tableKeeper(); err != nil {
		if len(list) > 0 {
			e.logger.Error("tables of prefixes are not kept", "err", err)
		}
		return
	}
	list = slices.Clone(list)
	e.tasks.Go(func() {
		e.keep("unfinished move", func() error { return e.remap(e.ctx, "move rows", func(tableKeeper) error { return nil }) })
		for _, m := range list {
			e.keep(m.Prefix, func() error { return e.keepTable(m) })
		}
	})
}

// keep makes a change until L3 has answered.
func (e *Engine) keep(what string, change func() error) {
	for {
		err := change()
		switch {
		case err == nil || e.ctx.Err() != nil || errors.Is(err, ErrShuttingDown) || errors.Is(err, ErrClosed):
			return
		case !errors.Is(err, ErrUnavailable):
			e.logger.Error("table of a prefix is not as configured", "prefix", what, "err", err)
			return
		}
		e.logger.Warn("table of a prefix waits for L3", "prefix", what, "err", err)
		if !e.pause(moveRetry, e.closing) || e.isClosing() {
			return
		}
	}
}

func (e *Engine) keepTable(m TableMapping) error {
	if m.Table != "" {
		return e.MapPrefix(e.ctx, m.Prefix, m.Table)
	}
	if err := e.Unmap(e.ctx, m.Prefix); !errors.Is(err, l3.ErrNotMapped) {
		return err
	}
	return nil
}
