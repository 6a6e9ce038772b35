package hooks

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync/atomic"

	"github.com/edgenode/edgenode/hooks/abi"
)

// Bounds of what a memo remembers: at most memoSlots verdicts of memoEntryBytes,
// inputs included, 4 MiB in all.
const (
	memoSlots      = 2048
	memoEntryBytes = 2048
	memoMaxReuse   = 86_400 // seconds
	memoStripes    = 16
)

// A memo remembers verdicts of a route chain that all its modules allow to be
// reused, under everything that any of them can see. It belongs to one generation
// for as long as that is live: when it stops being so the memo goes, and with it
// every verdict.
//
// It is safe for concurrent use. A look-up takes no lock, writes nothing but a
// count, and costs nothing before the first verdict was remembered.
type memo struct {
	seed  maphash.Seed
	sees  sight
	slots atomic.Pointer[[memoSlots]atomic.Pointer[memoEntry]] // nil until the first verdict
	hits  [memoStripes]struct {
		n atomic.Uint64
		_ [56]byte // stripes do not share cache lines
	}
}

// A memoEntry is never changed, so that its bytes may be lent out.
type memoEntry struct {
	key         []byte
	made, until uint64 // request time, ms
	verdict     Decision
}

// sight is what the modules of a chain can see of a request, together.
type sight struct {
	headers []string // request fields
	client  bool     // the client's address
	tls     bool     // TLS, and whether a certificate was shown
	size    bool     // bytes of the content
}

// ofOneClient reports whether anything of it tells one client from another.
func (s *sight) ofOneClient() bool { return s.client || s.tls || len(s.headers) > 0 }

// sightOf adds up what the manifests of a chain declare.
func sightOf(chain []*module) (s sight) {
	for _, m := range chain {
		s.client = s.client || m.manifest.sees(inputClient)
		s.tls = s.tls || m.manifest.sees(inputTLS)
		s.size = s.size || m.manifest.sees(inputSize)
		for _, name := range m.manifest.Headers {
			if !slices.Contains(s.headers, name) {
				s.headers = append(s.headers, name)
			}
		}
	}
	return s
}

func newMemo(chain []*module) *memo { return &memo{seed: maphash.MakeSeed(), sees: sightOf(chain)} }

// reused counts the verdicts that were reused.
func (m *memo) reused() (n uint64) {
	for i := range m.hits {
		n += m.hits[i].n.Load()
	}
	return n
}

// find fills out with a verdict that holds for the request. If it reports false
// and the memo is in use, out.memoKey is the request's key, for keep.
func (m *memo) find(req *Request, out *Decision) bool {
	out.memoKey = out.memoKey[:0]
	slots := m.slots.Load()
	if slots == nil {
		return false
	}
	out.memoKey = m.key(out, req)
	h := maphash.Bytes(m.seed, out.memoKey)
	e := slots[h%memoSlots].Load()
	if e == nil || req.NowMillis < e.made || req.NowMillis >= e.until || string(e.key) != string(out.memoKey) {
		return false
	}
	m.hits[h>>60%memoStripes].n.Add(1)
	e.verdict.lend(out)
	return true
}

// keep remembers a verdict that its modules allow to be reused.
func (m *memo) keep(req *Request, out *Decision) {
	if len(out.memoKey) == 0 { // find was before the first verdict
		out.memoKey = m.key(out, req)
	}
	if len(out.memoKey)+len(out.arena) > memoEntryBytes || out.Faulted {
		return
	}
	slots := m.slots.Load()
	if slots == nil {
		m.slots.CompareAndSwap(nil, new([memoSlots]atomic.Pointer[memoEntry]))
		slots = m.slots.Load()
	}
	reuse := uint64(min(out.ReuseSeconds, memoMaxReuse))
	e := &memoEntry{key: slices.Clone(out.memoKey), made: req.NowMillis, until: req.NowMillis + reuse*1000}
	out.copyTo(&e.verdict)
	slots[maphash.Bytes(m.seed, e.key)%memoSlots].Store(e)
}

// key writes all that the chain can see of a request but the time, in a form in
// which no two requests look alike.
func (m *memo) key(out *Decision, req *Request) []byte {
	flags := req.Flags
	if !m.sees.tls {
		flags &^= abi.FlagTLS | abi.FlagClientCert
	}
	k := append(out.memoKey[:0], byte(req.Operation), byte(req.Method), byte(req.Tiers), byte(flags))
	k = binary.LittleEndian.AppendUint16(k, req.Status)
	k = binary.LittleEndian.AppendUint64(k, uint64(req.Lifetime)<<32|uint64(req.Hits))
	if m.sees.client {
		k = append(k, req.Client[:]...)
	}
	if m.sees.size {
		k = binary.LittleEndian.AppendUint64(k, req.ContentBytes)
	}
	k = appendSized(k, req.Site)
	k = appendSized(k, req.Key)
	if req.Headers == nil {
		return k
	}
	for _, name := range m.sees.headers {
		out.values = req.Headers.AppendHeader(out.values[:0], name, false)
		k = binary.AppendUvarint(k, uint64(len(out.values)))
		for _, v := range out.values {
			k = appendSized(k, v)
		}
	}
	return k
}

func appendSized[T string | []byte](k []byte, v T) []byte {
	return append(binary.AppendUvarint(k, uint64(len(v))), v...)
}

// lend fills out with d, whose bytes out does not own: they never change.
func (d *Decision) lend(out *Decision) {
	tags, edits, fields := append(out.Tags[:0], d.Tags...), append(out.Edits[:0], d.Edits...), append(out.AnswerFields[:0], d.AnswerFields...)
	arena, key, values, hint := out.arena, out.memoKey, out.values, out.hint
	*out = *d
	out.Tags, out.Edits, out.AnswerFields = tags, edits, fields
	out.arena, out.memoKey, out.values, out.hint = arena, key, values, hint
}

// copyTo makes to a copy of d that shares no memory with it.
func (d *Decision) copyTo(to *Decision) {
	*to = *d
	to.arena, to.memoKey, to.values = nil, nil, nil
	to.Reason, to.KeyAddition, to.Target, to.State, to.AnswerBody = slices.Clone(d.Reason), slices.Clone(d.KeyAddition),
		slices.Clone(d.Target), slices.Clone(d.State), slices.Clone(d.AnswerBody)
	to.Tags, to.Edits, to.AnswerFields = slices.Clone(d.Tags), slices.Clone(d.Edits), slices.Clone(d.AnswerFields)
	for i := range to.Tags {
		to.Tags[i] = slices.Clone(to.Tags[i])
	}
	for i := range to.Edits {
		e := &to.Edits[i]
		e.Name, e.Value = slices.Clone(e.Name), slices.Clone(e.Value)
	}
	for i := range to.AnswerFields {
		f := &to.AnswerFields[i]
		f.Name, f.Value = slices.Clone(f.Name), slices.Clone(f.Value)
	}
}
