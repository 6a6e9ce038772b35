package journal

// SetFormat gives both headers of a segment another format and version.
func SetFormat(segment []byte, format uint32, version string) {
	h, _ := parseSegmentHeader(segment)
	h.format, h.version = format, version
	b := appendSegmentHeader(nil, h)
	copy(segment, b)
	copy(segment[headerStride:], b)
}
