package journal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/edgenode/edgenode/tiers/journal"
)

// FuzzOpen opens a journal of one segment with any bytes behind its header. If
// seal is set, all checksums of headers are made to fit first.
func FuzzOpen(f *testing.F) {
	golden, err := os.ReadFile(goldenFile)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, false)
	valid := readDump(f, string(golden))[8192:]
	f.Add(bytes.TrimRight(valid, "\x00"), false)
	f.Add(valid[48:1024], true)
	f.Fuzz(func(t *testing.T, tail []byte, seal bool) {
		seg := readDump(t, string(golden))
		if len(tail) > len(seg)-8192 {
			return
		}
		copy(seg[8192:], tail)
		if seal {
			journal.Reseal(seg)
		}
		fs := newFS()
		fs.WriteFile(filepath.Join(testDir, "0000000001.journal"), seg)
		j, err := journal.Open(smallOptions(fs))
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		var first [][]byte
		var last journal.Pos
		err = j.Replay(func(pos journal.Pos, b []byte) error {
			if pos.Compare(last) <= 0 {
				t.Errorf("%v after %v", pos, last)
			}
			last = pos
			if got, err := j.ReadAt(nil, pos); err != nil || !bytes.Equal(got, b) {
				t.Errorf("ReadAt(%v): %v", pos, err)
			}
			first = append(first, bytes.Clone(b))
			return nil
		})
		if err != nil {
			t.Fatalf("Replay: %v", err)
		}
		pos, err := j.Append([]byte("one more"))
		if err == nil {
			first = append(first, []byte("one more"))
			err = j.Sync(pos)
		}
		if err != nil && !errors.Is(err, journal.ErrFull) {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		j = mustOpen(t, smallOptions(fs))
		_, again := replayed(t, j)
		if len(again) != len(first) {
			t.Fatalf("%d records, then %d", len(first), len(again))
		}
		for i := range again {
			if !bytes.Equal(again[i], first[i]) {
				t.Errorf("record %d differs", i)
			}
		}
	})
}
