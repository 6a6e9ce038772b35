// Package node puts an edge node together: configuration, engine, hooks,
// handlers and listeners, in this order, and takes it apart again in the
// reverse. Begin with [Run], which is a whole process, or [Open], which is a
// node inside one.
//
// It is the only place where tiers and hooks meet: wire.go turns the
// configuration into the options of each part, policy.go and scorer.go let the
// hooks decide what the handlers and the memory tier ask. A part never knows
// another one; what it needs of it, it asks through an interface of its own
// that is filled here.
//
// A request takes this way:
//
//	listener (node/front) -> router (node/config)
//	    host of a site     -> node/proxy -> route hook -> tiers -> origin -> ttl hook -> tiers
//	    any other host     -> node/api   -> route hook, ttl hook -> tiers
//	    host of api_hosts' -> if it is in neither: 421
//	admin listener         -> node/admin
//
// Lock order: reloading, then nothing. What requests read is swapped as a whole
// behind atomic pointers.
package node
