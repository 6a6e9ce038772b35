package l3_test

import (
	"compress/gzip"
	"context"
	"database/sql/driver"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"modernc.org/sqlite"
)

// TestA18_SettingsOfEveryConnection: every connection has the settings on which
// durability rests, read back from it.
func TestA18_SettingsOfEveryConnection(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "l3.db"))
	o.ReadConns = 5
	s, err := l3.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	list, err := s.Settings(context.Background())
	if err != nil || len(list) != 6 {
		t.Fatalf("%d connections, %v", len(list), err)
	}
	for _, c := range list {
		for name, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "2", "wal_autocheckpoint": "0", "foreign_keys": "0", "trusted_schema": "0",
			"cell_size_check": "1", "busy_timeout": "5000", "query_only": map[string]string{"writer": "0", "reader": "1"}[c.Role],
		} {
			if got := c.Values[name]; got != want {
				t.Errorf("%s: %s is %s, want %s", c.Role, name, got, want)
			}
		}
	}
}

func openFails(t *testing.T, path string, want error, remedy string) {
	t.Helper()
	s, err := l3.Open(context.Background(), options(path))
	if err == nil {
		s.Close()
	}
	if !errors.Is(err, want) || !strings.Contains(err.Error(), remedy) {
		t.Errorf("got %v, want %v with %q", err, want, remedy)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	openFails(t, filepath.Join(dir, "none", "l3.db"), l3.ErrUnavailable, "create it")
	openFails(t, dir, l3.ErrUnavailable, "directory")
	text := file("text", strings.Repeat("no database ", 1000))
	openFails(t, text, l3.ErrNotOurs, "another path")
	if b, err := os.ReadFile(text); err != nil || string(b) != strings.Repeat("no database ", 1000) {
		t.Error("a foreign file was changed")
	}
	if os.Getuid() != 0 {
		path := file("readonly", "")
		if err := os.Chmod(path, 0o400); err != nil {
			t.Fatal(err)
		}
		openFails(t, path, l3.ErrUnavailable, "owner or mode")
	}
	if _, err := l3.Open(context.Background(), l3.Options{WALMax: 1, ReadConns: -1, MaxPayload: -1}); err == nil ||
		strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("not every fault is named: %v", err)
	}
}

func TestOpenRefusesOtherDatabases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l3.db")
	change := func(text string) {
		t.Helper()
		s, err := l3.Open(context.Background(), options(path))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(l3.Exec(s, text), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	change("UPDATE schema_info SET version=7") // newer, but it says that we can use it
	change("UPDATE schema_info SET min_binary=7, needs='edgenode 9.1'")
	openFails(t, path, l3.ErrNewer, "edgenode 9.1")
	path = filepath.Join(t.TempDir(), "l3.db")
	change("DELETE FROM schema_info")
	openFails(t, path, l3.ErrCorrupt, "copy")
	path = filepath.Join(t.TempDir(), "l3.db")
	change("PRAGMA application_id=5")
	openFails(t, path, l3.ErrNotOurs, "another path")
}

// A file that another connection holds is an outage, at Open with a remedy.
func TestLockedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l3.db")
	s, other := openSQLite(t, path), openSQLite(t, path)
	if err := errors.Join(l3.Exec(s, "BEGIN IMMEDIATE"), l3.Exec(other, "PRAGMA busy_timeout=1")); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Apply(context.Background(), nil, nil, nil); !errors.Is(err, l3.ErrUnavailable) {
		t.Errorf("Apply: %v", err)
	}
	if err := l3.Exec(s, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	apply(t, other, put("a", 1, "x"))

	path = filepath.Join(t.TempDir(), "locked.db")
	conn, err := (&sqlite.Driver{}).Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.(driver.ExecerContext).ExecContext(context.Background(), "CREATE TABLE t (a); BEGIN EXCLUSIVE", nil); err != nil {
		t.Fatal(err)
	}
	openFails(t, path, l3.ErrUnavailable, "fuser")
}

// A full disk is an outage: the batch is undone, reads go on, and when there is
// room again so do writes.
func TestFullDisk(t *testing.T) {
	s := newStore(t)
	apply(t, s, put("old", 1, "x", tags("t")))
	if err := l3.SetMaxPages(s, 2); err != nil {
		t.Fatal(err)
	}
	ops := opsOf([]item.View{tombstone("old", 2), put("big", 2, strings.Repeat("x", 100_000))})
	for range 3 {
		_, err := s.Apply(context.Background(), ops, nil, make([]l3.Outcome, 2))
		if !errors.Is(err, l3.ErrUnavailable) || errors.Is(err, l3.ErrCorrupt) {
			t.Fatalf("got %v", err)
		}
	}
	if live(t, s, "old") != "x" || live(t, s, "big") != "" || s.LastSeq() != 1 {
		t.Error("a part of the batch is there")
	}
	if err := l3.SetMaxPages(s, 0); err != nil {
		t.Fatal(err)
	}
	out := make([]l3.Outcome, 2)
	if _, err := s.Apply(context.Background(), ops, nil, out); err != nil || !out[0].Won || !out[1].Won {
		t.Errorf("with room again: %+v, %v", out, err)
	}
}

// A connection that broke is opened again.
func TestBrokenConnection(t *testing.T) {
	s := newStore(t)
	if err := l3.BreakWriter(s); err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", 1, "x"))
	if err := l3.Exec(s, "BEGIN"); err != nil { // left in a transaction by some bug
		t.Fatal(err)
	}
	if _, err := s.Apply(context.Background(), nil, nil, nil); err == nil {
		t.Error("a transaction within a transaction")
	}
	apply(t, s, put("a", 2, "y"))
	if live(t, s, "a") != "y" {
		t.Error("the writer does not recover")
	}
}

// With writes going on and a scan that never ends, the log keeps its bound.
func TestLogIsBounded(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "l3.db"))
	o.WALMax = l3.MinWALMax
	s, err := l3.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	write := func(n int) int64 {
		content := strings.Repeat(string(rune('a'+n%26)), 2000)
		var records []item.View
		for i := range 100 {
			records = append(records, put(fmt.Sprintf("%0*d", i+1, i), item.Version(n+1), content))
		}
		apply(t, s, records...)
		return l3.WALBytes(s)
	}
	write(0)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		var err error
		for err == nil {
			err = s.Scan(ctx, l3.ScanQuery{WithContent: true}, func(item.View) error { return nil })
		}
		done <- err
	}()
	var highest int64
	for n := range 30 { // 30 × 100 × 2 kB is six times WALMax, were nothing moved
		highest = max(highest, write(n+1))
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if limit := int64(5 * l3.MinWALMax); highest > limit { // the hard limit and a batch
		t.Errorf("the log grew to %d bytes, allowed are %d", highest, limit)
	}
	if err := s.Checkpoint(context.Background()); err != nil || l3.WALBytes(s) != 0 {
		t.Errorf("checkpoint leaves %d bytes, %v", l3.WALBytes(s), err)
	}
	if info, err := os.Stat(o.Path + "-wal"); err != nil || info.Size() != 0 {
		t.Errorf("the log's file has %d bytes, %v", info.Size(), err)
	}
}

