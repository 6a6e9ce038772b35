// Package replay plays recorded requests against the memory tier and says how
// many of them it would have answered.
//
// Begin with [ReadTrace] or a [Builder] for the requests, [NewMemory] for the
// memory tier as the node has it, and [Run]. [Serve] does the same for another
// program that hands over the requests one by one.
//
// # What is real and what is not
//
// The cache is tiers/l1 as a node of this capacity has it: its index, its samples,
// its decayed frequencies, queues, the contest and what decides whether there is one,
// driven through its exported methods. Only the price is not: an object costs its
// recorded size and nothing else, so that policies are compared and not allocators
// (l1.Prices). To that end records have no contents, and the room for them never
// runs out. Rankings and hooks see the recorded size, and no pressure from what is
// pinned, for nothing is.
//
// As in the node an object above a quarter of the capacity is not kept. Time is
// that of the trace. What is sampled is chosen at random, as in the node: ratios differ
// from run to run by up to a few thousandths.
package replay
