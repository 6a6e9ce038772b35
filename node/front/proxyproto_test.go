package front_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/front"
)

// proxyV2 makes a header of version 2.
func proxyV2(command, family byte, block string) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x20|command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(block)))) + block
}

const (
	v4Block = "\xc0\x00\x02\x07\x0a\x00\x00\x01\x30\x39\x00\x50"
	v6Block = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x30\x39\x00\x50"
)

// whose answers with what the handler knows of the client.
func whose(x *front.Exchange) {
	x.Status(200)
	x.Send(fmt.Appendf(nil, "%v %v %v %q", x.Peer(), x.Client(), x.Local(), x.Header("X-Forwarded-For")))
}

func proxied(t *testing.T, trusted string, change ...func(*front.Options)) *front.Server {
	o := front.Options{ProxyProtocol: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix(trusted)}, Logger: quiet()}
	for _, f := range change {
		f(&o)
	}
	return start(t, o, whose)
}

const get = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\r\n"

func TestProxyProtocol(t *testing.T) {
	s := proxied(t, "127.0.0.0/8")
	f := func(name, header, want string) {
		t.Helper()
		got := exchange(t, s, header+get)
		if _, body, _ := strings.Cut(got, "\r\n\r\n"); body != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	// The client is not the trusted proxy: what it says of others is not believed.
	f("v1", "PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n", `192.0.2.7 192.0.2.7 false ""`)
	f("v1 IPv6", "PROXY TCP6 2001:db8::7 2001:db8::1 12345 80\r\n", `2001:db8::7 2001:db8::7 false ""`)
	f("v1 unknown", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", `127.0.0.1 203.0.113.9 false "203.0.113.9"`)
	f("v1 short unknown", "PROXY UNKNOWN\r\n", `127.0.0.1 203.0.113.9 false "203.0.113.9"`)
	f("v2", proxyV2(1, 0x11, v4Block), `192.0.2.7 192.0.2.7 false ""`)
	f("v2 IPv6", proxyV2(1, 0x21, v6Block), `2001:db8::7 2001:db8::7 false ""`)
	f("v2 values behind", proxyV2(1, 0x11, v4Block+"\x04\x00\x03abc"), `192.0.2.7 192.0.2.7 false ""`)
	f("v2 local", proxyV2(0, 0, ""), `127.0.0.1 203.0.113.9 false "203.0.113.9"`)
	f("v2 unix", proxyV2(1, 0x31, strings.Repeat("x", 216)), `127.0.0.1 203.0.113.9 false "203.0.113.9"`)
	// Who says to be this machine is still somebody else.
	f("loopback", "PROXY TCP4 127.0.0.9 127.0.0.1 1 1\r\n", `127.0.0.9 203.0.113.9 false "203.0.113.9"`)

	for _, bad := range []string{
		get, "PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n" + get, "PROXY TCP4 2001:db8::7 10.0.0.1 1 1\r\n" + get, "PROXY TCP4 a b 1 1\r\n" + get,
		"PROXY TCP4 192.0.2.7 10.0.0.1 1 1\n" + get, "PROXY " + strings.Repeat("x", 200), "PROXY TCP5 192.0.2.7 10.0.0.1 1 1\r\n" + get,
		proxyV2(1, 0x11, "short") + get, proxyV2(2, 0x11, v4Block) + get, "\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + v4Block + get,
		"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + v4Block,
	} {
		nc := dial(t, s)
		io.WriteString(nc, bad)
		nc.CloseWrite()
		if got, _ := io.ReadAll(nc); len(got) != 0 {
			t.Errorf("%.30q is answered %q", bad, got)
		}
	}
}

// TestProxyProtocolOfStrangers: who is not trusted speaks plain HTTP, and cannot
// say who it is.
func TestProxyProtocolOfStrangers(t *testing.T) {
	s := proxied(t, "192.0.2.0/24")
	if got := exchange(t, s, get); !strings.HasSuffix(got, `127.0.0.1 127.0.0.1 true ""`) && !strings.Contains(got, "127.0.0.1 127.0.0.1") {
		t.Errorf("%q", got)
	}
	if got := exchange(t, s, "PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n"+get); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("%q", got)
	}
}

// TestProxyProtocolCounts: the limit of connections holds for clients behind the
// proxy, each for itself.
func TestProxyProtocolCounts(t *testing.T) {
	s := proxied(t, "127.0.0.0/8", func(o *front.Options) { o.MaxConnectionsPerAddress = 1 })
	keep := strings.Replace(get, "close", "keep-alive", 1)
	open := func(client string) (string, net.Conn) {
		nc := dial(t, s)
		io.WriteString(nc, "PROXY TCP4 "+client+" 10.0.0.1 12345 80\r\n"+keep)
		b := make([]byte, 12)
		n, _ := io.ReadFull(nc, b)
		return string(b[:n]), nc
	}
	if got, _ := open("192.0.2.1"); got != "HTTP/1.1 200" {
		t.Errorf("the first: %q", got)
	}
	if got, _ := open("192.0.2.1"); got != "" {
		t.Errorf("one too many: %q", got)
	}
	got, nc := open("192.0.2.2")
	if got != "HTTP/1.1 200" {
		t.Errorf("another client: %q", got)
	}
	nc.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, nc) // until the server has closed, and counted down before
	for range 1000 {        // it is counted down just after its end
		if got, _ = open("192.0.2.2"); got != "" {
			break
		}
	}
	if got != "HTTP/1.1 200" {
		t.Errorf("after it left: %q", got)
	}
}

// TestProxyProtocolBeforeTLS: the header comes before the handshake.
func TestProxyProtocolBeforeTLS(t *testing.T) {
	files := pairIn(t.TempDir(), "edge.example")
	cert := writePair(t, files, "edge.example")
	s := proxied(t, "127.0.0.0/8", func(o *front.Options) { o.TLS = files })
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	nc := dial(t, s)
	io.WriteString(nc, proxyV2(1, 0x11, v4Block))
	c := tls.Client(nc, &tls.Config{RootCAs: roots, ServerName: "edge.example"})
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, get)
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(got), `192.0.2.7 192.0.2.7 false ""`) {
		t.Errorf("%q %v", got, err)
	}
}
