package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Hosts that are asked for: of the site, and one on which a node has items.
const (
	host     = "shop.example"
	itemHost = "localhost" // without tokens items are for this machine
)

// A contender is a server that is measured.
type contender struct {
	name    string
	what    string // for the reader
	process *process
	address string
	prefix  string // of paths
	put     bool   // it has items: it is filled by PUT, not by asking
	folder  string // of files that are its memory, or ""
	admin   string // address of a node's admin listener
}

func (c *contender) url(size, key int) string {
	return "http://" + c.address + c.prefix + path(size, key)
}

// host returns the host that it is asked for.
func (c *contender) host() string {
	if c.put {
		return itemHost
	}
	return host
}

// Names of contenders.
const (
	bare       = "bare"
	bareFields = "bare, site's fields"
	item       = "edgenode item"
	site       = "edgenode site"
	nginx      = "nginx"
	varnish    = "Varnish"
)

// fileName makes a name of a file of one.
func fileName(name string) string {
	return strings.NewReplacer(" ", "-", ",", "", "'", "").Replace(name)
}

// startOrigin starts what sites ask.
func (b *bench) startOrigin(ctx context.Context) error {
	address, err := freeAddress()
	if err != nil {
		return err
	}
	b.origin = address
	p, err := b.start("origin", clientCore, []string{"GOMAXPROCS=1"}, b.self, "serve", "-address", address, "-fields", "origin")
	if err != nil {
		return err
	}
	return p.await(ctx, "http://"+address+path(1, 0), host)
}

// startAll starts everybody who is here.
func (b *bench) startAll(ctx context.Context) error {
	if err := b.startOrigin(ctx); err != nil {
		return err
	}
	for _, f := range []func(context.Context) (*contender, error){
		b.bare, b.bareFields, b.itemNode, b.siteNode, b.nginx, b.varnish,
	} {
		c, err := f(ctx)
		if err != nil {
			return err
		}
		if c != nil {
			b.contenders = append(b.contenders, c)
		}
	}
	return nil
}

func (b *bench) bare(ctx context.Context) (*contender, error) {
	return b.fasthttp(ctx, &contender{name: bare, what: "a fasthttp handler that writes a body: the floor"}, "-many")
}

func (b *bench) bareFields(ctx context.Context) (*contender, error) {
	return b.fasthttp(ctx, &contender{name: bareFields, what: "the same with the fields that a hit of the site sends: twelve, and Age, Via and Cache-Status"}, "-many", "-fields", "site")
}

func (b *bench) fasthttp(ctx context.Context, c *contender, flags ...string) (_ *contender, err error) {
	if c.address, err = freeAddress(); err != nil {
		return nil, err
	}
	c.process, err = b.start(fileName(c.name), serverCore, []string{"GOMAXPROCS=1"},
		append([]string{b.self, "serve", "-address", c.address}, flags...)...)
	if err != nil {
		return nil, err
	}
	return c, c.process.await(ctx, c.url(1, 0), host)
}

func (b *bench) itemNode(ctx context.Context) (*contender, error) {
	c := &contender{name: item, what: "`GET /v1/items/…`", prefix: "/v1/items", put: true}
	return c, b.node(ctx, c, "")
}

func (b *bench) siteNode(ctx context.Context) (*contender, error) {
	c := &contender{name: site, what: "a stored answer of an origin with twelve fields"}
	return c, b.node(ctx, c, "")
}

// node starts a node. More is the end of its configuration.
func (b *bench) node(ctx context.Context, c *contender, more string) (err error) {
	if c.address, err = freeAddress(); err != nil {
		return err
	}
	if c.admin, err = freeAddress(); err != nil {
		return err
	}
	c.what += ", " + b.version
	folder := filepath.Join(b.dir, fileName(c.name))
	config := fmt.Sprintf(`data_dir = %q
l1_max_bytes = "512MiB"
journal_max_bytes = "4GiB"
[listen.data]
address = %q
max_connections_per_address = 10000
max_requests_per_connection = 0
[listen.admin]
address = %q
[[pool]]
name = "origin"
origins = ["http://%s"]
[[site]]
name = "shop"
hosts = [%q]
pool = "origin"
%s`, folder, c.address, c.admin, b.origin, host, more)
	file := folder + ".toml"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return err
	}
	c.process, err = b.start(filepath.Base(folder), serverCore, []string{"GOMAXPROCS=1"}, b.edgenode, "--config", file)
	if err != nil {
		return err
	}
	return c.process.await(ctx, "http://"+c.admin+"/readyz", "")
}

