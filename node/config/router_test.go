package config_test

import (
	"testing"

	"github.com/edgenode/edgenode/node/config"
)

func routerConfig(t testing.TB) *config.Config {
	t.Helper()
	text := "api_hosts = [\"api.example\", \"*.api.example\", \"[::1]\"]\n[[pool]]\nname = \"p\"\norigins = [\"http://o\"]\n"
	add := func(name, hosts, prefix string) {
		text += "[[site]]\nname = \"" + name + "\"\npool = \"p\"\nhosts = [" + hosts + "]\npath_prefix = \"" + prefix + "\"\n"
	}
	add("0", `"shop.example"`, "/")
	add("1", `"shop.example"`, "/a")
	add("2", `"shop.example"`, "/a/b/")
	add("3", `"*.shop.example"`, "/")
	add("4", `"*.eu.shop.example"`, "/")
	add("5", `"[2001:db8::1]", "10.0.0.1"`, "/only")
	return mustLoad(t, text)
}

func TestRouter(t *testing.T) {
	r := config.NewRouter(routerConfig(t))
	f := func(host, path string, want int, wantClaimed bool) {
		t.Helper()
		if got, claimed := r.Match([]byte(host), []byte(path)); got != want || claimed != wantClaimed {
			t.Errorf("Match(%q, %q) = %d, %v, want %d, %v", host, path, got, claimed, want, wantClaimed)
		}
	}
	f("shop.example", "/", 0, true)
	f("shop.example:8080", "/x", 0, true)
	f("SHOP.Example.:8080", "/x", 0, true)
	f("shop.example..", "/x", -1, false) // one trailing dot only
	f("shop.example", "/a", 1, true)
	f("shop.example", "/a?q", 1, true)
	f("shop.example", "/ab", 0, true) // not on the border
	f("shop.example", "/a/b", 2, true)
	f("shop.example", "/a/bc", 1, true)
	f("shop.example", "", 0, true)
	f("x.shop.example", "/a", 3, true) // the host decides before the path
	f("x.y.shop.example", "/", 3, true)
	f("eu.shop.example", "/", 3, true) // *.eu wants one more label
	f("x.eu.shop.example", "/", 4, true)
	f(".shop.example", "/", -1, false)
	f("xshop.example", "/", -1, false)
	f("[2001:db8::1]:8080", "/only/x", 5, true)
	f("2001:db8::1", "/only", 5, true)
	f("10.0.0.1:80", "/other", -1, true) // claimed, so not for the items API
	f("", "/", -1, false)
	f(":80", "/", -1, false)
	f("[", "/", -1, false)
}

func TestRouterAny(t *testing.T) {
	c := mustLoad(t, site+"[[site]]\nname = \"rest\"\nhosts = [\"*\"]\npool = \"shop\"\npath_prefix = \"/r\"")
	r := config.NewRouter(c)
	if got, claimed := r.Match([]byte("any"), []byte("/r/x")); got != 1 || !claimed {
		t.Errorf("Match = %d, %v, want the site of *", got, claimed)
	}
	if r.API([]byte("localhost")) {
		t.Error("API(localhost) = true, want false: * claims every host")
	}
}

func TestRouterAPI(t *testing.T) {
	r := config.NewRouter(routerConfig(t))
	f := func(host string, want bool) {
		t.Helper()
		if got := r.API([]byte(host)); got != want {
			t.Errorf("API(%q) = %v, want %v", host, got, want)
		}
	}
	f("api.example:8080", true)
	f("API.example.", true)
	f("x.y.api.example", true)
	f("[::1]:8080", true)
	f("other.example", false)
	f("shop.example", false)
	open := config.NewRouter(mustLoad(t, site))
	if !open.API([]byte("other.example")) || open.API([]byte("shop.example")) {
		t.Error("without api_hosts the API answers on each unclaimed host, and on no other")
	}
}

func TestRouterDoesNotAllocate(t *testing.T) {
	r := config.NewRouter(routerConfig(t))
	host, path := []byte("x.eu.shop.example:8080"), []byte("/a/b")
	if n := testing.AllocsPerRun(100, func() { r.Match(host, path); r.API(host) }); n != 0 {
		t.Errorf("Match and API allocate %v times, want 0", n)
	}
}

func BenchmarkRouterMatch(b *testing.B) {
	r := config.NewRouter(routerConfig(b))
	host, path := []byte("shop.example"), []byte("/a/b")
	b.ReportAllocs()
	for b.Loop() {
		r.Match(host, path)
	}
}
