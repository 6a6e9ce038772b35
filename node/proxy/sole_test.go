package proxy

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// baseKey is that of a path at shop.example.
func baseKey(path string) item.Key {
	s := Site{Name: "shop"}
	key, _, _ := s.appendKey(nil, "http", []byte("shop.example"), []byte(path), nil)
	return key
}

// record returns what the store holds under a key.
func (w *world) record(key item.Key) (v item.View, response []byte) {
	w.Helper()
	hit, ok, err := w.store.Get(w.Context(), key, tiers.ReadOptions{Tiers: item.AllTiers})
	if err != nil || !ok {
		w.Fatalf("%q: %v %v", key, ok, err)
	}
	defer hit.Release()
	v = append(item.View(nil), hit.View...)
	return v, v.Response()
}

// An answer that varies lies under the base key until a second variant comes. It
// moves as it is: its version is what purges go by.
func TestSoleVariant(t *testing.T) { eachWay(t, testSoleVariant) }

func testSoleVariant(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60\nSurrogate-Key: k\nVary: Foo", r.Header.Get("Foo"))
	})
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "fwd=uri-miss;fwd-status=200;stored")
	sole, response := w.record(baseKey("/a"))
	m, ok := parseMeta(response)
	if !ok || !m.sole() {
		t.Fatalf("stored as %q", response)
	}
	asked := w.engine.gets.Load()
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "hit")
	if got := w.engine.gets.Load() - asked; w.store == Engine(w.engine) && got != 1 {
		t.Errorf("%d look-ups for a hit", got)
	}
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "fwd=vary-miss;fwd-status=200;stored")
	moved, response := w.record(variantKey(nil, baseKey("/a"), m.soleHash()))
	if string(response) != string(m.asListed().b) || moved.Version() != sole.Version() || moved.ExpiresAt() != sole.ExpiresAt() ||
		moved.TagCount() != sole.TagCount() || string(moved.Content()) != "1" {
		t.Errorf("moved as %+v\nwas %+v", moved.Item(), sole.Item())
	}
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "hit")
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "hit")
	w.purge(w.p.PurgeURL("http://shop.example/a"))
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "fwd=uri-miss")
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "fwd=vary-miss")
	if got := w.requests(); got != 4 {
		t.Errorf("%d requests to the origin, want 4", got)
	}
}

// What a purge hides, even softly, does not come back when it is moved.
func TestSoleVariantPurged(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		return w.ok("Cache-Control: max-age=60\nSurrogate-Key: k"+r.Header.Get("Foo")+"\nVary: Foo", r.Header.Get("Foo"))
	})
	w.get("/a", "Foo: 1")
	if _, err := w.engine.Purge(t.Context(), tiers.Purge{Namespaces: item.InSites, Match: item.MatchTag, Values: []string{"k1"}, Soft: true}); err != nil {
		t.Fatal(err)
	}
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "fwd=vary-miss;fwd-status=200;stored")
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "hit")
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "fwd=vary-miss")
}

// An answer that has moved while the origin takes it back is not used again.
func TestSoleVariantTakenBack(t *testing.T) { eachWay(t, testSoleVariantTakenBack) }

func testSoleVariantTakenBack(t *testing.T) {
	w := newWorld(t)
	asked, release := make(chan struct{}), make(chan struct{})
	w.says(func(r *http.Request) string { return w.ok("Cache-Control: max-age=1\nVary: Foo", "old") })
	w.get("/a", "Foo: 1")
	w.pass(2 * time.Second)
	w.does(func(c net.Conn, r *http.Request) {
		if r.Header.Get("Foo") == "1" {
			close(asked)
			<-release
			io.WriteString(c, w.ok("Cache-Control: private", "mine"))
			return
		}
		io.WriteString(c, w.ok("Cache-Control: max-age=60\nVary: Foo", "other"))
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.expect(w.get("/a", "Foo: 1"), 200, "mine", "fwd=stale;fwd-status=200;detail=private")
	}()
	<-asked
	w.expect(w.get("/a", "Foo: 2"), 200, "other", "fwd=vary-miss;fwd-status=200;stored")
	close(release)
	<-done
	w.does(func(c net.Conn, _ *http.Request) { c.Close() })
	if x := w.get("/a", "Foo: 1"); x.status != http.StatusBadGateway {
		t.Errorf("got %d %q %s", x.status, x.out.String(), x.cache())
	}
	w.expect(w.get("/a", "Foo: 2"), 200, "other", "hit")
}

// What a node of a former version has stored is read on: an index with a single
// variant, to which another is added.
func TestIndexOfOneIsRead(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string { return w.ok("Cache-Control: max-age=60\nVary: Foo", r.Header.Get("Foo")) })
	w.get("/a", "Foo: 1")
	w.engine.mu.Lock()
	sole := w.engine.items[string(baseKey("/a"))]
	m, _ := parseMeta(sole.Response())
	it := sole.Item()
	x := index{}
	x.add("foo", entry{hash: [hashLen]byte(m.soleHash()), stored: w.now(), expires: it.ExpiresAt}, 64, w.now(), w.p.recent.used)
	it.Content, it.Response = nil, appendIndex(nil, &x)
	w.engine.items[string(baseKey("/a"))] = item.View(it.AppendTo(nil))
	it = sole.Item()
	it.Key, it.Response = variantKey(nil, baseKey("/a"), m.soleHash()), m.asListed().b
	w.engine.items[string(it.Key)] = item.View(it.AppendTo(nil))
	w.engine.mu.Unlock()
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "hit")
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "fwd=vary-miss;fwd-status=200;stored")
	w.expect(w.get("/a", "Foo: 1"), 200, "1", "hit")
	w.expect(w.get("/a", "Foo: 2"), 200, "2", "hit")
}
