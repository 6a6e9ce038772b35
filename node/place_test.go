package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/config"
)

// TestPlace: a data directory goes on only beside the database it began with.
func TestPlace(t *testing.T) {
	f := func(name string, was, now config.Config, want string) {
		t.Helper()
		dir := t.TempDir()
		was.DataDir, now.DataDir = dir, dir
		if err := checkPlace(&was); err != nil {
			t.Fatalf("%s: a new directory: %v", name, err)
		}
		if err := keepPlace(&was); err != nil {
			t.Fatal(err)
		}
		err := checkPlace(&now)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), placeFile)) {
			t.Errorf("%s: got %v, want %q and the way out", name, err, want)
		}
	}
	sqlite := func(path string) config.Config { return config.Config{SQLitePath: path} }
	server := func(url string) config.Config { return config.Config{SQLURL: url} }
	f("same file", sqlite(""), sqlite(""), "")
	f("another file", sqlite(""), sqlite("/elsewhere/a.db"), "belongs to the SQLite file edgenode.sqlite")
	f("to a server", sqlite(""), server("mysql://u@h/d"), "names the SQL server h:3306/d; remove sql_url")
	f("from a server", server("mysql://u@h/d"), sqlite(""), "set sql_url so that it names h:3306/d again")
	f("another user and port written out", server("mysql://u@H/d?tls=true"), server("mysql://v@h:3306/d"), "")
	f("another database", server("mysql://u@h/d"), server("mysql://u@h/e"), "h:3306/e")
	f("another socket", server("mysql://u@/d?socket=/a"), server("mysql://u@/d?socket=/b"), "socket:/a")

	// A directory moves with what is in it.
	before, after := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	if err := os.Mkdir(before, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := keepPlace(&config.Config{DataDir: before, SQLitePath: filepath.Join(before, "x.db")}); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(before, after); err != nil {
		t.Fatal(err)
	}
	if err := checkPlace(&config.Config{DataDir: after, SQLitePath: filepath.Join(after, "x.db")}); err != nil {
		t.Errorf("after the directory was moved: %v", err)
	}

	// One of an older version has no note, but the file.
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, "edgenode.sqlite"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkPlace(&config.Config{DataDir: old, SQLURL: "mysql://u@h/d"}); err == nil {
		t.Error("a directory with an SQLite file was taken for a server")
	}
	if err := os.WriteFile(filepath.Join(old, placeFile), []byte(`{"format":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkPlace(&config.Config{DataDir: old}); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("a newer note: %v", err)
	}
	if err := os.WriteFile(filepath.Join(old, placeFile), []byte(`{`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkPlace(&config.Config{DataDir: old}); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("a broken note: %v", err)
	}
}
