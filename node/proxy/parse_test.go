package proxy

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRFC9111Section52Tokenizer(t *testing.T) {
	f := func(lines string, flags ccFlags, maxAge, sMaxage int64) {
		t.Helper()
		d := parseCacheControl(strings.Split(lines, "\n"))
		if d.flags != flags || d.maxAge != maxAge || d.sMaxage != sMaxage {
			t.Errorf("%q: got flags %b, max-age %d, s-maxage %d", lines, d.flags, d.maxAge, d.sMaxage)
		}
	}
	f("", 0, -1, -1)
	f("max-age=1", 0, 1, -1)
	f("MAX-AGE=1,,, ,PUBLIC", ccPublic, 1, -1)
	f("a=b\nmax-age=5", 0, 5, -1)
	f("max-age=5, max-age=3", 0, 3, -1)
	f("max-age", 0, 0, -1)
	f("max-age=", 0, 0, -1)
	f("max-age=1 2", 0, 0, -1)
	f("max-age =1", 0, 0, -1)
	f("max-age= 1", 0, 0, -1)
	f(`max-age="1"`, 0, 1, -1)
	f(`max-age="1`, 0, 0, -1)
	f(`x="a, max-age=9, \", no-store", s-maxage=7`, 0, -1, 7)
	f("s-maxage=4294967296", 0, -1, maxDelta)
	f("s-max-age=5, maxage=5", 0, -1, -1)
	f(`no-cache="a"`, 0, -1, -1)
	f(`no-cache=""`, ccNoCache, -1, -1)
	f(`no-cache="a b"`, ccNoCache, -1, -1)
	f("no-cache=, private", ccNoCache|ccPrivate, -1, -1)
	f("private=x", 0, -1, -1)
	f("no-store=1", ccNoStore, -1, -1)
	f("no-store;", ccNoStore, -1, -1)
	d := parseCacheControl([]string{`no-cache="set-cookie, ,x-a", private="x-b"`})
	if !slices.Equal(d.noCacheFields, []string{"Set-Cookie", "X-A"}) || !slices.Equal(d.privateFields, []string{"X-B"}) {
		t.Errorf("fields %q and %q", d.noCacheFields, d.privateFields)
	}
}

func TestRFC9213Targeted(t *testing.T) {
	f := func(s string, valid bool, flags ccFlags, maxAge int64) {
		t.Helper()
		d, ok := parseTargeted(strings.Split(s, "\n"))
		if ok != valid || ok && (d.flags != flags || d.maxAge != maxAge) {
			t.Errorf("%q: got %v, flags %b, max-age %d", s, ok, d.flags, d.maxAge)
		}
	}
	f("max-age=60", true, 0, 60)
	f("max-age=60;a;b=?1, no-store", true, ccNoStore, 60)
	f("no-store=?0, max-age=1", true, 0, 1)
	f("max-age=1, max-age=9", true, 0, 9) // the last of a name holds
	f("max-age=1\nprivate", true, ccPrivate, 1)
	f("max-age=-1", true, 0, 0)
	f("max-age=1.5", false, 0, 0) // no integer: as if it were not there
	f(`max-age="60"`, false, 0, 0)
	f("max-age", false, 0, 0)
	f("max-age=(60)", false, 0, 0)
	f(`max-age="60", no-store=1, private="x"`, true, ccNoStore, -1)
	f("max-age=1.5, unknown", true, 0, -1)
	f("public=1, max-age=60", true, 0, 60)
	f("max-age=60, &&&&&", false, 0, 0)
	f("max-age=60;foo=\"bar\", public", true, ccPublic, 60)
	f("max-age=0060", true, 0, 60)
	f("MaX-aGe=60", false, 0, 0)
	f(`max-age=10, x="a\"b", y=:YQ==:, z=(a "b" 1);q=2, w=@12, v=*tok/a`, true, 0, 10)
	f("", false, 0, 0)
	f("max-age=1,", false, 0, 0)
	f("Max-Age=1", false, 0, 0)
	f("max-age = 1", false, 0, 0)
	f("max-age=1 private", false, 0, 0)
	f(`a="x`, false, 0, 0)
	f("a=(b", false, 0, 0)
	f("a=1234567890123456", false, 0, 0)
}

