// Package eviction holds the native rankings of what leaves memory first: the
// lowest score leaves. Begin with [Auto], the default, and [Tan], the classic
// curve.
//
// A ranking is a value with one method, Score, which appends one score per
// candidate. It holds no state: the decayed frequency and its half-life are
// kept by the memory tier, which samples candidates and hands them over in a
// batch. So a ranking can be swapped, shadowed or replaced by a hook at any
// time.
//
// Why a sample and not a list in order: any order over the whole cache must be
// kept up to date on each hit, under a lock; the lowest of sixteen random
// residents is nearly as good and costs a hit nothing. What decides the quality
// is the number of candidates per victim, which should be at least sixteen.
//
// The package does no I/O, keeps no reference to its arguments and is safe for
// concurrent use.
package eviction
