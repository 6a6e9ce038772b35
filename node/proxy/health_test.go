package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestHealthCounts: it takes some checks in a row to change sides, and each
// change is told once.
func TestHealthCounts(t *testing.T) {
	rule := Health{Healthy: 2, Unhealthy: 3}.withDefaults()
	var h health
	bad := errors.New("status 500")
	f := func(step int, err error, changed, down bool) {
		t.Helper()
		if got := h.note(&rule, int64(step), err); got != changed || h.down.Load() != down {
			t.Errorf("step %d: changed %v, down %v, want %v, %v", step, got, h.down.Load(), changed, down)
		}
	}
	f(1, nil, false, false)
	f(2, bad, false, false)
	f(3, bad, false, false)
	f(4, nil, false, false) // not in a row
	f(5, bad, false, false)
	f(6, bad, false, false)
	f(7, bad, true, true)
	f(8, bad, false, true)
	f(9, nil, false, true)
	f(10, bad, false, true)
	f(11, nil, false, true)
	f(12, nil, true, false)
	f(13, nil, false, false)
	if h.checked != 13 || h.last != "" {
		t.Errorf("last check at %d met %q", h.checked, h.last)
	}
}

// checked is a world with two origins and a clock for health checks that the
// test turns: the second origin is well as long as the test says so.
type checked struct {
	*world
	pl    *pool
	other net.Listener
}

func newChecked(t *testing.T, change ...func(*Options)) *checked {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &checked{other: other}
	c.world = newWorld(t, append([]func(*Options){func(o *Options) {
		o.Pools[0].Origins = append(o.Pools[0].Origins, "http://"+other.Addr().String())
		o.Pools[0].Health = Health{Path: "/healthz?x=1", Healthy: 1, Unhealthy: 2, Status: []int{200, 204}}
		o.ticks = func(time.Duration) (<-chan time.Time, func()) { return nil, func() {} } // only the first check, by itself
	}}, change...)...)
	t.Cleanup(func() { other.Close() })
	c.pl = c.p.table.Load().pools["main"]
	return c
}

// TestHealthTakesOut: an origin whose checks fail is not asked, and is asked
// again when they succeed; nobody ever waited for it.
func TestHealthTakesOut(t *testing.T) {
	c := newChecked(t)
	c.other.Close() // connection refused
	c.always(c.ok("Cache-Control: no-store", "here"))
	for range 3 {
		for _, o := range c.pl.origins {
			c.pl.check(t.Context(), o)
		}
	}
	if r := c.lastRequest(); r.URL.String() != "/healthz?x=1" || r.Host != c.ln.Addr().String() || r.Method != "GET" {
		t.Errorf("asked %s %s of %s", r.Method, r.URL, r.Host)
	}
	states := c.p.Pools()
	if len(states) != 1 || len(states[0].Origins) != 2 || states[0].Origins[0].State != "up" || states[0].Origins[1].State != "down" || states[0].Origins[1].LastError == "" {
		t.Fatalf("states %+v", states)
	}
	c.p.m.retries.Set(0)
	for range 10 {
		if x := c.get("/a"); x.status != 200 || x.out.String() != "here" {
			t.Errorf("got %d %q", x.status, &x.out)
		}
	}
	if n := c.p.m.retries.Get(); n != 0 {
		t.Errorf("%d requests met the origin that is down", n)
	}
	ln, err := net.Listen("tcp", c.other.Addr().String())
	if err != nil {
		t.Skip("the port went to somebody else")
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil { // an answer that nobody asked for yet is a failure
				io.WriteString(conn, "HTTP/1.1 204 Fine\r\n\r\n")
			}
			conn.Close()
		}
	}()
	c.pl.check(t.Context(), c.pl.origins[1])
	if s := c.p.Pools()[0].Origins[1]; s.State != "up" || s.LastError != "" {
		t.Errorf("back: %+v", s)
	}
}