func TestRFC9110Section567Dates(t *testing.T) {
	const want = 784111777000
	f := func(s string, ok bool) {
		t.Helper()
		if got, valid := parseDate(s, startMilli); valid != ok || ok && got != want {
			t.Errorf("%q: got %d, %v", s, got, valid)
		}
	}
	now := startMilli
	startMilli = want
	defer func() { startMilli = now }()
	f("Sun, 06 Nov 1994 08:49:37 GMT", true)
	f("sUN, 06 nOV 1994 08:49:37 gmt", true)
	f("Sunday, 06-Nov-94 08:49:37 GMT", true)
	f("Sun Nov  6 08:49:37 1994", true)
	for _, s := range []string{
		"", "0", "-1", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 08:49:37 +0000",
		"Sun, 6 Nov 1994 08:49:37 GMT", "Sun,  06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 94 08:49:37 GMT", "Sun 06 Nov 1994 08:49:37 GMT",
		"Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 8:49:37 GMT", "Xyz, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06-Nov-94 08:49:37 GMT", "Sunday, 06-Nov-1994 08:49:37 GMT", "Sun Nov 6 08:49:37 1994",
		"Sun, 06 Xyz 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT", "Sunday,06-Nov-94 08:49:37 GMT",
	} {
		f(s, false)
	}
	// More than 50 years ahead is the past.
	if got, _ := parseDate("Sunday, 06-Nov-94 08:49:37 GMT", time.Date(2044, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()); time.UnixMilli(got).UTC().Year() != 2094 {
		t.Errorf("year 94 in 2044 is %d", time.UnixMilli(got).UTC().Year())
	}
	if got, _ := parseDate("Sunday, 06-Nov-94 08:49:37 GMT", time.Date(2043, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()); time.UnixMilli(got).UTC().Year() != 1994 {
		t.Errorf("year 94 in 2043 is %d", time.UnixMilli(got).UTC().Year())
	}
}

func FuzzCacheControl(f *testing.F) {
	for _, s := range []string{`max-age=1, no-cache="a, b", x="\"", private`, `no-store , s-maxage = 3`, `"`, `a="b`, "=", ",,"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d := parseCacheControl([]string{s})
		for _, n := range []int64{d.maxAge, d.sMaxage, d.whileRevalidate, d.ifError, d.minFresh, d.maxStale} {
			if n < absent || n > maxDelta {
				t.Errorf("%q: a number is %d", s, n)
			}
		}
		// A line before changes nothing about what restricts.
		both := parseCacheControl([]string{"public", s})
		if both.flags != d.flags|ccPublic {
			t.Errorf("%q: flags %b alone, %b after another line", s, d.flags, both.flags)
		}
		// Nothing that comes after can take a restriction away.
		if more := parseCacheControl([]string{s, "max-age=9"}); more.flags != d.flags || d.maxAge >= 0 && more.maxAge > d.maxAge {
			t.Errorf("%q: a later line loosened it", s)
		}
	})
}

func FuzzTargeted(f *testing.F) {
	for _, s := range []string{"max-age=1, a=(b c);d", `a="\\", b=:YQ==:`, "a;b=?1,c=@1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := parseTargeted([]string{s}); ok && (d.maxAge < absent || d.maxAge > maxDelta) {
			t.Errorf("%q: max-age %d", s, d.maxAge)
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ms, ok := parseDate(s, startMilli)
		if !ok {
			return
		}
		again, ok := parseDate(httpDate(ms), startMilli)
		if year := time.UnixMilli(ms).UTC().Year(); year > 0 && year < 10_000 && (!ok || again != ms) {
			t.Errorf("%q is %d, written again %d", s, ms, again)
		}
	})
}

func FuzzRanges(f *testing.F) {
	f.Add("bytes=0-1,-2,3-", int64(10))
	f.Fuzz(func(t *testing.T, s string, size int64) {
		size = max(size, 0)
		spans, _ := parseRanges([]byte(s), size)
		for _, sp := range spans {
			if sp.first < 0 || sp.last < sp.first || sp.last >= size {
				t.Errorf("%q of %d: %v", s, size, sp)
			}
		}
	})
}

// The stored forms are read by fuzzed bytes without harm.
func FuzzStoredForms(f *testing.F) {
	f.Add([]byte(appendMeta(nil, 200, &freshness{}, []byte("ETag: \"e\"\r\n"), 6, 3, "foo", ";key=\"x\"")))
	f.Add(appendIndex(nil, &index{specs: []string{"a,b"}, entries: []entry{{spec: 0}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := parseMeta(b); ok {
			_, _, _, _ = m.etag(), m.vary(), m.note(), m.block()
		}
		if v, ok := parseIndex(b); ok {
			if again := appendIndex(nil, v.decode()); len(again) != len(b) {
				t.Errorf("%x decodes to %x", b, again)
			}
			v.find(0, make([]byte, hashLen))
		}
	})
}

func FuzzNormaliseValue(f *testing.F) {
	f.Add("a , b,\tc  d", "foo")
	f.Add("de;q=0.3, en", "accept-language")
	f.Fuzz(func(t *testing.T, s, name string) {
		once := string(normaliseValue([]byte(s), 0, name))
		if name == "accept-language" || strings.Contains(s, `"`) {
			return
		}
		if twice := string(normaliseValue([]byte(once), 0, name)); twice != once {
			t.Errorf("%q becomes %q, then %q", s, once, twice)
		}
	})
}
