package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/hooks/meter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	dir := t.TempDir()
	module, manifest := filepath.Join(dir, "x.wasm"), filepath.Join(dir, "m.json")
	write := func(name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(module, hooktest.Guest(abi.Route, hooktest.Result(abi.OK, 0, 0)).Bytes())
	f := func(content, want string) {
		t.Helper()
		write(manifest, []byte(content))
		var stderr bytes.Buffer
		err := run([]string{"-manifest", manifest, module}, &stderr)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
	}
	f("{", "unexpected end of JSON")
	f(`{ "hooks": ["route"] }`, "")
	f(`{}`, "has a manifest already")
	b, err := os.ReadFile(module)
	if err != nil {
		t.Fatal(err)
	}
	m, err := meter.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := m.Custom(abi.SectionName); string(got) != `{"hooks":["route"]}` {
		t.Errorf("manifest %q", got)
	}
	write(module, []byte("x"))
	f(`{}`, "not a WebAssembly 1 binary")
	if err := run(nil, &bytes.Buffer{}); err == nil {
		t.Error("ran without a module")
	}
}
