package filter

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Save writes a snapshot to the file path: beside it first, synced, then in its
// place, with the directory synced. After an error the older file is there.
func (f *Filter) Save(path string) (err error) {
	temporary := path + ".new"
	out, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("filter: save: %w", err)
	}
	err = f.WriteSnapshot(out)
	if err == nil {
		err = out.Sync()
	}
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err == nil {
		return syncDir(filepath.Dir(path))
	}
	_ = os.Remove(temporary) // the first error counts
	return fmt.Errorf("filter: save: %w", err)
}

// Restore reads the snapshot file path; see ReadSnapshot. An error that wraps
// fs.ErrNotExist says that there is none. Whatever the error: Warm makes up for
// it.
func (f *Filter) Restore(path string) error {
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("filter: restore: %w", err)
	}
	defer in.Close()
	if err := f.ReadSnapshot(io.Reader(in)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Forget removes the snapshot file path, for good: after Verify has found a lie,
// no snapshot is to be believed. No file is no error.
func Forget(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("filter: forget: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err == nil {
		err = d.Sync()
		if cerr := d.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return fmt.Errorf("filter: sync %s: %w", dir, err)
	}
	return nil
}
