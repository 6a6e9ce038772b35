// Package redistest starts real Redis servers for tests: one server ([Start]),
// a master with a replica and a sentinel ([StartSentinel]), and a cluster of
// three masters ([StartCluster]). It can kill, stop, continue, restart and empty
// them.
//
// Servers listen on 127.0.0.1 only, keep their files in the test's temporary
// directory, and are killed, each by its process id, when the test ends or its
// process dies. Nothing is persisted unless Options.Persist says so.
//
// Methods that cannot do their work end the test by t.Fatal; so they may be
// called only from the goroutine that runs the test.
package redistest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Persistence says what a server finds when it is started again.
type Persistence int

// The ways to persist.
const (
	None Persistence = iota // nothing
	RDB                     // what the last Save or orderly stop wrote
	AOF                     // every write, synced before it is answered
)

// Options of a server. The zero value is a plain one without persistence.
type Options struct {
	// Persist says whether a restarted server has its data.
	Persist Persistence
	// Password is asked of every client; empty means none.
	Password string
	// Args are further arguments of redis-server: "--maxmemory", "8mb".
	Args []string
}

// startLimit is how long a server, a sentinel or a cluster may take to be
// ready, and pollEvery is how often it is asked meanwhile.
const (
	startLimit = 30 * time.Second
	pollEvery  = 10 * time.Millisecond
)

// A Server is one redis-server process on a port that stays the same across
// restarts.
type Server struct {
	t      testing.TB
	dir    string
	port   int
	opts   Options
	config string   // configuration file of a sentinel, else empty
	args   []string // beside those of opts

	process *os.Process
	exited  chan struct{} // closed when process has ended and was waited for
}

// Start starts a server and waits until it answers. The server is killed when
// the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	return start(t, o, "")
}

// start is Start with a configuration file, if any, and arguments beside those
// of o. Another process may take the
// port between the choice and the start; then another one is tried.
func start(t testing.TB, o Options, config string, args ...string) *Server {
	t.Helper()
	for range 5 {
		s := &Server{t: t, dir: t.TempDir(), port: freePort(t), opts: o, config: config, args: args}
		if err := s.launch(); err == nil {
			t.Cleanup(s.Kill)
			return s
		} else if !strings.Contains(s.Log(), "Address already in use") {
			t.Fatalf("redistest: %v\n%s", err, s.Log())
		}
	}
	t.Fatal("redistest: no free port in five tries")
	return nil
}

// freePort returns a port below the range that systems hand out by themselves,
// whose cluster bus port (10,000 higher) is free too.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 10_001 + rand.IntN(11_999)
		if canListen(port) && canListen(port+10_000) {
			return port
		}
	}
	t.Fatal("redistest: found no free port in a hundred tries")
	return 0
}

func canListen(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatal("redistest: redis-server is not installed; `make test` installs it on Debian (package redis-server)")
	}
	cmd := exec.Command(path, s.arguments()...)
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, as a rule
		close(exited)
	}()
	s.process, s.exited = cmd.Process, exited
	return s.awaitPing()
}

func (s *Server) arguments() []string {
	var args []string
	if s.config != "" {
		args = append(args, s.config)
	}
	args = append(args, "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir,
		"--logfile", filepath.Join(s.dir, "redis.log"), "--daemonize", "no")
	if s.config == "" { // a sentinel persists nothing
		args = append(args, s.persistArgs()...)
	}
	if s.opts.Password != "" {
		args = append(args, "--requirepass", s.opts.Password, "--masterauth", s.opts.Password)
	}
	return append(append(args, s.args...), s.opts.Args...)
}

func (s *Server) persistArgs() []string {
	if s.opts.Persist == AOF {
		return []string{"--save", "", "--appendonly", "yes", "--appendfsync", "always"}
	}
	return []string{"--save", "", "--appendonly", "no"}
}

// awaitPing asks until the server answers PING and has loaded its data.
func (s *Server) awaitPing() error {
	var last error
	ok := poll(s.exited, func() bool {
		_, last = call(s.Addr(), s.opts.Password, "PING")
		return last == nil
	})
	if !ok {
		return fmt.Errorf("redis-server on port %d is not ready after %v: %w", s.port, startLimit, last)
	}
	return nil
}

// poll calls f until it is true. It gives up, and returns false, after
// startLimit or when stop is closed.
func poll(stop <-chan struct{}, f func() bool) bool {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-stop:
			return false
		case <-limit.C:
			return false
		}
	}
	return true
}

// Port returns the server's port.
func (s *Server) Port() int { return s.port }

// Addr returns host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL returns the redis:// address of database 0, with the password if there
// is one.
func (s *Server) URL() string { return "redis://" + s.opts.userinfo() + s.Addr() + "/0" }

// userinfo returns ":password@", or "" if there is none.
func (o *Options) userinfo() string {
	if o.Password == "" {
		return ""
	}
	return url.UserPassword("", o.Password).String() + "@"
}

// Pid returns the id of the running process.
func (s *Server) Pid() int { return s.process.Pid }

// Log returns what the server has logged, for messages.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "redis.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Kill ends the process at once (SIGKILL), stopped or not, and waits for its
// end. What was not persisted is lost. A killed server is left as it is.
func (s *Server) Kill() {
	_ = s.process.Kill() // it may have ended by itself
	<-s.exited
}

// Stop halts the process (SIGSTOP): it keeps its connections and answers
// nothing until Cont.
func (s *Server) Stop() { s.signal(syscall.SIGSTOP) }

// Cont lets a stopped process go on.
func (s *Server) Cont() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: signal %v to process %d: %v", sig, s.process.Pid, err)
	}
}

// Restart kills the server if it runs and starts it again on the same port,
// with what it persisted. It returns when the server answers.
func (s *Server) Restart() {
	s.t.Helper()
	s.Kill()
	if err := s.launch(); err != nil {
		s.t.Fatalf("redistest: restart: %v\n%s", err, s.Log())
	}
}

// Wipe replaces the server by an empty one on the same port: it kills it,
// deletes its data and starts it again. To empty a server that goes on running
// call Do("FLUSHALL").
func (s *Server) Wipe() {
	s.t.Helper()
	s.Kill()
	for _, name := range []string{"dump.rdb", "appendonlydir", "appendonly.aof"} {
		if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
			s.t.Fatalf("redistest: wipe: %v", err)
		}
	}
	s.Restart()
}

// Save writes the data to disk, so that a restarted server with RDB has it.
func (s *Server) Save() {
	s.t.Helper()
	s.Do("SAVE")
}

// Do sends one command on a connection of its own and returns the answer:
// string, int64, nil, or []any of these. An error answer ends the test.
func (s *Server) Do(args ...string) any {
	s.t.Helper()
	v, err := s.Try(args...)
	if err != nil {
		s.t.Fatalf("redistest: %.200q: %v", args, err)
	}
	return v
}

// Try is Do that returns the error. It may be called from any goroutine.
func (s *Server) Try(args ...string) (any, error) { return call(s.Addr(), s.opts.Password, args...) }

// Info returns one field of INFO, or "".
func (s *Server) Info(section, field string) string {
	s.t.Helper()
	return infoField(s.Do("INFO", section), field)
}

func infoField(info any, field string) string {
	text, _ := info.(string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && name == field {
			return value
		}
	}
	return ""
}
