package config_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/config"
)

// site is a pool and a site that have no fault.
const site = `
[[pool]]
name = "shop"
origins = ["http://10.0.0.5:8000"]
[[site]]
name = "shop"
hosts = ["Shop.Example."]
pool = "shop"
`

func TestLoadNothing(t *testing.T) {
	c, err := config.Load(config.Source{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Effective(), config.Default().Effective(); !sameJSON(t, got, want) {
		t.Errorf("Load of nothing = %v, want the defaults %v", got, want)
	}
	if got, want := c.Database(), filepath.Join("edgenode-data", "edgenode.sqlite"); got != want {
		t.Errorf("Database() = %q, want %q", got, want)
	}
	if got, want := mustLoad(t, `sqlite_path = "/x.db"`).Database(), "/x.db"; got != want {
		t.Errorf("Database() = %q, want %q", got, want)
	}
}

func sameJSON(t testing.TB, a, b any) bool {
	t.Helper()
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(x) == string(y)
}

func TestLoadValues(t *testing.T) {
	c := mustLoad(t, `
l1_max_bytes = 33554432
batch_flush_ms = 250
pressure.warn = 0.5
[listen.data]
address = "127.0.0.1:0"
trusted_proxies = ["10.0.0.0/8", "::1"]
`+site+`
path_prefix = "/a/"
default_lifetimes = { "200" = "5m", "4xx" = "10s" }
[[hook]]
name = "geo"
module = "geo.wasm"
hooks = ["route"]
match = { sites = ["shop"] }
config = { default = "eu", list = [1, 2] }
fuel.route = 500
`)
	if c.L1MaxBytes != 32*config.MiB || c.BatchFlush.Std() != 250*time.Millisecond || c.Pressure.Warn != 0.5 {
		t.Errorf("engine keys = %v, %v, %v", c.L1MaxBytes, c.BatchFlush, c.Pressure.Warn)
	}
	s := &c.Sites[0]
	if s.Hosts[0] != "shop.example" || s.PathPrefix != "/a" {
		t.Errorf("host, prefix = %q, %q, want them in their working form", s.Hosts[0], s.PathPrefix)
	}
	if s.MaxObjectBytes != 8*config.MiB {
		t.Errorf("max_object_bytes = %v, want a quarter of the memory tier", s.MaxObjectBytes)
	}
	life := func(status int, want time.Duration, wantOK bool) {
		t.Helper()
		if got, ok := s.DefaultLifetime(status); got != want || ok != wantOK {
			t.Errorf("DefaultLifetime(%d) = %v, %v, want %v, %v", status, got, ok, want, wantOK)
		}
	}
	life(200, 5*time.Minute, true)
	life(201, 0, false)
	life(404, 10*time.Second, true)
	life(99, 0, false)
	h := c.Hooks[0]
	if h.Fuel.Route != 500 || h.Fuel.TTL != config.DefaultFuelTTL || h.Config["default"] != "eu" || h.Match.PathPrefix != "/" {
		t.Errorf("hook = %+v", h)
	}
}

func TestDefaultsFollowOtherKeys(t *testing.T) {
	c := mustLoad(t, `journal_max_bytes = "16MiB"`)
	if got, want := c.MaxPayloadBytes, 2*config.MiB; got != want {
		t.Errorf("max_payload_bytes = %v, want %v: an eighth of the journal", got, want)
	}
	has(t, faultsOf(t, "journal_max_bytes = \"16MiB\"\nmax_payload_bytes = \"16MiB\"").Error(), "c.toml:1: journal_max_bytes")
}

func TestEnvironment(t *testing.T) {
	c := mustLoad(t, "data_dir = \"a\"\n[listen.data]\naddress = \":1\"",
		"EDGENODE_DATA_DIR=/b", "EDGENODE_LISTEN_DATA_ADDRESS=:2", "EDGENODE_PRESSURE_WARN=0.4",
		"EDGENODE_BATCH_FLUSH_MS=7", "EDGENODE_L1_MAX_BYTES=64MiB", "EDGENODE_API_HOSTS=a.example, b.example",
		"EDGENODE_CONFIG=passed over", "EDGENODE_ADMIN=http://127.0.0.1:8081", "HOME=/root", "NOEQUALS")
	if c.DataDir != "/b" || c.Listen.Data.Address != ":2" || c.Pressure.Warn != 0.4 ||
		c.BatchFlush.Std() != 7*time.Millisecond || c.L1MaxBytes != 64*config.MiB {
		t.Errorf("the environment did not win: %+v", c)
	}
	if want := []string{"a.example", "b.example"}; !slices.Equal(c.APIHosts, want) {
		t.Errorf("api_hosts = %q, want %q", c.APIHosts, want)
	}
}

func TestEnvironmentFaults(t *testing.T) {
	f := func(variable string, want ...string) {
		t.Helper()
		faults := faultsOf(t, "", variable)
		if len(faults) != 1 || faults[0].File != config.Environment || faults[0].Line != 0 {
			t.Errorf("%s: %v, want one fault of the environment", variable, faults)
		}
		has(t, faults.Error(), want...)
	}
	f("EDGENODE_DATA_DIRR=x", "environment: EDGENODE_DATA_DIRR: unknown variable", "did you mean EDGENODE_DATA_DIR?")
	f("EDGENODE_BATCH_FLUSH_MS=1s", "environment: EDGENODE_BATCH_FLUSH_MS = \"1s\": not a whole number of milliseconds")
	f("EDGENODE_L1_MAX_BYTES=1KiB", "EDGENODE_L1_MAX_BYTES", "out of range")
	f("EDGENODE_ACCESS_FLUSH=true", "EDGENODE_ACCESS_FLUSH: not in this version")
	f("EDGENODE_L3_SHARED=true", "EDGENODE_L3_SHARED", "SQLite is this node's alone")
	f("EDGENODE_API_HOSTS=http://x", "EDGENODE_API_HOSTS", "not a host pattern")
	f("EDGENODE_LISTEN_DATA_TLS_KEY=/k", "without cert")
}

func TestFilesAreRelativeToTheConfiguration(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "ci.token", "0123456789abcdef\n", 0o640)
	path := writeFile(t, dir, "c.toml", `
[[token]]
name = "ci"
file = "ci.token"
scopes = ["read"]
[[hook]]
name = "geo"
module = "geo.wasm"
hooks = ["route"]
`, 0o644)
	c, err := config.Load(config.Source{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	const sum = "9f9f5111f7b27a781f1f1ddde5ebc2dd2b796bfc7365c9c28b548e564176929f" // of the token without its line end
	if got := c.Tokens[0]; got.SHA256 != sum || !got.Can("read") || got.Can("write") || !got.Owns("any") {
		t.Errorf("token = %+v, want the hash %s", got, sum)
	}
	if got, want := c.Hooks[0].Module, filepath.Join(dir, "geo.wasm"); got != want {
		t.Errorf("module = %q, want %q", got, want)
	}
}

func TestUnreadableFile(t *testing.T) {
	_, err := config.Load(config.Source{Path: filepath.Join(t.TempDir(), "no.toml")})
	if err == nil {
		t.Fatal("Load of a file that is not there succeeded")
	}
	has(t, err.Error(), "no.toml: cannot be read: no such file", "--config")
}

func TestHugeFile(t *testing.T) {
	_, err := config.Load(config.Source{Path: "c.toml", Data: make([]byte, 1<<20+1)})
	if err == nil {
		t.Fatal("Load of a huge file succeeded")
	}
	has(t, err.Error(), "c.toml: larger than 1MiB")
}

func FuzzLoad(f *testing.F) {
	example, err := os.ReadFile("../../edgenode.toml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(example)
	f.Add(uncomment(example))
	f.Add([]byte(site))
	f.Add([]byte("a = [[[[\"\"\"\n\"\"\"\"\"]]]]\n[[site]]\n[site.x]\n[[site.y]]"))
	f.Add([]byte("token = 1\n[listen]\ndata = [{}]\npressure = { warn = nan }"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 { // the library's time grows faster than the input
			return
		}
		c, err := config.Load(config.Source{Data: data})
		if (c == nil) == (err == nil) {
			t.Fatalf("Load = %v, %v, want one of the two", c, err)
		}
		if err != nil {
			_ = err.Error()
			return
		}
		if _, err := json.Marshal(c.Effective()); err != nil {
			t.Errorf("Effective cannot be written: %v", err)
		}
		if d := config.Diff(c, c); len(d) != 0 {
			t.Errorf("Diff with itself = %v", d)
		}
		c.Budget()
		config.NewRouter(c).Match([]byte("x"), []byte("/"))
	})
}
