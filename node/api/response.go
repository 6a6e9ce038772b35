package api

import "encoding/binary"

// responseFormat is the number of the form of stored response metadata.
const responseFormat = 1

// Numbers of the stored fields.
const storedContentEncoding = 1

// appendResponse appends response metadata with the given Content-Encoding to
// dst. Without one there is none. The value must be shorter than 64 KiB.
func appendResponse(dst []byte, contentEncoding []byte) []byte {
	if len(contentEncoding) == 0 {
		return dst
	}
	dst = append(dst, responseFormat, storedContentEncoding)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(contentEncoding)))
	return append(dst, contentEncoding...)
}

// contentEncodingOf returns the stored Content-Encoding, or nil. It shares
// memory with response. Malformed metadata is no metadata.
func contentEncodingOf(response []byte) []byte {
	if len(response) == 0 || response[0] != responseFormat {
		return nil
	}
	for rest := response[1:]; len(rest) >= 3; {
		number, n := rest[0], int(binary.LittleEndian.Uint16(rest[1:]))
		if len(rest) < 3+n {
			return nil
		}
		if number == storedContentEncoding {
			return rest[3 : 3+n]
		}
		rest = rest[3+n:]
	}
	return nil
}
