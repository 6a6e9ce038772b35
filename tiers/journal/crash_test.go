package journal_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/edgenode/edgenode/tiers/journal"
	"github.com/edgenode/edgenode/tiers/tiertest/crashfs"
)

var (
	crashImages = flag.Int("images", crashImagesDefault, "crash images to recover")
	crashSeed   = flag.Uint64("seed", 1, "first seed of the crash images")
)

// TestCrashImages cuts the power at random changes of the disk, in the middle
// of work and in the middle of Open, and recovers from images of what the disk
// may hold then, over several generations.
func TestCrashImages(t *testing.T) {
	images := 0
	for seed := *crashSeed; images < *crashImages; seed++ {
		n, err := crashRun(seed)
		if err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test -run TestCrashImages -seed %d -images 1", seed, err, seed)
		}
		images += n
	}
	t.Logf("%d images", images)
}

// crashRun works and crashes for some generations and returns the number of
// images that were recovered.
func crashRun(seed uint64) (int, error) {
	r := rand.New(rand.NewPCG(seed, 42))
	images := 0
	fs, m := newFS(), &model{}
	for generation := range 6 {
		if generation > 0 || r.IntN(2) == 0 {
			fs.CutAt(1 + r.IntN(60))
			if r.IntN(3) == 0 {
				fs.CutAt(1 + r.IntN(12)) // in Open
			}
		}
		if err := work(fs, m, r); err != nil {
			return images, fmt.Errorf("generation %d: %w", generation, err)
		}
		n, next, found, err := recoverImages(fs, m, r)
		images += n
		if err != nil {
			return images, fmt.Errorf("generation %d: %w", generation, err)
		}
		fs, m = next, found
	}
	return images, nil
}

// work opens the journal and does things with it until the power goes, or for a
// while.
func work(fs *crashfs.FS, m *model, r *rand.Rand) error {
	j, err := journal.Open(smallOptions(fs))
	if err != nil {
		return cutOr(fs, err)
	}
	found, err := m.check(j)
	if err != nil {
		_ = j.Close()
		return cutOr(fs, err)
	}
	*m = *found
	m.lazy = r.IntN(2) == 0
	for range r.IntN(80) {
		err := m.step(j, r)
		if errors.Is(err, journal.ErrFull) {
			continue
		}
		if err != nil {
			break
		}
	}
	if r.IntN(3) > 0 && !fs.IsCut() {
		fs.Cut()
	}
	if err := j.Close(); err == nil {
		for i := range m.records {
			m.records[i].synced = true
		}
	} else if err := cutOr(fs, err); err != nil {
		return err
	}
	return nil
}

// cutOr passes errors on that the power cut does not explain.
func cutOr(fs *crashfs.FS, err error) error {
	if fs.IsCut() {
		return nil
	}
	return err
}

// recoverImages draws images of fs, recovers each, and returns one to go on
// with, not yet recovered.
func recoverImages(fs *crashfs.FS, m *model, r *rand.Rand) (int, *crashfs.FS, *model, error) {
	const each = 5
	for n := range each {
		img := fs.Crash(r)
		if r.IntN(2) == 0 { // the power goes again while recovering
			img.CutAt(1 + r.IntN(6))
			if j, err := journal.Open(smallOptions(img)); err == nil {
				img.Cut()
				_ = j.Close()
			}
			img = img.Crash(r)
		}
		if n == each-1 {
			return each, img, m, nil
		}
		if err := recoverImage(img, m); err != nil {
			return n, nil, nil, fmt.Errorf("image %d: %w", n, err)
		}
	}
	panic("not reached")
}

func recoverImage(img *crashfs.FS, m *model) error {
	j, err := journal.Open(smallOptions(img))
	if err != nil {
		return err
	}
	if rec := j.Recovery(); rec.Damaged > 0 {
		err = fmt.Errorf("a crash was taken for damage: %+v", rec)
	} else {
		_, err = m.check(j)
	}
	return errors.Join(err, j.Close())
}
