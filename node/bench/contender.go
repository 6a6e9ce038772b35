package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
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
	twice   bool   // it takes into memory what it is asked for again
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
	traffic    = "Traffic Server"
)

// others are the contenders that others have made: if one does not answer well it is
// left out.
func others() []string { return []string{nginx, varnish, traffic} }

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
		b.bare, b.bareFields, b.itemNode, b.siteNode, b.nginx, b.varnish, b.traffic,
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
