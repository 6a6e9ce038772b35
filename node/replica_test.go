package node_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReplica: a node follows a hub that speaks TLS, wants a certificate and a token,
// and shows neither; its health says how it follows; it stops at once.
func TestReplica(t *testing.T) {
	a := newAuthority(t)
	hubDir, dir := t.TempDir(), t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	writePEM(t, ca, "CERTIFICATE", a.cert.Raw)
	cert, key := a.files(t, hubDir, "server", "hub.example")
	clientCert, clientKey := a.files(t, dir, "client")
	const secret = "a-secret-of-the-replica"
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	hub := inProcess(t, writeConfig(t, hubDir, strings.Replace(addresses, "[listen.admin]", fmt.Sprintf("tls = { cert = %q, key = %q, client_ca = %q }\n[listen.admin]", cert, key, ca), 1)+
		fmt.Sprintf("[[token]]\nname = \"replica\"\nsha256 = \"%x\"\nscopes = [\"read\", \"write\"]\nnamespace = \"uk/\"\n", sha256.Sum256([]byte(secret)))))
	r := inProcess(t, writeConfig(t, dir, addresses+fmt.Sprintf(`
[replica]
from = %q
prefixes = ["uk/"]
token_file = %q
tls = { server_name = "hub.example", ca = %q, cert = %q, key = %q }
`, strings.Replace(hub.data, "http:", "https:", 1), token, ca, clientCert, clientKey)))
	var health struct {
		Verdict string
		Replica struct {
			Hub, State, Error string
			Stale             bool
		}
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); health.Replica.State != "following" || health.Replica.Stale; <-tick.C {
		got := ask(t, "GET", r.admin+"/healthz", "").want(t, 200)
		if err := json.Unmarshal([]byte(got.body), &health); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("the hub is not followed: %s\n%s", got.body, r.log)
		}
	}
	put := ask(t, "PUT", r.data+"/v1/items/uk/1", "x").want(t, 201)
	get := ask(t, "GET", r.data+"/v1/items/uk/1", "").want(t, 200)
	if get.body != "x" || get.header.Get("Edge-Version") != put.header.Get("Edge-Version") || get.header.Get("Edge-Stale") != "" {
		t.Errorf("%q, %v, written was %v", get.body, get.header, put.header)
	}
	ask(t, "PUT", r.data+"/v1/items/de/1", "its own").want(t, 201)
	if page := ask(t, "GET", r.admin+"/config", "").want(t, 200); strings.Contains(page.body, secret) {
		t.Errorf("/config shows the token: %s", page.body)
	}
	if strings.Contains(r.log.String(), secret) {
		t.Error("the log shows the token")
	}
	if m := ask(t, "GET", r.admin+"/metrics", "").want(t, 200); !strings.Contains(m.body, `edgenode_replica_state{state="following"} 1`) || !strings.Contains(m.body, "edgenode_replica_forwarded_total 1\n") {
		t.Error("the metrics do not say that the hub is followed")
	}
}
