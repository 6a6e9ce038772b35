package hooktool

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/edgenode/edgenode/hooks"
)

// keyMark begins the one line of a file with a private key: mark, id, and the
// seed (RFC 8032) in base64.
const keyMark = "edge-hook-key-v1"

// ErrKey is wrapped by errors about keys: nothing was signed or written.
var ErrKey = errors.New("hook key")

// A Key signs modules.
type Key struct {
	ID      string
	private ed25519.PrivateKey
}

// Public returns the public key in base64, as a configuration has it.
func (k Key) Public() string {
	return base64.StdEncoding.EncodeToString(k.private.Public().(ed25519.PublicKey))
}

// NewKey makes an Ed25519 key and writes it to path, readable by the owner only,
// and its public half to path.pub: one line, id and key in base64. It overwrites
// nothing.
func NewKey(path, id string) (Key, error) {
	if err := checkID(id); err != nil {
		return Key{}, err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, err
	}
	k := Key{id, private}
	line := fmt.Sprintf("%s %s %s\n", keyMark, id, base64.StdEncoding.EncodeToString(private.Seed()))
	if err := writeNew(path, []byte(line), 0o600); errors.Is(err, fs.ErrExist) {
		return Key{}, fmt.Errorf("%w: %s exists and is left alone: name another file or move it away", ErrKey, path)
	} else if err != nil {
		return Key{}, err
	}
	if err := writeNew(path+".pub", fmt.Appendf(nil, "%s %s\n", id, k.Public()), 0o644); err != nil {
		return Key{}, errors.Join(err, os.Remove(path))
	}
	return k, nil
}

func checkID(id string) error {
	if id == "" || len(id) > 64 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return fmt.Errorf("%w: id %q must be 1 to 64 of a-z 0-9 _ -", ErrKey, id)
	}
	return nil
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// ReadKey reads a private key that NewKey wrote. It refuses one that others may
// read.
func ReadKey(path string) (Key, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Key{}, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return Key{}, fmt.Errorf("%w: %s has mode %#o, others may read it: run chmod 600, and make a new key if they did", ErrKey, path, st.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Key{}, err
	}
	fields := strings.Fields(string(text))
	if len(fields) != 3 || fields[0] != keyMark {
		return Key{}, fmt.Errorf("%w: %s is no private key of edgenode hook keygen", ErrKey, path)
	}
	seed, err := base64.StdEncoding.DecodeString(fields[2])
	if err != nil || len(seed) != ed25519.SeedSize {
		return Key{}, fmt.Errorf("%w: %s is damaged: its seed is not %d bytes in base64", ErrKey, path, ed25519.SeedSize)
	}
	if err := checkID(fields[1]); err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return Key{fields[1], ed25519.NewKeyFromSeed(seed)}, nil
}

// Sign returns the content of the signature file of a module: one line, id and
// signature in base64.
func (k Key) Sign(module []byte) []byte { return hooks.Sign(module, k.ID, k.private) }

// SignFile signs the module at path, which must be one that can be a hook, and
// writes the signature to path.sig, in place of an older one. It returns that
// file's name.
func SignFile(k Key, path string) (string, error) {
	m, err := ReadModule(path)
	if err != nil {
		return "", err
	}
	file := path + ".sig"
	return file, os.WriteFile(file, k.Sign(m.Code), 0o644)
}
