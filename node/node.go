package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/edgenode/edgenode/node/accesslog"
	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/api"
	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/node/front"
	"github.com/edgenode/edgenode/node/proxy"
	"github.com/edgenode/edgenode/node/replica"
	"github.com/edgenode/edgenode/tiers"
)

// Options say what a node is made of.
type Options struct {
	// Config is the configuration to start with.
	Config *config.Config
	// Load reads the configuration again, for a reload; nil keeps Config.
	Load func() (*config.Config, error)
	// Log takes the log; nil discards it.
	Log *slog.Logger
	// Level is set from log_level at the start and on reload; may be nil.
	Level *slog.LevelVar
	// Applied is called with each configuration that is in force from then on;
	// may be nil.
	Applied func(*config.Config)
	// Out is what the access log calls standard output; nil is os.Stdout.
	Out io.Writer
}

// A Node serves. Its methods may be called by any goroutine.
type Node struct {
	o       Options
	log     *slog.Logger
	now     func() int64 // Unix ms, the process's start plus its monotonic clock
	metrics *nodeMetrics

	engine  *tiers.Engine
	replica *replica.Replica // nil: this node follows nobody
	hooks   *hookSet
	api     *api.API
	proxy   *proxy.Proxy
	admin   *admin.Admin
	data    *front.Server
	ctl     *front.Server // the admin listener
	access  *accesslog.Log

	table    atomic.Pointer[table]
	inflight inflight
	ready    atomic.Bool // requests are served and the node is not to stop

	// reloading is held by a reload, and by Shutdown for good.
	reloading sync.Mutex
	last      atomic.Pointer[config.Config] // in force

	shutdownOnce sync.Once
	shutdownErr  error
}

// Open starts a node and returns when it serves. A failure leaves nothing
// behind but what the engine has written to its directory.
func Open(ctx context.Context, o Options) (*Node, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n := &Node{o: o, log: o.Log, now: processClock()}
	n.inForce(o.Config)
	if err := n.open(ctx, o.Config); err != nil {
		return nil, errors.Join(err, n.abandon())
	}
	return n, nil
}

// inForce notes the configuration in force and tells who wants to know.
func (n *Node) inForce(cfg *config.Config) {
	n.last.Store(cfg)
	if n.o.Applied != nil {
		n.o.Applied(cfg)
	}
}

// processClock returns Unix milliseconds that never jump: the time at which the
// process began plus what its monotonic clock has counted.
func processClock() func() int64 {
	start := time.Now()
	begin := start.UnixMilli()
	return func() int64 { return begin + time.Since(start).Milliseconds() }
}

// open starts the parts, each before those that need it.
func (n *Node) open(ctx context.Context, cfg *config.Config) error {
	begin := time.Now()
	set := metrics.NewSet()
	n.setLevel(cfg)
	steps := []struct {
		name string
		do   func() error
	}{
		// Ports first: a port in use or a wrong certificate is the commonest
		// mistake, and is told before anything on disk is touched. Connections
		// wait in the kernel until the last step.
		{"bind", func() error { return n.bind(cfg, set) }},
		{"access_log", func() error { return n.access.Configure(cfg.AccessLog.Path, cfg.AccessLog.Sample) }},
		{"engine", func() error { return n.openEngine(ctx, cfg, set) }},
		// Hooks ask the memory tier (kv_get), so they come after it, and before
		// the handlers: no request may pass a hook that is about to be loaded.
		{"hooks", func() error { return n.openHooks(ctx, cfg, set) }},
		// Handlers ask it whose an item is. It does not wait for the hub.
		{"replica", func() error { return n.openReplica(cfg, set) }},
		{"handlers", func() error { return n.openHandlers(cfg, set) }},
		// Listeners last: whoever is let in finds everything in place.
		{"serve", func() error { n.serve(); return nil }},
	}
	n.metrics = newNodeMetrics(set, n)
	n.access = accesslog.Open(accesslog.Options{Stdout: n.o.Out, Log: n.log, Metrics: set})
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("node: start: %w", context.Cause(ctx))
		}
		start := time.Now()
		if err := step.do(); err != nil {
			return err
		}
		n.metrics.phase(step.name, time.Since(start))
	}
	n.ready.Store(true)
	n.log.Info("ready", "after", time.Since(begin).Round(time.Millisecond), "state", n.engine.State().String(),
		"sites", len(cfg.Sites), "hooks", len(cfg.Hooks), "tokens", len(cfg.Tokens))
	return nil
}

