package node_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node"
	"github.com/edgenode/edgenode/node/config"
)

// binary is the static binary: EDGENODE_BIN, or built once for these tests.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if binary = os.Getenv("EDGENODE_BIN"); binary == "" {
			dir, err := os.MkdirTemp("", "edgenode-test-")
			if err != nil {
				panic(err)
			}
			defer os.RemoveAll(dir)
			binary = filepath.Join(dir, "edgenode")
			build := exec.Command("go", "build", "-o", binary, "../cmd/edgenode")
			build.Env = append(os.Environ(), "CGO_ENABLED=0")
			if out, err := build.CombinedOutput(); err != nil {
				panic(fmt.Sprintf("go build: %v\n%s", err, out))
			}
		}
		code := m.Run()
		client.CloseIdleConnections()
		// fasthttp's, which a benchmark starts and nobody can end
		if err := goleak.Find(goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1")); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return code
	}())
}

// client asks the nodes; a redirect is an answer like any other.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, ExpectContinueTimeout: patience},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       time.Minute,
}

// patience is how long anything may take before a test gives up.
const patience = time.Minute

// A logTap keeps a log and wakes who waits for a line.
type logTap struct {
	mu      sync.Mutex // guards the fields below
	changed chan struct{}
	text    []byte
	closed  bool
}

func newLogTap() *logTap { return &logTap{changed: make(chan struct{})} }

func (l *logTap) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	close(l.changed)
	l.changed = make(chan struct{})
	return len(b), nil
}

func (l *logTap) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *logTap) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

// wait returns the n-th line, from 1, that has all of parts.
func (l *logTap) wait(t testing.TB, n int, parts ...string) string {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		l.mu.Lock()
		text, changed, closed := string(l.text), l.changed, l.closed
		l.mu.Unlock()
		found := 0
		for line := range strings.Lines(text) {
			if hasAll(line, parts) {
				if found++; found == n {
					return line
				}
			}
		}
		if closed {
			t.Fatalf("the log ended without %q:\n%s", parts, text)
		}
		select {
		case <-changed:
		case <-timer.C:
			t.Fatalf("the log has no %q:\n%s", parts, text)
		}
	}
}

func hasAll(line string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(line, p) {
			return false
		}
	}
	return true
}

// attribute returns the value of key in a line of the log.
func attribute(line, key string) string {
	_, value, _ := strings.Cut(line, " "+key+"=")
	value, _, _ = strings.Cut(value, " ")
	return strings.TrimSpace(value)
}

// A running is a node under test, in this process or as one of its own.
type running struct {
	t           testing.TB
	log         *logTap
	data, admin string // base URLs
	signal      func(os.Signal)
	done        chan struct{} // closed when it has ended
	err         error         // then

	process *os.Process // of its own
}

// addresses makes a node listen on free ports of loopback.
const addresses = `
[listen.data]
address = "127.0.0.1:0"
[listen.admin]
address = "127.0.0.1:0"
`

// writeConfig writes a configuration for a node in dir and returns its name.
func writeConfig(t testing.TB, dir, text string) string {
	t.Helper()
	name := filepath.Join(dir, "edgenode.toml")
	text = fmt.Sprintf("data_dir = %q\n", filepath.Join(dir, "data")) + text
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// inProcess runs a node in this process. The test's end stops it.
func inProcess(t testing.TB, file string) *running {
	t.Helper()
	signals := make(chan os.Signal, 4)
	r := &running{t: t, log: newLogTap(), done: make(chan struct{}), signal: func(s os.Signal) { signals <- s }}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(r.done)
		defer r.log.end()
		r.err = node.Run(ctx, node.RunOptions{
			Load:       func() (*config.Config, error) { return config.Load(config.Source{Path: file}) },
			ConfigFile: file, Log: r.log, Signals: signals,
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
		if r.err != nil {
			t.Errorf("the node ended with %v", r.err)
		}
	})
	r.learnAddresses()
	return r
}

// asProcess runs the binary. The test's end kills it if it still runs.
func asProcess(t testing.TB, dir string, env []string, args ...string) *running {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Env = dir, append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &running{t: t, log: newLogTap(), done: make(chan struct{}), process: cmd.Process}
	r.signal = func(s os.Signal) {
		if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}
	go func() {
		defer close(r.done)
		lines := bufio.NewReader(stderr)
		_, _ = io.Copy(r.log, lines) // its end is the process's
		r.log.end()
		r.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-r.done
	})
	return r
}

// learnAddresses waits until the node is ready.
func (r *running) learnAddresses() {
	r.t.Helper()
	r.log.wait(r.t, 1, "msg=ready")
	r.admin = "http://" + attribute(r.log.wait(r.t, 1, "msg=listening listener=admin"), "address")
	r.data = "http://" + attribute(r.log.wait(r.t, 1, "msg=listening listener=data"), "address")
}

// end waits for the end of the process and returns its exit code, -1 for a
// signal.
func (r *running) end() int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatalf("the node does not end:\n%s", r.log)
	}
	var exit *exec.ExitError
	if errors.As(r.err, &exit) {
		return exit.ExitCode()
	}
	if r.err != nil {
		r.t.Fatal(r.err)
	}
	return 0
}

// An answer is what came back, read whole.
type answer struct {
	code   int
	header http.Header
	body   string
	last   bool // of its connection
}

// ask sends a request; header pairs follow the body.
func ask(t testing.TB, method, url, body string, header ...string) answer {
	t.Helper()
	a, err := tryAsk(method, url, body, header...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryAsk(method, url, body string, header ...string) (answer, error) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
			continue
		}
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return answer{}, err
	}
	return answer{resp.StatusCode, resp.Header, text.String(), resp.Close}, nil
}

// put stores an item.
func (r *running) put(id, content string, header ...string) answer {
	r.t.Helper()
	a := ask(r.t, "PUT", r.data+"/v1/items/"+id, content, header...)
	if a.code != 201 && a.code != 204 { // known to be new, or not
		r.t.Fatalf("put %s: status %d: %s", id, a.code, a.body)
	}
	return a
}

// want fails the test unless the answer has this status.
func (a answer) want(t testing.TB, code int) answer {
	t.Helper()
	if a.code != code {
		t.Fatalf("status %d, want %d: %s", a.code, code, a.body)
	}
	return a
}

var stop = syscall.SIGTERM
