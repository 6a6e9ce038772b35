package tiers

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/edgenode/edgenode/tiers/durable"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/journal"
)

// An Identity names a node. It is made once and kept in the data directory.
type Identity struct {
	Format int    `json:"format"`
	ID     string `json:"id"` // UUIDv7
	Name   string `json:"name"`
}

const identityFormat = 1

// openDataDir makes dir if needed, locks it, and reads or makes the identity.
func openDataDir(dir, name string) (Identity, *journal.DirLock, error) {
	if name == "" {
		name, _ = os.Hostname()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Identity{}, nil, fmt.Errorf("tiers: data directory: %w; set data_dir to a directory that this user may write", err)
	}
	lock, err := journal.LockDir(dir, name)
	if err != nil {
		return Identity{}, nil, err
	}
	id, err := loadIdentity(filepath.Join(dir, "identity.json"), name)
	if err != nil {
		return Identity{}, nil, errors.Join(err, lock.Unlock())
	}
	return id, lock, nil
}

// ReplaceFile makes b the content of the file path of a data directory. When it
// returns without an error that is on disk; a crash leaves the old content or the
// new one, whole. The file is readable by its owner alone. One caller at a time may
// replace a path. It costs two fsyncs.
func ReplaceFile(path string, b []byte) error { return durable.Replace(path, b) }

func loadIdentity(path, name string) (Identity, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return makeIdentity(path, name)
	}
	var id Identity
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err != nil {
		return id, fmt.Errorf("tiers: identity %s: %w; restore it from a backup, or remove it to make this a new node", path, err)
	}
	if id.Format > identityFormat {
		return id, fmt.Errorf("tiers: identity %s has format %d, this version reads %d: use a newer version", path, id.Format, identityFormat)
	}
	id.Name = name
	return id, nil
}

func makeIdentity(path, name string) (Identity, error) {
	u, err := uuid.NewV7()
	if err != nil {
		return Identity{}, fmt.Errorf("tiers: identity: %w", err)
	}
	id := Identity{Format: identityFormat, ID: u.String(), Name: name}
	b, err := json.Marshal(id)
	if err != nil {
		return id, err
	}
	return id, durable.Replace(path, append(b, '\n'))
}

// A clockFile keeps a version that no stamp of this node has passed, so that a
// node whose clock was set back still stamps above all that it ever did. The
// file is the version in decimal; it is written ahead of the clock, seldom.
type clockFile struct {
	path  string
	bound item.Version // what the file says
}

const clockAheadMS = 5_000

func openClockFile(path string) (*clockFile, error) {
	f := &clockFile{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tiers: clock file: %w", err)
	}
	if len(b) > 0 && b[len(b)-1] == '\n' {
		b = b[:len(b)-1]
	}
	if f.bound, err = item.ParseVersion(string(b)); err != nil {
		return nil, fmt.Errorf("tiers: clock file %s: %w; it must hold a version at least as high as any that this node has given", path, err)
	}
	return f, nil
}

// advance moves the bound so far ahead of last that stamps cannot pass it
// before the next call, due within half of clockAheadMS.
func (f *clockFile) advance(last item.Version) error {
	if last.UnixMilli()+clockAheadMS/2 < f.bound.UnixMilli() {
		return nil
	}
	return f.write(item.VersionAt(last.UnixMilli() + clockAheadMS))
}

// close writes the exact end.
func (f *clockFile) close(last item.Version) error { return f.write(last) }

func (f *clockFile) write(bound item.Version) error {
	if err := durable.Replace(f.path, []byte(bound.String()+"\n")); err != nil {
		return fmt.Errorf("tiers: clock file: %w", err)
	}
	f.bound = bound
	return nil
}
