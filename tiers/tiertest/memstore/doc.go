// Package memstore is SQL and Redis in memory, for simulations of the engine:
// simple and obviously right (maps and one mutex), with the semantics that the
// engine relies on, and with faults that a driver sets before a call.
//
// L3 stands in for the ground truth and keeps its contents when the engine that
// used it is closed or killed, as a server does. Its rule of merging is written
// a second time here, from its description in tiers/l3/DESIGN.md; a test holds
// both against each other.
//
// Faults are drawn by nobody: a driver plans them one by one, each for the next
// call of a kind, so that a run can be made again. They are counted when they
// strike. Delays are timers: under testing/synctest they cost no time.
package memstore
