// Package abi is the binary contract between the node and its WASM hooks, ABI 1:
// numbers, the input block, the result word and the output records. ABI.md is
// the specification; testdata/vectors.json holds byte-exact examples that this
// package and every SDK are tested against.
//
// The host writes blocks with [AppendInput] and [AppendEvict] and reads answers
// with [Result] and [Records]. A guest written in Go uses the constants only, so
// the package imports nothing that would weigh on a guest.
//
// Everything is little endian. Nothing here allocates, keeps a reference to its
// arguments or panics on bytes of others.
package abi

// Version is the ABI's number as edge_abi_version returns it: major in the upper
// 16 bits, minor in the lower.
const Version = 1 << 16

// Exports a module may or must have.
const (
	ExportVersion  = "edge_abi_version" // () -> i32, required
	ExportAlloc    = "edge_alloc_buf"   // (in_bytes i32, out_bytes i32) -> i32, required
	ExportInit     = "edge_init"        // (len i32) -> i32, required; 0 is success
	ExportRoute    = "edge_on_route"    // (len i32) -> i64
	ExportTTL      = "edge_on_ttl"      // (len i32) -> i64
	ExportEvict    = "edge_on_evict"    // (len i32) -> i64
	ExportAdmit    = "edge_on_admit"    // (len i32) -> i64
	ExportMemory   = "memory"           // required
	ExportReactor  = "_initialize"      // () -> (), optional
	ImportModule   = "edge"             // where host functions live
	SectionName    = "edge.manifest"    // custom section with the manifest
	InputBytes     = 16 << 10           // size of the input area the host asks for
	OutputBytes    = 8 << 10            // size of the output area the host asks for
	MaxCandidates  = 64                 // records in one evict or admit block
	MaxHeaders     = 64                 // names in a manifest's list
	MaxKeyAddition = 256                // bytes
	MaxTarget      = 4096               // bytes of a rewritten path and query
	MaxTag         = 256                // bytes
	MaxState       = 32                 // bytes
	MaxReason      = 128                // bytes
	MaxBody        = 4096               // bytes of an answer made by a hook
)

// Hook numbers, input byte 2.
type Hook uint8

// The hook points.
const (
	Route Hook = 1 + iota
	TTL
	Evict
	Admit
	hooksEnd
)

// Hooks is one more than the greatest hook number, for arrays by Hook.
const Hooks = int(hooksEnd)

// String returns the name used in manifests and configuration.
func (h Hook) String() string {
	switch h {
	case Route:
		return "route"
	case TTL:
		return "ttl"
	case Evict:
		return "evict"
	case Admit:
		return "admit"
	}
	return "unknown"
}

// ParseHook is the inverse of String.
func ParseHook(name string) (Hook, bool) {
	for h := Route; h < hooksEnd; h++ {
		if h.String() == name {
			return h, true
		}
	}
	return 0, false
}

// Export returns the name of the function that a module exports for the hook.
func (h Hook) Export() string {
	switch h {
	case Route:
		return ExportRoute
	case TTL:
		return ExportTTL
	case Evict:
		return ExportEvict
	case Admit:
		return ExportAdmit
	}
	return ""
}

// Operation, input byte 3.
type Operation uint8

// The operations.
const (
	Read Operation = 1 + iota
	Write
	Delete
	Purge
)

// Method, input byte 4.
type Method uint8

// The request methods; everything else is MethodOther.
const (
	MethodOther Method = iota
	MethodGet
	MethodHead
	MethodPost
	MethodPut
	MethodDelete
	MethodPatch
	MethodOptions
)

// Tiers is a set of tiers, input byte 5.
type Tiers uint8

// The tiers.
const (
	L1 Tiers = 1 << iota
	L2
	L3
	AllTiers = L1 | L2 | L3
)

// Flags, input bytes 6 and 7.
type Flags uint16

// The input flags.
const (
	FlagTruncated     Flags = 1 << iota // key or headers did not fit; the rest was left out
	FlagTLS                             // the client came over TLS
	FlagSite                            // a site's request; without it, the items API
	FlagLifetimeKnown                   // the lifetime field holds a computed value
	FlagClientCert                      // a client certificate was verified
)

// Special values.
const (
	UnknownBytes = ^uint64(0) // content bytes not known
	AsComputed   = ^uint32(0) // a lifetime or window left as it is
	NoLifetime   = ^uint32(0) // an eviction candidate without expiry
)
