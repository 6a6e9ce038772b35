package config_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/config"
)

// TestTierFaults states for each fault of Redis and SQL its place and what the
// operator is told, and that no password is in it.
func TestTierFaults(t *testing.T) {
	dir := t.TempDir()
	open := writeFile(t, dir, "open", "secret\n", 0o644)
	empty := writeFile(t, dir, "empty", "\n", 0o600)
	f := func(text, place string, parts ...string) {
		t.Helper()
		faults := faultsOf(t, text)
		if len(faults) != 1 || !strings.HasPrefix(faults[0].Error(), "c.toml:"+place) || faults[0].Remedy == "" {
			t.Errorf("%q: got %v, want one fault at %s with a remedy", text, faults, place)
		}
		has(t, faults.Error(), parts...)
		if strings.Contains(faults.Error(), "secret") {
			t.Errorf("%v: shows the password", faults)
		}
	}
	address := func(key, url, want string) {
		t.Helper()
		f("\n"+key+" = \""+url+"\"", "2: "+key, want)
	}
	address("redis_url", "redis://:secret@h", "has a password in it")
	address("redis_url", "redis+sentinel://user:sec:ret@a,b/m", "redis_password_file")
	address("redis_url", "unix://:secret@/run/r.sock", "has a password in it")
	address("redis_url", "localhost:6379", "the scheme is none of redis")
	address("redis_url", "http://h", "the scheme is none of redis")
	address("redis_url", "redis://", "a host is missing")
	address("redis_url", "redis://h:0", "a host is missing or invalid")
	address("redis_url", "redis://a,b", "several hosts need")
	address("redis_url", "redis://h/x", "the database is not a number")
	address("redis_url", "redis://h/0?db=1", "it has a query")
	address("redis_url", "redis+sentinel://h", "the name of the master is missing")
	address("redis_url", "redis+cluster://h/1", "database 0 only")
	address("redis_url", "unix://run/r.sock", "not absolute")
	address("redis_url", "unix:///run/r.sock?x=1", "only db=number")
	address("sql_url", "mysql://u:secret@h/d", "has a password in it")
	address("sql_url", "mysql://u:secret@h:bad/d", "sql_password_file")
	address("sql_url", "postgres://u@h/d", "the scheme is not mysql")
	address("sql_url", "mysql://h/d", "the user is missing")
	address("sql_url", "mysql://u@h", "the database is missing")
	address("sql_url", "mysql://u@/d", "the host is missing")
	address("sql_url", "mysql://u@h:0/d", "the port is not one")
	address("sql_url", "mysql://u@h/d?charset=utf8", "only tls, tls_ca and socket")
	address("sql_url", "mysql://u@h/d?tls=maybe", "tls is none of")
	address("sql_url", "mysql://u@h/d?tls_ca=x", "tls_ca needs tls=true")

	const redis, sql = "redis_url = \"redis://h\"\n", "sql_url = \"mysql://u@h/d\"\n"
	f(sql+"sqlite_path = \"a\"", "1: sql_url", "both sql_url and sqlite_path")
	f("redis_password_file = \"x\"", "1: redis_password_file", "redis_url is not set")
	f("sql_password_file = \"x\"", "1: sql_password_file", "sql_url is not set")
	f(redis+"redis_password_file = \"/nowhere\"", "2: redis_password_file", "cannot be read")
	f(redis+"redis_password_file = \""+open+"\"", "2: redis_password_file", "open to every user", "chmod")
	f(sql+"sql_password_file = \""+empty+"\"", "2: sql_password_file", "does not hold a password")
	f(redis+"redis_sentinel_password_file = \""+writeFile(t, dir, "s", "s", 0o600)+"\"", "2: redis_sentinel_password_file", "no sentinels")
	const entry = "[[l3_table]]\nprefix = \"a/\"\ntable = \"a\"\n"
	f("[[l3_table]]\ntable = \"a\"", "1: l3_table[0].prefix", "missing")
	f("[[l3_table]]\nprefix = \"a/\"", "1: l3_table[0].table", "missing")
	f("[[l3_table]]\nprefix = \"a/\"\ntable = \"A-b\"", "3: l3_table[0].table", "not a name of a table")
	f(entry+"[[l3_table]]\nprefix = \"a/\"\ntable = \"b\"", "5: l3_table[1].prefix", "has a table already")
	f(entry+"[[l3_table]]\nprefix = \"b/\"\ntable = \"a\"", "6: l3_table[1].table", "the table of another prefix")
	f("redis_prefix = \"a{b}\"", "1: redis_prefix", "not a prefix")
	f("redis_prefix = \"\"", "1: redis_prefix", "not a prefix")
	f("redis_eviction_target = 0.8", "1: redis_eviction_target", "not below redis_eviction_start (0.75)")
	f("redis_eviction_start = 0.5", "1: redis_eviction_start", "redis_eviction_target (0.6)")
	f("redis_timeout = \"1ms\"", "1: redis_timeout", "out of range: from 10ms to 1m")
	f("l2_max_ttl = \"1ms\"", "1: l2_max_ttl", "out of range")
	f("sql_batch_timeout = \"1s\"", "1: sql_batch_timeout", "less than sql_timeout (5s)")
	f("sql_write_concurrency = 65", "1: sql_write_concurrency", "out of range")
	f("l3_shared = true", "1: l3_shared", "SQLite is this node's alone")
	f("l3_shared = \"yes\"", "1: l3_shared", "not true or false")

	faults := faultsOf(t, "", "EDGENODE_REDIS_URL=redis://:secret@h")
	if strings.Contains(faults.Error(), "secret") {
		t.Errorf("%v: shows the password", faults)
	}
}

