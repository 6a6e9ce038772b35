package tiers_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/edgenode/edgenode/tiers/tiertest/memstore"
)

// backup copies what the engines of t in dir have as L3. The function that it
// returns makes it what it was, in one transaction, whoever has it open.
func backup(t *testing.T, dir string) (restore func()) {
	t.Helper()
	o := tiers.Options{SQLitePath: filepath.Join(dir, "edgenode.db")}
	backendsOf(t, &o)
	if i := strings.LastIndexByte(o.SQLURL, '/'); i >= 0 {
		return mariadbtest.Shared(t).Backup(t, o.SQLURL[i+1:])
	}
	db, err := sql.Open("sqlite", "file:"+o.SQLitePath+"?_pragma=busy_timeout(60000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	exec := func(statements ...string) {
		t.Helper()
		tx, err := db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		for _, s := range statements {
			if _, err := tx.Exec(s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := db.Query("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var taking, restoring []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			t.Fatal(err)
		}
		taking = append(taking, fmt.Sprintf("CREATE TABLE backup_%s AS SELECT * FROM %s", table, table))
		restoring = append(restoring, "DELETE FROM "+table, fmt.Sprintf("INSERT INTO %s SELECT * FROM backup_%s", table, table))
	}
	rows.Close()
	exec(taking...)
	return func() { t.Helper(); exec(restoring...) }
}

// setBack is the part of a scenario after which L3 holds "old", which the node has
// deleted since, and whose filter has forgotten it, and not "new". As many changes
// are written afterwards.
func setBack(t *testing.T, e *tiers.Engine, take func() func(), more int) {
	t.Helper()
	putBelow(t, e, "old", "v")
	putBelow(t, e, "kept", "v")
	flush(t, e)
	awaitFilter(t, e)
	back := take()
	del(t, e, "old")
	flush(t, e)
	putBelow(t, e, "new", "v")
	flush(t, e)
	if err := e.WarmFilter(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantAbsent(t, e, "old")
	want(t, e, "new", "v")
	seen := e.LastChange()
	until(t, 30*time.Second, "all was seen", func() bool { return e.Followed() == seen })
	back()
	for i := range more {
		putBelow(t, e, fmt.Sprint("later/", i), "v")
		flush(t, e)
	}
	until(t, 30*time.Second, "what is there again", func() bool { got, _ := get(t, e, "old"); return got == "v" })
	read := func(after uint64) error {
		_, err := e.Feed(t.Context(), tiers.FeedQuery{After: after, Limit: 10}, func(*tiers.Event) error { return nil })
		return err
	}
	until(t, 30*time.Second, "readers are told", func() bool { return errors.Is(read(seen), tiers.ErrChangesGone) })
	begin := max(seen, seen-2+uint64(more)) + 1 // above all that was ever read
	until(t, 30*time.Second, "the sequence begins anew", func() bool { return e.Followed() == begin && e.LastChange() == begin })
	until(t, 30*time.Second, "the filter is right", func() bool {
		r, err := e.VerifyFilter(t.Context())
		return err == nil && r.Missing == 0 && filterTrusted(e)
	})
	wantAbsent(t, e, "new")
	want(t, e, "kept", "v")
	for after := range begin {
		if err := read(after); !errors.Is(err, tiers.ErrChangesGone) {
			t.Errorf("who goes on after change %d is told %v", after, err)
		}
	}
	if err := read(e.LastChange()); err != nil {
		t.Errorf("who begins now is told %v", err)
	}
	putBelow(t, e, "last", "v")
	flush(t, e)
	want(t, e, "last", "v")
	if r, err := e.VerifyFilter(t.Context()); err != nil || r.Missing != 0 {
		t.Errorf("the filter: %+v, %v", r, err)
	}
	if h := e.Health(context.Background()); !h.Filter.Trusted {
		t.Errorf("the filter is not trusted: %s", h.Filter.Reason)
	}
}

// setBackBy are how many changes are written after the database was set back by
// two: fewer than that, as many, and more.
var setBackBy = []int{0, 1, 2, 3}

// TestG5_SetBackBelowALoneNode: the database of a node that alone writes it is
// restored to an older state while the node runs. What is there again is found, and
// readers of the changes are told, without a restart: also if the sequence is as
// long as before by the time somebody looks.
func TestG5_SetBackBelowALoneNode(t *testing.T) {
	for _, more := range setBackBy {
		if t.Failed() {
			return // the rest would only wait
		}
		t.Run(fmt.Sprint(more, " later"), func(t *testing.T) {
			overDialects(t, func(t *testing.T) {
				dir, set := t.TempDir(), metrics.NewSet()
				e := open(t, dir, func(o *tiers.Options) { o.Metrics = set })
				setBack(t, e, func() func() { return backup(t, dir) }, more)
				if n := set.GetOrCreateCounter("edgenode_changes_lost_total").Get(); n != 1 {
					t.Errorf("%d losses are counted", n)
				}
			})
		})
	}
}

// TestG5_SetBackInMemory is the same over memstore.
func TestG5_SetBackInMemory(t *testing.T) {
	for _, more := range setBackBy {
		t.Run(fmt.Sprint(more, " later"), func(t *testing.T) {
			dir := simDir(t)
			defer os.RemoveAll(dir)
			synctest.Test(t, func(t *testing.T) {
				db := memstore.NewL3(nil)
				e, err := tiers.Open(t.Context(), tiers.Options{
					DataDir: dir, L1MaxBytes: 16 << 20, MaxPayloadBytes: 1 << 20, JournalMaxBytes: 16 << 20, JournalFS: crashfs.New(),
					Logger: slog.New(slog.DiscardHandler),
					WrapStore: func(real tiers.Store) tiers.Store {
						if err := real.Close(); err != nil {
							t.Error(err)
						}
						return &simStore{L3: db, simRest: simRest{real}}
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				defer e.Close(t.Context())
				setBack(t, e, db.SetBack, more)
			})
		})
	}
}
