package guest_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/guest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// vectors is what this package needs of hooks/abi/testdata/vectors.json. The later
// ones are blocks of a minor version to come, with a longer head.
type vectors struct {
	Inputs, Later []inputVector
	Evicts        []evictVector
	LaterEvicts   []evictVector `json:"later_evicts"`
	Records       []struct {
		Name    string
		Output  string
		Valid   bool
		Records []struct {
			Type uint16
			Data string
		}
	}
}

type inputVector struct {
	Name      string
	Input     abi.Input
	Key       string
	Headers   []abi.Header
	AreaBytes int `json:"area_bytes"`
	Block     string
}

type evictVector struct {
	Name       string
	Candidates []abi.Candidate
	Block      string
}

func read(t *testing.T) (v vectors) {
	t.Helper()
	b, err := os.ReadFile("../abi/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestVectors(t *testing.T) {
	for _, v := range read(t).Inputs {
		r := guest.NewRequest(unhex(t, v.Block))
		cut := r.Is(abi.FlagTruncated)
		if r.Operation() != v.Input.Operation || r.Method() != v.Input.Method || r.Tiers() != v.Input.Tiers ||
			!r.Is(v.Input.Flags) || r.NowMillis() != v.Input.NowMillis || r.ContentBytes() != v.Input.ContentBytes ||
			r.Status() != int(v.Input.Status) || r.Hits() != v.Input.Hits || [16]byte(r.Client()) != v.Input.Client {
			t.Errorf("%s: head differs", v.Name)
		}
		if s, known := r.Lifetime(); s != v.Input.Lifetime || known != (v.Input.Flags&abi.FlagLifetimeKnown != 0) {
			t.Errorf("%s: lifetime %d, known %v", v.Name, s, known)
		}
		if !cut && string(r.Key()) != v.Key {
			t.Errorf("%s: key %q, want %q", v.Name, r.Key(), v.Key)
		}
		if !cut && r.Headers() != len(v.Headers) {
			t.Errorf("%s: %d headers, want %d", v.Name, r.Headers(), len(v.Headers))
		}
		for i := range r.Headers() {
			if name, value := r.Line(i); name != v.Headers[i].Name || string(value) != string(v.Headers[i].Value) {
				t.Errorf("%s: header %d is %d %q", v.Name, i, name, value)
			}
		}
	}
}

func TestCandidateVectors(t *testing.T) {
	for _, v := range read(t).Evicts {
		c := guest.NewCandidates(unhex(t, v.Block))
		if c.Len() != len(v.Candidates) {
			t.Fatalf("%s: %d candidates, want %d", v.Name, c.Len(), len(v.Candidates))
		}
		for i, want := range v.Candidates {
			if got := c.At(i); got != want {
				t.Errorf("%s: candidate %d is %+v, want %+v", v.Name, i, got, want)
			}
		}
	}
}

func TestRecordVectors(t *testing.T) {
	for _, v := range read(t).Records {
		if !v.Valid || len(v.Records) == 0 {
			continue
		}
		out := make([]byte, abi.OutputBytes)
		for i := range out {
			out[i] = 0xaa // what an earlier call left
		}
		a := guest.NewAnswer(abi.Route, out)
		for _, r := range v.Records {
			a.Record(r.Type, unhex(t, r.Data))
		}
		if got := a.Result(); got != abi.MakeResult(abi.OK, abi.ResultRecords, 0) {
			t.Errorf("%s: result %x", v.Name, uint64(got))
		}
		want := unhex(t, v.Output)
		if got := out[:len(want)]; string(got) != string(want) {
			t.Errorf("%s:\n got %x\nwant %x", v.Name, got, want)
		}
	}
}

func TestPath(t *testing.T) {
	f := func(flags abi.Flags, key, want string) {
		t.Helper()
		b := abi.AppendInput(make([]byte, 0, 256), &abi.Input{Flags: flags}, []byte(key), nil, nil)
		if got := string(guest.NewRequest(b).Path()); got != want {
			t.Errorf("path of %q is %q, want %q", key, got, want)
		}
	}
	f(abi.FlagSite, "https://a.example/b?c", "/b?c")
	f(abi.FlagSite, "https://a.example:80/", "/")
	f(abi.FlagSite, "https://a.example", "")
	f(abi.FlagSite, "https:", "")
	f(abi.FlagSite, "", "")
	f(0, "uk/1", "uk/1")
}

// TestAnswers holds the methods against the parser of the node.
func TestAnswers(t *testing.T) {
	f := func(hook abi.Hook, want abi.Result, types string, decide func(a *guest.Answer)) {
		t.Helper()
		out := make([]byte, 512)
		a := guest.NewAnswer(hook, out)
		decide(a)
		if got := a.Result(); got != want {
			t.Errorf("result %x, want %x", uint64(got), uint64(want))
		}
		var got []byte
		for r := abi.ReadRecords(out); want.Flags()&abi.ResultRecords != 0; {
			typ, _, ok := r.Next()
			if !ok {
				if r.Err() != nil {
					t.Error(r.Err())
				}
				break
			}
			got = append(got, byte('a'+typ))
		}
		if string(got) != types {
			t.Errorf("records %q, want %q", got, types)
		}
	}
	res := abi.MakeResult
	f(abi.Route, res(abi.Default, 0, 0), "", func(*guest.Answer) {})
	f(abi.Route, res(abi.Pass, 0, 0), "", func(a *guest.Answer) { a.Pass() })
	f(abi.Route, res(abi.Deny, 1, 0), "i", func(a *guest.Answer) { a.Deny(429, "slow down") })
	f(abi.Route, res(abi.OK, 0, 3), "", func(a *guest.Answer) { a.Pool(2) })
	f(abi.Route, res(abi.OK, 1, 0), "bcfjkl", func(a *guest.Answer) {
		a.KeyAddition([]byte("x"))
		a.Target([]byte("/y"))
		a.Tiers(abi.L1, abi.AllTiers)
		a.Reuse(60)
		a.SetRequestHeader("x-a", "b")
		a.SetResponseHeader("x-b", "")
	})
	f(abi.TTL, res(abi.OK, 0, 60), "", func(a *guest.Answer) { a.Lifetime(60) })
	f(abi.TTL, res(abi.OK, 2, abi.AsComputed), "", func(a *guest.Answer) { a.NoStore() })
	f(abi.TTL, res(abi.OK, 1, abi.AsComputed), "dh", func(a *guest.Answer) {
		a.Tag([]byte("t"))
		a.Stale(60, abi.AsComputed)
	})
	f(abi.Route, res(abi.GuestError, 0, 0), "", func(a *guest.Answer) { a.Record(abi.RecTag, make([]byte, 600)) })
}

func TestNoAllocations(t *testing.T) {
	v := read(t).Inputs[1]
	r, out := guest.NewRequest(unhex(t, v.Block)), make([]byte, 512)
	a := guest.NewAnswer(abi.Route, out)
	if n := testing.AllocsPerRun(100, func() {
		r.Path()
		r.Header(0)
		a.Pool(1)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
