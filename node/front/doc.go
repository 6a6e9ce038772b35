// Package front is the HTTP/1.x face of the node: one [Server] per listener,
// with its limits, its TLS, its connection loop, and the [Exchange] that a
// handler works on. Begin with [Listen] and [Server.Start].
//
// # What is ours, what is fasthttp's
//
// Accepting, reading, the check of the raw header block, body framing, writing
// of answers, limits, time-outs and shutdown are ours. fasthttp's header parser
// (fasthttp.RequestHeader) is the second opinion: a request that announces a
// body reaches a handler only if our check and fasthttp's parser, given the
// same bytes, agree on method, target, host, version and body length. A fuzz
// target holds the same for requests without a body, where nothing can be
// smuggled, so that they do not pay for it.
//
// fasthttp.Server is not used, because it believes what a shared cache must not
// believe (both framings at once, folded lines, HTTP/1.2 as 1.0, a bare LF held
// until the time-out, a normalised path) and cannot write what a shared cache
// must write (repeated fields in their order, exact bytes, answers to HTTP/1.0
// delimited by close, an early hint that keeps its place in a pipeline).
//
// # The rules of a request
//
// A head is a request line and field lines, each ended by CRLF, then an empty
// line (RFC 9112). It is checked line by line while it arrives, so that what is
// wrong is answered at once and a slow sender costs linear work. What cannot be
// framed beyond doubt is refused and its connection closed; the table is in
// problem.go. The target is handed on byte for byte.
//
// # Bytes and goroutines
//
// Each connection has one goroutine. It holds no buffers while it waits for the
// next request on plain TCP. A second goroutine runs only while a handler waits
// for [Exchange.Context] to be done; it watches for the client's leaving
// without taking bytes. One more goroutine per server keeps the coarse clock,
// which makes the Date field and enforces every time-out, so that no request
// pays for a timer. [Server.Shutdown] waits for all of them.
package front
