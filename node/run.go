package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"time"

	"github.com/edgenode/edgenode/node/config"
)

// RunOptions say how a process runs a node.
type RunOptions struct {
	// Load reads the configuration; it is called at the start and on SIGHUP.
	Load func() (*config.Config, error)
	// ConfigFile is told in the log; empty means the defaults.
	ConfigFile string
	// Log takes the log, a line of key=value pairs per event.
	Log io.Writer
	// Out is what the access log calls standard output; nil is os.Stdout.
	Out io.Writer
	// Signals are those of the process: SIGHUP reloads, SIGUSR1 opens the access
	// log anew, SIGTERM and SIGINT stop.
	Signals <-chan os.Signal
	// Environ is the environment; NOTIFY_SOCKET in it is told of the readiness
	// (sd_notify(3)).
	Environ []string
}

// errAtOnce is the error of a process that a second signal has stopped.
var errAtOnce = errors.New("stopped at once by a second signal; everything acknowledged is in the journal and is flushed at the next start")

// Run serves until a signal or the end of ctx. It returns nil after an orderly
// stop. After a second signal it returns at once, with goroutines still running:
// the process is to exit. Its error is config.Faults if the configuration has
// faults.
func Run(ctx context.Context, o RunOptions) error {
	cfg, err := o.Load()
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	log := slog.New(slog.NewTextHandler(o.Log, &slog.HandlerOptions{Level: level}))
	defer divertStray(log)()
	from := o.ConfigFile
	if from == "" {
		from = "defaults"
	}
	log.Info("starting", "configuration", from, "data_dir", cfg.DataDir, "pid", os.Getpid())
	r := &runner{o: o, log: log, notify: newNotifier(o.Environ), memory: newMemoryLimit(o.Environ, log)}
	n, err := r.start(ctx, Options{
		Config: cfg, Load: o.Load, Log: log, Level: level, Out: o.Out,
		Applied: r.memory.apply,
	})
	if n == nil || err != nil {
		return err
	}
	r.warn(r.notify.send("READY=1"))
	r.serve(ctx, n)
	return r.stop(n)
}

// A runner is a running process.
type runner struct {
	o      RunOptions
	log    *slog.Logger
	notify notifier
	memory *memoryLimit
}

// start opens the node. A signal meanwhile ends the start, a second one the
// process; then it returns no node.
func (r *runner) start(ctx context.Context, o Options) (*Node, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type opened struct {
		n   *Node
		err error
	}
	done := make(chan opened, 1)
	go func() {
		n, err := Open(ctx, o)
		done <- opened{n, err}
	}()
	stopping := false
	for {
		select {
		case x := <-done:
			if stopping && x.err == nil { // too late to end the start
				return nil, r.stop(x.n)
			}
			if stopping && errors.Is(x.err, errSignalled) {
				return nil, nil
			}
			return x.n, x.err
		case s := <-r.o.Signals:
			if s == syscall.SIGHUP || reopens(s) {
				continue // what is being read is new
			}
			if stopping {
				return nil, errAtOnce
			}
			stopping = true
			cancel(fmt.Errorf("%w %v", errSignalled, s))
		}
	}
}

// errSignalled is the cause of the end of a start.
var errSignalled = errors.New("stopped by signal")

// serve takes signals until one of them, or ctx, stops the node.
func (r *runner) serve(ctx context.Context, n *Node) {
	poll := time.NewTicker(memoryLimitPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
			r.memory.follow(n.engine.L1HeapBytes())
		case s := <-r.o.Signals:
			if reopens(s) {
				if err := n.ReopenAccessLog(); err != nil {
					r.log.Warn("the access log goes on in the old file", "error", err)
				}
				continue
			}
			if s != syscall.SIGHUP {
				r.log.Info("signal", "signal", s.String())
				return
			}
			r.warn(r.notify.send("RELOADING=1"))
			n.Reload(ctx) // the outcome is logged there
			r.warn(r.notify.send("READY=1"))
		}
	}
}

// together is how long after the first signal another one is taken for the same
// wish: timeout(1), terminals and supervisors signal the process and its group.
const together = 200 * time.Millisecond

// stop shuts the node down, or returns at a second signal that is not SIGHUP.
func (r *runner) stop(n *Node) error {
	r.warn(r.notify.send("STOPPING=1"))
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- n.Shutdown(context.Background()) }()
	for {
		select {
		case err := <-done:
			return err
		case s := <-r.o.Signals:
			if s != syscall.SIGHUP && !reopens(s) && time.Since(begin) > together {
				return errAtOnce
			}
		}
	}
}

func (r *runner) warn(err error) {
	if err != nil {
		r.log.Warn("the service manager could not be told", "error", err)
	}
}
