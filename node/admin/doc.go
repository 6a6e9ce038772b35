// Package admin is the admin listener: health, metrics, configuration, reload,
// hooks and profiles of a running node. docs/api.md shows every request.
//
// Begin with [New] and [Admin.Serve]. Every page is one [Page] of a list; the
// guard in guard.go decides who may see it. On a loopback listener that is who
// is on this machine and is no web page of elsewhere; on any other address it
// is who has a token with the scope admin or a client certificate.
//
// The package knows the engine's health and nothing else of the node: what it
// shows comes in as functions.
package admin
