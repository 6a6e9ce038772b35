package l1_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"flag"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers/eviction"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l1"
)

var traceDir = flag.String("traces", "", "folder of *.ect.gz traces for BenchmarkHitRatio; empty means a drawn one")

// trace is a list of requests for keys of fixed sizes.
type trace struct {
	name  string
	ids   []uint32
	milli []int64 // nil means 10 ms apart
	sizes []uint32
	foot  int64
}

func (t *trace) at(i int) int64 {
	if t.milli == nil {
		return 1 + int64(i)*10
	}
	return 1 + t.milli[i]
}

// loadTrace reads the format ECT1: a line of JSON, then varints {new or back
// reference, size if flagged, milliseconds since the last if the header says so}.
func loadTrace(tb testing.TB, path string) *trace {
	tb.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(raw)); err == nil {
			raw, err = io.ReadAll(z)
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
	head, body, _ := bytes.Cut(raw, []byte("\n"))
	timed := bytes.Contains(bytes.ReplaceAll(head, []byte(" "), nil), []byte(`"has_time":true`))
	t := &trace{name: strings.TrimSuffix(filepath.Base(path), ".ect.gz")}
	r, now := bufio.NewReader(bytes.NewReader(body)), int64(0)
	number := func() uint64 { v, e := binary.ReadUvarint(r); err = e; return v }
	for {
		h := number()
		if err == io.EOF {
			return t
		}
		id := uint32(len(t.sizes)) - uint32(h>>1)
		if h&1 == 1 {
			if s := number(); h>>1 == 0 {
				t.sizes = append(t.sizes, uint32(max(1, s)))
				t.foot += int64(max(1, s))
			}
		}
		if timed {
			now += int64(number())
			t.milli = append(t.milli, now)
		}
		t.ids = append(t.ids, id)
	}
}

// drawnTrace mixes requests by Zipf, whose favourites move, with scans.
func drawnTrace(n int) *trace {
	random := rand.New(rand.NewPCG(5, 6))
	t := &trace{name: "drawn"}
	pick := rand.NewZipf(random, 1.05, 8, 40_000)
	scan := uint32(60_000)
	for i := 0; len(t.ids) < n; i++ {
		if i%10_000 < 2000 {
			t.ids = append(t.ids, scan)
			scan++
			continue
		}
		t.ids = append(t.ids, uint32(pick.Uint64())+uint32(i/20_000)*50)
	}
	t.sizes = make([]uint32, scan+1)
	for i := range t.sizes {
		t.sizes[i] = uint32(math.Exp(random.NormFloat64()*1.2 + 8))
	}
	seen := map[uint32]bool{}
	for _, id := range t.ids {
		if !seen[id] {
			seen[id] = true
			t.foot += int64(t.sizes[id])
		}
	}
	return t
}

// policies are the ways of a cache to be compared.
var policies = []struct {
	name string
	o    l1.Options
}{
	{"auto", l1.Options{Scorer: eviction.Auto{}, Contest: true}},
	{"bytes", l1.Options{Scorer: eviction.Auto{Bytes: 1}, Queues: true}},
	{"lru", l1.Options{Scorer: eviction.LRU{}, TimeIdle: true}},
	{"open", l1.Options{Scorer: eviction.Auto{}}},
}

// replay returns the shares of requests and of bytes that hit. The budget is
// such that records take capacity bytes: what the cache keeps beside them is not
// counted, nor what a record has beside size bytes.
func (t *trace) replay(tb testing.TB, o l1.Options, capacity int64) (objects, inBytes float64) {
	now := t.at(0)
	o.Now = func() int64 { return now }
	o.MaxBytes = capacity + capacity/8
	c := l1.New(o)
	var hits, hitBytes, allBytes, evictions int64
	for i, id := range t.ids {
		now = t.at(i)
		size := int64(t.sizes[id])
		allBytes += size
		key := binary.BigEndian.AppendUint32([]byte("i"), id)
		h := hash(key)
		if p, ok := c.Get(h, key, now); ok {
			p.Release()
			hits++
			hitBytes += size
			continue
		}
		if size > capacity {
			continue
		}
		n := max(0, int(size)-recordOverhead)
		it := item.Item{Kind: item.KindPut, Key: item.Key(key), Version: 1, Content: zeros(n)}
		c.Put(h, key, 1, it.AppendTo(scratch[:0]), l1.PutOptions{NowMilli: now})
		if evictions++; evictions%256 == 0 {
			if held, used := c.RecordBytes(), c.UsedBytes(); used > c.MaxBytes()*15/16 {
				c.Resize(c.MaxBytes() + (capacity-held)/2)
			}
		}
	}
	n := float64(len(t.ids))
	return float64(hits) / n, float64(hitBytes) / float64(allBytes)
}

const recordOverhead = 157

var (
	zeroBytes = make([]byte, 16<<20)
	scratch   = make([]byte, 0, 17<<20)
)

func zeros(n int) []byte { return zeroBytes[:n] }

// BenchmarkHitRatio prints the shares of requests and of bytes that hit, by
// trace, policy and size of the cache as a share of the footprint.
func BenchmarkHitRatio(b *testing.B) {
	traces := []*trace{drawnTrace(300_000)}
	if *traceDir != "" {
		traces = nil
		files, err := filepath.Glob(filepath.Join(*traceDir, "*.ect.gz"))
		if err != nil || len(files) == 0 {
			b.Fatalf("no traces in %s: %v", *traceDir, err)
		}
		sort.Strings(files)
		for _, f := range files {
			traces = append(traces, loadTrace(b, f))
		}
	}
	for _, t := range traces {
		for _, share := range []float64{0.01, 0.1} {
			for _, p := range policies {
				b.Run(strings.Join([]string{t.name, map[float64]string{0.01: "1%", 0.1: "10%"}[share], p.name}, "/"), func(b *testing.B) {
					for b.Loop() {
						objects, inBytes := t.replay(b, p.o, int64(share*float64(t.foot)))
						b.ReportMetric(objects, "objects")
						b.ReportMetric(inBytes, "bytes")
					}
				})
			}
		}
	}
}