// serve lets requests in.
func (n *Node) serve() {
	n.ctl.Start(n.serveAdmin)
	n.data.Start(n.serveData)
	n.log.Info("listening", "listener", "admin", "address", n.ctl.Addr().String())
	n.log.Info("listening", "listener", "data", "address", n.data.Addr().String())
}

// DataAddr returns the address of the data listener.
func (n *Node) DataAddr() net.Addr { return n.data.Addr() }

// AdminAddr returns the address of the admin listener.
func (n *Node) AdminAddr() net.Addr { return n.ctl.Addr() }

// Ready reports whether the node answers and is not about to stop.
func (n *Node) Ready() bool { return n.ready.Load() && n.engine.Ready() }

// ReopenAccessLog opens the file of the access log anew, after it was renamed.
func (n *Node) ReopenAccessLog() error {
	err := n.access.Reopen()
	if err == nil {
		n.log.Info("access log reopened")
	}
	return err
}

// flushLeast is the time that a shutdown gives to the last flush even if
// requests have used up shutdown_timeout. What is not flushed then stays in the
// journal.
const flushLeast = 5 * time.Second

// Shutdown stops the node and returns when every goroutine has ended. Requests
// under way have until shutdown_timeout, or the end of ctx, before they are cut.
// Everything acknowledged is kept however it ends. It may be called more than
// once; later calls wait for the first.
func (n *Node) Shutdown(ctx context.Context) error {
	n.shutdownOnce.Do(func() { n.shutdownErr = n.shutdown(ctx) })
	return n.shutdownErr
}

func (n *Node) shutdown(ctx context.Context) error {
	n.reloading.Lock() // for good: nothing is reloaded any more
	cfg := n.last.Load()
	l := cfg.Listen.Data
	n.log.Info("shutting down", "drain_delay", l.DrainDelay.String(), "shutdown_timeout", l.ShutdownTimeout.String())

	// Say so before doing so: balancers take the node out, clients open their
	// next connection elsewhere. Connections are still accepted meanwhile.
	n.ready.Store(false)
	n.data.Drain()
	n.ctl.Drain()
	pause(ctx, l.DrainDelay.Std())

	deadline := time.Now().Add(l.ShutdownTimeout.Std())
	limit, cancel := context.WithDeadlineCause(ctx, deadline, errors.New("shutdown_timeout is over"))
	defer cancel()
	// Upgraded connections never finish by themselves: they are told to go.
	n.proxy.Drain()
	n.api.Drain() // nor do readers of the change feed
	// No new requests; those under way finish or are cut.
	n.warn(n.data.Shutdown(limit))
	// Fetches that no client waits for any more would store into a closed engine.
	n.proxy.Close()
	// Nobody waits for the hub any more; what it sends now would be stored by the next start.
	n.closeReplica()
	// The admin listener until here, so that the draining could be watched.
	adminLimit, cancelAdmin := context.WithTimeout(ctx, time.Second)
	defer cancelAdmin()
	n.warn(n.ctl.Shutdown(adminLimit))
	// The last request is recorded.
	n.warn(n.access.Close())
	// The snapshot of memory refers to them.
	n.keepBlocks(n.last.Load())
	// Nobody writes any more: flush, end the journal cleanly, give the
	// directory back.
	flush, cancelFlush := context.WithDeadline(context.WithoutCancel(ctx), later(deadline, time.Now().Add(flushLeast)))
	defer cancelFlush()
	err := n.engine.Close(flush)
	// Hooks last: a tier that flushes may still ask them what to evict.
	err = errors.Join(err, n.hooks.close())
	if err != nil {
		return fmt.Errorf("node: shutdown: %w", err)
	}
	n.log.Info("stopped")
	return nil
}

// warn logs what did not end by itself; it is over then.
func (n *Node) warn(err error) {
	if err != nil {
		n.log.Warn("cut off", "error", err)
	}
}

// abandon takes back what a failed start has opened, the last first.
func (n *Node) abandon() error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, s := range []*front.Server{n.data, n.ctl} {
		if s != nil {
			errs = append(errs, s.Shutdown(context.Background()))
		}
	}
	if n.access != nil {
		errs = append(errs, n.access.Close())
	}
	if n.proxy != nil {
		n.proxy.Close()
	}
	n.closeReplica()
	if n.engine != nil {
		errs = append(errs, n.engine.Close(now))
	}
	if n.hooks != nil {
		errs = append(errs, n.hooks.close())
	}
	return errors.Join(errs...)
}

// closeReplica ends the following of a hub, if there is one.
func (n *Node) closeReplica() {
	if n.replica != nil {
		n.replica.Close()
	}
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
