package crash_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers/tiertest/mariadbtest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// onServer returns the settings of a node on a database of a server.
func onServer(t testing.TB, addr, database string) []string {
	t.Helper()
	return []string{
		fmt.Sprintf("EDGENODE_SQL_URL=mysql://%s@%s/%s", mariadbtest.User, addr, database),
		"EDGENODE_SQL_PASSWORD_FILE=" + writeFile(t, t.TempDir(), "sql.password", mariadbtest.Password+"\n"),
		"EDGENODE_BATCH_FLUSH_MS=5", "EDGENODE_FOLLOW_INTERVAL=50ms",
	}
}

// TestThroughMySQL: two nodes share a server and a Redis; each serves what the
// other has written, and conditions hold across both.
func TestThroughMySQL(t *testing.T) {
	sql, redis := mariadbtest.Start(t, mariadbtest.Options{}), redistest.Start(t, redistest.Options{})
	settings := append(onServer(t, sql.Addr(), sql.Database(t)), "EDGENODE_REDIS_URL="+redis.URL())
	dir := t.TempDir()
	one, two := start(t, dir, settings...), start(t, t.TempDir(), settings...)
	one.awaitHealth(trusted)
	two.awaitHealth(trusted)
	one.must("PUT", "/v1/items/a", "one", written, "Edge-Durability", "l3")
	one.awaitStatus("a", func(s status) bool { return s.L2 && s.L3 })
	two.from("a", "one", "l2")
	one.must("PUT", "/v1/items/b", "first", []int{201}, "If-None-Match", "*")
	two.must("PUT", "/v1/items/b", "second", []int{412}, "If-None-Match", "*")
	two.must("DELETE", "/v1/items/a", "", []int{204}, "Edge-Durability", "l3")
	for begin := time.Now(); one.must("GET", "/v1/items/a", "", []int{200, 404}).status != 404; {
		if time.Since(begin) > patience {
			t.Fatalf("the first node never learns that a was deleted\n%s", one.log())
		}
	}
	text := one.log() + two.log() + one.must("GET", one.admin+"/config", "", ok).body
	if strings.Contains(text, mariadbtest.Password) {
		t.Errorf("the password is shown:\n%s", text)
	}
	one.stop()

	// The directory stays with its server.
	p := launch(t, dir)
	if code := p.end(); code != 1 || !strings.Contains(p.log(), "belongs to the SQL server") || !strings.Contains(p.log(), "l3.json") {
		t.Errorf("with SQLite in its place: exit code %d\n%s", code, p.log())
	}
	two.stop()
}

// TestA13_EverythingDownAtStart: without SQL server and Redis the node serves
// what its journal holds, takes writes, says what is wrong, and goes on by itself
// when they come.
func TestA13_EverythingDownAtStart(t *testing.T) {
	sql, redis := mariadbtest.Start(t, mariadbtest.Options{}), redistest.Start(t, redistest.Options{})
	settings := append(onServer(t, sql.Addr(), sql.Database(t)), "EDGENODE_REDIS_URL="+redis.URL(), "EDGENODE_SQL_TIMEOUT=1s", "EDGENODE_SQL_WAIT_MAX=1s")
	dir := t.TempDir()
	p := start(t, dir, settings...)
	p.must("PUT", "/v1/items/flushed", "in SQL", written, "Edge-Durability", "l3")
	sql.Kill()
	redis.Kill()
	p.must("PUT", "/v1/items/journaled", "not in SQL", written)
	p.kill()

	begin := time.Now()
	p = start(t, dir, settings...)
	if took := time.Since(begin); took > inTime(2*time.Second) {
		t.Errorf("ready after %v, want 2 s", took)
	}
	if a := p.must("GET", "/v1/items/journaled", "", ok); a.body != "not in SQL" {
		t.Errorf("journaled is %q", a.body)
	}
	p.must("GET", "/v1/items/flushed", "", []int{503}) // unknown is not absent
	p.must("PUT", "/v1/items/new", "new", written)
	p.must("PUT", "/v1/items/now", "now", []int{503}, "Edge-Durability", "l3")
	p.awaitHealth(degraded)
	sql.Restart(t)
	redis.Restart()
	p.awaitHealth(func(h *health) bool { return trusted(h) && h.L3.OK && h.Journal.Pending == 0 && h.Verdict == "ok" })
	p.from("flushed", "in SQL", "l3")
	p.awaitStatus("journaled", func(s status) bool { return s.Where == "synced" && s.L3 })
	p.stop()
}

// TestA1_KillNineOfServerAndNode kills and stops the SQL server, and then the
// node, while writers write; the ledger stands.
func TestA1_KillNineOfServerAndNode(t *testing.T) {
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	sql, redis := mariadbtest.Start(t, mariadbtest.Options{}), redistest.Start(t, redistest.Options{})
	settings := append(onServer(t, sql.Addr(), sql.Database(t)), "EDGENODE_REDIS_URL="+redis.URL(), "EDGENODE_L3_SHARED=false", "EDGENODE_SQL_WAIT_MAX=500ms")
	dir, l := t.TempDir(), newLedger()
	for range max(killCycles/12, 2) {
		p := start(t, dir, settings...)
		if err := l.check(p); err != nil {
			t.Fatalf("after a restart: %v\n%s", err, p.log())
		}
		if err := underOutage(p, l, rng, 150, sql.Kill, redis.Kill, func() { sql.Restart(t) }, redis.Restart, p.kill); err != nil {
			t.Fatalf("%v\n%s", err, p.log())
		}
	}
	p := start(t, dir, settings...)
	if err := l.check(p); err != nil {
		t.Fatalf("after the last restart: %v\n%s", err, p.log())
	}
	p.stop()
}
