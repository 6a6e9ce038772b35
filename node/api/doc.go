// Package api is the items API: /v1 over HTTP, on any front that offers an
// [Exchange], in front of any engine that offers [Engine]. docs/api.md shows
// every request with its answers.
//
// Begin with [API.Serve]: it says who asks (token.go), where to (path.go), and
// calls one method per route. A GET that is found in memory runs from Serve to
// the answer without an allocation: the key, the header block and the hit lie in
// a pooled [call].
//
// The package knows no server library, no hooks and no other handler. Hooks
// come in as a [Policy], purges of sites as a [SitePurge]; each may be absent. HTTP statuses of the engine's errors are chosen
// in one place, fault.go.
//
// # Response metadata, format 1
//
// What of the writer's header is given back to readers is stored with the item
// as opaque bytes (response.go):
//
//	0 u8   format = 1
//	1      fields until the end, each: u8 number, u16 length (little endian), bytes
//
// Field 1 is Content-Encoding. Unknown numbers are skipped, an unknown format
// is no metadata.
package api
