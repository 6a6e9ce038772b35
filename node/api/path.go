package api

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers/item"
)

// A route is one path of the API.
type route uint8

const (
	routeUnknown route = iota
	routeItem
	routeState
	routeStatus
	routeItems
	routeCount
	routeGetMany
	routePutMany
	routeDeleteMany
	routePurge
	routePurged
	routeNodes
	routeNode
	routeMerkleRoot
	routeMerkleNodes
	routeMerkleDirty
	routeMerkleDiff
	routeMerkleAudit
	routeMerkleRebuild
	routeMerkleRecord
	routeMerkleRecords
	routeChanges
	routeDead
	routeDeadRetry
	routeDeadDrop
	routes // their number
)

// String returns the route's name in metrics.
func (r route) String() string {
	return [routes]string{
		"unknown", "item", "state", "status", "items", "count", "get_many", "put_many", "delete_many", "purge", "purged", "nodes", "node",
		"merkle_root", "merkle_nodes", "merkle_dirty", "merkle_diff", "merkle_audit", "merkle_rebuild", "merkle_record", "merkle_records", "changes",
		"dead_letters", "dead_letters_retry", "dead_letters_drop",
	}[r]
}

// allow returns the field Allow of a route.
func (r route) allow() string {
	switch r {
	case routeItem:
		return "GET, HEAD, PUT, DELETE"
	case routeItems:
		return "GET, HEAD, DELETE"
	case routeStatus, routeCount, routeDead, routePurged, routeNodes, routeMerkleRoot, routeMerkleNodes, routeMerkleDirty:
		return "GET, HEAD"
	case routeMerkleRecord:
		return "GET, PUT"
	case routeChanges:
		return "GET"
	case routeNode:
		return "DELETE"
	}
	return "POST"
}

const idPath = "/v1/items/"

// parsePath says which route path (raw, without the query) takes. For the
// routes of one item it appends the item's key to dst. The path is split before
// it is decoded: only a last literal ":state" or ":status" is a verb. Then it is
// decoded once; nothing is normalised.
func parsePath(path []byte, dst item.Key) (route, item.Key, *problem.Problem) {
	raw, ok := bytes.CutPrefix(path, []byte(idPath))
	if !ok {
		r, rest := fixedRoute(path)
		if len(rest) == 0 {
			return r, dst, nil
		}
		key, p := appendDecoded(dst, rest)
		return r, key, p
	}
	r := routeItem
	if id, ok := bytes.CutSuffix(raw, []byte(":state")); ok {
		r, raw = routeState, id
	} else if id, ok := bytes.CutSuffix(raw, []byte(":status")); ok {
		r, raw = routeStatus, id
	}
	key, p := appendDecoded(append(dst, item.NamespaceItem), raw)
	if p != nil {
		return r, dst, p
	}
	return r, key, checkID(key[len(dst)+1:])
}

// What comes before a number of a purge, and the id of a node.
const (
	purgedPath = "/v1/purge/"
	nodePath   = "/v1/nodes/"
)

// fixedRoute returns the route of a path without an item's id. rest is the last
// segment of those that end in one, undecoded.
func fixedRoute(path []byte) (r route, rest []byte) {
	if rest, ok := bytes.CutPrefix(path, []byte(purgedPath)); ok && len(rest) > 0 {
		return routePurged, rest
	}
	if rest, ok := bytes.CutPrefix(path, []byte(nodePath)); ok && len(rest) > 0 {
		return routeNode, rest
	}
	return plainRoute(path), nil
}

func plainRoute(path []byte) route {
	switch string(path) {
	case "/v1/items":
		return routeItems
	case "/v1/items:count":
		return routeCount
	case "/v1/items:get":
		return routeGetMany
	case "/v1/items:put":
		return routePutMany
	case "/v1/items:delete":
		return routeDeleteMany
	case "/v1/purge":
		return routePurge
	case "/v1/nodes":
		return routeNodes
	case "/v1/merkle/root":
		return routeMerkleRoot
	case "/v1/merkle/nodes":
		return routeMerkleNodes
	case "/v1/merkle/dirty":
		return routeMerkleDirty
	case "/v1/merkle/diff":
		return routeMerkleDiff
	case "/v1/merkle/audit":
		return routeMerkleAudit
	case "/v1/merkle/rebuild":
		return routeMerkleRebuild
	case "/v1/merkle/record":
		return routeMerkleRecord
	case "/v1/merkle/records":
		return routeMerkleRecords
	case "/v1/changes":
		return routeChanges
	case "/v1/dead-letters":
		return routeDead
	case "/v1/dead-letters:retry":
		return routeDeadRetry
	case "/v1/dead-letters:drop":
		return routeDeadDrop
	}
	return routeUnknown
}

// appendDecoded appends raw to dst with percent sequences decoded once. A plus
// stays a plus.
func appendDecoded(dst, raw []byte) ([]byte, *problem.Problem) {
	for {
		i := bytes.IndexByte(raw, '%')
		if i < 0 {
			return append(dst, raw...), nil
		}
		dst = append(dst, raw[:i]...)
		if len(raw) < i+3 || !isHex(raw[i+1]) || !isHex(raw[i+2]) {
			return dst, problem.New(problem.BadPath, "a % is not followed by two hexadecimal digits")
		}
		dst = append(dst, unhex(raw[i+1])<<4|unhex(raw[i+2]))
		raw = raw[i+3:]
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// checkID is item.CheckID for bytes, without an allocation when they are good.
func checkID(id []byte) *problem.Problem {
	if len(id) >= 1 && len(id) <= item.MaxIDLen && cleanText(id) {
		return nil
	}
	return idProblem(item.CheckID(string(id)))
}

// plainLen returns how many bytes at the beginning of b, in eights, are printable
// ASCII.
func plainLen(b []byte) int {
	const each, high = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; len(b)-n >= 8; n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		if (x|(x-' '*each)|(x+each))&high != 0 { // above 0x7f, below a space, or 0x7f
			break
		}
	}
	return n
}

// cleanText reports whether b is UTF-8 without control characters (Unicode
// category Cc: U+0000 to U+001F, U+007F to U+009F).
func cleanText(b []byte) bool {
	ascii := true
	b = b[plainLen(b):]
	for i, c := range b {
		if c < ' ' || c == 0x7f || c == 0xc2 && i+1 < len(b) && b[i+1] < 0xa0 {
			return false
		}
		ascii = ascii && c < utf8.RuneSelf
	}
	return ascii || utf8.Valid(b)
}
