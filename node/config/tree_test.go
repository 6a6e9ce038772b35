package config_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/edgenode/edgenode/"

// homes says where each third-party library may be imported, tests aside: below
// these folders and nowhere else.
var homes = map[string][]string{
	"github.com/BurntSushi/toml":         {"node/config", "hooks/hooktest"},
	"github.com/alecthomas/kong":         {"cmd/edgenode", "node"},
	"github.com/cespare/xxhash/v2":       {"tiers", "hooks", "node"},
	"github.com/google/uuid":             {"tiers", "node"},
	"github.com/VictoriaMetrics/metrics": {"tiers", "hooks", "node"},
	"github.com/tetratelabs/wazero":      {"hooks"},
	"github.com/valyala/fasthttp":        {"node"},
	"github.com/anishathalye/porcupine":  {"tiers/tiertest"},
	"go.uber.org/goleak":                 {"tiers/tiertest", "hooks/hooktest"},
	"pgregory.net/rapid":                 {"tiers/tiertest"},
	"golang.org/x/sys":                   {"tiers", "node", "cmd/edgenode"},
	"golang.org/x/time":                  {"tiers", "hooks", "node"},
	"github.com/go-sql-driver/mysql":     {"tiers/l3", "tiers/tiertest"},
	"github.com/redis/go-redis/v9":       {"tiers/l2", "node"}, // node: its logger, which is the process's
	"github.com/klauspost/compress":      {"tiers"},
	"github.com/failsafe-go/failsafe-go": {"tiers/breaker"},
	"modernc.org/sqlite":                 {"tiers/l3"},
	"modernc.org/libc":                   {"tiers/l3"},
}

// TestImports holds the direction of imports: cmd → node → tiers and hooks, which
// never meet below node; and that each library has its home.
func TestImports(t *testing.T) {
	eachFile(t, func(file string, syntax *ast.File) {
		dir := path.Dir(file)
		for _, spec := range syntax.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if inside, ok := strings.CutPrefix(imported, modulePath); ok {
				if rule := forbidden(dir, inside); rule != "" {
					t.Errorf("%s imports %s: %s", file, inside, rule)
				}
			} else if first, _, _ := strings.Cut(imported, "/"); strings.Contains(first, ".") && !atHome(dir, imported) {
				t.Errorf("%s imports %s, which has no home there", file, imported)
			}
		}
		for _, decl := range syntax.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function: start in Open, end in Close", file)
			}
		}
	})
}

// eachFile parses the Go files of the repository, tests and examples aside.
func eachFile(t *testing.T, f func(file string, syntax *ast.File)) {
	t.Helper()
	const root = "../.."
	files := token.NewFileSet()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == "wasm-examples" || strings.HasPrefix(d.Name(), ".") && name != root) {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		syntax, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(relative), syntax)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// forbidden returns the rule that keeps a package of the folder from importing
// another one of the module, or "".
func forbidden(from, to string) string {
	switch {
	case below(from, "tiers/tiertest", "hooks/hooktest"): // they test what stands above them
		return ""
	case below(from, "tiers") && !below(to, "tiers"):
		return "tiers know only themselves"
	case below(from, "hooks") && !below(to, "hooks"):
		return "hooks know only themselves"
	case below(from, "hooks/guest", "hooks/abi") && !below(to, "hooks/abi", "hooks/guest"):
		return "guests know only the ABI"
	case leaf(from) != "" && to != "tiers/item" && leaf(to) != leaf(from):
		return "a leaf of tiers knows only tiers/item"
	case below(to, "cmd"):
		return "nobody imports a command"
	case below(from, "cmd") && !below(to, "node"):
		return "commands know only node"
	case below(from, "node/api", "node/proxy", "node/admin") && below(to, "hooks"):
		return "hooks are reached through interfaces that node fills"
	case below(from, "node/api", "node/proxy", "node/admin") && below(to, "node/api", "node/proxy", "node/admin") && !below(to, from):
		return "api, proxy and admin never know each other"
	case strings.HasPrefix(from, "node/") && strings.HasPrefix(to, "tiers/") && to != "tiers/item" &&
		!below(from, "node/demo", "node/hooktool"): // hooktool plays requests against the memory tier alone, without an engine
		return "node's parts reach the engine through tiers"
	case strings.HasPrefix(from, "node/") && to == "node" && !below(from, "node/demo"):
		return "node imports its parts, never the other way"
	}
	return ""
}

// leaf returns the leaf of tiers that dir belongs to, or "".
func leaf(dir string) string {
	inside, ok := strings.CutPrefix(dir, "tiers/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(inside, "/")
	return name
}

// below reports whether dir is one of the folders or lies in one.
func below(dir string, folders ...string) bool {
	for _, f := range folders {
		if dir == f || strings.HasPrefix(dir, f+"/") {
			return true
		}
	}
	return false
}

// atHome reports whether a package of dir may import the library.
func atHome(dir, imported string) bool {
	for library, folders := range homes {
		if below(imported, library) {
			return below(dir, folders...)
		}
	}
	return false
}
