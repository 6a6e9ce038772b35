package front_test

import (
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
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/front"
)

// writePair writes a certificate for name, signed by itself, and its key.
func writePair(t testing.TB, files front.TLS, name string) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(file, kind string, b []byte) {
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(files.Cert, "CERTIFICATE", der)
	write(files.Key, "PRIVATE KEY", secret)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func pairIn(dir, name string) front.TLS {
	return front.TLS{Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+".key")}
}

func dialTLS(t testing.TB, s *front.Server, c *tls.Config) (*tls.Conn, error) {
	t.Helper()
	nc, err := tls.Dial("tcp", s.Addr().String(), c)
	if err == nil {
		nc.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { nc.Close() })
	}
	return nc, err
}

func TestTLS(t *testing.T) {
	files := pairIn(t.TempDir(), "server")
	writePair(t, files, "one.example")
	gone := make(chan error, 1)
	s := start(t, front.Options{TLS: files, Logger: quiet()}, func(x *front.Exchange) {
		if string(x.Target()) == "/wait" {
			ctx := x.Context()
			<-ctx.Done()
			gone <- context.Cause(ctx)
			return
		}
		x.Status(200)
		x.Add("Date", "D")
		x.Send([]byte(x.Scheme()))
	})
	// named returns the name in the certificate of a new connection.
	named := func() string {
		nc, err := dialTLS(t, s, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		state := nc.ConnectionState()
		if state.NegotiatedProtocol != "http/1.1" {
			t.Errorf("protocol %q, want http/1.1", state.NegotiatedProtocol)
		}
		for range 2 {
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			expect(t, nc, "HTTP/1.1 200 OK\r\nDate: D\r\nContent-Length: 5\r\n\r\nhttps")
		}
		return state.PeerCertificates[0].Subject.CommonName
	}
	if got := named(); got != "one.example" {
		t.Errorf("certificate of %s", got)
	}
	writePair(t, files, "two.example")
	if err := s.ReloadCertificates(); err != nil {
		t.Error(err)
	}
	if got := named(); got != "two.example" {
		t.Errorf("certificate of %s after the reload", got)
	}
	if err := os.WriteFile(files.Key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.ReloadCertificates(); err == nil || !strings.Contains(err.Error(), files.Key) {
		t.Errorf("reload of a broken key: %v", err)
	}
	if got := named(); got != "two.example" {
		t.Errorf("certificate of %s after a failed reload", got)
	}

	nc, err := dialTLS(t, s, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(nc, "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
	nc.Close()
	if err := <-gone; err != front.ErrClientGone {
		t.Errorf("cause %v, want %v", err, front.ErrClientGone)
	}

	plain, err := net.Dial("tcp", s.Addr().String()) // a request without TLS ends soon
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	plain.SetDeadline(time.Now().Add(patience))
	io.WriteString(plain, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if _, err := io.ReadAll(plain); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a request without TLS is held")
	}
}

// TestChangedFiles holds that new files are found without being told.
func TestChangedFiles(t *testing.T) {
	files := pairIn(t.TempDir(), "server")
	writePair(t, files, "one.example")
	reloaded := make(chan string, 1)
	s := start(t, front.Options{TLS: files, Logger: notify(reloaded)}, func(x *front.Exchange) {})
	writePair(t, files, "two.example.longer")
	front.LookAtFiles(s)
	if got := <-reloaded; got != "certificate reloaded" {
		t.Errorf("log says %q", got)
	}
	front.LookAtFiles(s) // nothing has changed
	if err := os.WriteFile(files.Cert, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	front.LookAtFiles(s)
	if got := <-reloaded; got != "certificate files changed, the old ones stay" {
		t.Errorf("log says %q", got)
	}
}

func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	files, mine, other := pairIn(dir, "server"), pairIn(dir, "client"), pairIn(dir, "other")
	writePair(t, files, "server.example")
	writePair(t, mine, "client.example")
	writePair(t, other, "other.example")
	files.ClientCA = mine.Cert
	s := start(t, front.Options{TLS: files}, func(x *front.Exchange) {
		x.Status(204)
		x.Send(nil)
	})
	f := func(pair front.TLS, want string) {
		t.Helper()
		c := &tls.Config{InsecureSkipVerify: true}
		if pair.Cert != "" {
			cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
			if err != nil {
				t.Fatal(err)
			}
			c.Certificates = []tls.Certificate{cert}
		}
		got := ""
		if nc, err := dialTLS(t, s, c); err == nil {
			io.WriteString(nc, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
			b, _ := io.ReadAll(nc)
			got = statuses(string(b))
		}
		if got != want {
			t.Errorf("with %q: got %q, want %q", pair.Cert, got, want)
		}
	}
	f(mine, "204")
	f(other, "")
	f(front.TLS{}, "")
}
