// Package mariadbtest starts real MariaDB servers for tests. [Shared] gives the
// one server of a test process, [Server.Database] an empty database on it;
// [Start] gives a server of its own to tests that kill, stop or reconfigure it.
//
// Servers listen on 127.0.0.1 and a socket, keep their files in a temporary
// directory and are killed, each by its process id, when the test ends or its
// process dies. Commits are as durable as in production
// (innodb_flush_log_at_trx_commit=1); all else is set for a quick start.
package mariadbtest

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Who may log in, with all rights.
const (
	User     = "edgenode"
	Password = "se/cr:et"
)

// Options of a server. The zero value is a plain one.
type Options struct {
	// Args are further arguments of mariadbd, which win over the usual ones:
	// "--max-allowed-packet=1M".
	Args []string
}

// startLimit is how long a server may take to be ready, and pollEvery is how
// often it is asked meanwhile.
const (
	startLimit = 60 * time.Second
	pollEvery  = 20 * time.Millisecond
)

// A Server is one mariadbd process on a port that stays the same across
// restarts. Its methods may be called from any goroutine unless they take a
// testing.TB: these end the test when they cannot do their work, and belong to
// the goroutine that runs it.
type Server struct {
	dir  string
	port int
	opts Options

	databases atomic.Int64
	process   *os.Process
	exited    chan struct{} // closed when process has ended and was waited for
}

// Start starts a server and waits until it answers, some seconds. The server is
// killed when the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	s, err := start(t.TempDir(), o)
	if err != nil {
		t.Fatalf("mariadbtest: %v", err)
	}
	t.Cleanup(s.Kill)
	return s
}

// shared is the server of this process. A process of tests needs one, whoever
// asks first; Main ends it.
var shared struct {
	sync.Mutex
	server *Server
	dir    string
	err    error
}

// Shared returns the server that the tests of this process share, and starts it
// when it is asked for the first time. The package's TestMain must run its tests
// by Main. Do not kill or stop it.
func Shared(t testing.TB) *Server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil && shared.err == nil {
		if shared.dir, shared.err = os.MkdirTemp("", "mariadbtest"); shared.err == nil {
			shared.server, shared.err = start(shared.dir, Options{})
		}
	}
	if shared.err != nil {
		t.Fatalf("mariadbtest: %v", shared.err)
	}
	return shared.server
}

// A Runner runs tests; *testing.M is one.
type Runner interface{ Run() int }

// Main returns a Runner that runs m and then ends the shared server, if there
// is one: goleak.VerifyTestMain(mariadbtest.Main(m)).
func Main(m Runner) Runner { return runner{m} }

type runner struct{ m Runner }

func (r runner) Run() int {
	code := r.m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		shared.server.Kill()
	}
	if err := os.RemoveAll(shared.dir); err != nil {
		fmt.Fprintln(os.Stderr, "mariadbtest:", err)
	}
	return code
}

// start makes a data directory in dir and starts a server on it. Another
// process may take the port between the choice and the start; then another one
// is tried.
func start(dir string, o Options) (*Server, error) {
	s := &Server{dir: dir, opts: o}
	if err := s.install(); err != nil {
		return nil, err
	}
	for range 5 {
		var err error
		if s.port, err = freePort(); err != nil {
			return nil, err
		}
		if err = s.launch(); err == nil {
			return s, nil
		}
		s.Kill()
		if !strings.Contains(s.Log(), "already in use") {
			return nil, fmt.Errorf("%w\n%s", err, s.Log())
		}
	}
	return nil, fmt.Errorf("no free port in five tries")
}

