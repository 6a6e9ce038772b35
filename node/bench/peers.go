package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

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
