package l3_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
)

// sqlConn is a connection of a test's own, beside the store's.
type sqlConn struct {
	t    testing.TB
	conn driver.Conn
}

// beside connects to the database of url on the shared server.
func beside(t testing.TB, url string) *sqlConn {
	t.Helper()
	conn, err := mariadbtest.Shared(t).Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &sqlConn{t: t, conn: conn}
	c.exec("USE " + url[strings.LastIndexByte(url, '/')+1:])
	return c
}

func (c *sqlConn) exec(statements ...string) {
	c.t.Helper()
	for _, text := range statements {
		if _, err := c.conn.(driver.ExecerContext).ExecContext(context.Background(), text, nil); err != nil {
			c.t.Fatalf("%.100q: %v", text, err)
		}
	}
}

// rows returns the rows as text, NULL as "-".
func (c *sqlConn) rows(query string) (list [][]string) {
	c.t.Helper()
	rows, err := c.conn.(driver.QueryerContext).QueryContext(context.Background(), query, nil)
	if err != nil {
		c.t.Fatalf("%.100q: %v", query, err)
	}
	row := make([]driver.Value, len(rows.Columns()))
	for err = rows.Next(row); err == nil; err = rows.Next(row) {
		var texts []string
		for _, v := range row {
			switch v := v.(type) {
			case nil:
				texts = append(texts, "-")
			case []byte:
				texts = append(texts, string(v))
			default:
				texts = append(texts, fmt.Sprint(v))
			}
		}
		list = append(list, texts)
	}
	if err := errors.Join(rows.Close()); err != nil {
		c.t.Fatal(err)
	}
	if err != io.EOF {
		c.t.Fatal(err)
	}
	return list
}

// database returns the address of an empty database on the shared server.
func database(t testing.TB) string {
	t.Helper()
	server := mariadbtest.Shared(t)
	return server.URL(server.Database(t))
}

// TestA18_ServerSettingsOfEveryConnection: every connection to a server has its
// session's settings, read back from it.
func TestA18_ServerSettingsOfEveryConnection(t *testing.T) {
	o := urlOptions(database(t))
	o.ReadConns, o.WriteConns = 3, 2
	list, err := openWith(t, o).Settings(context.Background())
	if err != nil || len(list) != 5 {
		t.Fatalf("%d connections, %v", len(list), err)
	}
	for _, c := range list {
		for name, want := range map[string]string{
			"transaction_isolation": "read-committed", "autocommit": "on", "time_zone": "+00:00", "innodb_lock_wait_timeout": "3",
			"character_set_client": "binary", "character_set_connection": "binary", "character_set_results": "binary",
			"sql_mode":              "no_engine_substitution,strict_all_tables,strict_trans_tables",
			"transaction_read_only": map[string]string{"writer": "off", "reader": "on"}[c.Role],
		} {
			if got := c.Values[name]; got != want {
				t.Errorf("%s: %s is %s, want %s", c.Role, name, got, want)
			}
		}
	}
}

