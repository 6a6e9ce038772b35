package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The tree under test: a module with one function and one scenario test.
var module = map[string]string{
	"go.mod":    "module m\n\ngo 1.26\n",
	"m.go":      "package m\n\nfunc Double(n int) int { return 2 * n }\n",
	"m_test.go": "package m\n\nimport \"testing\"\n\nfunc TestA1_Double(t *testing.T) {\n\tif Double(3) != 6 {\n\t\tt.Error(\"wrong\")\n\t}\n}\n\nfunc TestA2_Fails(t *testing.T) { t.Error(\"always\") }\n",
}

// patch returns a patch that replaces the body of Double.
func patch(head, body string) string {
	return head + "diff --git a/m.go b/m.go\n--- a/m.go\n+++ b/m.go\n@@ -1,3 +1,3 @@\n package m\n \n-func Double(n int) int { return 2 * n }\n+func Double(n int) int { " + body + " }\n"
}

const head = "# package: .\n# test: TestA1_\n# In words.\n"

// newTree writes the module and patches into a repository of its own.
func newTree(t *testing.T, patches map[string]string) string {
	t.Helper()
	root := t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range module {
		write(name, content)
	}
	for name, content := range patches {
		write("defects/"+name+".patch", content)
	}
	if output, err := command(context.Background(), root, nil, "git", "init", "-q"); err != nil {
		t.Fatal(output)
	}
	return root
}

func TestVerdicts(t *testing.T) {
	root := newTree(t, map[string]string{
		"found":    patch(head, "return 3 * n"),
		"harmless": patch(head, "return n * 2"),
		"nobuild":  patch(head, "return \"\""),
		"noapply":  strings.Replace(patch(head, "return 0"), "2 * n", "5 * n", 1),
		"failing":  patch("# package: .\n# test: TestA2_\n", "return 0"),
		"notest":   patch("# package: .\n# test: TestZ9_\n", "return 0"),
	})
	var out strings.Builder
	err := run(context.Background(), &out, root, "defects", nil)
	if err == nil || !strings.Contains(err.Error(), "5 of 6 defects were not found") {
		t.Errorf("run = %v, want 5 of 6 not found", err)
	}
	for name, want := range map[string]string{
		"found": found, "harmless": notFound, "nobuild": noBuild, "noapply": noApply, "failing": failsSo, "notest": noTest,
	} {
		var got string
		for line := range strings.Lines(out.String()) {
			if strings.HasPrefix(line, name+" ") {
				got = line
			}
		}
		if !strings.Contains(got, "  "+want+"  ") {
			t.Errorf("%s: got %q, want %s\n%s", name, got, want, out.String())
		}
	}
	if data, err := os.ReadFile(filepath.Join(root, "m.go")); err != nil || string(data) != module["m.go"] {
		t.Errorf("the tree was touched: %q, %v", data, err)
	}
}

func TestNames(t *testing.T) {
	root := newTree(t, map[string]string{"A1": patch(head, "return 1"), "A2": "no head"})
	var out strings.Builder
	if err := run(context.Background(), &out, root, "defects", []string{"A1"}); err != nil {
		t.Errorf("run A1 = %v\n%s", err, out.String())
	}
	f := func(want string, names ...string) {
		t.Helper()
		if _, err := load([]string{filepath.Join(root, "defects")}, names); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("load %v = %v, want an error with %q", names, err, want)
		}
	}
	f("no patch B7", "A1", "B7")
	f("begin it with the lines", "A2")
	f("begin it with the lines")
	if _, err := load([]string{t.TempDir()}, nil); err == nil {
		t.Error("load of an empty folder succeeded")
	}
}

// Without a folder every testdata/defects counts; a test that two defects share
// runs once without them.
func TestFolders(t *testing.T) {
	one, two := patch(head, "return 1"), patch(head, "return 2")
	root := newTree(t, map[string]string{"../a/testdata/defects/A1-one": one, "../b/testdata/defects/A1-two": two, "../b/testdata/defects/B1": two})
	var out strings.Builder
	if err := run(context.Background(), &out, root, "", []string{"A1-*"}); err != nil || !strings.Contains(out.String(), "all 2 defects were found, in ") {
		t.Errorf("run A1-* = %v\n%s", err, out.String())
	}
	if err := run(context.Background(), &out, t.TempDir(), "", nil); err == nil {
		t.Error("a tree without patches was taken")
	}
	clean := map[string]bool{}
	defects, err := load([]string{filepath.Join(root, "b/testdata/defects")}, []string{"B1"})
	if err != nil {
		t.Fatal(err)
	}
	if verdict, detail := judge(context.Background(), root, defects[0], clean); verdict != found || len(clean) != 1 {
		t.Errorf("%s, %d clean\n%s", verdict, len(clean), detail)
	}
}
