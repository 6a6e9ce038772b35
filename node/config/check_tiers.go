package config

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Where Redis and SQL are is written without passwords: these are in files, so
// that nothing that shows a configuration can show them.

const (
	redisForm = "write redis://host:6379/0, rediss:// for TLS, unix:///run/redis.sock, redis+sentinel://host,host/master or redis+cluster://host,host"
	sqlForm   = "write mysql://user@host:3306/database"
)

// redis checks where L2 is, and how full it may be.
func (k *checker) redis() {
	c := k.c
	if c.RedisURL != "" {
		k.url("redis_url", c.RedisURL, "redis_password_file", redisForm, redisProblem)
	}
	c.RedisPassword = k.password("redis_password_file", &c.RedisPasswordFile, "redis_url", c.RedisURL)
	c.RedisSentinelPassword = k.password("redis_sentinel_password_file", &c.RedisSentinelPasswordFile, "redis_url", c.RedisURL)
	if c.RedisSentinelPasswordFile != "" && c.RedisURL != "" && !strings.Contains(c.RedisURL, "+sentinel://") {
		k.add("redis_sentinel_password_file", "redis_url has no sentinels", "write redis+sentinel:// there, or remove this key")
	}
	if p := c.RedisPrefix; p == "" || len(p) > 128 || strings.ContainsAny(p, "{}") || strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		k.add("redis_prefix", "not a prefix", "write 1 to 128 visible ASCII characters without { and }, as in \"edgenode:\"")
	}
	if c.CDCEnabled && c.RedisURL == "" {
		k.add("cdc_enabled", "there is no redis_url, where the stream would be", "set redis_url, or remove this key")
	}
	if c.RedisEvictionTarget >= c.RedisEvictionStart {
		k.addAt([]string{"redis_eviction_target", "redis_eviction_start"},
			fmt.Sprintf("redis_eviction_target (%v) is not below redis_eviction_start (%v)", c.RedisEvictionTarget, c.RedisEvictionStart),
			"lower redis_eviction_target or raise redis_eviction_start")
	}
}

// sql checks where L3 is.
func (k *checker) sql() {
	c := k.c
	if c.SQLURL != "" {
		k.url("sql_url", c.SQLURL, "sql_password_file", sqlForm, sqlProblem)
	}
	if c.SQLURL != "" && c.SQLitePath != "" {
		k.addAt([]string{"sql_url", "sqlite_path"}, "both sql_url and sqlite_path: items are kept in one place", "remove one of them")
	}
	c.SQLPassword = k.password("sql_password_file", &c.SQLPasswordFile, "sql_url", c.SQLURL)
	if !k.isSet("l3_shared") {
		c.L3Shared = c.SQLURL != ""
	}
	if c.L3Shared && c.SQLURL == "" {
		k.add("l3_shared", "SQLite is this node's alone", "set sql_url, or remove this key")
	}
	if c.SQLBatchTimeout < c.SQLTimeout {
		k.addAt([]string{"sql_batch_timeout", "sql_timeout"}, fmt.Sprintf("sql_batch_timeout (%v) is less than sql_timeout (%v)", c.SQLBatchTimeout, c.SQLTimeout),
			"raise sql_batch_timeout or lower sql_timeout")
	}
}

// url checks the address of a server. No fault of it shows a password.
func (k *checker) url(key, text, file, form string, problem func(string) string) {
	if _, rest, ok := strings.Cut(text, "://"); ok {
		if end := strings.LastIndexByte(rest, '@'); end >= 0 && strings.Contains(rest[:end], ":") {
			k.add(key, "has a password in it, which /config and other users could see", "put the password into a file, closed to others, and name it in "+file)
			return
		}
	}
	if p := problem(text); p != "" {
		k.add(key, "not the address of a server: "+p, form)
	}
}

// password returns what the file of a secret holds.
func (k *checker) password(key string, file *string, urlKey, url string) string {
	if *file == "" {
		return ""
	}
	*file = k.resolve(key, *file)
	if url == "" {
		k.add(key, urlKey+" is not set", "set it, or remove this key")
		return ""
	}
	data, ok := k.read(key, *file, true)
	if !ok {
		return ""
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" || strings.ContainsAny(secret, "\r\n\x00") {
		k.add(key, *file+" does not hold a password", "write it on one line")
		return ""
	}
	return secret
}

