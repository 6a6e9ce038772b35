package main

import (
	"strings"
	"testing"
)

const events = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestQuick"}
{"Action":"output","Package":"m/a","Test":"TestQuick","Output":"quiet\n"}
{"Action":"pass","Package":"m/a","Test":"TestQuick","Elapsed":0.1}
{"Action":"pass","Package":"m/a","Test":"TestSlow/sub","Elapsed":9}
{"Action":"pass","Package":"m/a","Test":"TestSlow","Elapsed":9.5}
{"Action":"output","Package":"m/a","Output":"PASS\n"}
{"Action":"output","Package":"m/a","Output":"ok  \tm/a\t9.600s\n"}
{"Action":"pass","Package":"m/a","Elapsed":9.6}
`

func TestRun(t *testing.T) {
	f := func(in string, wantOK bool, want string) {
		t.Helper()
		var out strings.Builder
		ok, err := run(strings.NewReader(in), &out)
		if ok != wantOK || err != nil {
			t.Errorf("run = %v, %v, want %v", ok, err, wantOK)
		}
		if got := out.String(); got != want {
			t.Errorf("output\n%s\nwant\n%s", got, want)
		}
	}
	f("", false, "\nThe slowest of 0 tests:\n\n")
	f("go: no such thing\n", false, "go: no such thing\n\nThe slowest of 0 tests:\n\n")
	f(events, true, "# pass m/a in 9.6 s\n\nThe slowest of 2 tests:\n"+
		"    9.50 s  m/a.TestSlow\n    0.10 s  m/a.TestQuick\n\nok  \tm/a\t9.600s\n")
	f(`{"Action":"output","Package":"m/b","Test":"TestX","Output":"x_test.go:1: broken\n"}
{"Action":"fail","Package":"m/b","Test":"TestX","Elapsed":0}
{"Action":"output","Package":"m/b","Output":"FAIL\tm/b\t0.1s\n"}
{"Action":"fail","Package":"m/b","Elapsed":0.1}
`, false, "x_test.go:1: broken\n# fail m/b in 0.1 s\n\nThe slowest of 1 tests:\n    0.00 s  m/b.TestX\n\nFAIL\tm/b\t0.1s\n")
	f(`{"ImportPath":"m/c","Action":"build-output","Output":"c.go:1: syntax\n"}
{"ImportPath":"m/c","Action":"build-fail"}
{"Action":"output","Package":"m/c","Output":"FAIL\tm/c [build failed]\n"}
{"Action":"fail","Package":"m/c","Elapsed":0,"FailedBuild":"m/c"}
`, false, "c.go:1: syntax\n# fail m/c in 0.0 s\n\nThe slowest of 0 tests:\n\nFAIL\tm/c [build failed]\n")
}
