package main

import (
	"context"
	"fmt"
	"net"
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

// traffic starts Traffic Server as a cache of the origin: one thread of events, no
// log, all answers in its memory cache too; nil if it is not installed.
func (b *bench) traffic(ctx context.Context) (_ *contender, err error) {
	program, ok := lookup("traffic_server")
	if !ok {
		b.say("traffic_server is not installed: left out")
		return nil, nil
	}
	c := &contender{name: traffic, twice: true, what: "one thread of events, no log, 1 GiB of memory cache; its cache on disk is not counted as memory"}
	if v, err := exec.CommandContext(ctx, program, "-V").CombinedOutput(); err == nil {
		if _, after, ok := strings.Cut(string(v), " - traffic_server - "); ok {
			c.what = strings.Fields(after)[0] + ", " + c.what
		}
	}
	if c.address, err = freeAddress(); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(c.address)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(b.dir, "traffic")
	for name, text := range map[string]string{
		"runroot.yaml": `prefix: DIR
exec_prefix: DIR
bindir: BIN
sbindir: BIN
sysconfdir: DIR/etc
datadir: DIR
libexecdir: DIR
localstatedir: DIR/run
runtimedir: DIR/run
logdir: DIR/log
cachedir: DIR/cache
`,
		"etc/records.config": `CONFIG proxy.config.http.server_ports STRING PORT:ip-in=127.0.0.1
CONFIG proxy.config.exec_thread.autoconfig.enabled INT 0
CONFIG proxy.config.exec_thread.limit INT 1
CONFIG proxy.config.accept_threads INT 0
CONFIG proxy.config.task_threads INT 1
CONFIG proxy.config.cache.threads_per_disk INT 1
CONFIG proxy.config.cache.ram_cache.size INT 1073741824
CONFIG proxy.config.cache.ram_cache_cutoff INT 4194304
CONFIG proxy.config.cache.ram_cache.algorithm INT 1
CONFIG proxy.config.cache.ram_cache.use_seen_filter INT 0
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 3600
CONFIG proxy.config.http.insert_request_via_str INT 0
CONFIG proxy.config.http.insert_response_via_str INT 0
CONFIG proxy.config.http.wait_for_cache INT 1
CONFIG proxy.config.log.logging_enabled INT 0
CONFIG proxy.config.admin.user_id STRING #-1
`,
		"etc/remap.config":   "map / http://ORIGIN/\n",
		"etc/storage.config": "DIR/cache 2G\n",
		"etc/plugin.config":  "",
		"etc/ip_allow.yaml":  "ip_allow:\n  - apply: in\n    ip_addrs: 127.0.0.1\n    action: allow\n    methods: ALL\n",
		"run/.keep":          "", "log/.keep": "", "cache/.keep": "",
	} {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, err
		}
		text = strings.NewReplacer("DIR", folder, "BIN", filepath.Dir(program), "PORT", port, "ORIGIN", b.origin).Replace(text)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	c.process, err = b.start("traffic-server", serverCore, nil, program, "--run-root="+filepath.Join(folder, "runroot.yaml"))
	if err != nil {
		return nil, err
	}
	if err := c.process.await(ctx, c.url(1, 0), host); err != nil {
		b.say("left out: %v", err)
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
