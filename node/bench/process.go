package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Processors of a measurement: servers on one, who asks and the origin on the
// other.
const (
	serverCore = "0"
	clientCore = "1"
)

const (
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
)

// A process is a server that was started, with its children.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  string        // its output, a file
}

// start starts a server on one core. Its output goes to a file.
func (t *tool) start(name, core string, environ []string, args ...string) (*process, error) {
	if _, err := exec.LookPath("taskset"); err == nil {
		args = append([]string{"taskset", "-c", core}, args...)
	}
	log := filepath.Join(t.dir, name+".log")
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the process has its own
	c := exec.Command(args[0], args[1:]...)
	c.Env, c.Stdout, c.Stderr, c.Dir = append(os.Environ(), environ...), f, f, t.dir
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p := &process{name: name, cmd: c, done: make(chan struct{}), log: log}
	go func() { // ends with the process
		_ = c.Wait() // a signal ends it
		close(p.done)
	}()
	t.started = append(t.started, p)
	return p, nil
}

// stopAll ends what was started, the last first.
func (t *tool) stopAll() {
	for _, p := range slices.Backward(t.started) {
		p.stop()
	}
	t.started = nil
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// await waits until url is answered with 200.
func (p *process) await(ctx context.Context, url, host string) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(startTimeout); ; {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		req.Host = host
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close() // the status is enough
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if time.Now().After(late) {
			return fmt.Errorf("%s does not start: %w\n%s", p.name, err, contents(p.log))
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %s", p.name, contents(p.log))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// freeAddress returns an address of this machine on which nobody listens now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// A usage is what processes have used.
type usage struct {
	cpu      time.Duration // in user and system mode
	resident int64         // bytes
}

// usage returns that of the process and its children, who are alive.
func (p *process) usage() (usage, error) {
	var u usage
	parents, err := parents()
	if err != nil {
		return u, err
	}
	for _, pid := range family(p.cmd.Process.Pid, parents) {
		f, err := statFields(pid)
		if err != nil {
			return u, fmt.Errorf("%s: %w", p.name, err)
		}
		for _, i := range []int{statUser, statSystem} {
			n, err := strconv.ParseInt(f[i], 10, 64)
			if err != nil {
				return u, fmt.Errorf("%s: %w", p.name, err)
			}
			u.cpu += time.Duration(n) * tick
		}
		pages, err := strconv.ParseInt(f[statResident], 10, 64)
		if err != nil {
			return u, fmt.Errorf("%s: %w", p.name, err)
		}
		u.resident += pages * int64(os.Getpagesize())
	}
	return u, nil
}

// Fields of /proc/PID/stat after the name, and its unit of time, which is that
// of all platforms of Go.
const (
	statParent   = 1
	statUser     = 11
	statSystem   = 12
	statResident = 21

	tick = 10 * time.Millisecond
)

func statFields(pid int) ([]string, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The name may hold anything but ends with the last bracket.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) <= statResident {
		return nil, fmt.Errorf("/proc/%d/stat is short", pid)
	}
	return f, nil
}

// parents returns the parent of each process.
func parents() (map[int]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("what processes use is read from /proc: %w", err)
	}
	all := map[int]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f, err := statFields(pid); err == nil { // it may have ended meanwhile
			all[pid], _ = strconv.Atoi(f[statParent])
		}
	}
	return all, nil
}

// family returns pid and what descends from it.
func family(pid int, parents map[int]int) []int {
	list := []int{pid}
	for i := 0; i < len(list); i++ {
		for child, parent := range parents {
			if parent == list[i] {
				list = append(list, child)
			}
		}
	}
	return list
}

// folderBytes returns what the files of a folder take on disk.
func folderBytes(folder string) (n int64) {
	_ = filepath.WalkDir(folder, func(_ string, d os.DirEntry, err error) error { // files come and go
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			if s, ok := info.Sys().(*syscall.Stat_t); ok {
				n += s.Blocks * 512
			}
		}
		return nil
	})
	return n
}
