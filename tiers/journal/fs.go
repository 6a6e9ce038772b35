package journal

import (
	"io"
	"os"
	"path/filepath"
)

// FS is what the journal needs of a file system. Names are paths. Errors wrap
// those of package io/fs and syscall, so that fs.ErrNotExist and syscall.ENOSPC
// can be asked for. It is safe for concurrent use.
//
// OS is the real one; crashfs.FS in tiers/tiertest loses what was not synced.
type FS interface {
	// MkdirAll makes the directory and its missing parents.
	MkdirAll(dir string) error
	// List returns the base names of the files in dir, in any order.
	List(dir string) ([]string, error)
	// Open opens an existing file to read and write.
	Open(name string) (File, error)
	// Create makes an empty file, or empties an existing one. Its name survives
	// a power loss after SyncDir only.
	Create(name string) (File, error)
	// Rename gives a file another name at one stroke, replacing what had it.
	// Durable after SyncDir.
	Rename(from, to string) error
	// Remove removes a name. An open file stays readable. Durable after SyncDir.
	Remove(name string) error
	// SyncDir makes the names in dir durable.
	SyncDir(dir string) error
}

// File is an open file. It is safe for concurrent use.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Size returns the length in bytes.
	Size() (int64, error)
	// Truncate sets the length; what is added reads as zeros.
	Truncate(size int64) error
	// Allocate makes the file at least size bytes long and reserves the blocks
	// for it. Where the file system cannot reserve, the length alone is set.
	Allocate(size int64) error
	// Datasync returns when all bytes written before are durable, and the
	// length with them. After an error nothing is known about any byte written
	// since the last success.
	Datasync() error
}

// OS is the file system of the operating system. Files are made with mode
// 0o600, directories with 0o700.
type OS struct{}

var _ FS = OS{}

func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

func (OS) Open(name string) (File, error) {
	return wrapOS(os.OpenFile(filepath.Clean(name), os.O_RDWR, 0))
}

func (OS) Create(name string) (File, error) {
	return wrapOS(os.OpenFile(filepath.Clean(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600))
}

func (OS) Rename(from, to string) error { return os.Rename(from, to) }
func (OS) Remove(name string) error     { return os.Remove(name) }

func (OS) SyncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// osFile adds to os.File what is not in package os.
type osFile struct {
	*os.File
	fd int
}

func wrapOS(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, fd: int(f.Fd())}, nil
}

func (f *osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f *osFile) Allocate(size int64) error {
	have, err := f.Size()
	if err != nil || have >= size {
		return err
	}
	if err := reserve(f.fd, size); err != nil {
		return &os.PathError{Op: "allocate", Path: f.Name(), Err: err}
	}
	return f.Truncate(size)
}

func (f *osFile) Datasync() error {
	if err := datasync(f.File, f.fd); err != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
	}
	return nil
}
