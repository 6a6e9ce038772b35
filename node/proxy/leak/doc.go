// Package leak holds one test: that no byte meant for one client reaches
// another. Many clients with cookies and tokens of their own ask for the same
// URLs at once, through the real listener, proxy and engine. The origin marks
// what is for one client with its name, and says in every way that HTTP has that
// it is so; it breaks off, resets and errs; hooks try to have it shared; clients
// leave. Whoever receives a mark with another name has found a leak.
package leak