// redisProblem says why text is not the address of Redis, or "".
func redisProblem(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	schemes := []string{"redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}
	if !ok || scheme != "unix" && !slices.Contains(schemes, scheme) {
		return "the scheme is none of redis, rediss, unix, redis+sentinel, redis+cluster"
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if scheme == "unix" {
		path, query, _ := strings.Cut(rest, "?")
		values, err := url.ParseQuery(query)
		db, given := values["db"]
		switch {
		case !filepath.IsAbs(path):
			return "the path of the socket is not absolute"
		case err != nil || len(values) > 1 || len(values) == 1 && !given || given && !isDatabase(db[0]):
			return "after the ? only db=number is known"
		}
		return ""
	}
	list, path, _ := strings.Cut(rest, "/")
	hosts := strings.Split(list, ",")
	sentinel, cluster := strings.HasSuffix(scheme, "+sentinel"), strings.HasSuffix(scheme, "+cluster")
	master, db := "", path
	if sentinel {
		master, db, _ = strings.Cut(path, "/")
	}
	switch {
	case strings.ContainsAny(rest, "?#"):
		return "it has a query"
	case slices.ContainsFunc(hosts, func(h string) bool { return !isAuthority(h) }):
		return "a host is missing or invalid"
	case len(hosts) > 1 && !sentinel && !cluster:
		return "several hosts need redis+sentinel:// or redis+cluster://"
	case sentinel && master == "":
		return "the name of the master is missing"
	case cluster && db != "" && db != "0":
		return "a cluster has database 0 only"
	case db != "" && !isDatabase(db):
		return "the database is not a number"
	}
	return ""
}

func isDatabase(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// sqlProblem says why text is not the address of a database, or "".
func sqlProblem(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "it cannot be parsed"
	}
	query, err := url.ParseQuery(u.RawQuery)
	for name, values := range query {
		switch value := values[len(values)-1]; {
		case name == "tls" && !slices.Contains([]string{"true", "false", "skip-verify", "preferred"}, value):
			return "tls is none of true, false, skip-verify, preferred"
		case name == "tls_ca" && query.Get("tls") != "true":
			return "tls_ca needs tls=true"
		case name != "tls" && name != "tls_ca" && name != "socket":
			return "after the ? only tls, tls_ca and socket are known"
		}
	}
	database := strings.TrimPrefix(u.Path, "/")
	port, portErr := strconv.ParseUint(u.Port(), 10, 16)
	switch {
	case u.Scheme != "mysql" && u.Scheme != "mariadb":
		return "the scheme is not mysql or mariadb"
	case err != nil:
		return "what follows the ? is malformed"
	case u.User.Username() == "":
		return "the user is missing"
	case database == "" || strings.Contains(database, "/") || u.Fragment != "":
		return "the database is missing"
	case query.Get("socket") != "" && filepath.IsAbs(query.Get("socket")) && u.Hostname() == "":
		return ""
	case u.Port() != "" && (portErr != nil || port == 0):
		return "the port is not one"
	case net.ParseIP(u.Hostname()) == nil && !isHostName(strings.ToLower(u.Hostname())):
		return "the host is missing or invalid"
	}
	return ""
}

// Limits of [[l3_table]], as package l3 has them.
const (
	maxL3Tables  = 64
	maxL3Table   = 48
	maxL3Prefix  = 512
	l3TableForm  = "write 1 to 48 of a-z 0-9 _, as in \"shop\", or \"\" to take the items back"
	l3PrefixForm = "write 1 to 512 bytes, as in \"shop/\""
)

// l3Tables checks the tables of prefixes.
func (k *checker) l3Tables() {
	prefixes, tables := map[string]bool{}, map[string]bool{}
	for i, t := range k.c.L3Tables {
		path := elemKey("l3_table", i)
		if t.Prefix == "" || len(t.Prefix) > maxL3Prefix {
			k.add(path+".prefix", "missing or not a prefix", l3PrefixForm)
		} else if prefixes[t.Prefix] {
			k.add(path+".prefix", "has a table already", "remove one of the two")
		}
		if !isTable(t.Table) || !k.isSet(path+".table") {
			k.add(path+".table", "missing or not a name of a table", l3TableForm)
		} else if tables[t.Table] && t.Table != "" {
			k.add(path+".table", "is the table of another prefix", "choose another")
		}
		prefixes[t.Prefix], tables[t.Table] = true, true
	}
	if len(k.c.L3Tables) > maxL3Tables {
		k.add(elemKey("l3_table", maxL3Tables), fmt.Sprintf("more than %d tables", maxL3Tables), "remove some")
	}
}

func isTable(name string) bool {
	return len(name) <= maxL3Table && !strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_'
	})
}
