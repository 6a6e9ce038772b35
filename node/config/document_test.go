package config_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/config"
)

const document = "../../edgenode.toml"

func readDocument(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// uncomment turns the example keys of edgenode.toml, which begin with # and no
// space, into keys.
func uncomment(data []byte) []byte {
	return regexp.MustCompile(`(?m)^#([a-z\[])`).ReplaceAll(data, []byte("$1"))
}

func TestDocumentIsTheDefaults(t *testing.T) {
	c, err := config.Load(config.Source{Path: document})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Effective(), config.Default().Effective(); !sameJSON(t, got, want) {
		t.Errorf("edgenode.toml = %v\nwant the defaults %v", got, want)
	}
}

func TestDocumentExamplesLoad(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, dir, "operator.token", "0123456789abcdef0123456789abcdef\n", 0o600)
	path := writeFile(t, dir, "edgenode.toml", string(uncomment(readDocument(t))), 0o600)
	c, err := config.Load(config.Source{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.L3Tables) != 1 || len(c.Namespaces) != 1 || len(c.Pools) != 1 || len(c.Sites) != 1 || len(c.Hooks) != 1 || len(c.Tokens) != 2 {
		t.Errorf("examples = %d tables, %d pools, %d sites, %d hooks, %d tokens", len(c.L3Tables), len(c.Pools), len(c.Sites), len(c.Hooks), len(c.Tokens))
	}
}

// TestDocumentHasEveryKey compares each key of the structs with its line and the
// comment above it: default, range, words, reload.
func TestDocumentHasEveryKey(t *testing.T) {
	lines := documented(string(uncomment(readDocument(t))))
	for _, k := range config.Keys() {
		entry, ok := lines[k.Path]
		if !ok {
			t.Errorf("%s is not in edgenode.toml", k.Path)
			continue
		}
		reload := "Restart."
		if k.Reloads {
			reload = "Reloads."
		}
		has(t, k.Path+": "+entry, reload, k.Range)
		has(t, k.Path+": "+entry, k.OneOf...)
		optional := strings.Contains(k.Path, "[]") && !strings.Contains(entry, "Required.") &&
			k.Path != "token[].sha256" && k.Path != "token[].file" // one of the two
		if optional {
			has(t, k.Path+": "+entry, "default "+k.Default)
		}
	}
}

// documented returns the comment above each key of an uncommented document, with
// its line ends as spaces.
func documented(text string) map[string]string {
	entries := map[string]string{}
	table, comment := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch key, _, isKey := strings.Cut(line, " ="); {
		case strings.HasPrefix(line, "#"):
			comment += " " + strings.TrimPrefix(line, "# ")
			continue
		case strings.HasPrefix(line, "[["):
			table = strings.Trim(line, "[]") + "[]."
		case strings.HasPrefix(line, "["):
			table = strings.Trim(line, "[]") + "."
		case isKey:
			if _, ok := entries[table+key]; !ok { // the second [[token]] says less
				entries[table+key] = comment
			}
		}
		comment = ""
	}
	return entries
}

func TestKeys(t *testing.T) {
	names := map[string]string{}
	for _, k := range config.Keys() {
		if other, ok := names[k.Env]; ok && k.Env != "" {
			t.Errorf("%s and %s have one variable, %s", k.Path, other, k.Env)
		}
		names[k.Env] = k.Path
		if strings.Contains(k.Path, "[]") != (k.Env == "") {
			t.Errorf("%s has the variable %q", k.Path, k.Env)
		}
	}
	if got := names["EDGENODE_LISTEN_DATA_TLS_CLIENT_CA"]; got != "listen.data.tls.client_ca" {
		t.Errorf("EDGENODE_LISTEN_DATA_TLS_CLIENT_CA = %q", got)
	}
}
