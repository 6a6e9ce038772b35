package l3_test

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/go-sql-driver/mysql"
)

const (
	benchBatch   = 1000
	benchItems   = 50_000 // rows for reads
	benchContent = 1024
)

// benchRecord is the i-th item: a key of some 40 bytes in random order, a
// state, two tags and 1 KiB that does not repeat.
func benchRecord(i int, version item.Version) item.View {
	h := fnv.New64a()
	fmt.Fprint(h, i)
	content := make([]byte, benchContent)
	r := rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16), byte(version)})
	_, _ = r.Read(content) // never fails
	return put(fmt.Sprintf("shop/%016x/item/%08d", h.Sum64(), i), version, string(content),
		state("live"), tags(fmt.Sprint("page-", i/10), fmt.Sprint("kind-", i%50)), mime("application/octet-stream"))
}

// put over: the same keys again, at a newer version and with other content.
func benchBatches(n int, over bool) [][]item.View {
	batches := make([][]item.View, n)
	for b := range batches {
		for i := range benchBatch {
			if over {
				batches[b] = append(batches[b], benchRecord(i, item.Version(b+2)))
			} else {
				batches[b] = append(batches[b], benchRecord(b*benchBatch+i, 1))
			}
		}
	}
	return batches
}

// BenchmarkApply writes batches of 1,000 rows: "store" by Apply, "plain" the
// same rows, tags and changes by prepared statements of database/sql in one
// transaction, without asking who wins. One op is one row.
func BenchmarkApply(b *testing.B) {
	for _, kind := range []string{"new", "over"} {
		b.Run(kind+"/plain", func(b *testing.B) { benchApply(b, kind == "over", newPlain(b)) })
		b.Run(kind+"/store", func(b *testing.B) { benchApply(b, kind == "over", benchStore{newStore(b)}) })
	}
}

// BenchmarkServerApply is BenchmarkApply on a MariaDB server on this machine:
// "plain" inserts rows by prepared statements of 100, as one writes them by
// hand.
func BenchmarkServerApply(b *testing.B) {
	for _, kind := range []string{"new", "over"} {
		b.Run(kind+"/plain", func(b *testing.B) { benchApply(b, kind == "over", newPlainServer(b)) })
		b.Run(kind+"/store", func(b *testing.B) { benchApply(b, kind == "over", benchStore{newMariaDB(b)}) })
	}
}

// plainServer is the plain way: database/sql on the same tables of a server.
type plainServer struct {
	db  *sql.DB
	seq int
}

