package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// selfSigned returns a certificate and its key, PEM.
func selfSigned(t testing.TB) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Unix(4e9, 0), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfSigned(t)
	_, otherKey := selfSigned(t)
	certFile := writeFile(t, dir, "cert.pem", cert, 0o644)
	keyFile := writeFile(t, dir, "key.pem", key, 0o600)
	text := func(cert, key, ca string) string {
		return "[listen.admin]\naddress = \":8081\"\ntls.cert = \"" + cert + "\"\ntls.key = \"" + key + "\"\ntls.client_ca = \"" + ca + "\"\n"
	}
	c := mustLoad(t, text(certFile, keyFile, certFile)) // client certificates guard the admin listener
	if !c.Listen.Admin.TLS.Enabled() || c.Listen.Data.TLS.Enabled() {
		t.Error("TLS is to be on for the admin listener only")
	}
	f := func(cert, key, ca string, want ...string) {
		t.Helper()
		has(t, faultsOf(t, text(cert, key, ca)).Error(), want...)
	}
	f(certFile, keyFile, keyFile, "c.toml:5: listen.admin.tls.client_ca", "no certificate in the file")
	f(certFile, writeFile(t, dir, "other.pem", otherKey, 0o600), certFile, "c.toml:3: listen.admin.tls.cert", "unusable with tls.key")
	f(certFile, writeFile(t, dir, "open.pem", key, 0o644), certFile, "c.toml:4: listen.admin.tls.key", "chmod o-rwx")
	f("none.pem", keyFile, certFile, "c.toml:3: listen.admin.tls.cert", "none.pem cannot be read")
	f(certFile, keyFile, "", "c.toml:2: listen.admin.address", "reachable from other machines")
}
