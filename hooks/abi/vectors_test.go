package abi_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"os"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/edgenode/edgenode/hooks/abi"
)

var update = flag.Bool("update", false, "rewrite testdata/vectors.json")

// vectors is testdata/vectors.json. Bytes are hexadecimal.
type vectors struct {
	Inputs  []inputVector  `json:"inputs"`
	Evicts  []evictVector  `json:"evicts"`
	Results []resultVector `json:"results"`
	Records []recordVector `json:"records"`

	// Blocks of a minor version to come, whose head is longer: those of the
	// vectors of the same names with laterBytes more.
	Later       []laterVector `json:"later"`
	LaterEvicts []laterVector `json:"later_evicts"`
}

type laterVector struct {
	Name  string `json:"name"`
	Block string `json:"block"`
}

// laterBytes is what the head of a later vector is longer by.
const laterBytes = 16

type inputVector struct {
	Name      string       `json:"name"`
	Input     abi.Input    `json:"input"`
	Key       string       `json:"key"`
	Headers   []abi.Header `json:"headers"` // values in base64
	AreaBytes int          `json:"area_bytes"`
	Block     string       `json:"block"`
}

type evictVector struct {
	Name       string          `json:"name"`
	Input      abi.Input       `json:"input"`
	Pressure   float64         `json:"pressure"`
	Candidates []abi.Candidate `json:"candidates"`
	Block      string          `json:"block"`
}

type resultVector struct {
	Status abi.Status `json:"status"`
	Flags  uint32     `json:"flags"`
	Value  uint32     `json:"value"`
	Result string     `json:"result"` // as 16 digits, most significant first
}

type recordVector struct {
	Name    string       `json:"name"`
	Output  string       `json:"output"`
	Valid   bool         `json:"valid"`
	Records []recordItem `json:"records"`
}

