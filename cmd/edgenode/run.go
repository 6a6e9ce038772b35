package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"github.com/edgenode/edgenode/node/config"
)

// Exit codes, as the package comment has them.
const (
	exitDone = iota
	exitFailed
	exitUsage
	exitConfig
	exitMissing
	exitUnavailable
	exitRefused
	exitDiffers
)

// A process is what a command has of the world.
type process struct {
	in       io.Reader
	out, err io.Writer
	environ  []string         // as os.Environ
	signals  <-chan os.Signal // as node.Signals
}

// commands is the command line.
type commands struct {
	Serve   serveCommand   `cmd:"" default:"withargs" help:"Run a node (default)."`
	Check   checkCommand   `cmd:"" help:"Check a configuration: every fault with file and line, or the effective values and the memory they add up to."`
	Get     getCommand     `cmd:"" help:"Write the content of an item to standard output."`
	Put     putCommand     `cmd:"" help:"Store an item from a file or standard input."`
	Delete  deleteCommand  `cmd:"" help:"Delete an item."`
	List    listCommand    `cmd:"" help:"List items, page by page until the end."`
	Status  statusCommand  `cmd:"" help:"Say in which tiers an item is."`
	Purge   purgeCommand   `cmd:"" help:"Invalidate origins' answers, and copies of items in memory, by exactly one selector."`
	Dead    deadCommand    `cmd:"" name:"dead-letters" help:"List the writes that SQL refuses, try them again, or give them up."`
	Verify  verifyCommand  `cmd:"" help:"Compare the items of two nodes, or a node's tree of hashes with its rows; repair what differs."`
	Explain explainCommand `cmd:"" help:"Say what is stored for a URL, and what a request for it would do now and why. Fetches nothing."`
	Hook    hookCommand    `cmd:"" help:"Work with WASM hooks."`
	Bench   benchCommand   `cmd:"" help:"Load a node, or any HTTP server, with requests and measure the answers; or play requests against memory."`
	Version versionCommand `cmd:"" help:"Show version, commit, Go and hook ABI."`
}

const description = `One static binary: a shared HTTP cache and a durable item store with WASM hooks.

Exit codes: 0 done, 1 it did not work, 2 wrong command line, 3 wrong configuration, 4 no such item, 5 node not reachable or not able now, 6 node refused, 7 a case of hook test differs, or what verify compared.`

// run executes one command line and returns the exit code. What a command
// yields goes to p.out, everything else to p.err.
func run(args []string, p *process) int {
	exited, code := false, 0
	parser, err := kong.New(&commands{},
		kong.Name("edgenode"),
		kong.Description(description),
		kong.Writers(p.out, p.err),
		kong.Exit(func(c int) { exited, code = true, c }), // after --help
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Bind(p),
	)
	if err != nil {
		return p.fail(err)
	}
	parsed, err := parser.Parse(args)
	if exited {
		return code
	}
	if err != nil {
		return p.fail(&exitError{exitUsage, fmt.Errorf("%w; see edgenode --help", err)})
	}
	return p.fail(parsed.Run(p))
}

// An exitError is an error with the exit code that it means.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// fail shows err, if there is one, and returns the exit code.
func (p *process) fail(err error) int {
	if err == nil {
		return exitDone
	}
	var faults config.Faults
	if errors.As(err, &faults) {
		for _, f := range faults {
			fmt.Fprintf(p.err, "edgenode: %v\n", f)
		}
		return exitConfig
	}
	fmt.Fprintf(p.err, "edgenode: %v\n", err)
	var e *exitError
	if errors.As(err, &e) {
		return e.code
	}
	return exitFailed
}

// interruptible returns a context that ends with the first SIGINT or SIGTERM.
// stop ends the goroutine that waits for it.
func (p *process) interruptible() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-p.signals:
			cancel(fmt.Errorf("stopped by signal: %v", s))
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

// isTerminal reports whether w is a terminal that understands colours.
func (p *process) isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == ""
}
