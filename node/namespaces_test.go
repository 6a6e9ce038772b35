package node

import (
	"testing"

	"github.com/edgenode/edgenode/node/config"
	"github.com/edgenode/edgenode/tiers/item"
)

// Which records belong to which part of memory.
func TestNamespaces_Of(t *testing.T) {
	cfg, err := config.Load(config.Source{Path: t.TempDir() + "/c.toml", Data: []byte(`
[[pool]]
name = "p"
origins = ["http://10.0.0.1"]
[[site]]
name = "plain"
hosts = ["plain.example"]
pool = "p"
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "p"
weight = 2.0
[[namespace]]
prefix = "uk/"
l1_max_bytes = "4MiB"
[[namespace]]
prefix = "uk/a:"
`)})
	if err != nil {
		t.Fatal(err)
	}
	list, of := namespaces(cfg)
	f := func(key, response, want string) {
		t.Helper()
		it := item.Item{Kind: item.KindPut, Key: item.Key(key), Version: 1, Response: []byte(response)}
		got := "none"
		if i := of(item.View(it.AppendTo(nil))); i >= 0 {
			got = list[i].Name
		}
		if got != want {
			t.Errorf("%q: %s, want %s", key, got, want)
		}
	}
	f("sshop\x00http://shop.example/a", "", "site:shop")
	f("sshop2\x00http://shop.example/a", "", "none")
	f("splain\x00http://plain.example/shop", "", "none")
	f("sshop", "", "none")
	f("iuk/1", "", "items:uk/")
	f("iuk/a/1", "", "items:uk/")
	f("iuk/a:1", "", "items:uk/a:")
	f("iuk", "", "none")
	f("iukraine/1", "", "none")
	f("xuk/1", "", "none")
	f("c0123456789abcdef", "\x01\x06\x00\x00", "none")
	f("c0123456789abcdef", "\x01\x06\x00\x00\x00\x00\x00\x00"+"0123456789abcdef", "none") // of a former version
	if list, of := namespaces(config.Default()); list != nil || of != nil {
		t.Error("a node without weights and budgets has namespaces")
	}
	if list[1].Weight != 1 || list[1].MaxBytes != 4<<20 {
		t.Errorf("uk/ is %+v", list[1])
	}
}
