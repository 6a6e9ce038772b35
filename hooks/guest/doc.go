// Package guest is the SDK for hooks written in Go, with the standard toolchain:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w" -o x.wasm .
//
// and then the manifest, which Go cannot put into a module itself:
//
//	go run github.com/edgenode/edgenode/hooks/edgemanifest -manifest manifest.json x.wasm
//
// A hook is a function set in init:
//
//	func init() {
//		guest.OnTTL(func(r *guest.Request, a *guest.Answer) {
//			if v, ok := r.Header(0); ok && len(v) > 0 {
//				a.NoStore()
//			}
//		})
//	}
//
//	func main() {}
//
// The manifest must say "wasi": true and list the hooks. All that a Request gives
// are views of one fixed buffer, valid until the hook returns; an Answer writes
// into the same buffer. Neither allocates, and a hook should not either: the
// garbage collector of a guest works inside the call's fuel and the instance's
// memory. Guests run one call at a time. The clock stands still and goroutines
// that wait never wake.
package guest
