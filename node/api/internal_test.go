package api

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

func TestParseTTL(t *testing.T) {
	f := func(s string, want lifetimes) {
		t.Helper()
		if got, p := parseTTL(s); p != nil || got != want {
			t.Errorf("%q: %v %v, want %v", s, got, p, want)
		}
	}
	only := func(d time.Duration) lifetimes { return lifetimes{item: d} }
	f("900", only(900*time.Second))
	f("15m", only(15*time.Minute))
	f("1h30m", only(90*time.Minute))
	f("1d", only(24*time.Hour))
	f("2w", only(14*24*time.Hour))
	f("250ms", only(250*time.Millisecond))
	f("minute", only(time.Minute))
	f("5m", only(5*time.Minute))
	f("hour", only(time.Hour))
	f("day", only(24*time.Hour))
	f("week", only(7*24*time.Hour))
	f("never", only(0))
	f("0001", only(time.Second))
	f("l1=60, l2=1h", lifetimes{l1: time.Minute, l2: time.Hour})
	f("l3=day,l1=minute", lifetimes{item: 24 * time.Hour, l1: time.Minute})
	f(" l1 = 60 ", lifetimes{l1: time.Minute})
	f("36500d", only(maxTTL))
	for _, s := range []string{
		"", " ", "-1", "0", "0s", "1.5h", "1h30", "h", "15 m", "1y", "36501d", "99999999999999999999", "9223372036854775807w", "forever",
		"l1=", "=60", "l1=60,l1=60", "l1=60,", "l1=60,900", "l4=60", "l1=0", "900,l1=60",
	} {
		if got, p := parseTTL(s); p == nil {
			t.Errorf("%q was taken as %v", s, got)
		}
	}
}

func FuzzParseTTL(f *testing.F) {
	for _, s := range []string{"900", "1h30m", "l1=60, l2=1h, l3=1d", "week", "never", "9223372036854775807s1ms"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, p := parseTTL(s)
		for _, d := range []time.Duration{got.item, got.l1, got.l2} {
			if p == nil && (d < 0 || d > maxTTL) {
				t.Errorf("%q gave %v", s, d)
			}
		}
		if p != nil && p.Kind != problem.BadTTL && p.Kind != problem.BadTier {
			t.Errorf("%q: %v", s, p)
		}
		if want, err := time.ParseDuration(s); err == nil && p == nil && strings.Trim(s, "0123456789hms") == "" &&
			!strings.Contains(s, "=") && strings.Trim(s, "0123456789") != "" && got.item != want {
			t.Errorf("%q gave %v, want %v", s, got.item, want)
		}
	})
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/v1/items/a", "/v1/items/%2f%3Astate", "/v1/items/a:state", "/v1/items/%C2%85", "/v1/items:get", "/v1/items/é%"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, path []byte) {
		r, key, p := parsePath(path, nil)
		if r != routeItem && r != routeState && r != routeStatus {
			return
		}
		if p != nil {
			return
		}
		if err := item.CheckID(key.ID()); err != nil || key.Namespace() != item.NamespaceItem {
			t.Errorf("%q gave the key %q: %v", path, key, err)
		}
		// Escaping every byte of the id leads to the same id and to no verb.
		escaped := []byte(idPath)
		for _, c := range key.Own() {
			escaped = append(escaped, '%')
			escaped = append(escaped, strings.ToUpper(hex.EncodeToString([]byte{c}))...)
		}
		if r, again, p := parsePath(escaped, nil); r != routeItem || p != nil || !bytes.Equal(again, key) {
			t.Errorf("%q gave %v %q %v, want %q", escaped, r, again, p, key)
		}
	})
}

// FuzzCheckID compares the fast check with the one of package item.
func FuzzCheckID(f *testing.F) {
	for _, s := range []string{"a", "", "\u0085", "\u00a0", "\xc2", "a\xc2\x80", "\ufffd", "\xed\xa0\x80", "\x7f", strings.Repeat("é", 600)} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, id []byte) {
		if got, want := checkID(id) == nil, item.CheckID(string(id)) == nil; got != want {
			t.Errorf("%q: %v, want %v", id, got, want)
		}
	})
}

func FuzzParseRanges(f *testing.F) {
	for _, s := range []string{"bytes=0-3", "bytes=-5", "bytes=5-", "bytes=0-0, 3-4,-1", "bytes=9-1", "bytes=18446744073709551616-"} {
		f.Add([]byte(s), int64(10))
	}
	f.Fuzz(func(t *testing.T, value []byte, size int64) {
		if size < 0 {
			return
		}
		var room [maxRanges]span
		spans, ok := parseRanges(value, size, room[:0])
		var total int64
		for _, s := range spans {
			if s.start < 0 || s.start >= s.end || s.end > size {
				t.Errorf("%q of %d: %v", value, size, s)
			}
			total += s.end - s.start
		}
		if !ok && len(spans) > 0 || total > size || len(spans) > maxRanges {
			t.Errorf("%q of %d: %v %v", value, size, spans, ok)
		}
	})
}

