// Package durable replaces small files so that a crash leaves the old content or
// the new one, whole.
package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Replace makes b the content of the file path. See ReplaceBy.
func Replace(path string, b []byte) error {
	return ReplaceBy(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// ReplaceBy makes what write writes the content of the file path: beside it
// first, as path.new, synced, then in its place, with the directory synced. The
// file is readable by its owner alone. It is on disk when ReplaceBy returns; after an
// error, which is one of write or of the system, the older file is there unless
// only the directory could not be synced. One caller at a time may replace a path.
// The cost is two fsyncs.
func ReplaceBy(path string, write func(io.Writer) error) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		_ = os.Remove(next) // the first error counts
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes what was created, renamed or removed in dir last.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
