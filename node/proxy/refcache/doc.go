// Package refcache is a shared cache written a second time, from the text of the
// RFCs (9110, 9111, 5861, 9213, 8246), slowly and plainly, so that the proxy can
// be compared with it. It shares no code with the proxy: it has its own parsers,
// and keeps what it stores in a slice.
//
// Begin with [Cache.Decide]: from the exchanges that it was told of
// ([Cache.Learn], [Cache.Purge]) it says which stored answers a request may be
// given at all, and what a good cache with the default policy would do. What is
// allowed is the RFCs'; what is expected is narrower, and is left open where
// they leave it open. A Cache is used by one goroutine; a call costs time in
// proportion to what is stored.
//
// It knows no ranges and no concurrent requests.
package refcache
