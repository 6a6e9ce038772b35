package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/config"
)

// TestFaults states for each fault its place and what the operator is told.
func TestFaults(t *testing.T) {
	f := func(text, place string, parts ...string) {
		t.Helper()
		faults := faultsOf(t, text)
		if len(faults) != 1 {
			t.Errorf("%d faults, want 1:\n%v", len(faults), faults)
		}
		if got := faults[0].Error(); !strings.HasPrefix(got, "c.toml:"+place+" ") && !strings.HasPrefix(got, "c.toml:"+place+":") {
			t.Errorf("got %q, want it at c.toml:%s", got, place)
		}
		has(t, faults[0].Error(), parts...)
		if faults[0].Remedy == "" {
			t.Errorf("%v: no remedy", faults[0])
		}
	}

	// The document and its keys.
	f("a = ", "1", "not TOML")
	f("\n\nnode_name = \"a\"\nnode_name = \"b\"", "4", "node_name", "not TOML", "already been defined")
	f("\n# x\ndata_dirr = \"a\"", "3: data_dirr", "unknown key", `did you mean "data_dir"?`)
	f("address = \":1\"", "1: address", "unknown key here", "it is known as listen.data.address")
	f("[completely]\nother = 1", "1: completely", "unknown key", "remove it")
	f("[listen.dato]\naddress = \":1\"", "1: listen.dato", `did you mean "data"?`)
	f("listen = 3", "1: listen", "not a table")
	f("pool = 3", "1: pool", "not an array of tables", "[[pool]]")
	f("pool = [3]", "1: pool[0]", "not a table")

	// Keys of features that this version does not have.
	f("access_flush = \"1m\"", "1: access_flush: not in this version", "access figures", "remove the key")
	f("cdc_enabled = true", "1: cdc_enabled", "no redis_url", "set redis_url")
	f("[[peer]]\nurl = \"x\"", "1: peer", "not in this version")
	f("[listen.data]\nproxy_protocol = \"v1v2\"", "2: listen.data.proxy_protocol", "no trusted_proxies")
	f("[listen.data]\nproxy_protocol = \"on\"", "2: listen.data.proxy_protocol", "not one of off, v1v2")
	f(site+"allow = [\"10.0.0.0/33\"]", "9: site[0].allow[0]", "not a network")
	f(site+"upgrades = [\"h2c\"]", "9: site[0].upgrades[0]", "never passed through")
	f(site+"upgrades = [\"websockets\"]", "9: site[0].upgrades[0]", "did you mean \"websocket\"?")
	f(site+"rate_burst = 3", "9: site[0].rate_burst", "there is no limit")
	f(site+"redirect_hosts = { \"elsewhere.example\" = \"shop.example\" }", "9: site[0].redirect_hosts.\"elsewhere.example\"", "no host of this site")
	f(site+"redirect_hosts = { \"shop.example\" = \"http://a\" }", "9: site[0].redirect_hosts.\"shop.example\"", "not a host to be sent to")
	f(site+"redirect_hosts = { \"shop.example\" = \"shop.example:8443\" }", "9: site[0].redirect_hosts", "which is sent on")
	f(site+"redirect_hosts = { \"shop.example\" = \"shop.example\" }", "9: site[0].redirect_hosts", "which is sent on")
	f(site+"error_pages = { \"200\" = \"a.html\" }", "9: site[0].error_pages.200", "not a status of errors")
	f(site+"error_pages = { \"404\" = \"a.exe\" }", "9: site[0].error_pages.404", "does not tell what it is")
	f(site+"error_pages = { \"404\" = \"nowhere.html\" }", "9: site[0].error_pages.404", "cannot be read")
	f(site+"headers.request.set = { Via = \"x\" }", "9: site[0].headers.request.set.Via", "cannot be set")
	f(site+"headers.response.set = { X-A = \"a\\nb\" }", "9: site[0].headers.response.set.X-A", "cannot be set")
	f(site+"headers.response = { set = { X-A = \"1\" }, remove = [\"x-a\"] }", "9: site[0].headers.response.remove[0]", "changed twice")
	f(site+"chunk_bytes = 1", "9: site[0].chunk_bytes", "out of range: from 64KiB to 64MiB")
	f(site+"chunk_bytes = \"64MiB\"", "9: site[0].chunk_bytes", "more than max_payload_bytes")
	f(site+"tiers = [\"l1\", \"l2\"]", "9: site[0].tiers[1]", "no Redis", "set redis_url")

	// Kinds, units, ranges.
	f("node_name = 3", "1: node_name = 3", "not a string", "quotes")
	f("l1_max_bytes = \"256MB\"", "1: l1_max_bytes = \"256MB\"", "not a size", `write "256MiB"`)
	f("sqlite_wal_max = 67108864", "1: sqlite_wal_max = 67108864", "no unit")
	f("l1_max_bytes = -1", "1: l1_max_bytes = -1", "out of range: from 16MiB to 16TiB")
	f("max_lifetime = 30", "1: max_lifetime = 30", "no unit", `"100ms"`)
	f("max_lifetime = \"soon\"", "1: max_lifetime = \"soon\"", "not a duration", "write a number with a unit")
	f("clock_skew_max = \"2h\"", "1: clock_skew_max = \"2h\"", "out of range: from 1s to 1h")
	f("batch_flush_ms = \"100ms\"", "1: batch_flush_ms = \"100ms\"", "write 100")
	f("batch_flush_ms = 9223372036854775807", "1: batch_flush_ms", "out of range")
	f("batch_flush_count = 0", "1: batch_flush_count = 0", "out of range: from 1 to 100000")
	f("batch_flush_count = 1.5", "1: batch_flush_count = 1.5", "not a whole number")
	f("durability = \"disk\"", "1: durability = \"disk\"", "not one of memory, journal, sync, l3")
	f("[pressure]\nwarn = \"a\"", "2: pressure.warn = \"a\"", "not a number")
	f("[pressure]\nwarn = nan", "2: pressure.warn", "not a number")
	f("api_hosts = \"x\"", "1: api_hosts = \"x\"", "not a list")
	f("api_hosts = [\n\"x\",\n3,\n]", "3: api_hosts[1]", "not a string")
	f(site+"stale_on_5xx = \"yes\"", "9: site[0].stale_on_5xx", "not true or false")
	f(site+"default_lifetimes = { \"200\" = \"5x\" }", "9: site[0].default_lifetimes.200 = \"5x\"", "not a duration")
	f(site+"default_lifetimes = { \"1xx\" = \"5s\" }", "9: site[0].default_lifetimes.1xx", "not a status")
	f(site+"default_lifetimes = { 200 = \"31d\" }", "9: site[0].default_lifetimes.200", "more than max_lifetime (30d)")
	f(site+"default_lifetimes = 3", "9: site[0].default_lifetimes", "not a table")

	// Contradictions.
	f("data_dir = \"\"", "1: data_dir", "empty")
	f("[pressure]\ncritical = 0.8", "2: pressure.critical = 0.8", "not above pressure.throttle")
	f("[pressure]\nwarn = 0.85", "2: pressure.warn = 0.85", "pressure.throttle (0.8) is not above pressure.warn (0.85)")
	f("max_payload_bytes = \"512MiB\"\njournal_max_bytes = \"4GiB\"", "1: max_payload_bytes", "inflight_max_bytes")
	f("tombstone_retention = \"1m\"", "1: tombstone_retention", "clock_skew_max (1m) is not below tombstone_retention (1m)")
	f("[listen.data]\nmax_connections_per_address = 11\nmax_connections = 10", "2: listen.data.max_connections_per_address", "more than max_connections (10)")
	f(site+"l1_max_bytes = \"1GiB\"", "9: site[0].l1_max_bytes", "more than l1_max_bytes of the node (256MiB)")
	f(site+"l1_max_bytes = \"1KiB\"", "9: site[0].l1_max_bytes", "less than 1MiB")
	f(site+"max_object_bytes = \"4MiB\"\nl1_max_bytes = \"8MiB\"", "9: site[0].max_object_bytes", "a quarter of the site's l1_max_bytes (8MiB)")
	f(site+"chunk_bytes = \"2MiB\"\nl1_max_bytes = \"8MiB\"", "9: site[0].chunk_bytes", "an eighth of the site's l1_max_bytes (8MiB)")
	f(site+"weight = 0.0", "9: site[0].weight", "out of range: from 0.01 to 100")
	f("[[namespace]]\nweight = 2.0", "1: namespace[0].prefix", "missing")
	f("[[namespace]]\nprefix = \"uk\"", "2: namespace[0].prefix", "ukraine")
	f("[[namespace]]\nprefix = \"uk/\"\n[[namespace]]\nprefix = \"uk/\"", "4: namespace[1].prefix", "the prefix of namespace[0] too (line 2)")
	f("[[namespace]]\nprefix = \"uk/\"\nl1_max_bytes = \"1GiB\"", "3: namespace[0].l1_max_bytes", "more than l1_max_bytes of the node")
	f(site+"max_object_bytes = \"1GiB\"", "9: site[0].max_object_bytes", "more than a quarter of l1_max_bytes (256MiB)")

	// Pools.
	const pool = "[[pool]]\nname = \"p\"\norigins = [\"http://a\"]\n"
	f(pool+"rest = \"2m\"", "4: pool[0].rest = \"2m\"", "longer than rest_max (1m)")
	f(pool+"retry_percent = 101", "4: pool[0].retry_percent = 101", "from 0 to 100")
	f(pool+"health = { path = \"healthz\" }", "4: pool[0].health.path", "not a path")
	f(pool+"health = { path = \"/\", status = [99] }", "4: pool[0].health.status[0] = 99", "from 200 to 599")
	f(pool+"health = { path = \"/\", status = [] }", "4: pool[0].health.status", "no origin would ever be well")
	f(pool+"health = { path = \"/\", status = \"200\" }", "4: pool[0].health.status", "not a list of numbers")
	f(pool+"health = { timeout = \"6s\" }", "4: pool[0].health.timeout", "longer than interval (5s)")
	f(pool+"tls = { server_name = \"a\" }", "4: pool[0].tls", "no origin of this pool is https")
	const secure = "[[pool]]\nname = \"p\"\norigins = [\"https://a\"]\n"
	f(secure+"tls = { ca = \"nowhere.pem\" }", "4: pool[0].tls.ca", "cannot be read")
	f(secure+"tls = { cert = \"a.pem\" }", "4: pool[0].tls.cert", "without the other")
	f(secure+"tls = { server_name = \"a b\" }", "4: pool[0].tls.server_name", "not a host name")

	// Listeners.
	f("[listen.data]\naddress = \"8080\"", "2: listen.data.address", "not an address")
	f("[listen.data]\naddress = \"http://x:80\"", "2: listen.data.address", "not an address")
	f("[listen.data]\naddress = \"x:99999\"", "2: listen.data.address", "not an address")
	f("[listen.data]\naddress = \"127.0.0.1:8081\"", "2: listen.data.address", "both listeners")
	f("[listen.data]\ntrusted_proxies = [\"10.0.0.0/33\"]", "2: listen.data.trusted_proxies[0]", "not a network")
	f("[listen.admin]\naddress = \":8081\"", "2: listen.admin.address", "reachable from other machines", "scope admin")
	f("[listen.data]\ntls = { cert = \"c.pem\" }", "2: listen.data.tls.cert", "cert without key")
	f("[listen.data]\ntls.client_ca = \"c.pem\"", "2: listen.data.tls.client_ca", "without cert")

	// Pools.
	f("[[pool]]\norigins = [\"http://a\"]", "1: pool[0].name", "missing")
	f("[[pool]]\nname = \"Shop\"\norigins = [\"http://a\"]", "2: pool[0].name = \"Shop\"", "not a name")
	f("[[pool]]\nname = \"a\"", "1: pool[0].origins", "no origins")
	f("[[pool]]\nname = \"a\"\norigins = [\"http://x\"]\n[[pool]]\nname = \"a\"\norigins = [\"http://y\"]",
		"5: pool[1].name", "the name of pool[0] too (line 2)")
	origin := func(o, want string) {
		t.Helper()
		f("[[pool]]\nname = \"a\"\norigins = [\n\"http://ok\",\n\""+o+"\"]", "5: pool[0].origins[1]", want)
	}
	origin("10.0.0.5:8000", "cannot be parsed")
	origin("ftp://x", "scheme")
	origin("http://", "host")
	origin("http://a:0", "host")
	origin("http://a:99999", "host")
	origin("http://a_b!c", "host")
	origin("http://a/path", "path")
	origin("http://a?q", "query")
	origin("http://ok", "stands twice")
	origin("http://user:secret@x", "names a user")

	// Sites.
	f(site+"[[site]]\nname = \"b\"\nhosts = [\"shop.example\"]\npool = \"shop\"", "11: site[1].hosts[0]",
		`shop.example/ is claimed by site "shop" too (line 7)`)
	f(site+"[[site]]\nname = \"b\"\nhosts = [\"b\"]\npool = \"shopp\"", "12: site[1].pool = \"shopp\"", `did you mean "shop"?`)
	f(site+"[[site]]\nname = \"b\"\nhosts = [\"b\"]", "9: site[1].pool", "no pool")
	f(site+"[[site]]\nname = \"b\"\npool = \"shop\"", "9: site[1].hosts", "no hosts")
	f(site+"path_prefix = \"a\"", "9: site[0].path_prefix", "not a path prefix")
	f(site+"ignore_query = [\"a*b\"]", "9: site[0].ignore_query[0]", "not a parameter")
	f(site+"targeted_fields = [\"a b\"]", "9: site[0].targeted_fields[0]", "not a field name")
	f(site+"honour_request_directives = [\"nocache\"]", "9: site[0].honour_request_directives[0]", `did you mean "no-cache"?`)
	f(site+"allow_override = [\"private\"]", "9: site[0].allow_override[0]", "allowed are no-cache, no-store, s-maxage")
	f(site+"tiers = [\"l1\", \"l1\"]", "9: site[0].tiers[1]", "stands twice")
	f(site+"tiers = []", "9: site[0].tiers", "no tiers")
	f("api_hosts = [\"a b\"]", "1: api_hosts[0]", "not a host pattern")
	f("api_hosts = [\"x:80\"]", "1: api_hosts[0]", "not a host pattern")
	f("api_hosts = [\"shop.example\"]\n"+site, "1: api_hosts[0]", `claimed by site "shop"`)

	// Hooks.
	const hook = "[[hook]]\nname = \"geo\"\nmodule = \"geo.wasm\"\n"
	f(hook, "1: hook[0].hooks", "no hooks")
	f(hook+"hooks = [\"rout\"]", "4: hook[0].hooks[0] = \"rout\"", `did you mean "route"?`)
	f(hook+"hooks = [\"evict\"]\non_fault = \"deny\"", "5: hook[0].on_fault", "built-in policy")
	f(hook+"hooks = [\"route\"]\nmatch.sites = [\"x\"]", "5: hook[0].match.sites[0]", `unknown site "x"`)
	f(hook+"hooks = [\"route\"]\npools = [\"x\"]", "5: hook[0].pools[0]", `unknown pool "x"`)
	f(hook+"hooks = [\"route\"]\ngrant = [\"disk\"]", "5: hook[0].grant[0]", "allowed are log")
	f(hook+"hooks = [\"route\"]\nfuel.route = 1", "5: hook[0].fuel.route", "out of range")
	f(hook+"hooks = [\"route\"]\nmemory = \"1KiB\"", "5: hook[0].memory", "one page")
	f(hook+"hooks = [\"route\"]\nconfig = { x = inf }", "5: hook[0].config", "JSON")
	f("[[hook]]\nname = \"geo\"\nhooks = [\"route\"]", "1: hook[0].module", "no module")
	f("[[hook]]\nname = \"abort\"\nmodule = \"m.wasm\"\nhooks = [\"route\"]", "2: hook[0].name", "another name")

	// Tokens.
	const token = "[[token]]\nname = \"ci\"\n"
	const sum = "sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n"
	f(token+"scopes = [\"read\"]", "1: token[0]", "neither sha256 nor file")
	f(token+sum, "1: token[0].scopes", "no scopes")
	f(token+sum+"scopes = [\"root\"]", "4: token[0].scopes[0]", "allowed are read, write, purge, admin")
	f(token+sum+"scopes = [\"read\"]\nfile = \"x\"", "5: token[0].file", "both sha256 and file")
	f(token+sum+"scopes = [\"read\"]\nnamespace = \"uk\"", "5: token[0].namespace = \"uk\"", "separator")
	f(token+sum+"scopes = [\"admin\"]\nnamespace = \"uk/\"", "5: token[0].namespace", "admin sees the whole node")
	f(token+"sha256 = \"abc\"\nscopes = [\"read\"]", "3: token[0].sha256", "not a SHA-256")
	f(token+sum+"scopes = [\"read\"]\n[[token]]\nname = \"b\"\n"+sum+"scopes = [\"read\"]", "5: token[1]", "the same token as token[0]")
}

