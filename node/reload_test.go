package node

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// TestD10_EveryKey changes each key of the configuration by itself while a node
// runs. One that reloads is in force afterwards, where that can be seen from here;
// one that does not is as it was, and the answer says that it needs a restart.
func TestD10_EveryKey(t *testing.T) {
	f := newReloadFixture(t, "")
	for _, k := range config.Keys() {
		if strings.Contains(k.Path, "[]") {
			continue // TestD10_EveryKeyOfTables
		}
		before, inForce := f.observe(k.Path), f.engineOptions()
		r := f.reload(k.Path + " = " + f.another(k) + "\n")
		if r == nil {
			continue
		}
		if !k.Reloads {
			if len(r.Applied) > 0 || !slices.ContainsFunc(r.Restart, func(c config.Change) bool { return c.Key == k.Path }) {
				t.Errorf("%s: applied %v, restart %v, want it among what needs a restart", k.Path, r.Applied, r.Restart)
			}
			if !reflect.DeepEqual(f.engineOptions(), inForce) {
				t.Errorf("%s: it needs a restart, and the engine was told", k.Path)
			}
		} else {
			if !slices.ContainsFunc(r.Applied, func(c config.Change) bool { return c.Key == k.Path }) {
				t.Errorf("%s: applied %v, want it there", k.Path, r.Applied)
			}
			if after := f.observe(k.Path); reflect.DeepEqual(before, after) {
				t.Errorf("%s: after the reload it is still %v", k.Path, after)
			}
		}
		f.reload("")
	}
}

// TestD10_EveryKeyOfTables: a change of any key of a pool, site, hook or token is
// told, and reaches what pools, sites and tokens are made of; that of a table of a
// prefix is told as one that needs a restart.
func TestD10_EveryKeyOfTables(t *testing.T) {
	base, err := loadTables(t, "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range config.Keys() {
		table, name, ok := strings.Cut(k.Path, "[].")
		if !ok {
			continue
		}
		if slices.Contains(tablesAlone, k.Path) {
			continue
		}
		value, known := tableValues[k.Path]
		if !known {
			value = otherThan(k)
		}
		if value == "" {
			t.Errorf("%s: this test has no other value for it", k.Path)
			continue
		}
		next, err := loadTables(t, table, name+" = "+value+"\n")
		if err != nil {
			t.Errorf("%s = %s: %v", k.Path, value, err)
			continue
		}
		changes := config.Diff(base, next)
		if !slices.ContainsFunc(changes, func(c config.Change) bool {
			return c.Reloadable == (table != "l3_table") && strings.HasPrefix(c.Key, table) && (strings.HasSuffix(c.Key, name) || name == "name")
		}) {
			t.Errorf("%s: the changes are %v", k.Path, changes)
		}
		same := map[string]bool{
			"pool":  reflect.DeepEqual(proxyPools(base), proxyPools(next)),
			"site":  reflect.DeepEqual(comparable(base), comparable(next)),
			"token": reflect.DeepEqual(apiTokens(base), apiTokens(next)),

			"l3_table":  reflect.DeepEqual(tableMappings(base), tableMappings(next)),
			"namespace": reflect.DeepEqual(memoryParts(base), memoryParts(next)),
		}
		if table != "hook" && same[table] {
			t.Errorf("%s = %s: the node would be made as before", k.Path, value)
		}
	}
}

// memoryParts are the parts of memory that the engine is given.
func memoryParts(cfg *config.Config) []tiers.Namespace {
	list, _ := namespaces(cfg)
	return list
}

// comparable returns the sites without what cannot be compared: functions, whose
// table is beside them.
func comparable(cfg *config.Config) []any {
	var list []any
	for i, s := range proxySites(cfg) {
		s.DefaultLifetime = nil
		list = append(list, s, cfg.Sites[i].DefaultLifetimes)
	}
	return append(list, memoryParts(cfg))
}

// singleValues are other values for keys for which none can be made up.
var singleValues = map[string]string{
	"hooks_trusted_keys": `["k 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="]`, "hooks_cache_dir": `"cache"`,
	"data_dir": `"elsewhere"`, "node_name": `"n2"`, "sqlite_path": `"other.db"`, "api_hosts": `["api.example"]`,
	"sql_url": `"mysql://u@127.0.0.1:1/d"`, "redis_url": `"redis://127.0.0.1:1/1"`, "redis_prefix": `"other:"`,
	"inflight_max_bytes": `"64MiB"`, "max_payload_bytes": `"1MiB"`, "journal_max_bytes": `"512MiB"`, "redis_eviction_start": "0.9", "redis_eviction_target": "0.5",
	"pressure.warn": "0.5", "pressure.throttle": "0.75", "pressure.critical": "0.85", "pressure.emergency": "0.92", "pressure.shutdown": "0.99",
	"sql_timeout": `"1s"`, "sql_batch_timeout": `"1m"`, "tombstone_retention": `"48h"`, "access_log.path": `"access.log"`, "access_log.sample": "0.5",
	"listen.data.address": `"127.0.0.2:0"`, "listen.admin.address": `"127.0.0.2:0"`, "redis_timeout": `"1s"`,
	"replica.from":                `"http://127.0.0.1:1"`,
	"listen.data.trusted_proxies": `["10.0.0.0/8"]`, "listen.admin.trusted_proxies": `["10.0.0.0/8"]`, "max_lifetime": `"20d"`,
	"listen.data.max_connections": "2000", "listen.admin.max_connections": "200", "listen.data.max_connections_per_address": "7", "listen.admin.max_connections_per_address": "7",
}