func newPlainServer(b *testing.B) *plainServer {
	url := database(b)
	openURL(b, url) // for the tables
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr = mariadbtest.User, mariadbtest.Password, "tcp", mariadbtest.Shared(b).Addr()
	c.DBName = url[strings.LastIndexByte(url, '/')+1:]
	connector, err := mysql.NewConnector(c)
	if err != nil {
		b.Fatal(err)
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	b.Cleanup(func() { db.Close() })
	return &plainServer{db: db}
}

func (p *plainServer) apply(b *testing.B, batch []item.View) {
	tx, err := p.db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	insert := func(text, row, tail string, args [][]any) {
		for part := range slices.Chunk(args, 100) {
			if _, err := tx.Exec(text+row+strings.Repeat(","+row, len(part)-1)+tail, slices.Concat(part...)...); err != nil {
				b.Fatal(err)
			}
		}
	}
	var rows, tags, changes [][]any
	for _, v := range batch {
		version, key, head := int64(v.Version()), []byte(v.Key()), []byte(v[:len(v)-len(v.Content())])
		rows = append(rows, []any{key, version, version, version, v.UpdatedAt(), nil, 0, v.State(), head, v.Content()})
		for t := range v.Tags {
			tags = append(tags, []any{t, key})
		}
		p.seq++
		changes = append(changes, []any{p.seq, int64(now), 1, version, key})
	}
	insert(`INSERT INTO edgenode_items (item_key, version, content_version, metadata_version, updated_at, expires_at, is_json, state, head, content) VALUES `,
		"(?,?,?,?,?,?,?,?,?,?)", ` ON DUPLICATE KEY UPDATE version=VALUES(version), content_version=VALUES(content_version),
		metadata_version=VALUES(metadata_version), updated_at=VALUES(updated_at), expires_at=VALUES(expires_at),
		is_json=VALUES(is_json), state=VALUES(state), head=VALUES(head), content=VALUES(content)`, rows)
	insert(`INSERT IGNORE INTO edgenode_tags (tag, item_key) VALUES `, "(?,?)", "", tags)
	insert(`INSERT INTO edgenode_changes (seq, at, op, version, item_key) VALUES `, "(?,?,?,?,?)", "", changes)
	if _, err := tx.Exec(`UPDATE edgenode_meta SET last_seq=?, max_version=?`, p.seq, p.seq); err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkServerGet reads one of 10,000 rows of a MariaDB server: "plain" is a
// prepared statement of database/sql for the same two columns.
func BenchmarkServerGet(b *testing.B) {
	s, p := benchStore{newMariaDB(b)}, newPlainServer(b)
	var keys []item.Key
	for _, batch := range benchBatches(10, false) {
		s.apply(b, batch)
		p.apply(b, batch)
		for _, v := range batch {
			keys = append(keys, v.Key())
		}
	}
	b.Run("plain", func(b *testing.B) {
		st, err := p.db.Prepare(`SELECT head, content FROM edgenode_items WHERE item_key = ?`)
		if err != nil {
			b.Fatal(err)
		}
		defer st.Close()
		var head, content []byte
		defer reportCPU(b, cpuTime(b))
		for i := range b.N {
			if err := st.QueryRow([]byte(keys[i*7919%len(keys)])).Scan(&head, &content); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		var dst []byte
		var err error
		defer reportCPU(b, cpuTime(b))
		for i := range b.N {
			if dst, _, err = s.s.Get(context.Background(), keys[i*7919%len(keys)], dst[:0]); err != nil || len(dst) < benchContent {
				b.Fatal(err)
			}
		}
	})
	b.Run("100 at once", func(b *testing.B) { // one op is one key
		defer reportCPU(b, cpuTime(b))
		for i := 0; i < b.N; i += 100 {
			from := i * 7919 % (len(keys) - 100)
			if err := s.s.GetMany(context.Background(), keys[from:from+100], func(int, item.View) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type applier interface {
	apply(b *testing.B, batch []item.View)
}

func benchApply(b *testing.B, over bool, s applier) {
	batches := benchBatches((b.N+benchBatch-1)/benchBatch, over)
	if over {
		s.apply(b, benchBatches(1, false)[0])
	}
	var times []time.Duration
	cpu := cpuTime(b)
	b.ReportAllocs()
	b.ResetTimer()
	for _, batch := range batches {
		start := time.Now()
		s.apply(b, batch)
		times = append(times, time.Since(start))
	}
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(len(batches)*benchBatch), "cpu-ns/row")
	slices.Sort(times)
	b.ReportMetric(float64(len(batches)*benchBatch)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms/batch")
}

// cpuTime is what the process has used; unlike the clock it hardly depends on
// what else the machine does.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func reportCPU(b *testing.B, start time.Duration) {
	b.ReportMetric(float64((cpuTime(b)-start).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

type benchStore struct{ s *l3.Store }

func (s benchStore) apply(b *testing.B, batch []item.View) { apply(b, s.s, batch...) }

// plain is the plain way: database/sql on the same tables.
type plain struct {
	db  *sql.DB
	seq int
}

func newPlain(b *testing.B) *plain {
	path := filepath.Join(b.TempDir(), "plain.db")
	s, err := l3.Open(context.Background(), options(path)) // for the tables
	if err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(wal)&_pragma=synchronous(2)&_pragma=cache_size(-16384)")
	if err != nil {
		b.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	b.Cleanup(func() { db.Close() })
	return &plain{db: db}
}

func (p *plain) apply(b *testing.B, batch []item.View) {
	tx, err := p.db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	prepare := func(text string) *sql.Stmt {
		st, err := tx.Prepare(text)
		if err != nil {
			b.Fatal(err)
		}
		return st
	}
	row := prepare(`INSERT INTO items (key, version, content_version, metadata_version, updated_at, expires_at, is_json, state, head, content)
		VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT (key) DO UPDATE SET version=excluded.version, content_version=excluded.content_version,
		metadata_version=excluded.metadata_version, updated_at=excluded.updated_at, expires_at=excluded.expires_at,
		is_json=excluded.is_json, state=excluded.state, head=excluded.head, content=excluded.content`)
	tag := prepare(`INSERT OR IGNORE INTO tags (tag, key) VALUES (?,?)`)
	change := prepare(`INSERT INTO changes (seq, at, op, version, key) VALUES (?,?,?,?,?)`)
	for _, v := range batch {
		version, key, head := int64(v.Version()), []byte(v.Key()), []byte(v[:len(v)-len(v.Content())])
		if _, err := row.Exec(key, version, version, version, v.UpdatedAt(), nil, 0, v.State(), head, v.Content()); err != nil {
			b.Fatal(err)
		}
		for t := range v.Tags {
			if _, err := tag.Exec(t, key); err != nil {
				b.Fatal(err)
			}
		}
		p.seq++
		if _, err := change.Exec(p.seq, int64(now), 1, version, key); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := tx.Exec(`UPDATE meta SET last_seq=?, max_version=?`, p.seq, p.seq); err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkGet reads one of 50,000 rows: "plain" is a prepared statement of
// database/sql for the same two columns.
func BenchmarkGet(b *testing.B) {
	s, p := benchStore{newStore(b)}, newPlain(b)
	var keys []item.Key
	for _, batch := range benchBatches(benchItems/benchBatch, false) {
		s.apply(b, batch)
		p.apply(b, batch)
		for _, v := range batch {
			keys = append(keys, v.Key())
		}
	}
	b.Run("plain", func(b *testing.B) {
		st, err := p.db.Prepare(`SELECT head, content FROM items WHERE key = ?`)
		if err != nil {
			b.Fatal(err)
		}
		defer st.Close()
		var head, content []byte
		defer reportCPU(b, cpuTime(b))
		b.ReportAllocs()
		for i := range b.N {
			if err := st.QueryRow([]byte(keys[i*7919%len(keys)])).Scan(&head, &content); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		var dst []byte
		var err error
		defer reportCPU(b, cpuTime(b))
		b.ReportAllocs()
		for i := range b.N {
			if dst, _, err = s.s.Get(context.Background(), keys[i*7919%len(keys)], dst[:0]); err != nil || len(dst) < benchContent {
				b.Fatal(err)
			}
		}
	})
	b.Run("100 at once", func(b *testing.B) { // one op is one key
		defer reportCPU(b, cpuTime(b))
		for i := 0; i < b.N; i += 100 {
			from := i * 7919 % (len(keys) - 100)
			if err := s.s.GetMany(context.Background(), keys[from:from+100], func(int, item.View) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRule stores a rule by key, as an unsafe request makes one, and sweeps
// it, beside 10 and 10,000 rules that are there. One op is one rule.
func BenchmarkRule(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint("beside=", n), func(b *testing.B) {
			s := newStore(b)
			rule := func(i int) item.Rule {
				return item.Rule{Version: item.Version(i + 1), Op: item.OpPurge, Match: item.MatchKey, Namespaces: item.InSites, Values: []string{fmt.Sprint("k", i)}}
			}
			store := func(i int) {
				r := rule(i)
				applyWith(b, s, []item.Rule{r})
				sweep(b, s, r, 1000)
			}
			for i := range n {
				store(i)
			}
			b.ResetTimer()
			for i := range b.N {
				store(n + i)
			}
		})
	}
}
