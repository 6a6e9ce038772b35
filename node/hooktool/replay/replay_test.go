package replay_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/node/hooktool/replay"
	"github.com/edgenode/edgenode/tiers/item"
)

// zipf returns a trace in which few keys have most requests: 20,000 requests of
// 2,000 keys, of 1 to 8 KiB each.
func zipf() *replay.Trace {
	var b replay.Builder
	x := uint64(1)
	for i := range 20_000 {
		x = x*6364136223846793005 + 1442695040888963407
		u := float64(x>>11) / (1 << 53)
		key := int(math.Pow(2000, u)) - 1
		if err := b.Add(fmt.Append(nil, key), uint32(1024+key*7919%7168), int64(i)*10); err != nil {
			panic(err)
		}
	}
	return b.Trace("zipf")
}

// encode writes t in the format ECT1.
func encode(t *replay.Trace, requests int) []byte {
	out := fmt.Appendf(nil, "ECT1 {\"name\":%q,\"requests\":%d,\"unique\":%d,\"has_time\":true}\n", t.Name, requests, len(t.Sizes))
	known, last := uint32(0), int64(0)
	for i, id := range t.IDs {
		if id == known {
			known++
			out = binary.AppendUvarint(out, 1)
			out = binary.AppendUvarint(out, uint64(t.Sizes[id]))
		} else {
			out = binary.AppendUvarint(out, uint64(known-id)<<1)
		}
		out = binary.AppendUvarint(out, uint64(t.Millis[i]-last))
		last = t.Millis[i]
	}
	return out
}

func TestReadTrace(t *testing.T) {
	want := zipf()
	text := encode(want, len(want.IDs))
	got, err := replay.ReadTrace(bufio.NewReader(bytes.NewReader(text)), 0)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got.IDs, got.Sizes, got.Millis, got.Footprint, got.Name) != fmt.Sprint(want.IDs, want.Sizes, want.Millis, want.Footprint, want.Name) {
		t.Error("what was read is not what was written")
	}
	f := func(text, remark string) {
		t.Helper()
		_, err := replay.ReadTrace(bufio.NewReader(strings.NewReader(text)), 0)
		if !errors.Is(err, replay.ErrTrace) || !strings.Contains(err.Error(), remark) {
			t.Errorf("got %v, want it to say %q", err, remark)
		}
	}
	f("", "first line")
	f("ECT2 {}\n", "ECT1")
	f("ECT1 {\n", "first line")
	f(string(text[:len(text)-1]), "request 20000")
	f(string(encode(want, 7)), "20000 requests of 1801 keys, its first line says 7")
	f("ECT1 {\"requests\":1}\n\x02", "key 1 before the newest of 0")
	f("ECT1 {\"requests\":1}\n\x00", "without a size")
	f("ECT1 {\"requests\":1}\n\x01", "request 1")
	f("ECT1 {\"requests\":1}\n\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "request 1")
}

func FuzzReadTrace(f *testing.F) {
	f.Add([]byte("ECT1 {\"requests\":1}\n\x01\x05"))
	f.Add([]byte("ECT1 {\"requests\":2,\"has_time\":true}\n\x01\x05\x01\x02\x01"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tr, err := replay.ReadTrace(bufio.NewReader(bytes.NewReader(text)), 0)
		if err != nil {
			return
		}
		for _, id := range tr.IDs {
			if int(id) >= len(tr.Sizes) || tr.Sizes[id] == 0 {
				t.Fatalf("key %d of %d", id, len(tr.Sizes))
			}
		}
	})
}

