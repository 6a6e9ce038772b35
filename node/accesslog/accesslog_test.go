package accesslog

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, o Options) *Log {
	t.Helper()
	l := Open(o)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func content(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRecord(t *testing.T) {
	f := func(r Record, want string) {
		t.Helper()
		got := string(r.appendTo(nil))
		if got != want || !json.Valid([]byte(got)) {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	at := time.Date(2030, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	f(Record{Time: at, Method: "GET", Status: 200}, `{"time":"2030-01-02T03:04:05.678Z","method":"GET","status":200,"bytes":0,"ms":0}`)
	f(Record{
		Time: at, Took: 1500 * time.Microsecond, Client: netip.MustParseAddr("2001:db8::1"), Method: "GET", Scheme: "https", Host: []byte("shop.example"),
		Target: []byte("/a?b=\"\\\x00\xff\u00e4"), HTTP10: true, Status: 200, Bytes: 7, Cut: true, Site: "shop", Cache: "hit", Detail: "l1", Origin: 304,
		Stored: true, Waited: true, HasTTL: true, TTL: -3, Agent: []byte("x\r\ny"), Referer: []byte("z"), Upgraded: true,
	}, `{"time":"2030-01-02T03:04:05.678Z","client":"2001:db8::1","method":"GET","scheme":"https","host":"shop.example",`+
		`"target":"/a?b=\"\\\u0000`+"\ufffd\u00e4"+`","http":"1.0","status":200,"bytes":7,"ms":1.5,"cut":true,"upgraded":true,"site":"shop","cache":"hit","detail":"l1",`+
		`"origin_status":304,"stored":true,"collapsed":true,"ttl":-3,"agent":"x\u000d\u000ay","referer":"z"}`)
}

func TestSampling(t *testing.T) {
	l := open(t, Options{Stdout: &bytes.Buffer{}})
	count := func(status int) (n int) {
		for range 10_000 {
			if l.Wants(status) {
				n++
			}
		}
		return n
	}
	f := func(path string, share float64, status, least, most int) {
		t.Helper()
		if err := l.Configure(path, share); err != nil {
			t.Fatal(err)
		}
		if n := count(status); n < least || n > most || l.On() != (path != "") {
			t.Errorf("%q %v: %d of 10000 answers %d", path, share, n, status)
		}
	}
	f("", 1, 200, 0, 0)
	f("", 1, 500, 0, 0)
	f(Stdout, 1, 200, 10_000, 10_000)
	f(Stdout, 0.1, 200, 800, 1200)
	f(Stdout, 0, 200, 0, 0)
	f(Stdout, 0, 502, 10_000, 10_000)
}

// TestReopen: a renamed file gets what came before, a new one what comes after.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	name, old := filepath.Join(dir, "access.log"), filepath.Join(dir, "access.log.1")
	l := open(t, Options{})
	if err := l.Configure(name, 1); err != nil {
		t.Fatal(err)
	}
	l.Write(&Record{Method: "ONE"})
	if err := os.Rename(name, old); err != nil {
		t.Fatal(err)
	}
	l.Write(&Record{Method: "TWO"})
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Write(&Record{Method: "THREE"})
	l.Flush()
	if a, b := content(t, old), content(t, name); strings.Count(a, "\n") != 2 || !strings.Contains(a, "TWO") || strings.Count(b, "\n") != 1 || !strings.Contains(b, "THREE") {
		t.Errorf("old %q, new %q", a, b)
	}
	if err := l.Configure(filepath.Join(dir, "nowhere", "x"), 1); err == nil {
		t.Error("a directory that is not there is taken")
	}
	l.Write(&Record{Method: "FOUR"})
	l.Flush()
	if got := content(t, name); !strings.Contains(got, "FOUR") {
		t.Errorf("after a failure: %q", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l.Write(&Record{Method: "FIVE"})
	if err := l.Close(); err != nil || strings.Contains(content(t, name), "FIVE") {
		t.Errorf("after the end: %v", err)
	}
}

// slow is an output that takes nothing until it is told to.
type slow struct {
	begun, goOn chan struct{}
	once        sync.Once
	err         error
	n           int
}

func (s *slow) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.begun); <-s.goOn })
	s.n += bytes.Count(b, []byte("\n"))
	return len(b), s.err
}

// TestSlowDisk: requests never wait for the disk; what does not fit is counted.
func TestSlowDisk(t *testing.T) {
	var text bytes.Buffer
	out := &slow{begun: make(chan struct{}), goOn: make(chan struct{}), err: errors.New("disk full")}
	l := open(t, Options{Stdout: out, Log: slog.New(slog.NewTextHandler(&text, nil))})
	if err := l.Configure(Stdout, 1); err != nil {
		t.Fatal(err)
	}
	l.Write(&Record{})
	<-out.begun
	r := Record{Target: bytes.Repeat([]byte("x"), 1000)}
	for range 10_000 {
		l.Write(&r)
	}
	close(out.goOn)
	l.Flush()
	if got := l.m.dropped.Get(); got == 0 || int(got)+out.n != 10_001 {
		t.Errorf("%d lines dropped, %d written", got, out.n)
	}
	if got := strings.Count(text.String(), "lines are lost"); got != 1 {
		t.Errorf("told %d times", got)
	}
}

func TestConcurrent(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a")
	l := open(t, Options{})
	if err := l.Configure(name, 1); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				l.Write(&Record{Method: "GET"})
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := l.Reopen(); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	l.Flush()
	lines := strings.Split(strings.TrimSpace(content(t, name)), "\n")
	for _, line := range lines {
		if !json.Valid([]byte(line)) {
			t.Fatalf("not JSON: %q", line)
		}
	}
	if len(lines) != 1600 {
		t.Errorf("%d lines", len(lines))
	}
}

func BenchmarkRecord(b *testing.B) {
	r := Record{Time: time.Now(), Client: netip.MustParseAddr("192.0.2.1"), Method: "GET", Scheme: "http", Host: []byte("shop.example"),
		Target: []byte("/img/logo.png"), Status: 200, Bytes: 1234, Site: "shop", Cache: "hit", Detail: "l1", HasTTL: true, TTL: 59, Agent: []byte("curl/8")}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = r.appendTo(buf[:0])
	}
}

// A pipe is an output that takes lines when it is read.
type pipe chan string

func (p pipe) Write(b []byte) (int, error) {
	p <- string(b)
	return len(b), nil
}

// TestStuckOutput: an output that takes nothing holds up neither a reload nor the
// end of the node.
func TestStuckOutput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := make(pipe)
		l := Open(Options{Stdout: out})
		if err := l.Configure(Stdout, 1); err != nil {
			t.Fatal(err)
		}
		l.Write(&Record{Status: 200})
		time.Sleep(gather + 1) // in the bubble: until the goroutine writes
		l.Write(&Record{Status: 201})
		if err := l.Configure("", 0); !errors.Is(err, ErrStuck) {
			t.Errorf("Configure: %v", err)
		}
		if err := l.Reopen(); !errors.Is(err, ErrStuck) {
			t.Errorf("Reopen: %v", err)
		}
		if !l.On() {
			t.Error("the failed change has switched it off")
		}
		if err := l.Close(); !errors.Is(err, ErrStuck) {
			t.Errorf("Close: %v", err)
		}
		for _, want := range []string{`"status":200`, `"status":201`} {
			if line := <-out; !strings.Contains(line, want) {
				t.Errorf("got %q", line)
			}
		}
	})
}

// A tearing output fails in the middle of its first line.
type tearing struct {
	bytes.Buffer
	torn bool
}

func (w *tearing) Write(b []byte) (int, error) {
	if !w.torn {
		w.torn = true
		n, _ := w.Buffer.Write(b[:10])
		return n, errors.New("full")
	}
	return w.Buffer.Write(b)
}

// TestTornLine: after a line that was written in part the next one is whole.
func TestTornLine(t *testing.T) {
	out := &tearing{}
	l := open(t, Options{Stdout: out})
	if err := l.Configure(Stdout, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l.Write(&Record{Status: 200})
		l.Flush()
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || json.Valid([]byte(lines[0])) || !json.Valid([]byte(lines[1])) {
		t.Errorf("%q", lines)
	}
}
