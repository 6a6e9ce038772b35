package config_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/config"
)

const operator = `
[[token]]
name = "op"
sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
scopes = ["admin"]
`

func TestEffective(t *testing.T) {
	b, err := json.Marshal(mustLoad(t, site+operator).Effective())
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(b), `"l1_max_bytes":"256MiB"`, `"max_lifetime":"30d"`, `"batch_flush_ms":100`,
		`"hosts":["shop.example"]`, `"sha256":"(hidden)"`, `"hook":[]`, `"api_hosts":[]`)
	if strings.Contains(string(b), "9f86d081") {
		t.Error("Effective shows the hash of a token")
	}
}

func TestDiff(t *testing.T) {
	hooks := func(names ...string) (text string) {
		for _, n := range names {
			text += fmt.Sprintf("[[hook]]\nname = %q\nmodule = \"m\"\nhooks = [\"route\"]\n", n)
		}
		return text
	}
	f := func(old, new string, want ...string) {
		t.Helper()
		var got []string
		for _, c := range config.Diff(mustLoad(t, old), mustLoad(t, new)) {
			got = append(got, fmt.Sprintf("%s %s>%s %v", c.Key, c.Old, c.New, c.Reloadable))
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Errorf("Diff\n%s\nwant\n%s", g, w)
		}
	}
	f(site, site)
	f("", "log_level = \"debug\"\ndata_dir = \"x\"",
		`data_dir "./edgenode-data">"x" false`, `log_level "info">"debug" true`)
	f("", "[listen.data]\naddress = \":1\"\ndrain_delay = \"1s\"",
		`listen.data.address ":8080">":1" false`, `listen.data.drain_delay "0s">"1s" true`)
	f("", site, `pool["shop"] >present true`, `site["shop"] >present true`)
	f(site, "", `pool["shop"] present> true`, `site["shop"] present> true`)
	f(site, site+"keep = \"1h\"", `site["shop"].keep "24h">"1h" true`)
	f(operator, strings.Replace(operator, "9f86", "0000", 1), `token["op"].sha256 (hidden)>(hidden) true`)
	f(hooks("a", "b"), hooks("b", "a"), `hook ["a","b"]>["b","a"] true`)
	f(hooks("a", "b"), hooks("a", "c", "b"), `hook["c"] >present true`)
}

func TestBudget(t *testing.T) {
	c := mustLoad(t, site+"[[hook]]\nname = \"geo\"\nmodule = \"m\"\nhooks = [\"route\"]\nmemory = \"1MiB\"\ninstances = 4\n")
	b := c.Budget()
	var sum config.Size
	parts := map[string]config.BudgetPart{}
	for _, p := range b.Parts {
		sum += p.Bytes
		parts[p.Name] = p
		if p.Bytes != config.Size(p.Count)*p.Each {
			t.Errorf("%s: %d × %v is not %v", p.Name, p.Count, p.Each, p.Bytes)
		}
	}
	if sum != b.Total || b.Total < 256*config.MiB+96*config.MiB {
		t.Errorf("total = %v, want the sum of the parts %v", b.Total, sum)
	}
	if got, want := parts["hook geo (instances)"].Bytes, 4*(config.MiB+config.InstanceBytes); got != want {
		t.Errorf("hook = %v, want %v", got, want)
	}
}