// TestMemoryKeepsTheCapacity holds that recorded sizes are the price, that what
// the cache says is in it is in it, and that a hit is a hit.
func TestMemoryKeepsTheCapacity(t *testing.T) {
	tr := zipf()
	capacity := tr.Footprint / 20
	for _, policy := range replay.Policies() {
		m, err := replay.NewMemory(capacity, policy, replay.Hooks{})
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range tr.IDs {
			before := m.Lost()
			m.Access(id, tr.Sizes[id], tr.Millis[i])
			if m.Bytes() > capacity {
				t.Fatalf("%s: %d bytes after request %d, capacity %d", policy, m.Bytes(), i, capacity)
			}
			if lost := m.Lost(); !m.Access(id, tr.Sizes[id], tr.Millis[i]) && lost == before {
				t.Fatalf("%s: what came in with request %d is not there", policy, i)
			}
		}
		if m.Bytes() < capacity*9/10 || m.Len() < 10 {
			t.Errorf("%s: %d objects of %d bytes in %d", policy, m.Len(), m.Bytes(), capacity)
		}
	}
}

func TestMemoryRefuses(t *testing.T) {
	if _, err := replay.NewMemory(0, "", replay.Hooks{}); err == nil {
		t.Error("a capacity of 0 is taken")
	}
	if _, err := replay.NewMemory(1, "best", replay.Hooks{}); !errors.Is(err, replay.ErrPolicy) {
		t.Errorf("policy best: %v", err)
	}
	m, err := replay.NewMemory(1000, "", replay.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Access(1, 251, 0); m.Access(1, 251, 0) { // as l1.Cache.Put
		t.Error("more than a quarter of the capacity was kept")
	}
}

// seen is a hook that ranks by size and looks at what it is given.
type seen struct {
	t     *testing.T
	sizes map[uint32]bool
	calls int
}

func (s *seen) Score(dst []int32, c []item.Candidate, pressure float64) []int32 {
	s.calls++
	for i := range c {
		if !s.sizes[c[i].Size] || pressure != 0 {
			s.t.Errorf("size %d was never recorded, or pressure %v is not 0", c[i].Size, pressure)
		}
		dst = append(dst, -int32(c[i].Size))
	}
	return dst
}

// TestHookRanks holds that a hook decides who leaves, by recorded sizes.
func TestHookRanks(t *testing.T) {
	tr := zipf()
	hook := &seen{t: t, sizes: map[uint32]bool{}}
	for _, size := range tr.Sizes {
		hook.sizes[size] = true
	}
	m, err := replay.NewMemory(tr.Footprint/20, "", replay.Hooks{Evict: hook})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replay.Run(t.Context(), tr, m, nil); err != nil {
		t.Fatal(err)
	}
	calls, faults := m.HookCalls()
	if hook.calls == 0 || uint64(hook.calls) != calls || faults != 0 {
		t.Errorf("%d calls, the cache says %d and %d faults", hook.calls, calls, faults)
	}
	if average := m.Bytes() / m.Len(); average > 2400 {
		t.Errorf("the smallest were to stay, those kept have %d bytes on average", average)
	}
}

// onlySmall lets in what is small, at the price of others.
type onlySmall struct{ asked, odd int }

// Admit implements l1.Admitter.
func (a *onlySmall) Admit(newcomer item.Candidate, victims []item.Candidate, _ float64) (admit, ok bool) {
	a.asked++
	if len(victims) == 0 || newcomer.Size < 1024 || newcomer.Size > 8192 || victims[0].Size > 8192 {
		a.odd++
	}
	return newcomer.Size < 3000, true
}

// TestHookAdmits holds that a hook decides what comes in once the cache is full, by
// recorded sizes, and that the capacity is kept.
func TestHookAdmits(t *testing.T) {
	tr := zipf()
	hook := &onlySmall{}
	capacity := tr.Footprint / 20
	m, err := replay.NewMemory(capacity, "", replay.Hooks{Admit: hook})
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range tr.IDs {
		asked, refused := hook.asked, m.Refused()
		hit := m.Access(id, tr.Sizes[id], tr.Millis[i])
		if m.Bytes() > capacity {
			t.Fatalf("request %d: %d bytes of %d", i, m.Bytes(), capacity)
		}
		if now := hook.asked > asked; now && (hit || (m.Refused() > refused) != (tr.Sizes[id] >= 3000)) {
			t.Fatalf("request %d of %d bytes: hit %v, refused %v", i, tr.Sizes[id], hit, m.Refused() > refused)
		}
	}
	if hook.asked < 1000 || hook.odd > 0 {
		t.Errorf("asked %d times, %d times oddly", hook.asked, hook.odd)
	}
	if average := m.Bytes() / m.Len(); average > 3500 {
		t.Errorf("those kept have %d bytes on average, what came in late at most 3000", average)
	}
}

// TestBytesStandsAScan holds that the policy bytes has the queues of a node: what
// was asked for twice outlives any number of objects that come once.
func TestBytesStandsAScan(t *testing.T) {
	const kept, scanned, size = 1600, 5_000, 1000
	m, err := replay.NewMemory(2000*size, "bytes", replay.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for id := range uint32(kept) {
			m.Access(id, size, 0)
		}
	}
	for i := range uint32(scanned) {
		m.Access(kept+i, size, int64(i))
	}
	hits := 0
	for id := range uint32(kept) {
		if m.Access(id, size, scanned) {
			hits++
		}
	}
	if hits < kept*9/10 {
		t.Errorf("%d of %d are left after a scan", hits, kept)
	}
}

// TestAutoBeatsLRU is the least that the default must do.
func TestAutoBeatsLRU(t *testing.T) {
	tr := zipf()
	capacity := tr.Footprint / 20
	m, err := replay.NewMemory(capacity, replay.DefaultPolicy, replay.Hooks{})
	if err != nil {
		t.Fatal(err)
	}
	auto, err := replay.Run(t.Context(), tr, m, nil)
	if err != nil {
		t.Fatal(err)
	}
	lru, err := replay.Run(t.Context(), tr, replay.NewLRU(capacity), nil)
	if err != nil {
		t.Fatal(err)
	}
	if auto.HitRatio() < lru.HitRatio()+0.02 || lru.Hits == 0 || auto.Requests != 20_000 {
		t.Errorf("auto %+v, lru %+v", auto, lru)
	}
}

func TestLRU(t *testing.T) {
	c := replay.NewLRU(10)
	f := func(id, size uint32, want bool) {
		t.Helper()
		if got := c.Access(id, size, 0); got != want {
			t.Errorf("%d: got %v, want %v", id, got, want)
		}
	}
	f(1, 4, false)
	f(2, 4, false)
	f(1, 4, true)
	f(3, 4, false) // 2 leaves
	f(1, 4, true)
	f(2, 4, false) // 3 leaves
	f(4, 11, false)
	f(4, 11, false)
	f(1, 4, true)
}

func TestServe(t *testing.T) {
	record := func(id, size uint32, seconds float64) []byte {
		b := binary.LittleEndian.AppendUint32(nil, id)
		b = binary.LittleEndian.AppendUint32(b, size)
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(seconds))
	}
	f := func(in []byte, want, remark string) {
		t.Helper()
		var out bytes.Buffer
		_, err := replay.Serve(bytes.NewReader(in), &out, replay.NewLRU(100))
		if out.String() != want || (err == nil) != (remark == "") || err != nil && !strings.Contains(err.Error(), remark) {
			t.Errorf("got %q, %v", out.String(), err)
		}
	}
	a, b := record(7, 60, 0), record(8, 60, 1.5)
	f(nil, "", "")
	f(bytes.Join([][]byte{a, a, b, b, a}, nil), "01010", "")
	f(append(a, 1, 2), "0", io.ErrUnexpectedEOF.Error())
	f(record(1<<31, 1, 0), "", "id 2147483648")
	f(record(1, 1, math.NaN()), "", "NaN")
}

// TestRunStops with the cause.
func TestRunStops(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := replay.Run(ctx, zipf(), replay.NewLRU(1), nil); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}