// needsMore are keys that stand only together with others; their tests are in
// package config.
var needsMore = []string{
	"sql_password_file", "redis_password_file", "redis_sentinel_password_file", "l3_shared", "cdc_enabled", "require_signed",
	"listen.data.proxy_protocol", "listen.admin.proxy_protocol",
	"replica.prefixes", "replica.token_file", "replica.tls.server_name", "replica.tls.ca", "replica.tls.cert", "replica.tls.key",
	"listen.data.tls.cert", "listen.data.tls.key", "listen.data.tls.client_ca", "listen.admin.tls.cert", "listen.admin.tls.key", "listen.admin.tls.client_ca",
}

// otherThan makes up a value of k that is not its default, "" if it cannot.
func otherThan(k config.Key) string {
	for _, w := range k.OneOf {
		if strconv.Quote(w) != k.Default {
			return strconv.Quote(w)
		}
	}
	switch low, high, _ := strings.Cut(k.Range, ".."); {
	case k.Default == "true":
		return "false"
	case k.Default == "false":
		return "true"
	case low == "":
		return ""
	case strings.HasPrefix(k.Default, `"`) && strconv.Quote(low) != k.Default:
		return strconv.Quote(low)
	case strings.HasPrefix(k.Default, `"`):
		return strconv.Quote(high)
	case low != k.Default:
		return low
	default:
		return high
	}
}

// A reloadFixture is a node whose file is written anew for each reload.
type reloadFixture struct {
	t    *testing.T
	n    *Node
	file string
	base string
}

