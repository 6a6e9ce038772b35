package refcache_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/proxy/refcache"
)

// The reference proves nothing if it borrows from what it is compared with.
func TestImportsNothingOfOurs(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if strings.Contains(strings.SplitN(i.Path.Value, "/", 2)[0], ".") {
				t.Errorf("%s imports %s", file, i.Path.Value)
			}
		}
	}
}

// TestVerdicts holds the reference itself to a few cases from the RFCs.
func TestVerdicts(t *testing.T) {
	start := time.Date(2044, 11, 6, 8, 49, 37, 0, time.UTC)
	// f stores an answer with these lines and asks again after some time.
	f := func(lines string, after time.Duration, want refcache.What) {
		t.Helper()
		c := refcache.Cache{Policy: refcache.DefaultPolicy()}
		r := refcache.Request{Method: "GET", URL: "http://a.example/"}
		a := refcache.Answer{Status: 200, Body: "x", Asked: start, Came: start, Fields: refcache.Fields{{Name: "Date", Value: "Sun, 06 Nov 2044 08:49:37 GMT"}}}
		for _, l := range strings.Split(lines, "|") {
			name, value, _ := strings.Cut(l, ": ")
			a.Fields = append(a.Fields, refcache.Field{Name: name, Value: value})
		}
		c.Learn(r, a, nil)
		if got := c.Decide(start.Add(after), r).Want; got != want {
			t.Errorf("%s after %v: got %d, want %d", lines, after, got, want)
		}
	}
	const etag = `|ETag: "e"`
	f("Cache-Control: max-age=60", 59*time.Second, refcache.Serve)
	f("Cache-Control: max-age=60", 60*time.Second, refcache.Ask)
	f("Cache-Control: max-age=60"+etag, 60*time.Second, refcache.AskWhether)
	f("Cache-Control: MAX-AGE=60|Age: 50", 10*time.Second, refcache.Ask)
	f("Cache-Control: max-age=60, private", 0, refcache.Ask)
	f(`Cache-Control: max-age=60, x="private"`, 0, refcache.Serve)
	f(`Cache-Control: max-age=60, private="x"`, 0, refcache.Serve)
	f("Cache-Control: max-age=60|Cache-Control: no-cache"+etag, 0, refcache.AskWhether)
	f("Cache-Control: max-age=1, s-maxage=60", 30*time.Second, refcache.Serve)
	f("Cache-Control: max-age=-1"+etag, 0, refcache.AskWhether)
	f("Cache-Control: no-store|CDN-Cache-Control: max-age=60", 30*time.Second, refcache.Serve)
	f("Cache-Control: no-store|CDN-Cache-Control: max-age=", 30*time.Second, refcache.Ask)
	f("Expires: Sun, 06 Nov 2044 08:50:37 GMT", 59*time.Second, refcache.Serve)
	f("Expires: Sunday, 06-Nov-44 08:50:37 GMT", 59*time.Second, refcache.Serve)
	f("Expires: Sun Nov  6 08:50:37 2044", 59*time.Second, refcache.Serve)
	f("Expires: 0"+etag, 0, refcache.AskWhether)
	f("Last-Modified: Sun, 06 Nov 2044 08:39:37 GMT", 59*time.Second, refcache.Serve)
	f("Last-Modified: Sun, 06 Nov 2044 08:39:37 GMT", 60*time.Second, refcache.AskWhether)
	f("Cache-Control: max-age=60, stale-while-revalidate=60", 119*time.Second, refcache.Refresh)
	f("Cache-Control: max-age=60, stale-while-revalidate=60", 120*time.Second, refcache.Ask)
	f("Cache-Control: max-age=60, stale-while-revalidate=60, must-revalidate", 119*time.Second, refcache.Ask)
	f("Cache-Control: max-age=60|Vary: *", 0, refcache.Ask)
	f("Cache-Control: max-age=60|Set-Cookie: a=b", 0, refcache.Ask)
	f("Cache-Control: max-age=60, public|Set-Cookie: a=b", 0, refcache.Serve)
	f("X: nothing", 0, refcache.Open) // may be stored, but is never fresh
}
