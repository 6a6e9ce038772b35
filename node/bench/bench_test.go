package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestReplaced(t *testing.T) {
	f := func(page, want string) {
		t.Helper()
		if got := replaced(page, "a", "\nnew\n"); got != want {
			t.Errorf("%q becomes %q, want %q", page, got, want)
		}
	}
	const section = "<!-- a: written by machine -->\n\nnew\n\n<!-- a: end -->\n"
	f("# T\n", "# T\n\n"+section)
	f("# T\n\n"+section+"\nrest\n", "# T\n\n"+section+"\nrest\n")
	f("x\n<!-- a: written by machine -->\nold\n<!-- a: end -->\n<!-- b: written by machine -->\n", "x\n"+section+"<!-- b: written by machine -->\n")
}

func TestParseWrk(t *testing.T) {
	f := func(text string, n, rate float64, ok bool) {
		t.Helper()
		gotN, gotRate, err := parseWrk(text)
		if gotN != n || gotRate != rate || (err == nil) != ok {
			t.Errorf("%q: %v, %v, %v", text, gotN, gotRate, err)
		}
	}
	const good = "Running 1s test\n  1000 requests in 1.00s, 1.1MB read\nRequests/sec:    999.50\nTransfer/sec:      1.1MB\n"
	f(good, 1000, 999.5, true)
	f(good+"  Socket errors: connect 0, read 0, write 0, timeout 0\n", 1000, 999.5, true)
	f(good+"  Socket errors: connect 0, read 3, write 0, timeout 0\n", 0, 0, false)
	f(good+"  Non-2xx or 3xx responses: 1000\n", 0, 0, false)
	f("unable to connect\n", 0, 0, false)
}

func TestTimings(t *testing.T) {
	all := timings{}
	for range 3 {
		all.parse("./tiers/x", "goos: linux\nBenchmarkA/b-c-2   \t 100\t 12.5 ns/op\t 3.0 hits/get\t 0 allocs/op\nPASS\nBenchmarkB 1 4 ns/op\n")
	}
	if v, ok := all.median("tiers/x A/b-c", "ns/op"); !ok || v != 12.5 {
		t.Errorf("%v, %v in %v", v, ok, all)
	}
	if q, ok := all.ratio("tiers/x A/b-c", "tiers/x B", "ns/op"); !ok || q != 3.125 {
		t.Errorf("ratio %v, %v", q, ok)
	}
	if got := all.show("tiers/x none", "ns/op", "%f"); got != "–" {
		t.Errorf("what was not measured is %q", got)
	}
	if g := bound(all, "", "tiers/x none", "ns/op", "%f", 1, false); g.met || g.got != "" {
		t.Errorf("the goal of what was not measured is %+v", g)
	}
}

func TestSizeAndKey(t *testing.T) {
	f := func(text string, size, key int, ok bool) {
		t.Helper()
		if s, k, got := sizeAndKey([]byte(text)); got != ok || ok && (s != size || k != key) {
			t.Errorf("%q: %d, %d, %v", text, s, k, got)
		}
	}
	f(path(1024, 77), 1024, 77, true)
	f("/", 0, 0, false)
	f("/1024", 0, 0, false)
	f("/1/2/3", 0, 0, false)
	f("/a/2", 0, 0, false)
	f("/99999999999999999999/2", 0, 0, false)
}

func TestKeys(t *testing.T) {
	for _, list := range [][]int{uniformKeys(100, 10_000), zipfKeys(100, 10_000)} {
		counts := make([]int, 100)
		for _, k := range list {
			counts[k]++ // panics if it is outside
		}
		most := 0
		for _, n := range counts {
			most = max(most, n)
		}
		if most < 100 || most > 2500 {
			t.Errorf("one key of 100 came %d times of 10,000", most)
		}
	}
	if got := median([]float64{3, 1, 2, 10}); got != 2.5 {
		t.Errorf("median %v", got)
	}
}

// TestMetric sums what a node says, over labels.
func TestMetric(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "# HELP a b\na 3\nb{x=\"1 2\"} 4\nb{x=\"2\"} 5.5\nbb 7\n")
	}))
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	for name, want := range map[string]float64{"a": 3, "b": 9.5, "c": 0} {
		if got, err := metric(t.Context(), strings.TrimPrefix(server.URL, "http://"), name); got != want || err != nil {
			t.Errorf("%s is %v, %v; want %v", name, got, err, want)
		}
	}
}

func TestRatio(t *testing.T) {
	r := results{{"row", "a"}: {{cpu: 2}, {cpu: 30}, {cpu: 4}}, {"row", "b"}: {{cpu: 1}, {cpu: 10}, {cpu: 4}}}
	if q, ok := r.ratio("row", "a", "b", cpuOf); !ok || q != 2 {
		t.Errorf("ratio %v, %v", q, ok)
	}
	if g := r.goal("", "row", "a", "b", cpuOf, 1.5, false); g.met || g.got != "2.000" {
		t.Errorf("%+v", g)
	}
	if g := r.goal("", "row", "a", "c", cpuOf, 1.5, false); g.met || g.got != "" {
		t.Errorf("the goal of what was not measured is %+v", g)
	}
}

func TestBusy(t *testing.T) {
	if busy(0.3, 2) != "" || !strings.Contains(busy(7, 2), "7.0") {
		t.Error(busy(0.3, 2), busy(7, 2))
	}
}

func TestFamily(t *testing.T) {
	if got := family(1, map[int]int{2: 1, 3: 2, 4: 9, 1: 0}); len(got) != 3 {
		t.Errorf("%v descend from 1", got)
	}
}

// TestRatios: the table has a row for each trace and size, and the goals count
// what is below the best.
func TestRatios(t *testing.T) {
	r := ratios{}
	rows := func(program, policy string, ohr, bhr string) {
		t.Helper()
		for _, fraction := range fractions {
			if err := r.add(program, [][]string{{"web", "false", policy, fraction, ohr, bhr}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, p := range peers {
		rows("", p, "0.40", "0.30")
	}
	for _, l := range libraries {
		rows(l, "exec", "0.30", "0.20")
	}
	rows("auto"+replayed, "exec", "0.44", "0.1")
	rows("bytes"+replayed, "exec", "0.1", "0.26")
	memory := timings{}
	memory.parse("./tiers/l1", `BenchmarkHitRatio/web/1%/auto-2 1 5 ns/op 0.1 bytes 0.45 objects
BenchmarkHitRatio/web/10%/auto-2 1 5 ns/op 0.1 bytes 0.45 objects
BenchmarkHitRatio/web/1%/bytes-2 1 5 ns/op 0.27 bytes 0.1 objects
BenchmarkHitRatio/web/10%/bytes-2 1 5 ns/op 0.27 bytes 0.1 objects
`)
	r.addMemory(memory)
	text := r.text()
	for _, want := range []string{
		"| web | 1 % | **45.00** | 44.00 | 40.00 | 30.00 | 30.00 | 30.00 | 40.00 | 40.00 | 40.00 fifo | 1.500 | 1.125 |",
		"| web | 10 % | **27.00** | 26.00 | 30.00 | 20.00 |",
		"mean 1.500, least 1.500 (web at 1 %) | met |", "| ≥ 0.98 | mean 0.900, least 0.900 (web at 1 %) | not met |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if err := r.add("", [][]string{{"a", "b"}}); err == nil {
		t.Error("two columns are taken")
	}
	if err := r.add("", [][]string{{"a", "b", "c", "d", "x", "1"}}); err == nil {
		t.Error("a ratio that is no number is taken")
	}
}
