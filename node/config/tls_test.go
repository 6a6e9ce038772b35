package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
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

// TestReplica: where the hub is, which ids are its, and how it is known.
func TestReplica(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfSigned(t)
	ca := writeFile(t, dir, "ca.pem", cert, 0o644)
	keyFile := writeFile(t, dir, "key.pem", key, 0o600)
	token := writeFile(t, dir, "token", "secret-of-this-replica\n", 0o600)
	c := mustLoad(t, "[replica]\nfrom = \"https://hub.example:8443\"\nprefixes = [\"uk/\", \"shop.\"]\ntoken_file = \""+token+"\"\ntls.ca = \""+ca+"\"\n")
	if c.Replica.Token != "secret-of-this-replica" || c.Replica.Writes != "forward" {
		t.Errorf("%+v", c.Replica)
	}
	if b, err := json.Marshal(c.Effective()); err != nil || strings.Contains(string(b), "secret-of") {
		t.Errorf("the token is shown: %s, %v", b, err)
	}
	f := func(text string, want ...string) {
		t.Helper()
		has(t, faultsOf(t, "[replica]\n"+text).Error(), want...)
	}
	const hub = "from = \"http://hub:8080\"\n"
	f("from = \"hub:8080\"\n", "replica.from", "the scheme is neither")
	f("from = \"http://u:p@hub:8080\"\n", "replica.from", "token_file")
	f("from = \"http://hub:8080/v1\"\n", "replica.from", "a path or a query")
	f("from = \"http:///\"\n", "replica.from", "the host is missing")
	f(hub+"prefixes = [\"uk\"]\n", "replica.prefixes", "separator")
	f(hub+"prefixes = [\"uk/\", \"uk/\"]\n", "stands twice")
	f("prefixes = [\"uk/\"]\n", "replica.from is not set")
	f("token_file = \""+token+"\"\n", "replica.from is not set")
	f(hub+"token_file = \""+writeFile(t, dir, "two", "two words\n", 0o600)+"\"\n", "does not hold a token")
	f(hub+"token_file = \""+writeFile(t, dir, "open", "secret\n", 0o644)+"\"\n", "chmod o-rwx")
	f(hub+"tls.ca = \""+ca+"\"\n", "replica.from is not https")
	const secure = "from = \"https://hub:8443\"\n"
	f(secure+"tls.ca = \""+keyFile+"\"\n", "no certificate in the file")
	f(secure+"tls.cert = \""+ca+"\"\n", "one of cert and key without the other")
	f(secure+"tls.server_name = \"a b\"\n", "not a host name")
	f(hub+"writes = \"maybe\"\n", "forward, refuse")
	has(t, faultsOf(t, "merkle_calc_enabled = false\n[replica]\n"+hub).Error(), "merkle_calc_enabled", "tree of hashes")
	has(t, faultsOf(t, "sql_url = \"mysql://u@h/d\"\n[replica]\n"+hub).Error(), "this one is shared")
}
