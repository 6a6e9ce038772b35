// Package replica makes a node follow another one, its hub: it keeps what the hub
// has of some prefixes of ids in the node's own SQL, with the hub's versions, and
// brings writes of these ids to the hub.
//
// Begin with [Open]. One goroutine reads the hub's change feed, stores each record,
// and then notes how far it is (cursor.go): what it stores twice, after a crash, is
// the same again. Where the feed cannot tell what is missing (the first time, after
// too long a cut, when the hub has another database) and every now and then, the
// trees of hashes are compared and what differs is fetched (repair.go). All of it is
// HTTP: the hub need not know that it has replicas.
//
// It does not decide about requests: package api asks it whose an id is, how old
// answers are, and to forward a write.
package replica
