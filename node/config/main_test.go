package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/node/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loadText loads text as if it were the file c.toml.
func loadText(text string, env ...string) (*config.Config, error) {
	return config.Load(config.Source{Path: "c.toml", Data: []byte(text), Env: env})
}

// mustLoad loads text that has no faults.
func mustLoad(t testing.TB, text string, env ...string) *config.Config {
	t.Helper()
	c, err := loadText(text, env...)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return c
}

// faultsOf loads text that has faults.
func faultsOf(t testing.TB, text string, env ...string) config.Faults {
	t.Helper()
	_, err := loadText(text, env...)
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("Load of %q = %v, want faults", text, err)
	}
	return faults
}

// writeFile writes a file into dir and returns its path.
func writeFile(t testing.TB, dir, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return path
}

// has reports a test error unless text contains every part.
func has(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not contain %q", text, p)
		}
	}
}