// TestTierValues: addresses that are right, what follows from them, and that the
// passwords are there and nowhere shown.
func TestTierValues(t *testing.T) {
	for _, url := range []string{
		"redis://h", "redis://user@h:6380/3", "rediss://10.0.0.1", "redis://[::1]:6379", "unix:///run/r.sock?db=2",
		"redis+sentinel://a,b:26380/main/1", "redis+cluster://a:7000,b:7000",
	} {
		mustLoad(t, "redis_url = \""+url+"\"")
	}
	for _, url := range []string{
		"mysql://u@h/d", "mariadb://u@10.0.0.1:3307/d", "mysql://u@[::1]/d?tls=skip-verify", "mysql://u@/d?socket=/run/m.sock", "mysql://u@h/d?tls=true&tls_ca=/x",
	} {
		if c := mustLoad(t, "sql_url = \""+url+"\""); !c.L3Shared {
			t.Errorf("%s: L3Shared is false", url)
		}
	}
	dir := t.TempDir()
	writeFile(t, dir, "r", "redis-secret\n", 0o600)
	writeFile(t, dir, "q", "sql-secret\n", 0o600)
	text := "redis_url = \"redis://h\"\nredis_password_file = \"r\"\nsql_url = \"mysql://u@h/d\"\nsql_password_file = \"q\"\nl3_shared = false\n" + site
	c, err := config.Load(config.Source{Path: writeFile(t, dir, "edgenode.toml", text, 0o600)})
	if err != nil {
		t.Fatal(err)
	}
	if c.RedisPassword != "redis-secret" || c.SQLPassword != "sql-secret" || c.L3Shared {
		t.Errorf("got %q, %q, shared %v", c.RedisPassword, c.SQLPassword, c.L3Shared)
	}
	if got := c.Sites[0].Tiers; len(got) != 2 || got[1] != "l2" {
		t.Errorf("tiers of a site with Redis are %v, want l1 and l2", got)
	}
	shown, err := json.Marshal(c.Effective())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "r", "another-secret\n", 0o600)
	next, err := config.Load(config.Source{Path: dir + "/edgenode.toml"})
	if err != nil {
		t.Fatal(err)
	}
	changes, err := json.Marshal(config.Diff(c, next))
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(changes), "redis_password_file", `"reloadable":false`)
	if text := string(shown) + string(changes); strings.Contains(text, "-secret") {
		t.Errorf("a password is shown: %s", text)
	}
	if in := config.InForce(c, next); in.RedisPassword != "redis-secret" {
		t.Errorf("the password in force after a reload is %q", in.RedisPassword)
	}
	names := map[string]bool{}
	for _, p := range next.Budget().Parts {
		before, _, _ := strings.Cut(p.Name, ":")
		names[before] = true
	}
	if !names["redis"] || !names["sql"] {
		t.Errorf("the budget has %v", names)
	}
	if err := os.Remove(dir + "/q"); err != nil {
		t.Fatal(err)
	}
}

// TestInForce holds for each key that what reloads comes from what was read, and
// what does not from the start.
func TestInForce(t *testing.T) {
	started, read := mustLoad(t, ""), mustLoad(t, "log_level = \"debug\"\ndata_dir = \"x\"\nredis_timeout = \"1s\"\nredis_prefix = \"x:\"\n"+
		"l1_max_bytes = \"32MiB\"\n[pressure]\nwarn = 0.5\n[listen.data]\naddress = \":1\"\ndrain_delay = \"1s\"\n")
	in := config.InForce(started, read)
	for _, c := range config.Diff(started, in) {
		if !c.Reloadable {
			t.Errorf("%s changed from %s to %s", c.Key, c.Old, c.New)
		}
	}
	for _, c := range config.Diff(in, read) {
		if c.Reloadable {
			t.Errorf("%s did not change from %s to %s", c.Key, c.Old, c.New)
		}
	}
	if in.LogLevel != "debug" || in.DataDir != started.DataDir || in.Pressure.Warn != 0.5 || in.Listen.Data.Address != ":8080" || in.Listen.Data.DrainDelay != config.Duration(1e9) {
		t.Errorf("in force: %+v", in)
	}
}
