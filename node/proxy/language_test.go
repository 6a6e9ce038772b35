package proxy

import (
	"net/http"
	"testing"
	"time"
)

// RFC 9111 §4.1, RFC 9110 §12.5.4: an answer in the language that a request
// wants most serves it, whatever was asked when it was stored.
func TestRFC9111Section41ContentLanguage(t *testing.T) {
	eachWay(t, testRFC9111Section41ContentLanguage)
}

func testRFC9111Section41ContentLanguage(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		lang := r.Header.Get("Origin-Language")
		lines := "Cache-Control: max-age=60\nVary: Accept-Language, Foo"
		if lang != "" {
			lines += "\nContent-Language: " + lang
		}
		return w.ok(lines, r.Header.Get("Accept-Language"))
	})
	f := func(cache, body string, lines ...string) {
		t.Helper()
		w.expect(w.get("/a", lines...), 200, body, cache)
		w.pass(time.Second)
	}
	f("fwd=uri-miss", "en, de", "Accept-Language: en, de", "Origin-Language: DE")
	f("hit", "en, de", "Accept-Language: de")
	f("hit", "en, de", "Accept-Language: fr, DE")
	f("hit", "en, de", "Accept-Language: de;q=0.5, fr;q=0.50, it;q=0.1")
	f("fwd=vary-miss", "de;q=0.9, fr", "Accept-Language: de;q=0.9, fr", "Origin-Language: fr")
	f("hit", "de;q=0.9, fr", "Accept-Language: fr, it")
	f("hit", "de;q=0.9, fr", "Accept-Language: de, fr") // both; the newest
	f("fwd=vary-miss", "de", "Accept-Language: de", "Foo: other", "Origin-Language: de")
	f("fwd=vary-miss", "*", "Accept-Language: *", "Origin-Language: de")
	f("fwd=vary-miss", "de;q=0", "Accept-Language: de;q=0")
	f("fwd=vary-miss", "", "Origin-Language: it") // absent matches only absent
	f("fwd=vary-miss", "it-CH", "Accept-Language: it-CH", "Origin-Language: it, de")
	f("hit", "", "Accept-Language: it")
}

// A variant that was chosen by its language and is stale is validated, and what
// comes is for the request that asked.
func TestStaleLanguageIsValidated(t *testing.T) { eachWay(t, testStaleLanguageIsValidated) }

func testStaleLanguageIsValidated(t *testing.T) {
	w := newWorld(t)
	w.says(func(r *http.Request) string {
		if r.Header.Get("If-None-Match") == `"de"` {
			return w.status(304, "ETag: \"de\"\nCache-Control: max-age=60", "")
		}
		return w.ok("Cache-Control: max-age=1\nETag: \"de\"\nVary: Accept-Language\nContent-Language: de", "hallo")
	})
	w.expect(w.get("/a", "Accept-Language: de, en"), 200, "hallo", "fwd=uri-miss")
	w.pass(2 * time.Second)
	w.expect(w.get("/a", "Accept-Language: de"), 200, "hallo", "fwd=stale;fwd-status=304")
	w.expect(w.get("/a", "Accept-Language: de"), 200, "hallo", "hit")
	w.expect(w.get("/a", "Accept-Language: de, fr"), 200, "hallo", "hit")
}
