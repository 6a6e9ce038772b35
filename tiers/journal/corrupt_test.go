package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

// mutation is damage done to one file: [from, to) is not what it was.
type mutation struct {
	name     string
	from, to int64
	what     string
	tail     bool // all behind from is gone
}

// TestMutations damages one file of a journal that was closed, or whose process
// was killed, and opens it: what is before the damage is there, nothing is
// wrong, and what is missing was reported.
func TestMutations(t *testing.T) {
	for seed := range uint64(mutationsDefault) {
		if err := mutateRun(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func mutateRun(seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 7))
	fs, m, clean, err := filled(r)
	if err != nil {
		return err
	}
	mut := mutate(fs, r)
	if err := mutatedOpen(fs, m, mut, clean); err != nil {
		return fmt.Errorf("%+v, clean %v: %w", mut, clean, err)
	}
	return nil
}

// filled makes a journal of several segments. All its records are synced.
func filled(r *rand.Rand) (*crashfs.FS, *model, bool, error) {
	fs, m := newFS(), &model{}
	j, err := journal.Open(smallOptions(fs))
	if err != nil {
		return nil, nil, false, err
	}
	for range 20 + r.IntN(100) {
		b := payload(m.seq, 8+r.IntN(1500))
		pos, err := j.Append(b)
		if errors.Is(err, journal.ErrFull) {
			break
		}
		if err != nil {
			return nil, nil, false, err
		}
		m.records = append(m.records, record{seq: m.seq, pos: pos, size: len(b), synced: true})
		m.seq++
		if r.IntN(4) == 0 {
			if err := j.Sync(pos); err != nil {
				return nil, nil, false, err
			}
		}
	}
	clean := r.IntN(3) > 0
	if clean {
		err = j.Close()
		return fs.Clone(), m, clean, err
	}
	err = j.Sync(m.records[len(m.records)-1].pos)
	killed := fs.Clone()
	return killed, m, clean, errors.Join(err, j.Close())
}

func mutate(fs *crashfs.FS, r *rand.Rand) mutation {
	names := slices.DeleteFunc(fs.Names(), func(name string) bool {
		return filepath.Ext(name) != ".journal" // a file just being made, when killed
	})
	slices.Sort(names)
	name := names[r.IntN(len(names))]
	b, err := fs.ReadFile(name)
	if err != nil {
		panic(err)
	}
	mut := mutation{name: name}
	switch k := r.IntN(10); {
	case k < 4:
		bit := r.IntN(len(b) * 8)
		b[bit/8] ^= 1 << (bit % 8)
		mut.from, mut.to, mut.what = int64(bit/8), int64(bit/8)+1, "bit flip"
	case k < 6:
		n := r.IntN(len(b))
		mut.from, mut.to, mut.what, mut.tail = int64(n), int64(len(b)), "truncation", true
		b = b[:n]
	case k < 8:
		page := r.IntN(len(b) / 4096)
		clear(b[page*4096 : (page+1)*4096])
		mut.from, mut.to, mut.what = int64(page)*4096, int64(page+1)*4096, "zero page"
	case k < 9: // over another segment
		other, err := fs.ReadFile(names[r.IntN(len(names))])
		if err != nil {
			panic(err)
		}
		if bytes.Equal(b, other) {
			other = b[:0]
		}
		b = other
		mut.to, mut.what = 1<<40, "repeated segment"
	default: // as a new segment behind the last
		fs.WriteFile(filepath.Join(testDir, fmt.Sprintf("%010d.journal", len(names)+1+r.IntN(2))), b)
		mut.from, mut.to, mut.what = 1<<40, 1<<40, "repeated segment behind"
		return mut
	}
	fs.WriteFile(name, b)
	return mut
}

func mutatedOpen(fs *crashfs.FS, m *model, mut mutation, clean bool) error {
	j, err := journal.Open(smallOptions(fs))
	if err != nil {
		return err
	}
	found, err := mutatedCheck(j, m, mut, clean)
	if err != nil {
		return errors.Join(err, j.Close())
	}
	// It works on, and what is left is there once more.
	b := payload(m.seq, 100)
	pos, err := j.Append(b)
	if err == nil {
		err = j.Sync(pos)
		found.records = append(found.records, record{seq: m.seq, pos: pos, size: 100, synced: true})
	} else if errors.Is(err, journal.ErrFull) {
		err = nil
	}
	crashed := fs.Crash(rand.New(rand.NewPCG(1, 1)))
	if err = errors.Join(err, j.Close()); err != nil {
		return err
	}
	for _, again := range []*crashfs.FS{fs, crashed} {
		j, err := journal.Open(smallOptions(again))
		if err != nil {
			return fmt.Errorf("second open: %w", err)
		}
		_, err = found.check(j)
		if err = errors.Join(err, j.Close()); err != nil {
			return fmt.Errorf("second open: %w", err)
		}
	}
	return nil
}

// mutatedCheck compares what the journal gives with what was written and
// returns what is there.
func mutatedCheck(j *journal.Journal, m *model, mut mutation, clean bool) (*model, error) {
	there := map[journal.Pos]bool{}
	i := 0
	found := &model{seq: m.seq}
	err := j.Replay(func(pos journal.Pos, got []byte) error {
		for i < len(m.records) && m.records[i].pos != pos {
			i++
		}
		if i == len(m.records) || !bytes.Equal(got, payload(m.records[i].seq, m.records[i].size)) {
			return fmt.Errorf("invented or altered at %v", pos)
		}
		there[pos] = true
		found.records = append(found.records, m.records[i])
		return nil
	})
	if err != nil {
		return nil, err
	}
	rec := j.Recovery()
	reported := rec.Damaged > 0 || rec.TailCut.Bytes > 0 || clean && !rec.Clean
	cut := rec.TailCut.Bytes > 0 || mut.tail || !rec.Clean && rec.LostBytes == 0
	for _, r := range m.records {
		if there[r.pos] {
			continue
		}
		got, err := j.ReadAt(nil, r.pos)
		if err == nil && !bytes.Equal(got, payload(r.seq, r.size)) {
			return nil, fmt.Errorf("ReadAt(%v) gives wrong bytes", r.pos)
		}
		from, to := int64(r.pos.Offset), int64(r.pos.Offset)+16+int64(r.pos.Length)
		same := filepath.Base(mut.name) == fmt.Sprintf("%010d.journal", r.pos.Segment)
		switch {
		case !reported && clean:
			return nil, fmt.Errorf("%v is missing and nothing is reported: %+v", r.pos, rec)
		case !same:
			return nil, fmt.Errorf("%v of another segment is missing: %+v", r.pos, rec)
		case to <= mut.from:
			return nil, fmt.Errorf("%v before the damage is missing: %+v", r.pos, rec)
		case from >= mut.to && !cut:
			return nil, fmt.Errorf("%v behind the damage is missing: %+v", r.pos, rec)
		}
	}
	return found, nil
}

// TestLastNotZero: the last byte of garbage is found wherever it lies in its block.
func TestLastNotZero(t *testing.T) {
	const block = 4 << 10
	for _, n := range []int{0, 1, 2, block - 1, block, block + 1, 3 * block, 3*block + 7} {
		b := make([]byte, n)
		if got := journal.LastNotZero(b); got != -1 {
			t.Errorf("%d zeros: %d", n, got)
		}
		for i := range b {
			b[i] = 1
			if got := journal.LastNotZero(b); got != i {
				t.Fatalf("%d of %d: %d", i, n, got)
			}
			b[i/2] = 1 // one before it is not the last
			if got := journal.LastNotZero(b); got != i {
				t.Fatalf("%d of %d, and one before: %d", i, n, got)
			}
			b[i], b[i/2] = 0, 0
		}
	}
}
