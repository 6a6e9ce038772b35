package tiers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/edgenode/edgenode/tiers/durable"
)

// saveFile writes a snapshot of the filter to its file, in place of the older
// one, which is there after an error.
func (t *filterTier) saveFile() error {
	if err := durable.ReplaceBy(t.path, t.WriteSnapshot); err != nil {
		return fmt.Errorf("tiers: save the filter: %w", err)
	}
	return nil
}

// restoreFile reads the snapshot file; see filter.Filter.ReadSnapshot. An error
// that wraps fs.ErrNotExist says that there is none. Whatever the error: a warm-up
// makes up for it.
func (t *filterTier) restoreFile() error {
	in, err := os.Open(t.path)
	if err != nil {
		return fmt.Errorf("tiers: restore the filter: %w", err)
	}
	defer in.Close()
	if err := t.ReadSnapshot(in); err != nil {
		return fmt.Errorf("%s: %w", t.path, err)
	}
	return nil
}

// removeFile removes the snapshot file for good: after Verify has found a lie, no
// snapshot is to be believed. No file is no error.
func (t *filterTier) removeFile() error {
	err := os.Remove(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(t.path))
	}
	if err != nil {
		return fmt.Errorf("tiers: forget the filter: %w", err)
	}
	return nil
}