// nginx starts it as a cache of the origin, without a log, with open files kept
// and connections to the origin kept; nil if it is not installed.
func (b *bench) nginx(ctx context.Context) (_ *contender, err error) {
	program, ok := lookup("nginx")
	if !ok {
		b.say("nginx is not installed: left out")
		return nil, nil
	}
	c := &contender{name: nginx, what: "`proxy_cache`, one process, no log, `open_file_cache`, files in the page cache"}
	if v, err := exec.CommandContext(ctx, program, "-v").CombinedOutput(); err == nil {
		c.what = strings.TrimPrefix(strings.TrimSpace(string(v)), "nginx version: ") + ", " + c.what
	}
	if c.address, err = freeAddress(); err != nil {
		return nil, err
	}
	folder := filepath.Join(b.dir, "nginx")
	c.folder = filepath.Join(folder, "cache")
	if err := os.MkdirAll(c.folder, 0o700); err != nil {
		return nil, err
	}
	config := strings.NewReplacer("DIR", folder, "LISTEN", c.address, "ORIGIN", b.origin, "FILES", fmt.Sprint(openFiles()), "KEPT", fmt.Sprint(max(10_000, openFiles())-9_000)).Replace(`
worker_processes 1; daemon off; master_process off; pid DIR/pid; error_log DIR/error.log crit;
worker_rlimit_nofile FILES;
events { worker_connections 8192; multi_accept on; }
http {
  access_log off; sendfile on; tcp_nopush on; tcp_nodelay on;
  keepalive_requests 1000000000; keepalive_timeout 1h;
  open_file_cache max=KEPT inactive=1h; open_file_cache_valid 1h; open_file_cache_min_uses 1;
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy; fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
  proxy_cache_path DIR/cache levels=1:2 keys_zone=c:128m max_size=8g inactive=1h use_temp_path=off;
  upstream origin { server ORIGIN; keepalive 64; }
  server {
    listen LISTEN backlog=4096;
    location / {
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_cache c; proxy_cache_key $host$uri; proxy_cache_lock on;
    }
  }
}
`)
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	c.process, err = b.start("nginx", serverCore, nil, program, "-p", folder, "-e", filepath.Join(folder, "error.log"), "-c", file)
	if err != nil {
		return nil, err
	}
	return c, c.process.await(ctx, c.url(1, 0), host)
}

// openFiles returns how many files nginx may have open at all, connections among
// them, as the system allows a process: without any left it stops answering.
func openFiles() uint64 {
	limit := unix.Rlimit{Max: 20_000}
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) // else what most systems allow
	return min(300_000, limit.Max)
}

// varnish starts it with memory; nil if it is not installed.
func (b *bench) varnish(ctx context.Context) (_ *contender, err error) {
	program, ok := lookup("varnishd")
	if !ok {
		b.say("varnishd is not installed: left out")
		return nil, nil
	}
	c := &contender{name: varnish, what: "`-s malloc`, one pool of threads"}
	if v, err := exec.CommandContext(ctx, program, "-V").CombinedOutput(); err == nil {
		c.what = strings.Trim(strings.Fields(string(v))[1], "()") + ", " + c.what
	}
	if c.address, err = freeAddress(); err != nil {
		return nil, err
	}
	c.process, err = b.start("varnish", serverCore, nil, program, "-F", "-j", "none", "-n", filepath.Join(b.dir, "varnish"),
		"-a", c.address, "-b", b.origin, "-s", "malloc,1G", "-S", "none", "-T", "none", "-p", "thread_pools=1", "-p", "thread_pool_min=100",
		"-p", "timeout_idle=3600")
	if err != nil {
		return nil, err
	}
	if err := c.process.await(ctx, c.url(1, 0), host); err != nil {
		b.say("left out: %v", err) // it wants a compiler, and memory that may be locked
		c.process.stop()
		return nil, nil
	}
	return c, nil
}

// lookup finds a program, also where only an administrator looks.
func lookup(name string) (string, bool) {
	for _, folder := range []string{"", "/usr/sbin/", "/usr/local/sbin/"} {
		if p, err := exec.LookPath(folder + name); err == nil {
			return p, true
		}
	}
	return "", false
}

// wait returns after d, with an error if ctx has ended by then.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
