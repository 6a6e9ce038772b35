package api_test

import (
	"strings"
	"testing"
)

// TestPaths holds the rules of ids in paths: what is put at one path is found
// under one id, and nothing else is.
func TestPaths(t *testing.T) {
	f := func(path, id string) {
		t.Helper()
		h := newHarness(t)
		h.want(201, "", "PUT /v1/items/"+path, "x")
		if len(h.items) != 1 || h.items["i"+id] == nil {
			t.Errorf("%s did not become %q: %v", path, id, h.items)
		}
	}
	f("a", "a")
	f("uk/shop/1", "uk/shop/1")
	f("uk%2Fshop%2f1", "uk/shop/1") // %2F and / are equal
	f("a//b", "a//b")               // nothing is normalised
	f("a/../b", "a/../b")
	f("./a/.", "./a/.")
	f("/a", "/a")
	f("a+b", "a+b") // a plus is a plus
	f("a%2Bb", "a+b")
	f("a%20b", "a b")
	f("a%2525", "a%25") // decoded once
	f("%C3%A9", "é")
	f("é", "é")
	f("a%3Astate", "a:state") // not a verb
	f("a%3astatus", "a:status")
	f("a:state:b", "a:state:b") // not last
	f("a:get", "a:get")
	f("A", "A")
	f("a%3Fb", "a?b")
	f("a%EF%BF%BDb", "a\uFFFDb") // a replacement character is a character
	f(strings.Repeat("x", 1024), strings.Repeat("x", 1024))
	f(strings.Repeat("%78", 1024), strings.Repeat("x", 1024)) // the limit is on the decoded id
}

func TestBadPaths(t *testing.T) {
	h := newHarness(t)
	f := func(path, problem string) {
		t.Helper()
		h.want(400, problem, "PUT /v1/items/"+path, "x")
	}
	f("", "bad-id")
	f(":state", "bad-id")
	f(":status", "bad-id")
	f("a%", "bad-path")
	f("a%2", "bad-path")
	f("a%2g", "bad-path")
	f("a%00", "bad-id")
	f("a%0A", "bad-id")
	f("a%7F", "bad-id")
	f("a%C2%85", "bad-id") // U+0085 is a control character
	f("a%FF", "bad-id")
	f("a%C3", "bad-id")
	f("%ED%A0%80", "bad-id") // a surrogate
	f(strings.Repeat("x", 1025), "bad-id")
}

func TestRoutes(t *testing.T) {
	h := newHarness(t)
	h.want(404, "unknown-path", "GET /", "")
	h.want(404, "unknown-path", "GET /v1", "")
	h.want(404, "unknown-path", "GET /v1/", "")
	h.want(404, "unknown-path", "GET /v1/item/a", "")
	h.want(404, "unknown-path", "GET /v1%2Fitems/a", "") // split before it is decoded
	h.want(404, "unknown-path", "POST /v1/items:frobnicate", "")
	h.want(404, "unknown-path", "GET /V1/items/a", "")
	f := func(line, allow string) {
		t.Helper()
		h.has(h.want(405, "method-not-allowed", line, ""), "Allow", allow)
	}
	f("POST /v1/items/a", "GET, HEAD, PUT, DELETE")
	f("PATCH /v1/items/a", "GET, HEAD, PUT, DELETE")
	f("get /v1/items/a", "GET, HEAD, PUT, DELETE") // methods have a case
	f("PUT /v1/items", "GET, HEAD, DELETE")
	f("POST /v1/items:count", "GET, HEAD")
	f("PUT /v1/items/a:status", "GET, HEAD")
	f("PUT /v1/items/a:state", "POST")
	f("GET /v1/purge", "POST")
	f("GET /v1/items:get", "POST")
	f("GET /v1/items:put", "POST")
	f("DELETE /v1/items:delete", "POST")
}
