// Package tiers is the tiered engine: memory (L1), a journal, Redis (L2), and SQL
// (L3) behind one set of operations. It can be used as a library without the HTTP
// node. Begin with [Open], [Engine.Get] and [Engine.Submit].
//
// # Read path
//
//	Get ──► L1 ──► pending (journal, memory) ──► L2 ──► L3 ──► absent
//	         ▲          │                         │      │
//	         └──────────┴──── promoted, unless ───┴──────┘
//	                          something newer was published meanwhile
//
// Rules (bulk deletes and purges that are not applied everywhere yet) hide what
// they cover at each step.
//
// # Write path
//
//	admit ─► stamp ─► journal ─► wait for the level ─► publish ─► acknowledge
//	         └─ under the stripe's lock ─┘             └ L1 and pending together
//
//	flusher: newest per id ─► L3 commit, learn what the rows hold ─► L2 ─► release
//
// # What survives what
//
//	acknowledged as   kill -9   power loss   L3 down   where it is
//	memory            lost      lost         kept      RAM, then L3
//	journal           kept      perhaps      kept      written to the journal, then L3
//	sync              kept      kept         kept      synced to the journal, then L3
//	l3                kept      kept         (waits)   committed in SQL
//
// A record leaves the journal only when L3 has shown its row at its version or
// a newer one, in a commit that is on disk.
//
// # Lock order
//
// A goroutine that holds one of these takes only ones below it:
//
//  1. Engine.gate (for reading: every call below L1, once: a second time would
//     wait behind Close, which waits for the first)
//  2. sweeping
//  3. flusherState.mu
//  4. l2Tier.sweeping, l2Tier.writing
//  5. stripe.mu (one at a time)
//  6. ruleSet.stamping, ruleSet.mu, dirtyQueue.mu, copyQueue.mu, Engine.reserveMu, flights.mu
//  7. the locks inside l1 and journal
//
// No lock of these but gate, sweeping, flusher and those of L2 is held during I/O
// of L2 or L3. The journal's buffer may be waited for under a stripe's lock: that
// is how a full disk queue slows writers of the same stripe down.
package tiers