// TestHealthOfAnswers: what counts as well, and that a silent origin does not.
func TestHealthOfAnswers(t *testing.T) {
	c := newChecked(t)
	f := func(answer, want string) {
		t.Helper()
		c.always(answer)
		err := c.pl.ask(t.Context(), c.pl.origins[0])
		if got := ""; err != nil {
			if got = err.Error(); want == "" || !strings.Contains(got, want) {
				t.Errorf("%.20q: %v, want %q", answer, err, want)
			}
		} else if want != "" {
			t.Errorf("%.20q is well, want %q", answer, want)
		}
	}
	f("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "")
	f("HTTP/1.1 204 No Content\r\n\r\n", "")
	f("HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "status 301")
	f("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "status 503")
	f("nonsense\r\n\r\n", "malformed")
	c.pl.Health.Timeout = time.Millisecond
	gone := make(chan struct{})
	c.does(func(net.Conn, *http.Request) { <-gone })
	defer close(gone)
	if err := c.pl.ask(t.Context(), c.pl.origins[0]); !errors.Is(err, errHealthSlow) {
		t.Errorf("a silent origin: %v", err)
	}
}

// TestHealthOutlivesReload: a reload forgets nothing of origins that stay, and
// ends the checks of the old pool.
func TestHealthOutlivesReload(t *testing.T) {
	c := newChecked(t)
	o := c.pl.origins[1]
	o.health.down.Store(true)
	o.failures.Store(7)
	pools := []Pool{c.options.Pools[0]}
	if err := c.p.Configure(c.options.Sites, pools); err != nil {
		t.Fatal(err)
	}
	now := c.p.table.Load().pools["main"].origins[1]
	if now == o || !now.health.down.Load() || now.failures.Load() != 7 {
		t.Errorf("after a reload: same %v, down %v, failures %d", now == o, now.health.down.Load(), now.failures.Load())
	}
	pools[0].Health = Health{} // who is not checked any more cannot be down
	if err := c.p.Configure(c.options.Sites, pools); err != nil {
		t.Fatal(err)
	}
	if c.p.table.Load().pools["main"].origins[1].health.down.Load() {
		t.Error("down for ever")
	}
}

// TestHealthLoop: a tick makes a check, the end of the pool ends the goroutine.
func TestHealthLoop(t *testing.T) {
	tick := make(chan time.Time)
	asked := make(chan struct{}, 8)
	w := newWorld(t, func(o *Options) {
		o.Pools[0].Health = Health{Path: "/h"}
		o.ticks = func(d time.Duration) (<-chan time.Time, func()) {
			if d != DefaultHealthInterval {
				t.Errorf("interval %v", d)
			}
			return tick, func() {}
		}
	})
	w.says(func(r *http.Request) string {
		asked <- struct{}{}
		return w.ok("", "")
	})
	tick <- time.Time{} // the first check, made at the start, has ended
	tick <- time.Time{} // and this one has
	<-asked
	if n := w.p.m.healthOK.Get() + w.p.m.healthFailed.Get(); n < 2 {
		t.Errorf("%d checks", n)
	}
}

// authority is a certificate authority of a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	dir  string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.file = filepath.Join(a.dir, "ca.pem")
	a.cert, a.key = a.sign(t, "ca", true)
	writePEM(t, a.file, "CERTIFICATE", a.cert.Raw)
	return a
}

func (a *authority) sign(t testing.TB, name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name)) + 7), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true, DNSNames: []string{name},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, by := c, key
	if a.cert != nil {
		parent, by = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return c, key
}