func TestAllFaultsAtOnce(t *testing.T) {
	faults := faultsOf(t, `
nodename = "a"
l1_max_bytes = "lots"
[listen.data]
idle_timeout = 3
[[site]]
name = "a"
hosts = ["a.example"]
pool = "nowhere"
`, "EDGENODE_LOG_LEVEL=loud")
	var got []string
	for _, f := range faults {
		got = append(got, strings.SplitN(f.Error(), " ", 3)[0]+" "+f.Key)
	}
	want := "c.toml:2: nodename|c.toml:3: l1_max_bytes|c.toml:5: listen.data.idle_timeout|c.toml:9: site[0].pool|environment: EDGENODE_LOG_LEVEL"
	if g := strings.Join(got, "|"); g != want {
		t.Errorf("faults\n%v\nwant\n%v", g, want)
	}
}

// TestFaultsHideSecrets holds that no secret reaches a log through a fault.
func TestFaultsHideSecrets(t *testing.T) {
	f := func(text string) {
		t.Helper()
		if got := faultsOf(t, text).Error(); strings.Contains(got, "hunter2") {
			t.Errorf("fault shows the secret: %s", got)
		}
	}
	f("redis_url = \"redis://:hunter2@h\"")
	f("secret = \"hunter2\"")
	f("token = \"hunter2\"")
	f("[[token]]\nname = \"a\"\nscopes = [\"read\"]\ntoken = \"hunter2\"")
	f("[[token]]\nname = \"a\"\nscopes = [\"read\"]\nsha256 = \"hunter2\"")
	f("[[pool]]\nname = \"a\"\norigins = [\"http://u:hunter2@x\"]")
	f("[[pool]]\nname = \"a\"\norigins = [\"http://u:hunter2@x:y\"]")
}

