package hooktool_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/hooks"
	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/node/hooktool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestProjectsHaveTheHeader: projects in C get the header as it is.
func TestProjectsHaveTheHeader(t *testing.T) {
	want, err := os.ReadFile("../../hooks/guest/c/edge.h")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "guard")
	if _, err := hooktool.NewProject("c", dir); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "edge.h"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("edge.h of a new project is not the header of the SDK")
	}
}

// TestProjectsBuild builds what needs no network with the compilers that are
// there, by the commands that a user is told, and runs its cases.
func TestProjectsBuild(t *testing.T) {
	f := func(language string, tools ...string) {
		t.Helper()
		for _, tool := range tools {
			if _, err := exec.LookPath(tool); err != nil {
				t.Logf("%s: %s is not there", language, tool)
				return
			}
		}
		p, err := hooktool.NewProject(language, filepath.Join(t.TempDir(), "my-"+language))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range p.Build {
			c := exec.Command("sh", "-ec", line)
			c.Dir = p.Dir
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%s: %s: %v\n%s", language, line, err, out)
			}
		}
		m, err := hooktool.ReadModule(filepath.Join(p.Dir, p.Module))
		if err != nil {
			t.Fatal(err)
		}
		cases, err := hooktool.ReadCases(filepath.Join(p.Dir, "cases.toml"))
		if err != nil {
			t.Fatal(err)
		}
		outcomes, err := hooktool.RunCases(t.Context(), m, cases)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			if !o.Passed {
				t.Errorf("%s: %s: %v", language, o.Name, o.Differences)
			}
		}
	}
	f("c", "make", "clang", "wasm-ld")
	f("wat", "wat2wasm")
}

// TestSignatureIsTaken by the host that trusts the key, and by no other.
func TestSignatureIsTaken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ops.key")
	made, err := hooktool.NewKey(file, "ops")
	if err != nil {
		t.Fatal(err)
	}
	key, err := hooktool.ReadKey(file)
	if err != nil || key.Public() != made.Public() || key.ID != "ops" {
		t.Fatalf("read %+v, made %+v, %v", key.Public(), made.Public(), err)
	}
	module := hooktest.Guest(abi.Route, hooktest.Result(abi.Default, 0, 0)).Bytes()
	f := func(public string, want bool) {
		t.Helper()
		raw, err := base64.StdEncoding.DecodeString(public)
		if err != nil {
			t.Fatal(err)
		}
		h, err := hooks.Open(hooks.Options{TrustedKeys: map[string]ed25519.PublicKey{"ops": raw}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Load(t.Context(), []hooks.Spec{{Name: "x", Bytes: module, Signature: key.Sign(module)}})
		if (err == nil) != want {
			t.Errorf("loading: %v", err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	f(key.Public(), true)
	other, err := hooktool.NewKey(filepath.Join(t.TempDir(), "b.key"), "ops")
	if err != nil {
		t.Fatal(err)
	}
	f(other.Public(), false)
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := hooktool.ReadKey(file); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
}

// TestLog holds what is taken from a line of a log, as its decision tells.
func TestLog(t *testing.T) {
	module := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(module, hooktest.Guest(abi.TTL, hooktest.Result(abi.OK, 0, 7)).Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := hooktool.ReadModule(module)
	if err != nil {
		t.Fatal(err)
	}
	f := func(line, key string, asked int) {
		t.Helper()
		log := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(log, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		rec, err := hooktool.ReadRecording(log, hooktool.ReadOptions{})
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		tallies, err := hooktool.Decide(t.Context(), m, rec, func(d hooktool.Decision) error {
			if d.Lifetime == nil || *d.Lifetime != 7 {
				t.Errorf("%s: %+v", line, d)
			}
			return nil
		})
		if err != nil || len(tallies) != 1 || tallies[0].Asked != asked || rec.Requests[0].Key != key {
			t.Errorf("%s: key %q, %+v, %v", line, rec.Requests[0].Key, tallies, err)
		}
	}
	f(`{"method":"GET","target":"/a?b","host":"x","scheme":"https","status":200,"site":"s","ttl":4}`, "https://x/a?b", 1)
	f(`{"method":"GET","target":"/v1/items/a%2Fb?verify=1","host":"x","status":200}`, "a/b", 1)
	f(`{"method":"HEAD","target":"/a","status":200}`, "http://localhost/a", 0)
	f(`h - - [02/Jan/2026:03:04:05 +0100] "GET http://x/a HTTP/1.0" 304 -`, "http://x/a", 0)
	f(`::1 - u [02/Jan/2026:03:04:05 +0100] "GET /a\"b HTTP/1.0" 200 17 "r" "a\"b"`, `http://localhost/a\"b`, 1)
}

func FuzzReadRecording(f *testing.F) {
	f.Add([]byte(`{"method":"GET","target":"/a","status":200}`))
	f.Add([]byte(`h - - [02/Jan/2026:03:04:05 +0100] "GET /a HTTP/1.0" 304 - "r" "a"`))
	f.Add([]byte("ECT1 {\"requests\":1}\n\x01\x05"))
	f.Fuzz(func(t *testing.T, content []byte) {
		log := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(log, content, 0o600); err != nil {
			t.Fatal(err)
		}
		rec, err := hooktool.ReadRecording(log, hooktool.ReadOptions{})
		if err == nil && len(rec.Requests) == 0 && rec.Trace == nil {
			t.Error("neither requests nor a trace, and no error")
		}
	})
}

func TestParseCapacity(t *testing.T) {
	f := func(s string, want int64) {
		t.Helper()
		got, err := hooktool.ParseCapacity(s, 1000)
		if (err == nil) != (want > 0) || got != want {
			t.Errorf("%s: got %d, %v", s, got, err)
		}
	}
	f("1", 1)
	f("64MiB", 64<<20)
	f("1.5KiB", 1536)
	f("10%", 100)
	f("0", 0)
	f("-1", 0)
	f("NaN", 0)
	f("inf", 0)
	f("10 MB", 0)
	f("0.01%", 0)
}
