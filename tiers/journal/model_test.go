package journal_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

const testDir = "/data/journal"

// payload is the content of record seq: its number and bytes that follow from
// it.
func payload(seq uint64, n int) []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, n+8), seq)
	x := seq*0x9e3779b97f4a7c15 + 1
	for len(b) < n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b[:max(n, 8)]
}

// record is what the test knows of one append.
type record struct {
	seq      uint64
	pos      journal.Pos
	size     int
	synced   bool
	released bool
}

// model is what a journal may contain.
type model struct {
	records []record // in the order of appending
	seq     uint64
	lazy    bool // seldom sync: a crash finds several groups that were only written
}

// check replays j and compares: every synced record that was not released is
// there, exact and in its place; what else is there was appended; and nothing
// is there behind a record that is not, unless that one was released. It
// returns the model of what was found.
func (m *model) check(j *journal.Journal) (*model, error) {
	found := &model{seq: m.seq}
	i := 0
	missing := -1
	err := j.Replay(func(pos journal.Pos, got []byte) error {
		for ; i < len(m.records) && m.records[i].pos.Compare(pos) < 0; i++ {
			if r := m.records[i]; !r.released && missing < 0 {
				missing = i
			}
		}
		if i == len(m.records) || m.records[i].pos != pos {
			return fmt.Errorf("invented: a record at %v of %d bytes", pos, len(got))
		}
		r := m.records[i]
		if !bytes.Equal(got, payload(r.seq, r.size)) {
			return fmt.Errorf("altered: record %d at %v", r.seq, pos)
		}
		if missing >= 0 {
			return fmt.Errorf("gap: record %d at %v is there, %+v is not", r.seq, pos, m.records[missing])
		}
		r.synced, r.released = true, false
		found.records = append(found.records, r)
		i++
		return nil
	})
	if err != nil {
		return nil, err
	}
	k := 0
	for _, r := range m.records {
		for k < len(found.records) && found.records[k].seq < r.seq {
			k++
		}
		there := k < len(found.records) && found.records[k].seq == r.seq
		if r.synced && !r.released && !there {
			return nil, fmt.Errorf("lost: record %d at %v; recovery %+v", r.seq, r.pos, j.Recovery())
		}
	}
	if got, want := j.Backlog().Records, len(found.records); got != want {
		return nil, fmt.Errorf("backlog of %d records, want %d", got, want)
	}
	return found, nil
}

// step does one random thing to j. Errors are expected once the power is gone.
func (m *model) step(j *journal.Journal, r *rand.Rand) error {
	switch k := r.IntN(20); {
	case k < 10:
		size := 8 + r.IntN(200)
		if r.IntN(6) == 0 {
			size = 8 + r.IntN(12000)
		}
		b := payload(m.seq, size)
		cut := r.IntN(len(b) + 1)
		pos, err := j.Append(b[:cut], b[cut:])
		if err != nil {
			return err
		}
		m.records = append(m.records, record{seq: m.seq, pos: pos, size: len(b)})
		m.seq++
	case k < 14 && len(m.records) > 0 && (!m.lazy || k == 10 && r.IntN(4) == 0):
		n := len(m.records) - 1 - r.IntN(min(3, len(m.records)))
		if err := j.Sync(m.records[n].pos); err != nil {
			return err
		}
		for i := range m.records[:n+1] {
			m.records[i].synced = true
		}
	case k < 16 && len(m.records) > 0:
		return j.Written(m.records[len(m.records)-1].pos)
	case k < 19:
		all := r.IntN(8) == 0
		for n := r.IntN(6); n > 0 || all; n-- {
			i := m.firstLive()
			if i < 0 {
				break
			}
			if !all && r.IntN(3) == 0 {
				i = r.IntN(len(m.records))
			}
			m.records[i].released = true
			j.Release(m.records[i].pos)
		}
	case !m.lazy:
		return j.Mark()
	}
	return nil
}

func (m *model) firstLive() int {
	for i := range m.records {
		if !m.records[i].released {
			return i
		}
	}
	return -1
}

func smallOptions(fs journal.FS) journal.Options {
	return journal.Options{
		Dir: testDir, FS: fs, MaxBytes: 256 << 10, BufferBytes: 64 << 10, Version: "test",
	}
}

func mustOpen(tb testing.TB, opt journal.Options) *journal.Journal {
	tb.Helper()
	j, err := journal.Open(opt)
	if err != nil {
		tb.Fatalf("Open: %v", err)
	}
	tb.Cleanup(func() { _ = j.Close() })
	return j
}

func newFS() *crashfs.FS { return crashfs.New() }
