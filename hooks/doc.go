// Package hooks runs user-defined policy: WASM modules that route requests, set
// lifetimes and score what to evict, in a sandbox, on the hot path.
//
// Start at [Open] and [Host.Load]; then [Host.Route], [Host.TTL], [Host.Score]
// and [Host.Admit] ask the modules. [Inspect] says what a module is. The binary
// contract is in hooks/abi, the bound on what a call may cost in hooks/meter.
//
// # Who owns what
//
// A [Host] owns generations; a generation owns one wazero runtime and, per
// configured hook, a compiled module and a pool of instances. Load builds a
// generation beside the live one and swaps a pointer. The former generation is
// kept for [Host.Rollback]; the one before it is drained and closed.
//
// An instance is owned by exactly one goroutine at a time: the caller that took
// it out of its slot by compare-and-swap, or the module's worker. A slot that is
// empty belongs to whoever emptied it. There is no count of readers per
// generation: a generation is closed when each of its slots has been emptied for
// good, which cannot happen while a caller holds one.
//
// # Faults
//
// A trap, spent fuel, a bad pointer or a bad answer costs that call its verdict
// and the instance its life; the worker puts a new one in the slot. Hooks with
// many faults are switched off for a while (breaker.go). A request fails because
// of a hook only if the operator chose on_fault = "deny".
//
// # Goroutines
//
// Each module has a worker, which replaces its instances and lives while there is
// something to do; a goroutine closes a generation when its workers have ended.
// Host.Close waits for them all. Locks, in order: Host.loadMu, then one of
// worker.mu, pool.mu, trial.mu and Host.historyMu. No lock is taken by a call that
// neither faults nor waits for an instance.
//
// # Before a set goes live
//
// The vectors in the manifest are tried by [Host.Load]. [Host.Try] runs a set
// beside the live one, on the same traffic: in its shadow, or as canary for a share
// of the keys. [Host.Promote] and [Host.Abort] end that.
package hooks