func TestSecretFiles(t *testing.T) {
	dir := t.TempDir()
	f := func(name, content string, mode os.FileMode, want string) {
		t.Helper()
		path := name
		if content != "" {
			path = writeFile(t, dir, name, content, mode)
		}
		faults := faultsOf(t, "[[token]]\nname = \"a\"\nscopes = [\"read\"]\nfile = \""+path+"\"")
		if len(faults) != 1 || faults[0].Line != 4 {
			t.Errorf("%s: %v, want one fault on line 4", name, faults)
		}
		has(t, faults.Error(), want)
	}
	f("/does/not/exist", "", 0, "cannot be read: no such file")
	f(dir, "", 0, "not a small plain file")
	f("open", "0123456789abcdef", 0o644, "is open to every user (mode 0644); run: chmod o-rwx")
	f("short", "0123", 0o600, "does not hold a token; write one line of at least 16")
	f("two", "0123456789abcdef\n0123456789abcdef", 0o600, "does not hold a token")
}

func TestAdminGuards(t *testing.T) {
	mustLoad(t, `
[listen.admin]
address = "0.0.0.0:8081"
[[token]]
name = "op"
sha256 = "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08"
scopes = ["admin"]
`)
	f := func(address string, want bool) {
		t.Helper()
		if got := config.IsLoopback(address); got != want {
			t.Errorf("IsLoopback(%q) = %v, want %v", address, got, want)
		}
	}
	f("127.0.0.1:1", true)
	f("127.8.8.8:1", true)
	f("[::1]:1", true)
	f("[::ffff:127.0.0.1]:1", true)
	f("localhost:1", true)
	f(":1", false)
	f("0.0.0.0:1", false)
	f("10.0.0.1:1", false)
	f("localhost.example:1", false)
	f("nonsense", false)
}
