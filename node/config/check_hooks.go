package config

import (
	"crypto/ed25519"
	"encoding/base64"
	"strings"
)

// ParseTrustedKey takes "ID BASE64" apart. The id has no spaces, the key 32 bytes.
func ParseTrustedKey(text string) (id string, key ed25519.PublicKey, ok bool) {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return "", nil, false
	}
	key, err := base64.StdEncoding.DecodeString(fields[1])
	return fields[0], key, err == nil && len(key) == ed25519.PublicKeySize
}

// hookKeys checks who may sign modules.
func (k *checker) hookKeys() {
	seen := map[string]bool{}
	for i, text := range k.c.HooksTrustedKeys {
		id, _, ok := ParseTrustedKey(text)
		switch {
		case !ok:
			k.add(k.elem("hooks_trusted_keys", i), "must be an id and an Ed25519 public key, 32 bytes in base64", `write "ops BASE64"`)
		case seen[id]:
			k.add(k.elem("hooks_trusted_keys", i), "the id is there twice", "give each key an id of its own")
		}
		seen[id] = true
	}
	if k.c.RequireSigned && len(k.c.HooksTrustedKeys) == 0 {
		k.add("require_signed", "no key is trusted, so no module would load", "add hooks_trusted_keys, or write false")
	}
}
