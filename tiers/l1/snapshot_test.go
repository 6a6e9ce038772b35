package l1_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

var update = flag.Bool("update", false, "write testdata anew")

func snapshotOf(t *testing.T, c *l1.Cache, h l1.SnapshotHead) []byte {
	t.Helper()
	var out bytes.Buffer
	n, err := c.WriteSnapshot(&out, h, func([]byte) l1.SaveVerdict { return l1.Save })
	if err != nil || int64(n) != c.Len() {
		t.Fatalf("%d of %d records written, %v", n, c.Len(), err)
	}
	return out.Bytes()
}

// readAll restores all of b to c and returns how many records came.
func readAll(t *testing.T, b []byte, c *l1.Cache, now int64) (restored int, r *l1.SnapshotReader) {
	t.Helper()
	r, err := l1.ReadSnapshot(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		if more, err = r.Next(func(s l1.Saved) {
			if c.Restore(hash(item.View(s.Record).Key()), s, now) {
				restored++
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	return restored, r
}

// What is restored is what was there, with its end, its mark and its frequency.
func TestSnapshot(t *testing.T) {
	const n = 2000
	head := l1.SnapshotHead{Identity: "here", Seq: 7, Version: 8, ID: 9}
	c := newCache(t, l1.Options{MaxBytes: 8 << 20})
	for i := range n {
		o := l1.PutOptions{NowMilli: 1}
		if i%10 == 1 {
			o.ExpiresAtMilli = 5000
		}
		put(c, i, uint64(i+1), i%1500, o)
	}
	put(c, n, 1, 900_000, l1.PutOptions{})
	c.SetStale(hash(keyOf(2)), keyOf(2), 1e9)
	for range 20 {
		get(c, 3, 1)
	}
	b := snapshotOf(t, c, head)
	to := newCache(t, l1.Options{MaxBytes: 8 << 20})
	restored, r := readAll(t, b, to, 5000)
	if r.Head != head || r.Corrupt != 0 || restored != n+1-n/10 {
		t.Errorf("head %+v, %d corrupt, %d restored", r.Head, r.Corrupt, restored)
	}
	for i := range n {
		want := uint64(i + 1)
		if i%10 == 1 {
			want = 0
		}
		if got := get(to, i, 5000); got != want {
			t.Fatalf("record %d has version %d, want %d", i, got, want)
		}
	}
	if p, ok := to.Get(hash(keyOf(2)), keyOf(2), 1); !ok || !p.Stale() {
		t.Error("the mark of a stale record is lost")
	} else {
		p.Release()
	}
	if a, b := l1.HeatOf(c, hash(keyOf(3)), keyOf(3)), l1.HeatOf(to, hash(keyOf(3)), keyOf(3)); a != b && b == 0 {
		t.Errorf("frequency %#x became %#x", a, b)
	}
	put(to, 4, 99, 10, l1.PutOptions{})
	if readAll(t, b, to, 5000); get(to, 4, 0) != 99 {
		t.Error("a newer version was replaced by a snapshot's")
	}
}

// One bit anywhere costs a block, or what follows the head of one; what is
// restored is always what was written.
func TestSnapshotCorrupt(t *testing.T) {
	c := newCache(t, l1.Options{MaxBytes: 8 << 20})
	for i := range 1000 {
		put(c, i, uint64(i+1), 2000, l1.PutOptions{})
	}
	b := snapshotOf(t, c, l1.SnapshotHead{Identity: "x", ID: 5})
	lost, total := 0, int(c.Len())
	for round := range 60 / slow {
		bad := bytes.Clone(b)
		at := round * (len(b) - 1) / (60 / slow)
		if bad[at] ^= 0x10; round%5 == 4 {
			bad = bad[:at]
		}
		r, err := l1.ReadSnapshot(bytes.NewReader(bad))
		if err != nil {
			if at > 100 || !errors.Is(err, l1.ErrSnapshot) && !errors.Is(err, l1.ErrSnapshotFormat) {
				t.Fatalf("byte %d: %v", at, err)
			}
			continue
		}
		seen := 0
		for more := true; more; {
			if more, err = r.Next(func(s l1.Saved) {
				v := item.View(s.Record)
				if seen++; !bytes.Equal(s.Record, record(v.Key(), uint64(v.Version()), 2000)) {
					t.Errorf("byte %d: another record than was written", at)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		if r.Corrupt == 0 || seen == total {
			t.Errorf("byte %d: %d of %d records, %d blocks corrupt", at, seen, total, r.Corrupt)
		}
		if lost < total-seen && round%5 != 4 {
			lost = total - seen
		}
	}
}

// The format does not change unnoticed; a file with records of their former format is
// read as one with those of the newest.
func TestSnapshotGolden(t *testing.T) {
	const path = "testdata/snapshot-1-item-2.bin"
	c := newCache(t, l1.Options{MaxBytes: 1 << 20})
	for i := range 3 {
		put(c, i, uint64(i+1), 20, l1.PutOptions{ExpiresAtMilli: int64(i) * 1e12, NowMilli: 1, Stale: i == 2})
	}
	head := l1.SnapshotHead{Identity: "golden", Seq: 3, Version: 4, ID: 5}
	if *update {
		if err := os.WriteFile(path, snapshotOf(t, c, head), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := snapshotOf(t, c, head); !bytes.Equal(got, b) {
		t.Errorf("written:\n%x\nwant:\n%x", got, b)
	}
	goldenSnapshot(t, path, head)
	goldenSnapshot(t, "testdata/snapshot-1.bin", head)
	b[8]++
	if _, err := l1.ReadSnapshot(bytes.NewReader(b)); !errors.Is(err, l1.ErrSnapshotFormat) {
		t.Errorf("another format: %v", err)
	}
}

func goldenSnapshot(t *testing.T, path string, head l1.SnapshotHead) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := l1.ReadSnapshot(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for more := true; more; {
		if more, err = r.Next(func(s l1.Saved) {
			v := item.View(s.Record)
			got = append(got, fmt.Sprint(v.Version(), s.ExpiresAtMilli, s.Stale, bytes.Equal(v, record(v.Key(), uint64(v.Version()), 20))))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if want := fmt.Sprint([]string{"1 0 false true", "2 1000000000000 false true", "3 2000000000000 true true"}); r.Head != head || r.Corrupt != 0 || fmt.Sprint(got) != want {
		t.Errorf("%s: read %+v %v, want %s", path, r.Head, got, want)
	}
	restored, _ := readAll(t, b, newCache(t, l1.Options{MaxBytes: 1 << 20}), 1)
	if restored != 3 {
		t.Errorf("%s: %d restored", path, restored)
	}
}

func FuzzSnapshot(f *testing.F) {
	if b, err := os.ReadFile("testdata/snapshot-1.bin"); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := l1.ReadSnapshot(bytes.NewReader(b))
		for more := err == nil; more; {
			more, _ = r.Next(func(s l1.Saved) {
				if _, err := item.Parse(s.Record); err != nil {
					t.Error(err)
				}
			})
		}
	})
}
