package front_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/front"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// fasthttp's, which benchmarks start and nobody can end
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"))
}

// patience bounds every wait of a test; no test waits that long.
const patience = time.Minute

// start serves h on a free loopback port until the test ends.
func start(t testing.TB, o front.Options, h front.Handler) *front.Server {
	t.Helper()
	if o.Address == "" && o.Listener == nil {
		o.Address = "127.0.0.1:0"
	}
	s, err := front.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start(h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

func dial(t testing.TB, s *front.Server) *net.TCPConn {
	t.Helper()
	nc, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { nc.Close() })
	return nc.(*net.TCPConn)
}

// exchange sends raw, then closes the sending side, and returns all that came.
func exchange(t testing.TB, s *front.Server, raw string) string {
	t.Helper()
	nc := dial(t, s)
	go func() {
		io.WriteString(nc, raw)
		nc.CloseWrite()
	}()
	b, err := io.ReadAll(nc)
	if err != nil {
		t.Errorf("read after %q: %v, got %q", raw, err, b)
	}
	return string(b)
}

// expect reads exactly want from nc.
func expect(t testing.TB, nc io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if n, err := io.ReadFull(nc, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b[:n], err, want)
	}
}

// ended fails unless nc is at its end.
func ended(t testing.TB, nc io.Reader) {
	t.Helper()
	if n, err := io.Copy(io.Discard, nc); n != 0 || err != nil {
		t.Errorf("at the end: %d bytes, %v", n, err)
	}
}

// A recorder answers every request with 200 and keeps what it saw.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) serve(x *front.Exchange) {
	body, err := io.ReadAll(x.Body())
	line := fmt.Sprintf("%s %s %s", x.Method(), x.Target(), x.Host())
	if len(body) > 0 {
		line += " " + string(body)
	}
	if err != nil {
		line += " !" + strings.TrimPrefix(err.Error(), "front: ")
	}
	r.mu.Lock()
	r.seen = append(r.seen, line)
	r.mu.Unlock()
	if err != nil {
		x.Status(400)
	} else {
		x.Status(200)
	}
	x.Add("Date", "now")
	x.Send(nil)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

// quiet is a logger for tests that make the server log.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// notify is a logger that sends each message to to.
func notify(to chan<- string) *slog.Logger { return slog.New(messages{slog.DiscardHandler, to}) }

type messages struct {
	slog.Handler
	to chan<- string
}

func (m messages) Enabled(context.Context, slog.Level) bool { return true }

func (m messages) Handle(_ context.Context, r slog.Record) error {
	m.to <- r.Message
	return nil
}

func decimal(n int) string { return strconv.Itoa(n) }
func hex(n int) string     { return strconv.FormatInt(int64(n), 16) }

// statuses returns the status codes of the answers in raw, whose bodies hold no
// status line.
func statuses(raw string) string {
	var codes []string
	for _, part := range strings.Split(raw, "HTTP/1.1 ")[1:] {
		codes = append(codes, part[:3])
	}
	return strings.Join(codes, " ")
}
