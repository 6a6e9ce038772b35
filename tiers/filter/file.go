package filter

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/edgenode/edgenode/tiers/durable"
)

// Save writes a snapshot to the file path: beside it first, synced, then in its
// place, with the directory synced. After an error the older file is there.
func (f *Filter) Save(path string) error {
	if err := durable.ReplaceBy(path, f.WriteSnapshot); err != nil {
		return fmt.Errorf("filter: save: %w", err)
	}
	return nil
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
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("filter: forget: %w", err)
	}
	return nil
}
