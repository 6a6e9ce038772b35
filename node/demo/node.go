package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// A node is the real binary as a process of ours.
type node struct {
	binary, dir, config string

	data, admin string // addresses, while it runs
	process     *exec.Cmd
	log         chan struct{} // closed when all of the log was read
	last        []string      // of the log
}

// start starts the process and returns how long it took until it was ready.
func (n *node) start(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	n.process = exec.Command(n.binary, "serve", "--config", n.config)
	n.process.Dir = n.dir
	stderr, err := n.process.StderrPipe()
	if err != nil {
		return 0, err
	}
	if err := n.process.Start(); err != nil {
		n.process = nil
		return 0, err
	}
	ready := make(chan struct{})
	n.log = make(chan struct{})
	go n.read(stderr, ready)
	select {
	case <-ready:
		return time.Since(begin), nil
	case <-n.log:
		return 0, fmt.Errorf("the node ended at its start: %s", strings.Join(n.last, "\n"))
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// keptLines is how much of the log an error shows.
const keptLines = 60

// read reads the log to its end. The addresses are set before ready is closed.
func (n *node) read(log io.Reader, ready chan struct{}) {
	defer close(n.log)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		line := lines.Text()
		if n.last = append(n.last, line); len(n.last) > keptLines {
			n.last = n.last[1:]
		}
		switch {
		case strings.Contains(line, " msg=listening listener=data "):
			n.data = address(line)
		case strings.Contains(line, " msg=listening listener=admin "):
			n.admin = address(line)
		case strings.Contains(line, " msg=ready "):
			close(ready)
		}
	}
}

func address(line string) string {
	_, value, _ := strings.Cut(line, " address=")
	value, _, _ = strings.Cut(value, " ")
	return value
}

// kill ends the process as a crash would: it can do nothing about it.
func (n *node) kill() error {
	if err := n.process.Process.Kill(); err != nil {
		return err
	}
	return n.wait()
}

// wait waits for the end of the process; a killed one is no error.
func (n *node) wait() error {
	<-n.log
	err := n.process.Wait()
	n.process = nil
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == -1 { // by a signal
		return nil
	}
	if err != nil {
		return fmt.Errorf("the node ended with %w; the end of its log:\n%s", err, strings.Join(n.last, "\n"))
	}
	return nil
}

// stop ends the process, if it runs, in good order.
func (n *node) stop() error {
	if n.process == nil {
		return nil
	}
	if err := n.process.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, n.wait()) // it has ended by itself
	}
	timer := time.AfterFunc(time.Minute, func() { _ = n.process.Process.Kill() })
	defer timer.Stop()
	return n.wait()
}