// When nothing has been committed for a while, the caches of pages are given up.
func TestIdleCaches(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l3.db")
	synctest.Test(t, func(t *testing.T) {
		s := openSQLite(t, path)
		for n := range 20 {
			var batch []item.View
			for i := range 50 {
				batch = append(batch, put(fmt.Sprintf("%d/%d", n, i), item.Version(n+1), strings.Repeat("x", 3000)))
			}
			apply(t, s, batch...)
		}
		full, err := l3.CachedBytes(s)
		if err != nil || full < 3_000_000 {
			t.Errorf("%d bytes are cached after writes, %v", full, err)
		}
		time.Sleep(l3.IdleAfter + time.Second)
		synctest.Wait()
		if left, err := l3.CachedBytes(s); err != nil || left > 100_000 {
			t.Errorf("%d bytes are cached after a while, %v", left, err)
		}
		apply(t, s, put("a", 1, "x")) // as well as before
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A reader of another process that keeps its snapshot stops checkpoints; then
// writes are refused at the hard limit, and go on when it has gone.
func TestForeignReader(t *testing.T) {
	o := options(filepath.Join(t.TempDir(), "l3.db"))
	o.WALMax = l3.MinWALMax
	s, err := l3.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	apply(t, s, put("a", 1, "x"))
	reader := openSQLite(t, o.Path)
	if err := l3.Exec(reader, "BEGIN; SELECT count(*) FROM items"); err != nil {
		t.Fatal(err)
	}
	for v := item.Version(2); err == nil && v < 100; v++ {
		content := strings.Repeat(string(rune('a'+v%26)), 1_500_000) // SQLite does not write pages that stay the same
		_, err = s.Apply(context.Background(), opsOf([]item.View{put("a", v, content)}), nil, make([]l3.Outcome, 1))
	}
	if !errors.Is(err, l3.ErrUnavailable) || l3.WALBytes(s) > 6*l3.MinWALMax {
		t.Errorf("with %d bytes in the log: %v", l3.WALBytes(s), err)
	}
	if err := l3.Exec(reader, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := s.Checkpoint(context.Background()); err != nil {
		t.Error(err)
	}
	apply(t, s, put("a", 200, "again"))
}

// A database that drops a row without an error is found out by reading back
// (A5): the op has not won, the others have.
func TestSwallowedRow(t *testing.T) {
	s := newStore(t)
	apply(t, s, put("old", 1, "x"))
	err := l3.Exec(s, `CREATE TRIGGER t1 BEFORE INSERT ON items WHEN NEW.key = CAST('inew2' AS BLOB) BEGIN SELECT RAISE(IGNORE); END;
		CREATE TRIGGER t2 BEFORE UPDATE ON items BEGIN SELECT RAISE(IGNORE); END`)
	if err != nil {
		t.Fatal(err)
	}
	out := apply(t, s, put("old", 5, "y"), put("new1", 5, "y"), put("new2", 5, "y"), put("new3", 5, "y"))
	for i, want := range []item.Version{1, 5, 0, 5} {
		if out[i].Version != want || out[i].Won != (want == 5) {
			t.Errorf("%d: %+v, want version %s", i, out[i], want)
		}
	}
	if err := l3.Exec(s, "DROP TRIGGER t1; DROP TRIGGER t2"); err != nil {
		t.Fatal(err)
	}
	if out := apply(t, s, put("old", 5, "y"), put("new2", 5, "y")); !out[0].Won || !out[1].Won {
		t.Errorf("again: %+v", out)
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "l3.db")
	s := openSQLite(t, path)
	for i := range 50 {
		apply(t, s, put(strings.Repeat("k", i+1), 1, strings.Repeat("x", 1000)))
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(b[len(b)-3*4096 : len(b)-2*4096]) // a zeroed page
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = openSQLite(t, path)
	if err := s.Verify(context.Background()); !errors.Is(err, l3.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestMetrics(t *testing.T) {
	set := metrics.NewSet()
	o := options(filepath.Join(t.TempDir(), "l3.db"))
	o.Metrics = set
	s, err := l3.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, s, put("a", 2, "x"), put("b", 1, "x"))
	apply(t, s, put("a", 1, "x"))
	var b strings.Builder
	set.WritePrometheus(&b)
	for _, want := range []string{
		`edgenode_l3_operations_total{outcome="won"} 2`, `edgenode_l3_operations_total{outcome="lost"} 1`,
		`edgenode_l3_change_sequence 2`, `edgenode_l3_commit_seconds_count 2`, `edgenode_l3_wal_max_bytes 67108864`,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%s is missing in\n%s", want, b.String())
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if names := set.ListMetricNames(); len(names) != 0 {
		t.Errorf("left after Close: %q", names)
	}
}

var writeGolden = flag.Bool("golden", false, "write testdata/v5.db.gz anew; only while schema 5 is not released")

const goldenPath = "testdata/v5.db.gz" // the newest

func goldenRecords() ([]item.View, item.Rule) {
	return []item.View{
			put("a", 7<<16, `{"golden": 1}`, state("done"), tags("x", "y"), expires(now+5), response("200"), mime("application/json")),
			put("", 8<<16, "site", rawKey(item.AppendKey(nil, item.NamespaceSite, strings.Repeat("long", 500)))),
			tombstone("gone", 9<<16),
		}, item.Rule{
			Version: 10 << 16, CreatedAt: 10, Op: item.OpDelete, Match: item.MatchKeyPrefix,
			Namespaces: item.InItems, Values: []string{"p/"},
		}
}

// A file of each schema, written by its first version, is read as it was meant,
// and migrated.
func TestGoldenFile(t *testing.T) {
	if *writeGolden {
		records, rule := goldenRecords()
		writeGoldenFile(t, filepath.Join(t.TempDir(), "l3.db"), records, rule)
	}
	for _, golden := range []string{"testdata/v1.db.gz", "testdata/v2.db.gz", "testdata/v3.db.gz", "testdata/v4.db.gz", goldenPath} {
		t.Run(filepath.Base(golden), func(t *testing.T) { goldenFile(t, golden) })
	}
}

func goldenFile(t *testing.T, golden string) {
	path := filepath.Join(t.TempDir(), "l3.db")
	records, rule := goldenRecords()
	unzip(t, golden, path)
	s := openSQLite(t, path)
	nodes(t, s)
	for _, want := range records {
		if got := get(t, s, want.Key()); string(got) != string(want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	if list, err := s.Rules(context.Background()); err != nil || len(list) != 1 || string(list[0].AppendTo(nil)) != string(rule.AppendTo(nil)) {
		t.Errorf("rules %+v, %v", list, err)
	}
	if s.LastSeq() != 4 || s.MaxVersion() != 10<<16 {
		t.Errorf("last change %d, max version %s", s.LastSeq(), s.MaxVersion())
	}
	if got := ids(t, s, l3.ScanQuery{Tag: "y", State: "done"}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("scan: %q", got)
	}
	if o := apply(t, s, put("p/late", 1, "x"), put("a", 11<<16, "new")); !o[0].Refused || !o[1].Won {
		t.Errorf("writes: %+v", o)
	}
	if err := s.Verify(context.Background()); err != nil {
		t.Error(err)
	}
}

func writeGoldenFile(t *testing.T, path string, records []item.View, rule item.Rule) {
	t.Helper()
	s := openSQLite(t, path)
	applyWith(t, s, []item.Rule{rule}, records...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(goldenPath)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	_, err = z.Write(b)
	if err := errors.Join(err, z.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

func unzip(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	z, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