// freePort returns a port below the range that systems hand out by themselves.
func freePort() (int, error) {
	for range 100 {
		port := 22_000 + rand.IntN(10_000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("found no free port in a hundred tries")
}

// find returns the path of a program of the server's package; Debian keeps the
// server where only root looks.
func find(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed; `make servers` installs it on Debian (package mariadb-server)", name)
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// install makes the data directory, below a second, and the script that lets
// the tests log in.
func (s *Server) install() error {
	path, err := find("mariadb-install-db")
	if err != nil {
		return err
	}
	args := append([]string{"--no-defaults", "--datadir=" + s.data(), "--auth-root-authentication-method=normal",
		"--skip-test-db", "--innodb-log-file-size=64M"}, asRoot()...)
	cmd := exec.Command(path, args...)
	if cmd.Env, err = s.environ(); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", path, err, out)
	}
	login := fmt.Sprintf("CREATE USER IF NOT EXISTS '%s'@'%%' IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO '%s'@'%%';\n", User, Password, User)
	return os.WriteFile(s.script(), []byte(login), 0o600)
}

// environ gives the server a temporary directory of its own: at its start it
// removes the temporary tables that it finds there, and those of another one
// that is running too.
func (s *Server) environ() ([]string, error) {
	tmp := filepath.Join(s.dir, "tmp")
	return append(os.Environ(), "TMPDIR="+tmp), os.MkdirAll(tmp, 0o700)
}

func (s *Server) script() string { return filepath.Join(s.dir, "login.sql") }

// asRoot lets the server run as root when the tests do.
func asRoot() []string {
	if os.Getuid() == 0 {
		return []string{"--user=root"}
	}
	return nil
}

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	path, err := find("mariadbd")
	if err != nil {
		return err
	}
	args := append([]string{"--no-defaults", "--datadir=" + s.data(), "--bind-address=127.0.0.1", "--port=" + strconv.Itoa(s.port),
		"--socket=" + s.Socket(), "--pid-file=" + filepath.Join(s.dir, "pid"), "--log-error=" + s.log(), "--init-file=" + s.script(),
		"--skip-name-resolve", "--performance-schema=OFF", "--innodb-buffer-pool-size=128M", "--innodb-log-file-size=64M",
		"--innodb-flush-log-at-trx-commit=1", "--max-connections=200"}, asRoot()...)
	cmd := exec.Command(path, append(args, s.opts.Args...)...)
	cmd.SysProcAttr = dieWithParent()
	if cmd.Env, err = s.environ(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start mariadbd: %w", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, as a rule
		close(exited)
	}()
	s.process, s.exited = cmd.Process, exited
	return s.await()
}

// await asks until the server answers a query.
func (s *Server) await() error {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		last := s.Try("SELECT 1")
		if last == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.exited:
			return fmt.Errorf("mariadbd on port %d has ended: %w", s.port, last)
		case <-limit.C:
			return fmt.Errorf("mariadbd on port %d is not ready after %v: %w", s.port, startLimit, last)
		}
	}
}

// Port returns the server's port.
func (s *Server) Port() int { return s.port }

// Addr returns host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Socket returns the path of the server's socket. It is short: the system allows
// some 100 bytes.
func (s *Server) Socket() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("mariadbtest-%d.sock", s.port))
}

// Pid returns the id of the running process.
func (s *Server) Pid() int { return s.process.Pid }

func (s *Server) log() string { return filepath.Join(s.dir, "mariadb.log") }

// Log returns what the server has logged, for messages.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// URL returns the mysql:// address of a database, with user and password.
func (s *Server) URL(database string) string { return s.URLAt(s.Addr(), database) }

// URLAt is URL with another host:port, that of a proxy.
func (s *Server) URLAt(addr, database string) string {
	u := url.URL{Scheme: "mysql", User: url.UserPassword(User, Password), Host: addr, Path: "/" + database}
	return u.String()
}

// Database creates an empty database and returns its name. It is dropped when
// the test ends, if the server answers then.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.databases.Add(1))
	s.Do(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { _ = s.Try("DROP DATABASE " + name) }) // the server may be gone
	return name
}

// Do runs statements on a connection of their own. An error ends the test.
func (s *Server) Do(t testing.TB, statements ...string) {
	t.Helper()
	if err := s.Try(statements...); err != nil {
		t.Fatalf("mariadbtest: %.200q: %v", statements, err)
	}
}

// Try is Do that returns the error.
func (s *Server) Try(statements ...string) error {
	conn, err := s.Connect()
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, text := range statements {
		if _, err := conn.(driver.ExecerContext).ExecContext(context.Background(), text, nil); err != nil {
			return err
		}
	}
	return nil
}

// Connect opens a connection to no database, with the driver's settings.
func (s *Server) Connect() (driver.Conn, error) {
	c := mysql.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.Logger = User, Password, "tcp", s.Addr(), &mysql.NopLogger{}
	c.Timeout, c.ReadTimeout, c.WriteTimeout = 5*time.Second, 30*time.Second, 5*time.Second
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return connector.Connect(context.Background())
}

// Kill ends the process at once (SIGKILL), stopped or not, and waits for its
// end. A killed server is left as it is.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Kill() // it may have ended by itself
	<-s.exited
	_ = os.Remove(s.Socket())
}

// Stop halts the process (SIGSTOP): it keeps its connections and answers
// nothing until Cont.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
}

// Cont lets a stopped process go on.
func (s *Server) Cont(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

func (s *Server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.process.Signal(sig); err != nil {
		t.Fatalf("mariadbtest: signal %v to process %d: %v", sig, s.process.Pid, err)
	}
}

// Restart kills the server if it runs and starts it again on the same port and
// data, with these arguments instead of those of its options if there are any.
// It returns when the server answers.
func (s *Server) Restart(t testing.TB, args ...string) {
	t.Helper()
	s.Kill()
	if len(args) > 0 {
		s.opts.Args = args
	}
	if err := s.launch(); err != nil {
		t.Fatalf("mariadbtest: restart: %v\n%s", err, s.Log())
	}
}
