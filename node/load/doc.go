// Package load sends requests to HTTP servers and counts what comes back: how
// many, how fast, and what went wrong. It is what edgenode bench runs.
//
// Begin with Options and Run. A run is a closed loop, in which each connection
// sends its next request when the answer to the last one is there, or an open
// loop (Options.Rate, Options.Speed), in which each request has a time at which
// it is due, and its latency counts from that time: a server that stalls is
// charged for everything that should have been sent meanwhile, and not only for
// the few requests that were under way ("coordinated omission").
//
// Which request is the i-th depends on Options.Seed and i alone, whichever
// connection sends it.
//
// The client is made to cost little: requests are written and answers are read
// by hand on one connection each, without allocation; bodies are read and
// dropped. It follows no redirects, knows no cookies and does not look into
// bodies.
package load