// FuzzMembers compares the walk over an object with encoding/json.
func FuzzMembers(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { "a" : 1 , "b":[{"c":"}"}] } `, `{"a":"\u0041\ud83d\ude00\n"}`, `{"a":1,"a":2}`, `[1]`, `{"a":-1.5e3}`, `{"a":true,"b":null}`, `{"\"":"\\"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got := map[string]any{}
		err := members(text, func(name string, value []byte) error {
			var v any
			if err := json.Unmarshal(value, &v); err != nil {
				t.Fatalf("%q: member %q is %q: %v", text, name, value, err)
			}
			if s, isString := v.(string); isString {
				if mine, err := unquote(value); err == nil && mine != s {
					t.Errorf("unquote(%q) = %q, want %q", value, mine, s)
				}
			}
			got[name] = v
			return nil
		})
		var want map[string]any
		wantErr := json.Unmarshal(text, &want)
		if err == nil && (wantErr != nil || want == nil || len(want) != len(got)) {
			t.Errorf("%q: %v, want %v, %v", text, got, want, wantErr)
		}
		var parsed tiers.Write
		var e entry
		if p := parsePut(text, &e, &parsed); p == nil && (!e.known || !utf8.ValidString(e.id)) {
			t.Errorf("%q was taken with the id %q", text, e.id)
		}
	})
}

func FuzzAppendString(f *testing.F) {
	f.Add("a\"\\\x00\u2028é\xff")
	f.Fuzz(func(t *testing.T, s string) {
		var got string
		if err := json.Unmarshal(appendString(nil, s), &got); err != nil {
			t.Fatal(err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); utf8.ValidString(s) && got != want {
			t.Errorf("%q came back as %q", s, got)
		}
	})
}

// FuzzLines compares the lines with a split of the whole, however it arrives.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nbb\r\n\n\nccccccccccccc\nd"), 8)
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		limit = max(limit%64, 1)
		var want []string
		for line := range bytes.SplitSeq(in, []byte("\n")) {
			if len(line) > limit {
				want = append(want, "too long")
			} else if line = bytes.TrimSuffix(line, []byte("\r")); len(line) > 0 {
				want = append(want, string(line))
			}
		}
		for _, r := range []io.Reader{bytes.NewReader(in), iotest.OneByteReader(bytes.NewReader(in)), iotest.DataErrReader(bytes.NewReader(in))} {
			l := lineReader{r: r, limit: limit}
			var got []string
			for {
				line, err := l.next()
				if err == io.EOF {
					break
				}
				if errors.Is(err, errLineTooLong) {
					line = []byte("too long")
				} else if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(line))
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("%q by %d: %q, want %q", in, limit, got, want)
			}
		}
	})
}

func TestHTTPDate(t *testing.T) {
	var kept date
	appendHTTPDate := func(ms int64) []byte {
		got, fresh := make([]byte, dateLen), make([]byte, dateLen)
		kept.put(got, ms)
		(&date{}).put(fresh, ms)
		if !bytes.Equal(got, fresh) {
			t.Errorf("%d: %s after another, %s at first", ms, got, fresh)
		}
		return got
	}
	for _, ms := range []int64{0, 1, 999, -1, 1_700_000_000_000, 951_782_400_000, 951_868_800_000, 4_102_444_800_000, 253_402_300_799_000, -62_135_596_800_000} {
		want := time.UnixMilli(ms).UTC().Format(http.TimeFormat)
		if got := string(appendHTTPDate(ms)); got != want {
			t.Errorf("%d: %s, want %s", ms, got, want)
		}
	}
	for day := int64(0); day < 800; day++ { // every day around two leap years
		ms := 1_677_000_000_000 + day*86_400_000
		if got, want := string(appendHTTPDate(ms)), time.UnixMilli(ms).UTC().Format(http.TimeFormat); got != want {
			t.Fatalf("%d: %s, want %s", ms, got, want)
		}
	}
}

func TestHexDigits(t *testing.T) {
	for i := range 1 << 16 {
		in := []byte{byte(i), byte(i >> 8), byte(i * 7), byte(i >> 3)}
		got := binary.LittleEndian.AppendUint64(nil, hexDigits(binary.LittleEndian.Uint32(in)))
		if want := hex.EncodeToString(in); string(got) != want {
			t.Fatalf("%x: %s, want %s", in, got, want)
		}
	}
}

// TestResponseFormat holds the stored form: a change of these bytes is a new
// format.
func TestResponseFormat(t *testing.T) {
	const golden = "0101" + "0400" + "677a6970" // format 1, field 1, 4 bytes, gzip
	if got := hex.EncodeToString(appendResponse(nil, []byte("gzip"))); got != golden {
		t.Errorf("got %s, want %s", got, golden)
	}
	f := func(stored, want string) {
		t.Helper()
		b, err := hex.DecodeString(stored)
		if err != nil {
			t.Fatal(err)
		}
		if got := contentEncodingOf(b); string(got) != want {
			t.Errorf("%s: %q, want %q", stored, got, want)
		}
	}
	f(golden, "gzip")
	f("01"+"090200ffff"+"010200"+"6272", "br") // an unknown field before it
	f("", "")
	f("02"+golden[2:], "") // a later format
	f("0101ff00", "")      // cut off
	f("0101", "")
	if got := appendResponse(nil, nil); got != nil {
		t.Errorf("metadata without fields: %x", got)
	}
}

func TestFieldNames(t *testing.T) {
	for f := range fields {
		if got := fieldOf([]byte(strings.ToUpper(f.name()))); got != f {
			t.Errorf("%s is taken for field %d", f.name(), got)
		}
	}
	for _, name := range []string{"", "Edge-TTLs", "Edge-TT\x6d", "Range\x00", "edge_tags"} {
		if f := fieldOf([]byte(name)); f != noField {
			t.Errorf("%q is taken for %s", name, f.name())
		}
	}
}

func TestSaturation(t *testing.T) {
	if n, ok := rangeInt([]byte(strings.Repeat("9", 40))); !ok || n < math.MaxInt64/11 {
		t.Errorf("rangeInt gave %d %v", n, ok)
	}
	if n := saturatingInt(strings.Repeat("9", 40)); n != math.MaxInt64 {
		t.Errorf("saturatingInt gave %d", n)
	}
}
