package crashfs

import (
	"io/fs"
	"math/rand/v2"
	"path/filepath"
)

// Crash returns the file system that is found after a power cut at this moment,
// drawn from r. It shares nothing with f, which can go on: several images can
// be drawn of one state.
func (f *FS) Crash(r *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := map[string]*inode{}
	for name, n := range f.durable {
		names[name] = n
	}
	if len(f.pending) > 0 {
		for _, op := range f.pending[:r.IntN(len(f.pending)+1)] {
			apply(names, op)
		}
	}
	keep := [...]float64{0, 1, r.Float64(), r.Float64()}[r.IntN(4)]
	g := New()
	g.capacity = f.capacity
	images := map[*inode]*inode{}
	for name, n := range names {
		if images[n] == nil {
			images[n] = f.image(n, r, keep)
			g.used += int64(len(images[n].data))
		}
		images[n].names++
		g.now[name], g.durable[name] = images[n], images[n]
	}
	return g
}

// image is what is left of a file.
func (f *FS) image(n *inode, r *rand.Rand, keep float64) *inode {
	size := int64(len(n.durable))
	if len(n.data) != len(n.durable) && r.Float64() < keep {
		size = int64(len(n.data))
	}
	img := &inode{data: make([]byte, size), dirty: map[int64]struct{}{}}
	copy(img.data, n.durable)
	for b := int64(0); b*BlockBytes < size && len(n.dirty) > 0; b++ {
		if _, ok := n.dirty[b]; !ok {
			continue
		}
		from, to := b*BlockBytes, min((b+1)*BlockBytes, size, int64(len(n.data)))
		if from >= to {
			continue
		}
		torn := f.last == n && f.lastTo > from && f.lastFrom < to && r.IntN(4) == 0
		switch {
		case torn:
			to = from + r.Int64N(to-from)
			fallthrough
		case r.Float64() < keep:
			copy(img.data[from:to], n.data[from:to])
		}
	}
	img.durable = append([]byte(nil), img.data...)
	return img
}

// Clone returns a copy in which all is durable: a process that was killed, on a
// machine that goes on.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := New()
	g.capacity = f.capacity
	for name, n := range f.now {
		img := &inode{data: append([]byte(nil), n.data...), durable: append([]byte(nil), n.data...),
			dirty: map[int64]struct{}{}, names: 1}
		g.now[name], g.durable[name] = img, img
		g.used += int64(len(n.data))
	}
	return g
}

// ReadFile returns a copy of a file's bytes. It counts as no call.
func (f *FS) ReadFile(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.now[filepath.Clean(name)]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return append([]byte(nil), n.data...), nil
}

// WriteFile puts a file there, durable at once: damage done behind the back of
// the process. It counts as no call.
func (f *FS) WriteFile(name string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	n := &inode{data: append([]byte(nil), b...), durable: append([]byte(nil), b...), dirty: map[int64]struct{}{}, names: 1}
	if old := f.now[name]; old != nil {
		old.names--
		f.forget(old)
	}
	f.used += int64(len(b))
	f.now[name], f.durable[name] = n, n
}

// Names returns the names of all files. It counts as no call.
func (f *FS) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.now {
		names = append(names, name)
	}
	return names
}
