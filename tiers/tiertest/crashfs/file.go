package crashfs

import (
	"io"
	"io/fs"
)

// file is an open file.
type file struct {
	fs     *FS
	n      *inode
	name   string
	closed bool
}

func (h *file) enter(op Op) (*Fault, error) {
	if h.closed {
		return nil, &fs.PathError{Op: op.String(), Path: h.name, Err: fs.ErrClosed}
	}
	return h.fs.enter(op, h.name)
}

// ReadAt reads what calls see, synced or not.
func (h *file) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if _, err := h.enter(Read); err != nil {
		return 0, err
	}
	if off >= int64(len(h.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes to the page cache. A short write does the first half.
func (h *file) WriteAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	fault, err := h.enter(Write)
	if err != nil {
		if fault == nil || !fault.Short {
			return 0, err
		}
		p = p[:len(p)/2]
	}
	end := off + int64(len(p))
	if end > int64(len(h.n.data)) {
		if err := h.fs.resize(h.n, end); err != nil {
			return 0, &fs.PathError{Op: "write", Path: h.name, Err: err}
		}
	}
	copy(h.n.data[off:], p)
	h.n.mark(off, end)
	h.fs.last, h.fs.lastFrom, h.fs.lastTo = h.n, off, end
	return len(p), err
}

// Size returns the length as calls see it.
func (h *file) Size() (int64, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return 0, &fs.PathError{Op: "stat", Path: h.name, Err: fs.ErrClosed}
	}
	return int64(len(h.n.data)), nil
}

// Truncate sets the length.
func (h *file) Truncate(size int64) error { return h.setSize(Truncate, size) }

// Allocate makes the file at least size bytes long.
func (h *file) Allocate(size int64) error { return h.setSize(Allocate, size) }

func (h *file) setSize(op Op, size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if _, err := h.enter(op); err != nil {
		return err
	}
	if op == Allocate && size <= int64(len(h.n.data)) {
		return nil
	}
	if err := h.fs.resize(h.n, size); err != nil {
		return &fs.PathError{Op: op.String(), Path: h.name, Err: err}
	}
	return nil
}

// Datasync makes the bytes durable. When it fails by a fault the bytes not
// synced stay readable and are never made durable by a later call, as Linux
// does: the pages are marked clean.
func (h *file) Datasync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if fault, err := h.enter(Sync); err != nil {
		if fault != nil && !h.fs.cut {
			clear(h.n.dirty)
		}
		return err
	}
	n := h.n
	size := int64(len(n.data))
	if int64(len(n.durable)) != size {
		resized := make([]byte, size)
		copy(resized, n.durable)
		n.durable = resized
	}
	for b := range n.dirty {
		if from, to := b*BlockBytes, min((b+1)*BlockBytes, size); from < to {
			copy(n.durable[from:to], n.data[from:to])
		}
	}
	clear(n.dirty)
	return nil
}

// Close closes the file; it makes nothing durable.
func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return &fs.PathError{Op: "close", Path: h.name, Err: fs.ErrClosed}
	}
	h.closed = true
	h.n.opens--
	h.fs.forget(h.n)
	return nil
}
