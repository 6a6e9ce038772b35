package hooks

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrSignature is wrapped when a module's signature is missing or wrong. The
// module was not loaded.
var ErrSignature = errors.New("hooks: signature")

// SignaturePrefix stands before the SHA-256 of the module in what is signed.
const SignaturePrefix = "edge-hook-v1\n"

// Sign returns the content of a module's signature file: one line, the key's id
// and the signature in base64. The id must not hold spaces.
func Sign(module []byte, id string, key ed25519.PrivateKey) []byte {
	sum := sha256.Sum256(module)
	sig := ed25519.Sign(key, append([]byte(SignaturePrefix), sum[:]...))
	return fmt.Appendf(nil, "%s %s\n", id, base64.StdEncoding.EncodeToString(sig))
}

// verify checks a signature file against the trusted keys.
func verify(module, signature []byte, keys map[string]ed25519.PublicKey) error {
	fields := bytes.Fields(signature)
	if len(fields) != 2 {
		return fmt.Errorf("%w: must be one line, key id and base64", ErrSignature)
	}
	key, ok := keys[string(fields[0])]
	if !ok {
		return fmt.Errorf("%w: key %q is not trusted", ErrSignature, fields[0])
	}
	sig, err := base64.StdEncoding.DecodeString(string(fields[1]))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	sum := sha256.Sum256(module)
	if !ed25519.Verify(key, append([]byte(SignaturePrefix), sum[:]...), sig) {
		return fmt.Errorf("%w: does not fit the module", ErrSignature)
	}
	return nil
}

// read returns a module's bytes, read once and verified, and what the operator
// should know.
func (h *Host) read(s *Spec) (code []byte, warnings []string, err error) {
	code, signature := s.Bytes, s.Signature
	if code == nil {
		if code, err = readFile(s.Path, h.o.MaxModuleBytes); err != nil {
			return nil, nil, err
		}
		signature, err = readFile(s.Path+".sig", 4096)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, nil, err
		}
	}
	if int64(len(code)) > h.o.MaxModuleBytes {
		return nil, nil, tooLarge(int64(len(code)), h.o.MaxModuleBytes)
	}
	if len(signature) == 0 {
		if h.o.RequireSigned {
			return nil, nil, fmt.Errorf("%w: missing, signatures are required: sign the module or set require_signed = false", ErrSignature)
		}
		return code, []string{"the module is not signed"}, nil
	}
	if len(h.o.TrustedKeys) == 0 {
		return code, []string{"the module's signature was not checked: no key is trusted"}, nil
	}
	return code, nil, verify(code, signature, h.o.TrustedKeys)
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: %w", path, tooLarge(int64(len(b)), limit))
	}
	return b, nil
}

func tooLarge(size, limit int64) error {
	return fmt.Errorf("at least %d bytes, the limit is %d: raise max_module_bytes or build smaller", size, limit)
}
