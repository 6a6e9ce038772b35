package crash_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a process; a busy machine needs it now and then.
const patience = time.Minute

// inTime is the limit of what is promised within a time: the promise in a soak, and
// elsewhere what only a hang exceeds.
func inTime(promised time.Duration) time.Duration {
	if soak {
		return promised
	}
	return max(promised, patience)
}

// A process is an edgenode that serves on ports of its own.
type process struct {
	tb     testing.TB
	cmd    *exec.Cmd
	ready  chan struct{} // closed when it says so
	ended  chan struct{} // closed when it is gone; then the exit code is known
	client *http.Client

	mu          sync.Mutex
	lines       []string
	seen        chan struct{} // one signal for each line, as far as somebody waits
	data, admin string        // addresses
}

// launch starts a node on dir and does not wait for it. settings are
// EDGENODE_<KEY>=value.
func launch(tb testing.TB, dir string, settings ...string) *process {
	tb.Helper()
	return launchCommand(tb, exec.Command(binary), append(settings, "EDGENODE_DATA_DIR="+dir)...)
}

func launchCommand(tb testing.TB, cmd *exec.Cmd, settings ...string) *process {
	tb.Helper()
	p := &process{tb: tb, cmd: cmd, ready: make(chan struct{}), ended: make(chan struct{}), seen: make(chan struct{}, 64)}
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "EDGENODE_LISTEN_DATA_ADDRESS=127.0.0.1:0", "EDGENODE_LISTEN_ADMIN_ADDRESS=127.0.0.1:0",
	}, settings...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: patience}
	go p.follow(stderr)
	tb.Cleanup(p.kill)
	return p
}

// start starts a node on dir and returns when it is ready.
func start(tb testing.TB, dir string, settings ...string) *process {
	tb.Helper()
	p := launch(tb, dir, settings...)
	p.await()
	return p
}

var listening = regexp.MustCompile(`msg=listening listener=(\w+) address=(\S+)`)

// follow reads the log to its end and then reaps the process.
func (p *process) follow(log io.Reader) {
	defer close(p.ended)
	for s := bufio.NewScanner(log); s.Scan(); {
		line := s.Text()
		p.mu.Lock()
		p.lines = append(p.lines, line)
		if m := listening.FindStringSubmatch(line); m != nil && m[1] == "data" {
			p.data = "http://" + m[2]
		} else if m != nil {
			p.admin = "http://" + m[2]
		}
		p.mu.Unlock()
		if strings.Contains(line, "msg=ready") {
			close(p.ready)
		}
		select {
		case p.seen <- struct{}{}:
		default:
		}
	}
	_ = p.cmd.Wait() // the exit code is in ProcessState
}

// await returns when the node is ready.
func (p *process) await() {
	p.tb.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.ready:
	case <-p.ended:
		p.tb.Fatalf("the node ended with code %d:\n%s", p.cmd.ProcessState.ExitCode(), p.log())
	case <-late.C:
		p.tb.Fatalf("the node is not ready after %v:\n%s", patience, p.log())
	}
}

// awaitLines returns when the log has n lines or the process has ended.
func (p *process) awaitLines(n int) {
	for range n {
		select {
		case <-p.seen:
		case <-p.ended:
			return
		}
	}
}

// kill sends SIGKILL and returns when the process is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.ended
	p.client.CloseIdleConnections()
}

// signal sends s.
func (p *process) signal(s syscall.Signal) {
	p.tb.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.tb.Fatal(err)
	}
}

// end waits until the process has ended by itself and returns its exit code.
func (p *process) end() int {
	p.tb.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-p.ended:
	case <-late.C:
		p.tb.Fatalf("the process has not ended after %v:\n%s", patience, p.log())
	}
	return p.cmd.ProcessState.ExitCode()
}

// log returns what the process has logged so far.
func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// An answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	body   string
	close  bool // the connection ends with it
}

// ask sends a request to the data listener, or, when path has a scheme, there.
func (p *process) ask(ctx context.Context, method, path, body string, header ...string) (*answer, error) {
	if !strings.HasPrefix(path, "http") {
		path = p.data + path
	}
	req, err := http.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.GetBody = nil // never sent twice: a ledger must know what was asked
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	if err := resp.Body.Close(); err != nil {
		return nil, err
	}
	a := &answer{resp.StatusCode, resp.Header, string(text), resp.Close}
	return a, err // with an error, a.body is as far as it came
}

// must is ask for requests that have to be answered with one of the statuses.
func (p *process) must(method, path, body string, statuses []int, header ...string) *answer {
	p.tb.Helper()
	a, err := p.ask(context.Background(), method, path, body, header...)
	if err != nil {
		p.tb.Fatalf("%s %s: %v\n%s", method, path, err, p.log())
	}
	for _, s := range statuses {
		if a.status == s {
			return a
		}
	}
	p.tb.Fatalf("%s %s = %d, want one of %v: %s", method, path, a.status, statuses, a.body)
	return nil
}

var (
	ok      = []int{200}
	written = []int{201, 204}
)

// writeFile writes a file into dir and returns its path.
func writeFile(tb testing.TB, dir, name, content string) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}