func newReloadFixture(t *testing.T, line string) *reloadFixture {
	t.Helper()
	dir := t.TempDir()
	f := &reloadFixture{t: t, file: filepath.Join(dir, "edgenode.toml")}
	f.base = fmt.Sprintf("data_dir = %q\nlisten.data.address = \"127.0.0.1:0\"\nlisten.admin.address = \"127.0.0.1:0\"\n", filepath.Join(dir, "data"))
	f.write(line)
	load := func() (*config.Config, error) { return config.Load(config.Source{Path: f.file}) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	level := new(slog.LevelVar)
	n, err := Open(t.Context(), Options{Config: cfg, Load: load, Level: level, Out: io.Discard, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	f.n = n
	return f
}

// write writes the file with a line more; keys of it replace those of the base.
func (f *reloadFixture) write(line string) {
	key, _, _ := strings.Cut(line, " =")
	text := ""
	for l := range strings.Lines(f.base) {
		if !strings.HasPrefix(l, key+" =") {
			text += l
		}
	}
	if err := os.WriteFile(f.file, []byte(text+line), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// reload reloads with a line more, "" for none. It returns nil for keys that
// cannot stand alone.
func (f *reloadFixture) reload(line string) *ReloadResult {
	f.t.Helper()
	if key, _, _ := strings.Cut(line, " ="); slices.Contains(needsMore, key) {
		return nil
	}
	f.write(line)
	r := f.n.Reload(f.t.Context())
	if !r.OK {
		f.t.Errorf("reload with %q: %s %v", line, r.Error, r.Faults)
		return nil
	}
	return r
}

func (f *reloadFixture) another(k config.Key) string {
	if v, ok := singleValues[k.Path]; ok {
		return v
	}
	v := otherThan(k)
	if v == "" && !slices.Contains(needsMore, k.Path) {
		f.t.Errorf("%s: this test has no other value for it", k.Path)
	}
	return v
}

// engineOptions are what the engine was given last.
func (f *reloadFixture) engineOptions() tiers.Options {
	o := f.n.engineOptions(config.InForce(f.n.o.Config, f.n.last.Load()))
	o.Now, o.Logger, o.FormatEvent, o.NamespaceOf = nil, nil, nil, nil // which are no configuration
	return o
}

// observe looks at what a key that reloads decides.
func (f *reloadFixture) observe(key string) any {
	f.t.Helper()
	n, last := f.n, f.n.last.Load()
	switch key {
	case "log_level":
		return n.o.Level.Level()
	case "api_hosts":
		return n.table.Load().API([]byte("other.example"))
	case "durability":
		k, err := item.IDKey("probe")
		if err != nil {
			f.t.Fatal(err)
		}
		r, err := n.engine.Submit(f.t.Context(), &tiers.Write{Key: k})
		if err != nil {
			f.t.Fatal(err)
		}
		return r.Persisted
	case "l1_max_bytes":
		return n.engine.Health(f.t.Context()).L1Max
	case "pressure.warn", "pressure.throttle", "pressure.critical", "pressure.emergency", "pressure.shutdown":
		return n.engine.Thresholds()
	case "hooks_unsigned_upload":
		return last.HooksUnsignedUpload
	case "access_log.path":
		return n.access.On()
	case "access_log.sample":
		return last.AccessLog.Sample
	}
	if strings.HasPrefix(key, "listen.") {
		l := last.Listen
		return []any{l.Data.TrustedProxies, l.Data.DrainDelay, l.Data.ShutdownTimeout, l.Admin.TrustedProxies, l.Admin.DrainDelay, l.Admin.ShutdownTimeout}
	}
	return f.engineOptions()
}

// tableValues are other values for keys of tables for which none can be made up.
var tableValues = map[string]string{
	"namespace[].prefix": `"de/"`, "namespace[].l1_max_bytes": `"2MiB"`, "site[].l1_max_bytes": `"8MiB"`,
	"l3_table[].prefix": `"news/"`, "l3_table[].table": `"news"`,
	"pool[].name": `"other"`, "pool[].origins": `["https://10.0.0.9"]`, "pool[].host": `"origin"`, "pool[].health.path": `"/h"`, "pool[].health.host": `"h.example"`,
	"pool[].health.status": "[204]", "pool[].health.interval": `"10s"`, "pool[].tls.server_name": `"s.example"`, "pool[].rest_max": `"2m"`,
	"site[].name": `"other"`, "site[].hosts": `["shop.example", "a.example", "b.example"]`, "site[].path_prefix": `"/p"`, "site[].pool": `"tested"`, "site[].tiers": `["l1", "l3"]`,
	"site[].targeted_fields": `["X-CC"]`, "site[].default_lifetimes": `{ "200" = "1m" }`, "site[].ignore_query": `["a"]`, "site[].key_fields": `["X-A"]`,
	"site[].key_cookies": `["c"]`, "site[].methods": `["GET"]`, "site[].honour_request_directives": `["no-cache"]`, "site[].allow_override": `["no-cache"]`,
	"site[].error_pages": `{ "404" = "page.html" }`, "site[].headers.request.set": `{ X-A = "1" }`, "site[].headers.request.add": `{ X-A = "1" }`,
	"site[].headers.request.remove": `["X-A"]`, "site[].headers.response.set": `{ X-A = "1" }`, "site[].headers.response.add": `{ X-A = "1" }`,
	"site[].headers.response.remove": `["X-A"]`, "site[].redirect_hosts": `{ "a.example" = "shop.example" }`, "site[].allow": `["10.0.0.0/8"]`, "site[].deny": `["10.0.0.0/8"]`,
	"site[].rate": "20", "site[].rate_burst": "30", "site[].purge_acl": `["127.0.0.1"]`, "site[].upgrades": `["websocket"]`,
	"hook[].name": `"other"`, "hook[].module": `"other.wasm"`, "hook[].hooks": `["ttl"]`, "hook[].match.sites": `["shop"]`, "hook[].match.path_prefix": `"/p"`,
	"hook[].config": `{ a = 1 }`, "hook[].pools": `["main"]`, "hook[].grant": `["log"]`,
	"token[].name": `"other"`, "token[].sha256": `"00000000884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"`, "token[].scopes": `["write"]`, "token[].namespace": `"uk/"`,
}

// tablesAlone are keys of tables that name files.
var tablesAlone = []string{"pool[].tls.ca", "pool[].tls.cert", "pool[].tls.key", "token[].file"}

// tables are one of each, and a pool that the site does not need.
var tables = []struct{ name, text string }{
	{"pool", "name = \"tested\"\norigins = [\"https://10.0.0.5\"]\n"},
	{"", "[[pool]]\nname = \"main\"\norigins = [\"http://10.0.0.6\"]\n"},
	{"site", "name = \"shop\"\nhosts = [\"shop.example\", \"a.example\"]\npool = \"main\"\nrate = 10\n"},
	{"namespace", "prefix = \"uk/\"\nl1_max_bytes = \"1MiB\"\n"},
	{"l3_table", "prefix = \"shop/\"\ntable = \"shop\"\n"},
	{"hook", "name = \"h\"\nmodule = \"m.wasm\"\nhooks = [\"route\"]\n"},
	{"token", "name = \"t\"\nsha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\nscopes = [\"read\"]\n"},
}

// loadTables loads the tables with a line in one of them, which takes the place of
// the one with its key.
func loadTables(t *testing.T, table, line string) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "page.html"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, _, _ := strings.Cut(line, " =")
	text := ""
	for _, tab := range tables {
		if tab.name != "" {
			text += "[[" + tab.name + "]]\n"
		}
		for l := range strings.Lines(tab.text) {
			if tab.name != table || !strings.HasPrefix(l, key+" =") {
				text += l
			}
		}
		if tab.name == table && table != "" {
			text += line
		}
	}
	return config.Load(config.Source{Path: filepath.Join(dir, "c.toml"), Data: []byte(text)})
}
