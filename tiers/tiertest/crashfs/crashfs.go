// Package crashfs is a file system in memory that loses what was not synced.
// It stands in for the operating system's behind the seam journal.FS, in tests
// of power cuts and of failing disks.
//
// FS keeps what is durable apart from what is only in the page cache, for bytes
// and for names. Crash gives the file system that the next boot would find: of
// what was not synced each block is there or not, by chance, and one may be
// torn; names are there as of some moment since the last sync of the
// directory. Faults are set with Fail and CutAt.
//
// It does not model permissions, links or directories inside the listing.
package crashfs

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/edgenode/edgenode/tiers/journal"
)

// ErrPowerCut is returned by every call from the cut on. What the calls before
// had made durable is what Crash keeps.
var ErrPowerCut = errors.New("crashfs: power cut")

// BlockBytes is the unit that a crash keeps or loses as a whole, but for the
// torn one.
const BlockBytes = 512

// Op is a kind of call.
type Op int

// The kinds of calls that are counted and can fail.
const (
	Mkdir Op = iota
	List
	Open
	Create
	Rename
	Remove
	SyncDir
	Read
	Write
	Allocate
	Truncate
	Sync
	numOps
)

var opNames = [numOps]string{"mkdir", "list", "open", "create", "rename", "remove",
	"syncdir", "read", "write", "allocate", "truncate", "sync"}

func (op Op) String() string { return opNames[op] }

// Ops lists all kinds, for tests that let every one fail.
func Ops() []Op {
	ops := make([]Op, numOps)
	for i := range ops {
		ops[i] = Op(i)
	}
	return ops
}

// changes reports whether the kind changes the disk.
func (op Op) changes() bool {
	return op == Create || op == Rename || op == Remove || op >= Write || op == SyncDir
}

// Fault is what goes wrong with a call.
type Fault struct {
	Err   error // returned, wrapped in an fs.PathError
	Short bool  // of a write: the first half is done
}

// FS is a file system in memory. The zero value is not usable; call New. It is
// safe for concurrent use.
type FS struct {
	mu       sync.Mutex
	now      map[string]*inode // names as calls see them
	durable  map[string]*inode // names as of the last sync of their directory
	pending  []rename          // since then, in order
	calls    [numOps]int
	changes  int
	cutAt    int // the change at which the power goes; 0 for none
	cut      bool
	faults   map[Op]map[int]Fault
	onOp     func(Op, string) *Fault
	capacity int64 // bytes of all files; 0 for no limit
	used     int64
	last     *inode // with the write that may be torn
	lastFrom int64
	lastTo   int64
}

// rename is one change of names: a name that goes to an inode, or to none, and
// one that is freed at the same time.
type rename struct {
	name  string
	to    *inode
	freed string
}

// inode is the contents of a file.
type inode struct {
	data    []byte // as calls see it
	durable []byte // as of the last sync
	dirty   map[int64]struct{}
	names   int
	opens   int
}

var _ journal.FS = (*FS)(nil)

// New returns an empty file system.
func New() *FS {
	return &FS{now: map[string]*inode{}, durable: map[string]*inode{}, faults: map[Op]map[int]Fault{}}
}

// Fail has the n-th call of a kind from now on fail, counted from 1.
func (f *FS) Fail(op Op, n int, fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.faults[op] == nil {
		f.faults[op] = map[int]Fault{}
	}
	f.faults[op][f.calls[op]+n] = fault
}

// OnCall sets a function that is asked before every call and may return a fault
// for it. It is called with a lock held and must not call the file system. Nil
// takes it away.
func (f *FS) OnCall(fn func(op Op, name string) *Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onOp = fn
}

// CutAt has the power go at the n-th change from now on, counted from 1: a write
// may be done in part, then all calls return ErrPowerCut. n = 0 takes it away.
func (f *FS) CutAt(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cutAt = 0
	if n > 0 {
		f.cutAt = f.changes + n
	}
}

// Cut has the power go now.
func (f *FS) Cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut = true
}

// IsCut reports whether the power is gone.
func (f *FS) IsCut() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut
}

// SetCapacity limits the bytes of all files: more is ENOSPC. 0 is no limit.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.capacity = bytes
}

// Calls returns how many calls of a kind there were.
func (f *FS) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Changes returns how many calls there were that CutAt counts.
func (f *FS) Changes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changes
}

