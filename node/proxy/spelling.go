package proxy

import "bytes"

// A path goes to the origin as it came, and the raw path chooses the site. An
// origin may read it otherwise: /a/../admin and /%61dmin are /admin to most. Where
// sites share a host, such a path could reach by one site what another one guards,
// so it is refused if another reading of it belongs to another site.

// misspelt reports whether a usual reading of the path of target belongs to
// another one of the sites of the host than s.
func misspelt(claims []*site, s *site, target []byte) bool {
	if len(claims) < 2 {
		return false
	}
	path, _, _ := bytes.Cut(target, []byte("?"))
	if bytes.IndexByte(path, '%') < 0 && bytes.IndexByte(path, '\\') < 0 && bytes.IndexByte(path, ';') < 0 &&
		!bytes.Contains(path, []byte("//")) && !bytes.Contains(path, []byte("/.")) {
		return false
	}
	return under(claims, resolved(path)) != s
}

// resolved reads a path as servers do: decoded once, both slashes alike, without
// parameters, empty and dot segments.
func resolved(path []byte) []byte {
	path = bytes.ReplaceAll(decoded(path), []byte{'\\'}, []byte{'/'})
	var kept [][]byte
	for segment := range bytes.SplitSeq(path, []byte{'/'}) {
		segment, _, _ = bytes.Cut(segment, []byte{';'})
		switch string(segment) {
		case "", ".":
		case "..":
			kept = kept[:max(len(kept)-1, 0)]
		default:
			kept = append(kept, segment)
		}
	}
	return append([]byte{'/'}, bytes.Join(kept, []byte{'/'})...)
}

// decoded decodes a path once; what is no encoding stays.
func decoded(path []byte) []byte {
	out := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			high, ok1 := hexDigit(path[i+1])
			if low, ok2 := hexDigit(path[i+2]); ok1 && ok2 {
				out = append(out, byte(high<<4|low))
				i += 2
				continue
			}
		}
		out = append(out, path[i])
	}
	return out
}
