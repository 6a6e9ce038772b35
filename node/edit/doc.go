// Package edit applies the changes to header fields that a policy asks for: to
// the request as a handler reads it, and to the answer as it is sent. Both
// handlers of node, for items and for sites, decorate their exchange with it.
//
// Begin with [Admit], which turns what was asked for into what may be done; then
// [List.Fields] is the request as changed, and an [Answer] stands between a
// handler and where its answer goes. Nothing here is stored, and nothing here
// costs a request that has no edits.
//
// What may not be changed is decided here and in one place: fields that frame,
// address or trace a message (RFC 9110 §7.6, RFC 9112 §6, §9), those that the
// node makes itself, and bytes that cannot stand in a header (RFC 9110 §5).
package edit