// The same, step by step: while a transaction that has taken its numbers has not
// been committed, the next one waits for the counters, whatever it came for, and
// a reader sees neither. It then goes on from what the first has left there, in
// its first try.
func TestNumbersAreCommitOrderHeld(t *testing.T) {
	server := mariadbtest.Shared(t)
	name := server.Database(t)
	proxy := newCutter(t, server.Addr())
	first := openURL(t, server.URLAt(proxy.listen.Addr().String(), name))
	o := urlOptions(server.URL(name))
	o.Metrics = metrics.NewSet()
	second, reader, c := openWith(t, o), openURL(t, server.URL(name)), beside(t, server.URL(name))
	rule := item.Rule{Version: 2, Op: item.OpDelete, Match: item.MatchKey, Namespaces: item.InItems, Values: []string{"none"}}
	applyWith(t, first, []item.Rule{rule}, put("before", 1, "x"))
	apply(t, second, put("before", 2, "x"))
	epoch := func() string { return c.rows("SELECT rules_epoch FROM edgenode_meta")[0][0] }
	f := func(what string, seen uint64, change func() error) {
		t.Helper()
		results := make(chan error, 2)
		proxy.cut.Store(hold)
		go func() { results <- change() }()
		<-proxy.held
		go func() {
			ops := opsOf([]item.View{put(what, 10, "second"), put(what+"+", 10, "second")})
			_, err := second.Apply(context.Background(), ops, nil, make([]l3.Outcome, 2))
			results <- err
		}()
		for c.rows("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0][1] == "0" {
			if len(results) > 0 {
				t.Fatalf("%s: the second did not wait: %v", what, <-results)
			}
		}
		if got := changes(t, reader, seen); got != nil {
			t.Errorf("%s: changes %q are seen before those of the transaction that came first", what, got)
		}
		<-proxy.goOn
		for range 2 {
			if err := <-results; err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	f("a batch", 3, func() error {
		_, err := first.Apply(context.Background(), opsOf([]item.View{put("k", 5, "first")}), nil, make([]l3.Outcome, 1))
		return err
	})
	if got, want := changes(t, reader, 3), []string{"1 k 5", "1 a batch 10", "1 a batch+ 10"}; !slices.Equal(got, want) {
		t.Errorf("changes: got %q, want %q", got, want)
	}
	if retries := o.Metrics.GetOrCreateCounter("edgenode_l3_retries_total").Get(); retries != 0 {
		t.Errorf("the second was made %d times", retries+1)
	}
	before := epoch()
	f("the end of a rule", 6, func() error { _, _, err := first.SweepRule(context.Background(), rule, 10); return err })
	if after := epoch(); after != "2" || before != "1" {
		t.Errorf("epoch of the rules %s, then %s: what the first has counted is lost", before, after)
	}
}

// The numbers of changes are in the order of commits: a reader that has seen a
// number never finds a lower one later, whoever writes.
func TestNumbersAreCommitOrder(t *testing.T) {
	url := database(t)
	const stores, writers, batches = 2, 3, 15
	var group sync.WaitGroup
	for n := range stores {
		s := openURL(t, url)
		for w := range writers {
			group.Go(func() {
				for i := range batches {
					records := []item.View{
						put(fmt.Sprintf("%d/%d/%d", n, w, i), 1, "x"), put(fmt.Sprintf("%d/%d/%d+", n, w, i), 1, "x"),
						put("hot", item.Version(1+i*writers*stores+n*writers+w), "x"),
					}
					if _, err := s.Apply(context.Background(), opsOf(records), nil, make([]l3.Outcome, 3)); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	s, done := openURL(t, url), make(chan struct{})
	go func() { group.Wait(); close(done) }()
	var last uint64
	ids := make(map[string]int)
	read := func() {
		err := s.Changes(context.Background(), last, 1000, func(c l3.Change) error {
			last = c.Seq
			ids[c.Key.ID()]++
			return nil
		})
		if err != nil {
			t.Fatalf("after %d: %v", last, err)
		}
	}
	for running := true; running; read() {
		select {
		case <-done:
			running = false
		default:
		}
	}
	if err := s.Ping(context.Background()); err != nil || s.LastSeq() != last {
		t.Errorf("read up to %d, the last is %d, %v", last, s.LastSeq(), err)
	}
	if len(ids) != stores*writers*batches*2+1 {
		t.Errorf("%d keys have changed, want %d", len(ids), stores*writers*batches*2+1)
	}
}

// meanwhile applies the ops on s, and runs f while the transaction has looked up
// its rows and not yet written.
func meanwhile(t *testing.T, s *l3.Store, record item.View, f func()) (out l3.Outcome, tries int) {
	t.Helper()
	op := l3.Op{Record: record, If: func(item.View) bool {
		if tries++; tries == 1 {
			f()
		}
		return true
	}}
	outs := make([]l3.Outcome, 1)
	if _, err := s.Apply(context.Background(), []l3.Op{op}, nil, outs); err != nil {
		t.Fatal(err)
	}
	return outs[0], tries
}

// A put that began before a rule was stored, and would be committed after it,
// sees the rule.
func TestRuleStoredMeanwhile(t *testing.T) {
	url := database(t)
	s, other := openURL(t, url), openURL(t, url)
	rule := item.Rule{Version: 50, CreatedAt: 1, Op: item.OpDelete, Match: item.MatchAll, Namespaces: item.InItems}
	out, tries := meanwhile(t, s, put("k", 10, "x"), func() {
		applyWith(t, other, []item.Rule{rule})
		sweep(t, other, rule, 100)
	})
	if !out.Refused || live(t, s, "k") != "" {
		t.Errorf("after %d tries: %+v, the row is %q", tries, out, live(t, s, "k"))
	}
	if out, tries := meanwhile(t, s, put("k", 60, "new"), func() { apply(t, other, put("else", 60, "x")) }); !out.Won || tries != 1 {
		t.Errorf("without a rule: %+v after %d tries", out, tries)
	}
}

// The end of a sweep of one's own says nothing of the rules that another node has
// stored since one looked: they are read.
func TestRuleStoredBeforeMySweep(t *testing.T) {
	url := database(t)
	s, other := openURL(t, url), openURL(t, url)
	rule := func(version item.Version, id string) item.Rule {
		return item.Rule{Version: version, CreatedAt: 1, Op: item.OpDelete, Match: item.MatchKey, Namespaces: item.InItems, Values: []string{id}}
	}
	applyWith(t, s, []item.Rule{rule(50, "mine")})
	applyWith(t, other, []item.Rule{rule(100, "k")})
	sweep(t, s, rule(50, "mine"), 100)
	if out := apply(t, s, put("k", 60, "x")); !out[0].Refused {
		t.Errorf("older than the rule of another node: %+v", out[0])
	}
	// Its own are known: swept or not, they refuse what is older.
	if out := apply(t, s, put("mine", 40, "x")); !out[0].Refused {
		t.Errorf("older than a swept rule: %+v", out[0])
	}
	if out := apply(t, s, put("mine", 60, "x")); !out[0].Won {
		t.Errorf("newer than a swept rule: %+v", out[0])
	}
}

// Of a key that was nowhere two nodes make a row and a tombstone at once: the
// newer one is there, alone.
func TestRowAppearsInTheOtherTable(t *testing.T) {
	url := database(t)
	s, other := openURL(t, url), openURL(t, url)
	c := beside(t, url)
	f := func(id string, mine, others item.View, want string) {
		t.Helper()
		out, tries := meanwhile(t, s, mine, func() { apply(t, other, others) })
		if tries < 2 || out.Won != (mine.Version() > others.Version()) {
			t.Errorf("%s: %+v after %d tries", id, out, tries)
		}
		if got := live(t, s, id); got != want {
			t.Errorf("%s: holds %q, want %q", id, got, want)
		}
		both := c.rows("SELECT count(*) FROM edgenode_items JOIN edgenode_tombstones USING (item_key)")
		if both[0][0] != "0" {
			t.Errorf("%s: is in both tables", id)
		}
	}
	f("a", put("a", 1, "x"), tombstone("a", 2), "-")
	f("b", put("b", 2, "x"), tombstone("b", 1), "x")
	f("c", tombstone("c", 1), put("c", 2, "x"), "x")
	f("d", tombstone("d", 2), put("d", 1, "x"), "-")
	f("e", put("e", 1, "old"), put("e", 2, "new"), "new")
	f("f", put("f", 2, "new"), put("f", 1, "old"), "new")
	if out, tries := meanwhile(t, s, metadata("g", 3, state("s")), func() { apply(t, other, put("g", 1, "x")) }); !out.Won || tries != 2 {
		t.Errorf("metadata of a row that appeared: %+v after %d tries", out, tries)
	}
}

// A row that another transaction holds is waited for within a budget; then it is
// an outage, and later the same batch succeeds.
func TestLockedRow(t *testing.T) {
	o := urlOptions(database(t))
	o.RetryFor = 1 // one try, and one more at most
	s := openWith(t, o)
	apply(t, s, put("k", 1, "x"))
	c := beside(t, o.URL)
	c.exec("BEGIN", "SELECT id FROM edgenode_items FOR UPDATE")
	ops := opsOf([]item.View{put("k", 2, "y")})
	if _, err := s.Apply(context.Background(), ops, nil, make([]l3.Outcome, 1)); !errors.Is(err, l3.ErrUnavailable) || !strings.Contains(err.Error(), "tries") {
		t.Errorf("got %v", err)
	}
	c.exec("ROLLBACK")
	if apply(t, s, put("k", 2, "y")); live(t, s, "k") != "y" {
		t.Error("not written when the row was free")
	}
}

// The victim of a deadlock is made again.
func TestDeadlock(t *testing.T) {
	o := urlOptions(database(t))
	s := openWith(t, o)
	apply(t, s, put("a", 1, "x"), put("b", 1, "x"))
	c := beside(t, o.URL)
	c.exec("CREATE TABLE weight (a INT PRIMARY KEY) ENGINE=InnoDB", "BEGIN") // the one that wrote less is the victim
	for i := range 20 {
		c.exec(fmt.Sprintf("INSERT INTO weight VALUES (%d)", i))
	}
	c.exec("SELECT id FROM edgenode_items WHERE item_key='ib' FOR UPDATE")
	done := make(chan error)
	go func() {
		_, err := s.Apply(context.Background(), opsOf([]item.View{put("a", 2, "y"), put("b", 2, "y")}), nil, make([]l3.Outcome, 2))
		done <- err
	}()
	watch := beside(t, o.URL)
	for watch.rows("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0][1] == "0" {
	}
	c.exec("SELECT id FROM edgenode_items WHERE item_key='ia' FOR UPDATE", "COMMIT")
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if live(t, s, "a") != "y" || live(t, s, "b") != "y" {
		t.Error("the batch is not there")
	}
}

// TestA5_ServerSwallowsARow: a server that drops a row without an error is found
// out by reading back: the op has not won, the others have.
func TestA5_ServerSwallowsARow(t *testing.T) {
	url := database(t)
	s := openURL(t, url)
	apply(t, s, put("old", 1, "x"))
	c := beside(t, url)
	c.exec(`CREATE TRIGGER t1 BEFORE INSERT ON edgenode_items FOR EACH ROW
			SET NEW.item_key = IF(NEW.item_key = 'inew2', 'elsewhere', NEW.item_key)`,
		`CREATE TRIGGER t2 BEFORE UPDATE ON edgenode_items FOR EACH ROW
			SET NEW.version = OLD.version, NEW.content_version = OLD.content_version`)
	out := apply(t, s, put("old", 5, "y"), put("new1", 5, "y"), put("new2", 5, "y"), put("new3", 5, "y"))
	for i, want := range []item.Version{1, 5, 0, 5} {
		if out[i].Version != want || out[i].Won != (want == 5) {
			t.Errorf("%d: %+v, want version %s", i, out[i], want)
		}
	}
	c.exec("DROP TRIGGER t1", "DROP TRIGGER t2", "DELETE FROM edgenode_items WHERE item_key='elsewhere'")
	if out := apply(t, s, put("old", 6, "y"), put("new2", 5, "y")); !out[0].Won || !out[1].Won {
		t.Errorf("again: %+v", out)
	}
}

// TestG5_EndAfterACrash: a server that has lost changes which were seen says so by
// Ping; what is written next has their numbers.
func TestG5_EndAfterACrash(t *testing.T) {
	url := database(t)
	s := openURL(t, url)
	apply(t, s, put("a", 1, "x"), put("b", 2, "x"), put("c", 3, "x"))
	beside(t, url).exec("UPDATE edgenode_meta SET last_seq = last_seq - 2", "DELETE FROM edgenode_changes WHERE seq > 1")
	for want := uint64(1); want < 4; want++ {
		if err := s.Ping(context.Background()); err != nil || s.LastSeq() != want {
			t.Errorf("%v: the end is %d, want %d", err, s.LastSeq(), want)
		}
		apply(t, s, put("d", item.Version(10+want), "x"))
	}
	if v := s.MaxVersion(); v != 13 {
		t.Errorf("greatest version %s", v)
	}
}

// TestC13_ColumnsOfAServerRow: after every kind of update each column says what
// the record says. (ON DUPLICATE KEY UPDATE assigns left to right, so a condition
// after an assignment would compare the new value with itself.)
func TestC13_ColumnsOfAServerRow(t *testing.T) {
	url := database(t)
	s := openURL(t, url)
	c := beside(t, url)
	f := func(content string, records ...item.View) {
		t.Helper()
		apply(t, s, records...)
		row := c.rows(`SELECT version, content_version, metadata_version, updated_at, expires_at, is_json, state, head, content FROM edgenode_items`)[0]
		head, err := item.Parse([]byte(row[7]))
		if err != nil {
			t.Fatal(err)
		}
		expires, state := "-", "-"
		if head.ExpiresAt() != 0 {
			expires = fmt.Sprint(head.ExpiresAt())
		}
		if head.State() != "" {
			state = head.State()
		}
		want := []string{
			head.Version().String(), head.ContentVersion().String(), head.MetadataVersion().String(), fmt.Sprint(head.UpdatedAt()),
			expires, fmt.Sprint(int(head.Flags() & item.FlagJSON)), state, row[7], content,
		}
		if !slices.Equal(row, want) {
			t.Errorf("got  %q\nwant %q", row, want)
		}
	}
	f("a", put("k", 10<<16, "a"))
	f(`{"b":1}`, put("k", 20<<16, `{"b":1}`, state("s"), expires(now+1)))
	f(`{"b":1}`, metadata("k", 40<<16, state("later"), tags("t")))
	f("c", put("k", 30<<16, "c", state("lost"))) // its metadata is older
	f("c", put("k", 25<<16, "lost"))
	f("d", put("k", 50<<16, "d"))
	f("e", tombstone("k", 60<<16), put("k", 70<<16, "e"))
}

// Nodes that start together on an empty database make its tables once; half a
// migration is made whole; a newer database is refused.
func TestServerMigration(t *testing.T) {
	url := database(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			s, err := l3.Open(context.Background(), urlOptions(url))
			if err == nil {
				err = errors.Join(s.Ping(context.Background()), s.Close())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	c := beside(t, url)
	c.exec("DROP TABLE edgenode_leases", "DELETE FROM edgenode_schema_info")
	s := openURL(t, url)
	apply(t, s, put("k", 1, "x"))
	if held, err := s.AcquireLease(context.Background(), "a", "b", 1e9); !held || err != nil {
		t.Errorf("%t, %v", held, err)
	}
	c.exec("UPDATE edgenode_schema_info SET version=9") // newer, but it says that we can use it
	openURL(t, url)
	c.exec("UPDATE edgenode_schema_info SET min_binary=9, needs='edgenode 9.1'")
	if _, err := l3.Open(context.Background(), urlOptions(url)); !errors.Is(err, l3.ErrNewer) || !strings.Contains(err.Error(), "edgenode 9.1") {
		t.Errorf("got %v", err)
	}
}

// SQL's JSON functions work on contents; what the server cannot parse is NULL.
func TestServerJSON(t *testing.T) {
	url := database(t)
	s := openURL(t, url)
	deep := strings.Repeat(`[`, 300) + strings.Repeat(`]`, 300)
	apply(t, s, put("1", 1, `{"a": "ä", "n": 5}`), put("2", 1, `{"a": 2`), put("3", 1, "\xff{}"), put("4", 1, deep), put("5", 1, "[\"\xff\"]"),
		put("6", 1, "text"))
	c := beside(t, url)
	c.exec("SET NAMES utf8mb4")
	got := fmt.Sprint(c.rows("SELECT item_key, JSON_VALUE(json, '$.a'), json IS NULL FROM edgenode_items WHERE json IS NOT NULL ORDER BY item_key"))
	if got != "[[i1 ä 0] [i5 - 0]]" {
		t.Errorf("rows that are JSON: %s", got)
	}
	got = fmt.Sprint(c.rows("SELECT item_key FROM edgenode_items WHERE JSON_VALUE(json, '$.n') > 4"))
	if got != "[[i1]]" {
		t.Errorf("by a number: %s", got)
	}
	got = fmt.Sprint(c.rows("SELECT JSON_VALUE(CONVERT(content USING utf8mb4), '$.a') FROM edgenode_items WHERE item_key='i1'"))
	if got != "[[ä]]" {
		t.Errorf("of the content: %s", got)
	}
}

// What cannot be an address of a server is refused, without showing it.
func TestServerURL(t *testing.T) {
	f := func(url, want string) {
		t.Helper()
		s, err := l3.Open(context.Background(), l3.Options{URL: url})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	f("postgres://u:secret@h/db", `begins with "postgres"`)
	f("mysql://u:secret@h:port/db", "malformed")
	f("mysql://:secret@h/db", "no user")
	f("mysql://u:secret@h", "no database")
	f("mysql://u:secret@h/a/b", "no database")
	f("mysql://u:secret@/db", "neither host nor socket")
	f("mysql://u:secret@h/db?tls=maybe", "tls=maybe")
	f("mysql://u:secret@h/db?charset=x", "unknown parameter charset")
	f("mysql://u:secret@h/db?tls_ca=/x", "needs tls=true")
	f("mysql://u:secret@h/db?tls=true&tls_ca=/does/not/exist", "authorities")
	server := mariadbtest.Shared(t)
	name := server.Database(t)
	o := urlOptions("mariadb://" + mariadbtest.User + ":wrong@/" + name + "?socket=" + server.Socket())
	o.Password = mariadbtest.Password
	apply(t, openWith(t, o), put("k", 1, "x"))
	for url, remedy := range map[string]string{
		"mysql://nobody:secret@" + server.Addr() + "/" + name: "correct user",
		server.URL("no_such"): "CREATE DATABASE",
	} {
		s := openURL(t, url) // an outage, which may end
		if err := s.Load(context.Background()); !errors.Is(err, l3.ErrUnavailable) || !strings.Contains(err.Error(), remedy) {
			t.Errorf("got %v, want %q", err, remedy)
		}
	}
}
