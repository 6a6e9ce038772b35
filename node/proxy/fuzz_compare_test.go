package proxy

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/edgenode/edgenode/node/proxy/refcache"
	"github.com/edgenode/edgenode/tiers"
)

// What is stored after any Cache-Control may be stored after the reference, and
// lives no longer.
func FuzzJudgeAgainstReference(f *testing.F) {
	for _, s := range []string{`max-age=60, x="private, no-store"`, `private="a", s-maxage="10"`, `public, no-cache="b" , max-age=1`, `no-store, must-understand, max-age=7`, `max-age=1,max-age=9`} {
		f.Add(s, false)
		f.Add(s, true)
	}
	s := &site{Site: Site{}.withDefaults()}
	ref := refcache.Cache{Policy: refcache.DefaultPolicy()}
	at := time.UnixMilli(startMilli).UTC()
	f.Fuzz(func(t *testing.T, control string, token bool) {
		if strings.ContainsAny(control, "\r\n\x00") {
			return
		}
		date := at.Format(http.TimeFormat)
		v := s.judge(&answer{
			method: "GET", authorization: token, status: 200, sent: startMilli, received: startMilli,
			header: http.Header{"Cache-Control": {control}, "Date": {date}, "Etag": {`"e"`}},
		})
		r := refcache.Request{Method: "GET", URL: "http://shop.example/"}
		if token {
			r.Fields = refcache.Fields{{Name: "Authorization", Value: "x"}}
		}
		a := refcache.Answer{Status: 200, Asked: at, Came: at, Fields: refcache.Fields{{Name: "Cache-Control", Value: control}, {Name: "Date", Value: date}, {Name: "ETag", Value: `"e"`}}}
		if may, _ := ref.Storable(ref.Read(r, a)); v.store && !may {
			t.Errorf("%q, token %v: it is stored", control, token)
		}
	})
}

// A date that the standard library reads too is the same one.
func FuzzDateAgainstLibrary(f *testing.F) {
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-44 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "sun, 06 nov 1994 08:49:37 gmt"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ms, ok := parseDate(s, startMilli)
		want, err := http.ParseTime(s)
		if !ok || err != nil || strings.Count(s, "-") == 2 { // centuries are told by the clock here
			return
		}
		if want.UnixMilli() != ms {
			t.Errorf("%q: got %v, the library %v", s, time.UnixMilli(ms).UTC(), want)
		}
	})
}

// A targeted field that counts is a dictionary for an independent parser too.
func FuzzTargetedAgainstParser(f *testing.F) {
	for _, s := range []string{"max-age=60", "max-age=60;x=1, must-revalidate", "max-age=", `a="b, c", max-age=1`, "private=?0", "a=(1 2);b, c=:YQ==:", "max-age=1,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, ok := parseTargeted([]string{s}); !ok {
			return
		}
		if _, err := httpsfv.UnmarshalDictionary([]string{s}); err != nil {
			t.Errorf("%q counts, but %v", s, err)
		}
	})
}

// Cache-Status is a list of structured fields whatever is in the URL.
func FuzzCacheStatusParsesBack(f *testing.F) {
	f.Add("http://shop.example/a\"b\\c\xff?d", int64(-1500), 304, true)
	f.Add("", int64(0), 0, false)
	p := &Proxy{o: Options{Name: DefaultName}}
	s := &site{Site: Site{}.withDefaults()}
	f.Fuzz(func(t *testing.T, url string, ttl int64, status int, hit bool) {
		h := how{hasTTL: true, ttl: ttl % (1 << 50), fwdStatus: status % 1000, source: tiers.FromL1, stored: !hit, collapsed: hit}
		if !hit {
			h.fwd = fwdStale
		}
		line := string(p.appendStatus(nil, s, &h, []byte(keyNote(url))))
		value, ok := strings.CutPrefix(strings.TrimSuffix(line, "\r\n"), "Cache-Status: ")
		if !ok || strings.ContainsAny(value, "\r\n") {
			t.Fatalf("no line: %q", line)
		}
		list, err := httpsfv.UnmarshalList([]string{value})
		if err != nil || len(list) != 1 {
			t.Fatalf("%q: %d members, %v", value, len(list), err)
		}
		params := list[0].(httpsfv.Item).Params
		_, isHit := params.Get("hit")
		_, isForward := params.Get("fwd")
		if isHit == isForward {
			t.Errorf("%q: hit %v and fwd %v", value, isHit, isForward)
		}
		if got, _ := params.Get("ttl"); got != floorSeconds(h.ttl) {
			t.Errorf("%q: ttl %v, want %d", value, got, floorSeconds(h.ttl))
		}
	})
}