// enter counts a call and says how it fails, if it does. mu is held.
func (f *FS) enter(op Op, name string) (*Fault, error) {
	if f.cut {
		return nil, &fs.PathError{Op: op.String(), Path: name, Err: ErrPowerCut}
	}
	f.calls[op]++
	if op.changes() {
		f.changes++
		if f.changes == f.cutAt {
			f.cut = true
			return &Fault{Err: ErrPowerCut, Short: true}, &fs.PathError{Op: op.String(), Path: name, Err: ErrPowerCut}
		}
	}
	if f.onOp != nil {
		if fault := f.onOp(op, name); fault != nil {
			return fault, &fs.PathError{Op: op.String(), Path: name, Err: fault.Err}
		}
	}
	if fault, ok := f.faults[op][f.calls[op]]; ok {
		return &fault, &fs.PathError{Op: op.String(), Path: name, Err: fault.Err}
	}
	return nil, nil
}

// MkdirAll does nothing: directories exist where files are.
func (f *FS) MkdirAll(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.enter(Mkdir, dir)
	return err
}

// List returns the names in dir.
func (f *FS) List(dir string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.enter(List, dir); err != nil {
		return nil, err
	}
	var names []string
	for name := range f.now {
		if filepath.Dir(name) == filepath.Clean(dir) {
			names = append(names, filepath.Base(name))
		}
	}
	return names, nil
}

// Open opens an existing file.
func (f *FS) Open(name string) (journal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if _, err := f.enter(Open, name); err != nil {
		return nil, err
	}
	n, ok := f.now[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	n.opens++
	return &file{fs: f, n: n, name: name}, nil
}

// Create makes an empty file, or empties an existing one.
func (f *FS) Create(name string) (journal.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if _, err := f.enter(Create, name); err != nil {
		return nil, err
	}
	n, ok := f.now[name]
	if ok {
		f.resize(n, 0)
	} else {
		n = &inode{dirty: map[int64]struct{}{}}
		f.point(rename{name: name, to: n})
	}
	n.opens++
	return &file{fs: f, n: n, name: name}, nil
}

// Rename gives a file another name.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	if _, err := f.enter(Rename, from); err != nil {
		return err
	}
	n, ok := f.now[from]
	if !ok {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	if from != to {
		f.point(rename{name: to, to: n, freed: from})
	}
	return nil
}

// Remove removes a name.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if _, err := f.enter(Remove, name); err != nil {
		return err
	}
	if f.now[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	f.point(rename{name: name})
	return nil
}

// SyncDir makes the names in dir durable. As on a journaling file system, all
// older changes of names become durable with them.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.enter(SyncDir, dir); err != nil {
		return err
	}
	for _, r := range f.pending {
		apply(f.durable, r)
	}
	f.pending = f.pending[:0]
	return nil
}

// point changes names as calls see them.
func (f *FS) point(r rename) {
	if old := f.now[r.name]; old != nil {
		old.names--
		f.forget(old)
	}
	if r.to != nil && r.freed == "" {
		r.to.names++
	}
	apply(f.now, r)
	f.pending = append(f.pending, r)
}

func apply(names map[string]*inode, r rename) {
	if r.freed != "" {
		delete(names, r.freed)
	}
	if r.to == nil {
		delete(names, r.name)
	} else {
		names[r.name] = r.to
	}
}

// forget gives the space of a file back that has neither name nor user.
func (f *FS) forget(n *inode) {
	if n.names == 0 && n.opens == 0 {
		f.used -= int64(len(n.data))
		n.opens = -1 << 30
	}
}

// resize sets the length of a file. It reports ENOSPC.
func (f *FS) resize(n *inode, size int64) error {
	have := int64(len(n.data))
	if size > have && f.capacity > 0 && f.used+size-have > f.capacity {
		return syscall.ENOSPC
	}
	f.used += size - have
	if size <= have {
		n.data = n.data[:size:size]
		n.mark(size, have)
		return nil
	}
	grown := make([]byte, size)
	copy(grown, n.data)
	n.data = grown
	n.mark(have, size)
	return nil
}

// mark notes that the blocks of [from, to) are not synced.
func (n *inode) mark(from, to int64) {
	for b := from / BlockBytes; b*BlockBytes < to; b++ {
		n.dirty[b] = struct{}{}
	}
}
