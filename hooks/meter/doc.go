// Package meter bounds a WebAssembly module: it rewrites the module so that
// every path through it pays fuel, and traps when the fuel is spent.
//
// Start at [Parse], which reads a binary and says what is in it, then
// [Module.Rewrite]. The rewriter adds one mutable i64 global, exported as
// [FuelExport], and takes from it
//
//   - at each function entry and each loop head, the number of instructions on
//     the longest way from there to the next loop head or the function's end;
//     where ways join, one unit more per 8 locals above 32 and values handed on,
//     since an engine may copy them all, and at a function's entry one unit more
//     per 8 such locals and per 256 bytes of code, for its stack frame;
//   - before memory.fill, memory.copy and memory.init, one unit per 16 bytes;
//   - before table.fill, table.copy, table.init and table.grow, one unit per
//     entry;
//   - before memory.grow, 1,024 units per page.
//
// When the global falls below zero the module executes unreachable. So a call
// that starts with n units executes at most n instructions of its own, each of
// bounded cost in native code, its stack is bounded too, and what it does is a
// function of module, input and the answers of its imports.
//
// The rewriter also lowers the declared maximum of the memory and of each table
// to the limits given.
//
// The opcode set is pinned: WebAssembly 1.0 with sign extension, non-trapping
// float-to-int conversion, multi-value, bulk memory, mutable globals and
// reference types. SIMD, tail calls, threads, exceptions, garbage-collected
// types and anything unknown are refused by name. Parse does not type-check:
// the caller must have a validator accept the original before it runs the
// rewritten module, since an invalid module could name the added global.
//
// All functions are pure, keep no reference to what they are given beyond
// their result, never panic on any input, and may be called from any goroutine.
package meter
