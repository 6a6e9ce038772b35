package item

// mimes are the media types that a record has as one byte, their place here. It is
// a part of format 2: nothing is changed or added without another format.
var mimes = [...]string{
	1:  "application/json",
	2:  "application/octet-stream",
	3:  "text/html",
	4:  "text/html; charset=utf-8",
	5:  "text/html;charset=utf-8",
	6:  "text/html; charset=UTF-8",
	7:  "text/html;charset=UTF-8",
	8:  "text/plain",
	9:  "text/plain; charset=utf-8",
	10: "text/plain;charset=utf-8",
	11: "text/plain; charset=UTF-8",
	12: "text/css",
	13: "text/css; charset=utf-8",
	14: "text/css; charset=UTF-8",
	15: "text/javascript",
	16: "text/javascript; charset=utf-8",
	17: "text/javascript; charset=UTF-8",
	18: "application/javascript",
	19: "application/javascript; charset=utf-8",
	20: "application/json; charset=utf-8",
	21: "application/json;charset=utf-8",
	22: "application/json; charset=UTF-8",
	23: "application/problem+json",
	24: "application/ld+json",
	25: "application/manifest+json",
	26: "application/xml",
	27: "text/xml",
	28: "text/xml; charset=utf-8",
	29: "application/xhtml+xml",
	30: "application/rss+xml",
	31: "application/atom+xml",
	32: "application/pdf",
	33: "application/wasm",
	34: "application/zip",
	35: "application/gzip",
	36: "application/x-protobuf",
	37: "application/vnd.apple.mpegurl",
	38: "image/jpeg",
	39: "image/png",
	40: "image/gif",
	41: "image/webp",
	42: "image/avif",
	43: "image/svg+xml",
	44: "image/x-icon",
	45: "image/vnd.microsoft.icon",
	46: "font/woff",
	47: "font/woff2",
	48: "audio/mpeg",
	49: "video/mp4",
	50: "video/webm",
	51: "video/mp2t",
	52: "text/csv",
	53: "text/markdown",
	54: "application/x-www-form-urlencoded",
}

// mimeCode returns the place of s in mimes, 0 if it has none.
func mimeCode(s string) byte {
	for i := 1; i < len(mimes); i++ {
		if mimes[i] == s {
			return byte(i)
		}
	}
	return 0
}
