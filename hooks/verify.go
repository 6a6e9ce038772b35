package hooks

import "fmt"

// Verify reports whether a signature, as it stands in a signature file, is that of
// a trusted key for a module. Its error wraps ErrSignature and says what to do.
func (h *Host) Verify(module, signature []byte) error {
	switch {
	case len(h.o.TrustedKeys) == 0:
		return fmt.Errorf("%w: no key is trusted, so no signature can be checked: add the signer's key to the trusted ones", ErrSignature)
	case len(signature) == 0:
		return fmt.Errorf("%w: missing: sign the module", ErrSignature)
	}
	return verify(module, signature, h.o.TrustedKeys)
}
