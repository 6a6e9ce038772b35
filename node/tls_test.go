package node_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An authority signs certificates for a test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{pool: x509.NewCertPool()}
	der, key := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.key = key
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(t testing.TB, template *x509.Certificate) (der []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	if der, err = x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer); err != nil {
		t.Fatal(err)
	}
	return der, key
}

// files writes a certificate for names, and its key, and returns both paths.
func (a *authority) files(t testing.TB, dir, name string, hosts ...string) (cert, key string) {
	t.Helper()
	der, k := a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: hosts, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	keyDER, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	writePEM(t, cert, "CERTIFICATE", der)
	writePEM(t, key, "EC PRIVATE KEY", keyDER)
	return cert, key
}

func writePEM(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTLS: SNI and Host of different sites are refused, client certificates
// reach the hooks, and a reload takes new certificates.
func TestTLS(t *testing.T) {
	a := newAuthority(t)
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	writePEM(t, ca, "CERTIFICATE", a.cert.Raw)
	cert, key := a.files(t, dir, "server", "shop.example", "other.example", "localhost")
	clientCert, clientKey := a.files(t, dir, "client")
	pair, err := tls.LoadX509KeyPair(clientCert, clientKey)
	if err != nil {
		t.Fatal(err)
	}
	origin, _ := testOrigin(t, "main")
	module, err := filepath.Abs("../wasm-examples/route-header/route-header.wasm")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(addresses, "[listen.admin]", fmt.Sprintf("tls = { cert = %q, key = %q, client_ca = %q }\n[listen.admin]", cert, key, ca), 1)
	text += siteText(origin) + strings.NewReplacer(`"shop"`, `"other"`, "shop.example", "other.example").Replace(siteOnly) +
		fmt.Sprintf("[[hook]]\nname = \"h\"\nmodule = %q\nhooks = [\"route\"]\non_fault = \"deny\"\n", module)
	r := inProcess(t, writeConfig(t, dir, text))

	get := func(sni, host, path string) answer {
		t.Helper()
		c := &http.Client{Timeout: patience, Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: a.pool, ServerName: sni, Certificates: []tls.Certificate{pair}},
		}}
		req, err := http.NewRequest("GET", strings.Replace(r.data, "http://", "https://", 1)+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		serial := resp.TLS.PeerCertificates[0].SerialNumber.String()
		return answer{code: resp.StatusCode, body: serial}
	}
	first := get("shop.example", "shop.example", "/a").want(t, 200)
	get("other.example", "other.example", "/a").want(t, 200)
	get("shop.example", "other.example", "/a").want(t, 421)
	get("localhost", "shop.example", "/a").want(t, 421)
	// The example refuses /internal/ to clients without a certificate.
	get("shop.example", "shop.example", "/internal/a").want(t, 200)

	a.files(t, dir, "server", "shop.example")
	ask(t, "POST", r.admin+"/reload", "", "Content-Type", "application/json").want(t, 200)
	if next := get("shop.example", "shop.example", "/a").want(t, 200); next.body == first.body {
		t.Error("the old certificate is still in use after the reload")
	}
}

const siteOnly = `
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "main"
`