// issue writes a certificate and its key for a name.
func (a *authority) issue(t testing.TB, name string) (cert, key string) {
	t.Helper()
	c, k := a.sign(t, name, false)
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	writePEM(t, cert, "CERTIFICATE", c.Raw)
	writePEM(t, key, "EC PRIVATE KEY", der)
	return cert, key
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOriginTLS: who the origin is, and who the node is, is verified both ways.
func TestOriginTLS(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	serverCert, serverKey := a.issue(t, "origin.internal")
	clientCert, clientKey := a.issue(t, "edge")
	pair, err := tls.LoadX509KeyPair(serverCert, serverKey)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	asked := make(chan string, 16)
	f := func(name string, conf PoolTLS, ask tls.ClientAuthType, status int, sni string) {
		t.Helper()
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: []tls.Certificate{pair}, ClientAuth: ask, ClientCAs: roots,
			GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) { asked <- h.ServerName; return nil, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, func(o *Options) {
			o.Pools[0].Origins[0] = "https://" + ln.Addr().String()
			o.Pools[0].TLS, o.Pools[0].ConnectTimeout = conf, time.Minute // authorities of the system are read, on a busy machine
			o.Pools[0].RetryPercent, o.Pools[0].RetryBurst = -1, -1
		})
		w.ln.Close()
		w.conns.Wait()
		w.ln = ln
		w.conns.Add(1)
		go w.accept()
		w.always(w.ok("", "secret"))
		if x := w.get("/"); x.status != status {
			t.Errorf("%s: got %d %s, want %d", name, x.status, &x.out, status)
		}
		if got := <-asked; got != sni {
			t.Errorf("%s: asked for %q, want %q", name, got, sni)
		}
	}
	f("unknown authority", PoolTLS{}, tls.NoClientCert, 502, "")
	f("another's name", PoolTLS{CA: a.file}, tls.NoClientCert, 502, "")
	f("by name", PoolTLS{CA: a.file, ServerName: "origin.internal"}, tls.NoClientCert, 200, "origin.internal")
	f("another authority", PoolTLS{CA: stranger.file, ServerName: "origin.internal"}, tls.NoClientCert, 502, "origin.internal")
	f("insecure", PoolTLS{Insecure: true}, tls.NoClientCert, 200, "")
	f("no certificate shown", PoolTLS{CA: a.file, ServerName: "origin.internal"}, tls.RequireAndVerifyClientCert, 502, "origin.internal")
	f("certificate shown", PoolTLS{CA: a.file, ServerName: "origin.internal", Cert: clientCert, Key: clientKey}, tls.RequireAndVerifyClientCert, 200, "origin.internal")

	w := newWorld(t)
	for _, bad := range []PoolTLS{{CA: "nowhere.pem"}, {CA: clientKey}, {Cert: clientCert}, {Cert: clientCert, Key: serverKey}} {
		if err := w.p.Configure(w.options.Sites, []Pool{{Name: "main", Origins: []string{"https://a"}, TLS: bad}}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestRetryBudget: each pool has its own, earned by requests.
func TestRetryBudget(t *testing.T) {
	p := &Proxy{o: Options{Now: func() int64 { return 0 }}}
	f := func(percent, burst, requests, want int) {
		t.Helper()
		pl, err := newPool(Pool{Name: "p", Origins: []string{"http://a"}, RetryPercent: percent, RetryBurst: burst}.withDefaults(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for pl.retryAllowed() {
			got++
		}
		for range requests {
			pl.earnRetry()
			if pl.retryAllowed() {
				got++
			}
		}
		if got != want {
			t.Errorf("%d %%, burst %d, %d requests: %d repeats, want %d", percent, burst, requests, got, want)
		}
	}
	f(0, 0, 100, 20) // ten at once, one of ten
	f(50, 1, 10, 6)
	f(100, 2, 10, 12)
	f(-1, 3, 100, 3)
	f(-1, -1, 100, 0)
	f(10, -1, 100, 0)
}

// TestSlowOriginBlocksNoHit: hits go on while the origin answers nothing.
func TestSlowOriginBlocksNoHit(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Pools[0].MaxConnections = 1 })
	w.always(w.ok("Cache-Control: max-age=60", "stored"))
	w.get("/stored")
	gone, came := make(chan struct{}), make(chan struct{})
	w.does(func(net.Conn, *http.Request) { close(came); <-gone })
	ctx, leave := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		x := w.request("GET", "/slow")
		x.ctx = ctx
		w.p.Serve(x)
	}()
	<-came
	for range 100 {
		if x := w.get("/stored"); x.status != 200 || x.out.String() != "stored" {
			t.Fatalf("got %d", x.status)
		}
	}
	leave()
	close(gone)
	<-done
}