type recordItem struct {
	Type uint16 `json:"type"`
	Data string `json:"data"`
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func block(v inputVector) []byte {
	return abi.AppendInput(make([]byte, 0, v.AreaBytes), &v.Input, []byte(v.Key), nil, v.Headers)
}

func TestVectors(t *testing.T) {
	v := readVectors(t)
	if *update {
		for i := range v.Inputs {
			v.Inputs[i].Block = hex.EncodeToString(block(v.Inputs[i]))
		}
		for i, e := range v.Evicts {
			v.Evicts[i].Block = hex.EncodeToString(abi.AppendEvict(make([]byte, 0, abi.InputBytes), &e.Input, e.Pressure, e.Candidates))
		}
		v.Later, v.LaterEvicts = laters(t, v)
		b, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/vectors.json", append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, in := range v.Inputs {
		if got := hex.EncodeToString(block(in)); got != in.Block {
			t.Errorf("input %s:\n got %s\nwant %s", in.Name, got, in.Block)
		}
	}
	for _, e := range v.Evicts {
		got := hex.EncodeToString(abi.AppendEvict(make([]byte, 0, abi.InputBytes), &e.Input, e.Pressure, e.Candidates))
		if got != e.Block {
			t.Errorf("evict %s:\n got %s\nwant %s", e.Name, got, e.Block)
		}
	}
	if inputs, evicts := laters(t, v); !reflect.DeepEqual(inputs, v.Later) || !reflect.DeepEqual(evicts, v.LaterEvicts) {
		t.Error("the blocks of a later version differ: run with -update")
	}
	for _, r := range v.Results {
		res := abi.MakeResult(r.Status, r.Flags, r.Value)
		b := hex.EncodeToString([]byte{byte(res >> 56), byte(res >> 48), byte(res >> 40), byte(res >> 32),
			byte(res >> 24), byte(res >> 16), byte(res >> 8), byte(res)})
		if b != r.Result || res.Status() != r.Status || res.Flags() != r.Flags || res.Value() != r.Value {
			t.Errorf("result %+v: got %s", r, b)
		}
	}
	for _, r := range v.Records {
		checkRecords(t, r)
	}
}

// laters makes the blocks of a later version from those of this one.
func laters(t *testing.T, v vectors) (inputs, evicts []laterVector) {
	t.Helper()
	for _, in := range v.Inputs {
		inputs = append(inputs, laterVector{in.Name, lengthen(t, in.Block)})
	}
	for _, e := range v.Evicts {
		evicts = append(evicts, laterVector{e.Name, lengthen(t, e.Block)})
	}
	return inputs, evicts
}

// lengthen puts fields behind the head of a block, and moves what lies behind.
func lengthen(t *testing.T, block string) string {
	t.Helper()
	b, err := hex.DecodeString(block)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	out := append(slices.Clone(b[:abi.HeadBytes]), bytes.Repeat([]byte{0x55}, laterBytes)...)
	out = append(out, b[abi.HeadBytes:]...)
	le.PutUint16(out, abi.HeadBytes+laterBytes)
	le.PutUint32(out[abi.OffKey:], le.Uint32(b[abi.OffKey:])+laterBytes)
	le.PutUint32(out[abi.OffHeaders:], le.Uint32(b[abi.OffHeaders:])+laterBytes)
	for i := range int(le.Uint16(b[abi.OffCount:])) {
		offset := out[abi.HeadBytes+laterBytes+i*abi.HeaderBytes+4:]
		le.PutUint32(offset, le.Uint32(offset)+laterBytes)
	}
	return hex.EncodeToString(out)
}

func checkRecords(t *testing.T, v recordVector) {
	t.Helper()
	out, err := hex.DecodeString(v.Output)
	if err != nil {
		t.Fatal(err)
	}
	var got []recordItem
	r := abi.ReadRecords(out)
	for {
		typ, data, ok := r.Next()
		if !ok {
			break
		}
		got = append(got, recordItem{typ, hex.EncodeToString(data)})
	}
	if valid := r.Err() == nil; valid != v.Valid {
		t.Errorf("records %s: valid is %v, want %v", v.Name, valid, v.Valid)
	}
	if v.Valid && !reflect.DeepEqual(got, v.Records) {
		t.Errorf("records %s: got %v, want %v", v.Name, got, v.Records)
	}
	if !v.Valid {
		return
	}
	var built []byte
	for _, it := range v.Records {
		data, _ := hex.DecodeString(it.Data)
		built = abi.AppendRecord(built, it.Type, data)
	}
	if built = abi.AppendEnd(built); !bytes.Equal(built, out) {
		t.Errorf("records %s: built %x, want %x", v.Name, built, out)
	}
}

// TestCandidateLayout holds what layout.go relies on.
func TestCandidateLayout(t *testing.T) {
	var c abi.Candidate
	if got := unsafe.Sizeof(c); got != abi.CandidateBytes {
		t.Errorf("size %d, want %d", got, abi.CandidateBytes)
	}
	for name, at := range map[string][2]uintptr{
		"ID": {unsafe.Offsetof(c.ID), 0}, "Size": {unsafe.Offsetof(c.Size), 8}, "AgeSeconds": {unsafe.Offsetof(c.AgeSeconds), 12},
		"IdleMillis": {unsafe.Offsetof(c.IdleMillis), 16}, "Hits": {unsafe.Offsetof(c.Hits), 20},
		"LeftSeconds": {unsafe.Offsetof(c.LeftSeconds), 24}, "Flags": {unsafe.Offsetof(c.Flags), 28}, "TagClass": {unsafe.Offsetof(c.TagClass), 30},
	} {
		if at[0] != at[1] {
			t.Errorf("%s at %d, want %d", name, at[0], at[1])
		}
	}
	one := abi.Candidate{ID: 1 << 60, Size: 2, AgeSeconds: 3, IdleMillis: 4, Hits: 5, LeftSeconds: 6, Flags: 7, TagClass: 8}
	slow := make([]byte, abi.CandidateBytes)
	abi.PutCandidate(slow, &one)
	fast := abi.AppendEvict(make([]byte, 0, 200), &abi.Input{}, 0, []abi.Candidate{one})[abi.EvictHead:]
	if !bytes.Equal(slow, fast) {
		t.Errorf("copied %x, written %x", fast, slow)
	}
}

func TestAppendInputCuts(t *testing.T) {
	in := abi.Input{Hook: abi.Route}
	for size := range 200 {
		b := abi.AppendInput(make([]byte, 0, size), &in, []byte("https://a.example"), []byte("/path"),
			[]abi.Header{{Name: 0, Value: []byte("first")}, {Name: 1, Value: bytes.Repeat([]byte("x"), 40)}})
		if size < abi.HeadBytes {
			if b != nil {
				t.Fatalf("area of %d: got %d bytes", size, len(b))
			}
			continue
		}
		whole := size >= 64+16+22+45
		if cut := b[6]&1 != 0; cut == whole || len(b) > size {
			t.Errorf("area of %d: truncated %v, %d bytes", size, cut, len(b))
		}
	}
	huge := abi.AppendInput(make([]byte, 0, 1<<17), &in, nil, nil, []abi.Header{{Value: make([]byte, 1<<16)}})
	if huge[6]&1 == 0 || huge[36] != 0 {
		t.Error("a value above 65,535 bytes was written")
	}
}

func TestPressure(t *testing.T) {
	f := func(p float64, want uint32) {
		t.Helper()
		b := abi.AppendEvict(make([]byte, 0, 100), &abi.Input{}, p, nil)
		if got := uint32(b[68]) | uint32(b[69])<<8 | uint32(b[70])<<16; got != want {
			t.Errorf("pressure %v is %d, want %d", p, got, want)
		}
	}
	f(0, 0)
	f(0.5, 1<<15)
	f(7, 1<<16)
	f(-1, 0)
	f(math.NaN(), 0)
	if abi.AppendEvict(make([]byte, 0, 1<<14), &abi.Input{}, 0, make([]abi.Candidate, 65)) != nil {
		t.Error("65 candidates were taken")
	}
}

func TestNoAllocations(t *testing.T) {
	area := make([]byte, 0, abi.InputBytes)
	in := abi.Input{Hook: abi.Route}
	headers := []abi.Header{{Value: []byte("v")}}
	key := []byte("k")
	out := abi.AppendEnd(abi.AppendRecord(nil, abi.RecTag, key))
	c := make([]abi.Candidate, 64)
	scores := make([]int32, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		abi.AppendInput(area, &in, key, key, headers)
		abi.AppendEvict(area, &in, 0.5, c)
		scores, _ = abi.AppendScores(scores[:0], area[:256], 64)
		r := abi.ReadRecords(out)
		for {
			if _, _, ok := r.Next(); !ok {
				break
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// FuzzRecords holds that no output makes the parser panic or read outside, and
// that what it accepts can be taken apart.
func FuzzRecords(f *testing.F) {
	for _, r := range readVectors(f).Records {
		out, _ := hex.DecodeString(r.Output)
		f.Add(out)
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		r := abi.ReadRecords(out)
		for {
			typ, data, ok := r.Next()
			if !ok {
				return
			}
			switch typ {
			case abi.RecSetRequest, abi.RecSetResponse:
				if _, v, ok := abi.SplitHeader(data); !ok || bytes.ContainsAny(v, "\r\n\x00") {
					t.Fatalf("header record %q accepted", data)
				}
			case abi.RecAnswer:
				a, ok := abi.ParseAnswer(data)
				if !ok || len(a.Body) > abi.MaxBody {
					t.Fatalf("answer record %q accepted", data)
				}
			}
		}
	})
}
