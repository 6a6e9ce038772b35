package crash_test

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/hooktest"
	"github.com/edgenode/edgenode/tiers/tiertest/redistest"
)

// metricsPage is the page that must list what a node shows.
const metricsPage = "../../docs/metrics.md"

// A shape is what is known of a metric: its kind, and per label the values that
// it takes; open says that these are not a closed set.
type shape struct {
	kind   string
	labels map[string][]string
}

const open = "…"

var (
	series     = regexp.MustCompile(`^(edgenode_[a-z0-9_]+)(?:\{(.*)\})? \S+$`)
	label      = regexp.MustCompile(`(\w+)="([^"]*)"`)
	row        = regexp.MustCompile("^\\| `(edgenode_[a-z0-9_]+)` \\| (\\w+) \\| (.*?) \\| (.*?) ?\\| (.+) \\|$")
	labelCell  = regexp.MustCompile("`(\\w+)`: ([^`·]+)")
	histograms = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// TestMetricsPage compares docs/metrics.md with a node that has a site and a
// hook and has done a little of everything: names, kinds, labels and their values.
func TestMetricsPage(t *testing.T) {
	text, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	page := map[string]shape{}
	for line := range strings.Lines(string(text)) {
		m := row.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		if _, twice := page[m[1]]; twice {
			t.Errorf("%s is there twice", m[1])
		}
		s := shape{m[2], map[string][]string{}}
		for _, c := range labelCell.FindAllStringSubmatch(m[4], -1) {
			s.labels[c[1]] = strings.Split(strings.TrimSpace(c[2]), ", ")
		}
		if m[3] == "" {
			t.Errorf("%s has no unit", m[1])
		}
		page[m[1]] = s
	}
	shown := shownBy(t, busyNode(t))
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		got, want := shown[name], page[name]
		if want.kind == "" {
			t.Errorf("%s is not on the page: %s %v", name, got.kind, got.labels)
			continue
		}
		delete(page, name)
		if got.kind != want.kind {
			t.Errorf("%s is a %s, the page says %s", name, got.kind, want.kind)
		}
		compareLabels(t, name, got.labels, want.labels)
	}
	for name := range page {
		t.Errorf("%s is on the page, the node does not show it", name)
	}
}

func compareLabels(t *testing.T, name string, got, want map[string][]string) {
	t.Helper()
	if g, w := slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)); !slices.Equal(g, w) {
		t.Errorf("%s has the labels %v, the page says %v", name, g, w)
		return
	}
	for l, values := range got {
		page := slices.Sorted(slices.Values(want[l]))
		if slices.Sort(values); !slices.Equal(page, []string{open}) && !slices.Equal(values, page) {
			t.Errorf("%s: %s is one of %s; the page says %s", name, l, strings.Join(values, ", "), strings.Join(page, ", "))
		}
	}
}

// shownBy reads /metrics.
func shownBy(t *testing.T, p *process) map[string]shape {
	t.Helper()
	text := p.must("GET", p.admin+"/metrics", "", ok).body
	shown := map[string]shape{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		m := series.FindStringSubmatch(line)
		if m == nil {
			if strings.HasPrefix(line, "edgenode") {
				t.Errorf("not a metric: %s", line)
			}
			continue
		}
		name, kind := m[1], "gauge"
		base := histograms.ReplaceAllString(name, "")
		switch {
		case strings.Contains(text, base+"_bucket{"):
			name, kind = base, "histogram"
		case strings.HasSuffix(name, "_total"):
			kind = "counter"
		}
		s, known := shown[name]
		if !known {
			s = shape{kind, map[string][]string{}}
			shown[name] = s
		}
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "vmrange" && !slices.Contains(s.labels[l[1]], l[2]) {
				s.labels[l[1]] = append(s.labels[l[1]], l[2])
			}
		}
	}
	return shown
}

// TestMetricsOfSources finds names in the sources that a node shows only when
// something has happened, and names that are written together from parts.
func TestMetricsOfSources(t *testing.T) {
	text, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`edgenode_[a-z0-9_]*[a-z0-9]`)
	sources := map[string]bool{}
	for _, root := range []string{"../../node", "../../tiers", "../../hooks"} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.Name() != "metrics.go" {
				return err
			}
			source, err := os.ReadFile(path)
			for _, n := range name.FindAllString(string(source), -1) {
				sources[n] = true
				if !strings.Contains(string(text), "`"+n+"`") {
					t.Errorf("%s has %s, which is not on the page", path, n)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range name.FindAllString(string(text), -1) {
		if !sources[n] {
			t.Errorf("the page has %s, no metrics.go has it", n)
		}
	}
}

// busyNode starts a node with Redis, a site whose origin is dead and a hook with
// metrics of its own, and asks it for what makes all metrics appear.
func busyNode(t *testing.T) *process {
	t.Helper()
	dir := t.TempDir()
	f64 := func(v float64) []byte {
		b := []byte{0x44}
		for bits, i := math.Float64bits(v), 0; i < 8; i++ {
			b = append(b, byte(bits>>(8*i)))
		}
		return b
	}
	m := hooktest.Guest(abi.Route, hooktest.Code(
		hooktest.ConstI32(0), hooktest.ConstI64(1), []byte{0x10, 0},
		hooktest.ConstI32(1), f64(1.5), []byte{0x10, 1},
		hooktest.Result(abi.OK, 0, 0)))
	m.Imports = []hooktest.Import{
		{Module: "edge", Name: "metric_add", Params: []byte{hooktest.I32, hooktest.I64}},
		{Module: "edge", Name: "metric_observe", Params: []byte{hooktest.I32, hooktest.F64}},
	}
	m.Manifest = `{"metrics":[{"name":"seen","kind":"counter"},{"name":"took","kind":"histogram"}]}`
	writeFile(t, dir, "probe.wasm", string(m.Bytes()))
	config := writeFile(t, dir, "edgenode.toml", `
follow_interval = "10ms"
merkle_calc_jitter = "1ms"
[replica]
from = "http://127.0.0.1:1"
prefixes = ["hub/"]
[[namespace]]
prefix = "uk/"
l1_max_bytes = "1MiB"
[[pool]]
name = "dead"
origins = ["http://127.0.0.1:1"]
[[site]]
name = "dead"
hosts = ["dead.example"]
pool = "dead"
[[hook]]
name = "probe"
module = "probe.wasm"
hooks = ["route"]
instances = 1
`)
	redis := redistest.Start(t, redistest.Options{})
	p := start(t, filepath.Join(dir, "data"), "EDGENODE_CONFIG="+config, "EDGENODE_REDIS_URL="+redis.URL())
	p.awaitHealth(func(h *health) bool { return h.L2.Trusted })
	p.must("GET", "/v1/items/none", "", []int{404}) // Redis is asked
	const req = "/v1/items/a"
	p.must("PUT", req, "x", written, "Edge-Durability", "l3")
	for range 200 { // one call in 64 is timed
		p.must("GET", req, "", ok)
	}
	p.must("GET", "/", "", []int{502}, "Host", "dead.example")
	p.awaitHealth(func(h *health) bool { return h.Merkle.State == "following" })
	return p
}
