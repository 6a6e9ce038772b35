package hooktest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestCasesTellDifferences holds that a wrong module does not pass.
func TestCasesTellDifferences(t *testing.T) {
	cases, err := hooktest.ReadCases("../../wasm-examples/route-header/cases.toml")
	if err != nil {
		t.Fatal(err)
	}
	differences, err := cases.Run(t.Context(), hooktest.Guest(abi.Route, hooktest.Result(abi.OK, 0, 0)).Bytes())
	if err != nil || len(differences) < 5 {
		t.Errorf("got %d differences, %v", len(differences), err)
	}
	if _, err := cases.Run(t.Context(), []byte("x")); err == nil {
		t.Error("garbage passed")
	}
}

// TestExamples runs the cases of every example over its module: the committed
// ones, and those that build.sh made.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../wasm-examples/*/cases.toml")
	if err != nil || len(files) < 13 {
		t.Fatalf("found %d files of cases, %v", len(files), err)
	}
	for _, file := range files {
		dir := filepath.Dir(file)
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			cases, err := hooktest.ReadCases(file)
			if err != nil {
				t.Fatal(err)
			}
			if raceDetector && strings.HasSuffix(name, "-go") {
				return // 3 MB to compile, and one goroutine: nothing to see here
			}
			code, err := os.ReadFile(filepath.Join(dir, name+".wasm"))
			if os.IsNotExist(err) && strings.HasSuffix(name, "-go") {
				return // not committed; wasm-examples/build.sh makes it
			}
			if err != nil {
				t.Fatal(err)
			}
			differences, err := cases.Run(t.Context(), code)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range differences {
				t.Error(d)
			}
		})
	}
}

// TestParseCases holds what a file of cases may say.
func TestParseCases(t *testing.T) {
	f := func(text, complaint string) {
		t.Helper()
		_, err := hooktest.ParseCases(text)
		if got := fmt.Sprint(err); !strings.Contains(got, complaint) {
			t.Errorf("%s: got %v, want %q", text, got, complaint)
		}
	}
	f("config = { rules = [{ a = 1 }] }\n[[case]]\nhook = \"route\"\nkey = \"k\"\n", "<nil>")
	f("[[case]]\nhook = \"rout\"\n", `hook is "rout"`)
	f("[[case]]\nhook = \"route\"\nlifetme = 3\n", "case.lifetme is no field")
	f("[[case]]\nhook = \"ttl\"\nmethod = \"get\"\n", `method is "get"`)
	f("[[case]]\nhook = \"ttl\"\ntiers = [\"L4\"]\n", `tiers is "L4"`)
	f("[[case]]\nhook = \"ttl\"\nclient = \"1.2.3\"\n", "client: ")
	f("[[case]]\nhook = \"evict\"\n", "0 candidates, must be 1 to 64")
	f("[[case]\n", "expected")
}
