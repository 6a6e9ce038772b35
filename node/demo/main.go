// Command demo shows a node at work on real input, in one command and in less
// than a minute: go run ./node/demo, or make demo.
//
// An origin on loopback serves the source tree of the Go toolchain that runs the
// demo, some ten thousand files. The real node, built here, stands before it
// with the example hooks for routing, lifetimes and eviction, and with less
// memory than the tree has bytes. A client walks the tree twice and compares
// every byte with the file. Then the output of go list -json std is stored as
// items, more is written without a pause, and the node is killed (SIGKILL) in
// the middle. After a restart every acknowledged item must be there as it was.
//
// It uses loopback only, writes to one temporary directory that it removes, and
// ends no process but its own. The exit code is 0 only if every check held.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// limit is how long all of it may take on a slow machine.
const limit = 5 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	err := run(ctx, os.Stdout)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

// run shows all of it; its error says which check did not hold.
func run(ctx context.Context, out io.Writer) (err error) {
	begin := time.Now()
	s, err := newStage(ctx, out)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return err
	}
	if err := s.walks(ctx); err != nil {
		return err
	}
	if err := s.routing(ctx); err != nil {
		return err
	}
	if err := s.items(ctx); err != nil {
		return err
	}
	if err := s.crash(ctx); err != nil {
		return err
	}
	s.say("\nEvery check held. %.1f s in all.", time.Since(begin).Seconds())
	return nil
}
