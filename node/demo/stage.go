package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// What the site is called, and how many requests are under way at once.
const (
	siteHost = "src.example"
	workers  = 8
)

// A stage is what the demo plays on: origins, node, client.
type stage struct {
	out  io.Writer
	dir  string // temporary
	root string // of the source tree
	repo string // of this module

	origin *origin // the default pool
	eu     *origin // chosen by the route hook for tenants that begin with eu
	node   *node
	client *http.Client
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// newStage builds the binary and starts origins and node. The stage is to be
// closed even if there is an error.
func newStage(ctx context.Context, out io.Writer) (*stage, error) {
	s := &stage{out: out, client: &http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: workers, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	var err error
	if s.dir, err = os.MkdirTemp("", "edgenode-demo-"); err != nil {
		return s, err
	}
	goroot, err := goOutput(ctx, "env", "GOROOT")
	if err != nil {
		return s, err
	}
	s.root = filepath.Join(goroot, "src")
	if s.repo, err = goOutput(ctx, "list", "-m", "-f", "{{.Dir}}"); err != nil {
		return s, err
	}
	for _, o := range []**origin{&s.origin, &s.eu} {
		if *o, err = newOrigin(s.root); err != nil {
			return s, err
		}
	}
	binary := filepath.Join(s.dir, "edgenode")
	start := time.Now()
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/edgenode")
	build.Dir, build.Env = s.repo, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return s, fmt.Errorf("go build: %w\n%s", err, text)
	}
	info, err := os.Stat(binary)
	if err != nil {
		return s, err
	}
	s.say("Built the node: one static binary, %.0f MB, in %.1f s.", float64(info.Size())/1e6, time.Since(start).Seconds())
	if err := s.configure(); err != nil {
		return s, err
	}
	s.node = &node{binary: binary, dir: s.dir, config: s.configFile()}
	took, err := s.node.start(ctx)
	if err != nil {
		return s, err
	}
	s.say("Started it in %v: data on %s, admin on %s.", took.Round(time.Millisecond), s.node.data, s.node.admin)
	return s, nil
}

// goOutput runs the go command that runs this program.
func goOutput(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (s *stage) configFile() string { return filepath.Join(s.dir, "edgenode.toml") }

// configure writes the node's configuration.
func (s *stage) configure() error {
	text := fmt.Sprintf(`
data_dir = %q
l1_max_bytes = "64MiB" # less than the tree: what is evicted comes from SQLite
[listen.data]
address = "127.0.0.1:0"
[listen.admin]
address = "127.0.0.1:0"
[[pool]]
name = "main"
origins = [%q]
[[pool]]
name = "eu"
origins = [%q]
[[site]]
name = "source"
hosts = [%q]
pool = "main"
tiers = ["l1", "l3"]
[[hook]]
name = "route"
module = %q
hooks = ["route"]
pools = ["eu"]
on_fault = "deny"
match = { sites = ["source"] }
[[hook]]
name = "ttl"
module = %q
hooks = ["ttl"]
match = { sites = ["source"] }
[[hook]]
name = "evict"
module = %q
hooks = ["evict"]
`, filepath.Join(s.dir, "data"), s.origin.url, s.eu.url, siteHost,
		s.example("route-header"), s.example("ttl-by-type"), s.example("evict-gdsf"))
	return os.WriteFile(s.configFile(), []byte(text), 0o600)
}

// example returns the module of an example.
func (s *stage) example(name string) string {
	return filepath.Join(s.repo, "wasm-examples", name, name+".wasm")
}

// close ends what newStage started, and removes its directory.
func (s *stage) close() error {
	var errs []error
	if s.node != nil {
		errs = append(errs, s.node.stop())
	}
	s.client.CloseIdleConnections()
	for _, o := range []*origin{s.origin, s.eu} {
		if o != nil {
			errs = append(errs, o.close())
		}
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}
