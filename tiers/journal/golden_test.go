package journal_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const goldenFile = "testdata/format1.hex"

// TestGolden holds the bytes of format 1 fast, in both directions.
func TestGolden(t *testing.T) {
	fs := newFS()
	opt := smallOptions(fs)
	opt.Version = "1.2.3"
	opt.Now = func() time.Time { return time.UnixMilli(1_700_000_000_123) }
	opt.Salt = func() uint32 { return 0x5a17 }
	j := mustOpen(t, opt)
	want := []string{"", "first", "exactly sixteen.", strings.Repeat("long ", 20)}
	for _, s := range want {
		mustSync(t, j, mustAppend(t, j, []byte(s)))
	}
	j.Release(mustAppend(t, j, []byte("released")))
	mustClose(t, j)
	name := filepath.Join(testDir, "0000000001.journal")
	b, err := fs.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got := sparseDump(b)
	if *update {
		if err := os.WriteFile(goldenFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(golden) {
		t.Errorf("the bytes written are not those of %s:\n%s", goldenFile, got)
	}

	fs = newFS()
	fs.WriteFile(name, readDump(t, string(golden)))
	j = mustOpen(t, smallOptions(fs))
	if rec := j.Recovery(); !rec.Clean {
		t.Errorf("Recovery = %+v, want clean", rec)
	}
	_, bs := replayed(t, j)
	for i, s := range append(want, "released") {
		if i >= len(bs) || string(bs[i]) != s {
			if s == "released" {
				continue // released, but not the oldest: it may be there or not
			}
			t.Errorf("record %d is not %q", i, s)
		}
	}
}

// sparseDump shows the lines of 16 bytes that are not zero.
func sparseDump(b []byte) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%08x size\n", len(b))
	for off := 0; off < len(b); off += 16 {
		if line := b[off : off+16]; !bytes.Equal(line, make([]byte, 16)) {
			fmt.Fprintf(&s, "%08x %s\n", off, hex.EncodeToString(line))
		}
	}
	return s.String()
}

func readDump(tb testing.TB, s string) []byte {
	tb.Helper()
	var b []byte
	for line := range strings.Lines(s) {
		var off int
		var text string
		if _, err := fmt.Sscanf(line, "%x %s", &off, &text); err != nil {
			tb.Fatal(err)
		}
		if text == "size" {
			b = make([]byte, off)
			continue
		}
		if _, err := hex.Decode(b[off:], []byte(text)); err != nil {
			tb.Fatal(err)
		}
	}
	return b
}
