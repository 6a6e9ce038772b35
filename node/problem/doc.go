// Package problem is the closed table of what can go wrong with a request, as
// its sender sees it: a name, an HTTP status, what it means and the way out.
//
// Begin with [Problem]: one occurrence of a [Kind] of the table. [Write]
// answers a request with it as application/problem+json (RFC 9457). The page
// docs/problems.md is rendered from the same table by [Markdown]; a test
// compares.
//
// The package imports nothing of ours, so that every handler can use it.
package problem
