//go:build wasip1

// The vector guest in Go: see README.md in the folder above.
package main

import (
	"encoding/binary"
	"errors"
	"strings"

	"github.com/edgenode/edgenode/hooks/abi"
	"github.com/edgenode/edgenode/hooks/guest"
)

var (
	le      = binary.LittleEndian
	dump    = make([]byte, 0, 1024)
	scratch [64]byte
	errNo   = errors.New("refused by the configuration")
	ts      = []byte(strings.Repeat("t", 256))
)

func init() {
	guest.OnInit(func(config []byte) error {
		if strings.Contains(string(config), `"refuse":1`) {
			return errNo
		}
		return nil
	})
	guest.OnRoute(route)
	guest.OnTTL(ttl)
	guest.OnEvict(func(c *guest.Candidates, scores []int32) {
		for i := range c.All() {
			scores[i] = int32(digest(c.At(i), c.Pressure()))
		}
	})
	guest.OnAdmit(func(c *guest.Candidates) bool {
		x := uint32(0)
		for i := range c.Len() {
			x ^= digest(c.At(i), c.Pressure())
		}
		return x&1 == 1
	})
}

func fnv(b []byte) uint32 {
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	return h
}

func word(v uint32) { dump = le.AppendUint32(dump, v) }

func dumpInput(r *guest.Request) []byte {
	flags := uint16(0)
	for f := abi.FlagTruncated; f != 0; f <<= 1 {
		if r.Is(f) {
			flags |= uint16(f)
		}
	}
	dump = append(dump[:0], byte(r.Operation()), byte(r.Method()), byte(r.Tiers()), 0)
	dump = le.AppendUint16(dump, flags)
	dump = le.AppendUint16(dump, uint16(r.Status()))
	dump = le.AppendUint64(dump, r.NowMillis())
	dump = le.AppendUint64(dump, r.ContentBytes())
	lifetime, known := r.Lifetime()
	if !known {
		lifetime = 0
	}
	word(lifetime)
	word(r.Hits())
	dump = append(dump, r.Client()...)
	word(uint32(len(r.Path())))
	word(uint32(len(r.Key())))
	word(fnv(r.Key()))
	word(uint32(r.Headers()))
	for i := range r.Headers() {
		name, value := r.Line(i)
		dump = le.AppendUint16(dump, name)
		dump = le.AppendUint16(dump, uint16(len(value)))
		word(fnv(value))
	}
	lookUp(r.Header(0))
	lookUp(r.Header(1))
	lookUp(r.ResponseHeader(0))
	lookUp(r.ResponseHeader(1))
	return dump
}

func lookUp(v []byte, ok bool) {
	if !ok {
		word(1<<32 - 1)
		word(0)
		return
	}
	word(uint32(len(v)))
	word(fnv(v))
}

func route(r *guest.Request, a *guest.Answer) {
	switch string(r.Key()) {
	case "vector:route":
		each(a)
	case "vector:deny":
		a.Deny(429, "slow down")
	case "vector:pass":
		a.Pass()
	case "vector:pool":
		a.Pool(2)
	case "vector:default":
	case "vector:error":
		a.Error()
	case "vector:full":
		for range 3000 {
			a.Tag([]byte("tag"))
		}
	case "vector:host":
		askHost(a)
	default:
		a.Respond(200, dumpInput(r))
	}
}

func each(a *guest.Answer) {
	a.KeyAddition([]byte("eu"))
	a.Target([]byte("/b?c=d"))
	a.Tag([]byte("news"))
	a.State([]byte("hot-1"))
	a.Tiers(abi.L1, abi.AllTiers)
	a.Deny(429, "slow down")
	a.Reuse(60)
	a.SetRequestHeader("X-Variant", "b")
	a.SetResponseHeader("x-served-by", "")
	a.RemoveRequestHeader("Cookie")
	a.Respond(200, []byte("hi"), guest.Field{Name: "content-type", Value: "text/plain"})
}

func askHost(a *guest.Answer) {
	dump = dump[:0]
	guest.Log(1, "hello from the guest")
	guest.MetricAdd(0, 2)
	guest.MetricObserve(1, 0.5)
	dump = le.AppendUint64(dump, guest.NowMillis())
	b := scratch[:]
	found(guest.AnyHeader(b, "x-unlisted"), b)
	found(guest.AnyHeader(b, "x-absent"), b)
	found(guest.Config(b, "greeting"), b)
	found(guest.KVGet(b[:2], "uk/1"), b[:2])
	for _, tag := range []string{"added", "no,tag"} {
		if guest.TagAdd(tag) {
			word(1)
		} else {
			word(0)
		}
	}
	a.Respond(200, dump)
}

func found(n int, b []byte) {
	word(uint32(n))
	if n >= 0 {
		word(fnv(b[:min(n, len(b))]))
	}
}

func ttl(r *guest.Request, a *guest.Answer) {
	switch string(r.Key()) {
	case "vector:ttl":
		a.Lifetime(60)
		a.Tag(ts)
		a.Lifetimes(1, 2, abi.AsComputed)
		a.Stale(60, abi.AsComputed)
	case "vector:no-store":
		a.NoStore()
	default:
		a.Lifetime(fnv(dumpInput(r)))
	}
}

func digest(c abi.Candidate, pressure uint32) uint32 {
	dump = le.AppendUint64(dump[:0], c.ID)
	word(c.Size)
	word(c.AgeSeconds)
	word(c.IdleMillis)
	word(c.Hits)
	word(c.LeftSeconds)
	dump = le.AppendUint16(dump, c.Flags)
	dump = le.AppendUint16(dump, c.TagClass)
	word(pressure)
	return fnv(dump)
}

func main() {}
