package durable_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgenode/edgenode/tiers/durable"
)

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	content := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%q, %v; want %q", b, err, want)
		}
		if _, err := os.Stat(path + ".new"); !os.IsNotExist(err) {
			t.Errorf("the file beside it: %v", err)
		}
	}
	if err := durable.Replace(path, []byte("longer than the next")); err != nil {
		t.Fatal(err)
	}
	if err := durable.Replace(path, []byte("one")); err != nil {
		t.Fatal(err)
	}
	content("one")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	broken := errors.New("broken")
	err := durable.ReplaceBy(path, func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("%v, want the writer's error", err)
	}
	content("one")
	if err := durable.Replace(filepath.Join(path, "in a file"), nil); err == nil {
		t.Error("a file was made below a file")
	}
}
