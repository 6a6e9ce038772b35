//! evict-s3fifo: scores in the manner of S3-FIFO (Yang et al., "FIFO queues are all you
//! need for cache eviction", SOSP 2023): what was not asked for again leaves first, first
//! in first out; the rest by the time since the last use, divided by the number of uses
//! up to "cap".
//!
//! S3-FIFO keeps queues and a count that falls each time the main one goes round. A
//! guest has no queues: an item that was asked for again is one that S3-FIFO would have
//! moved to the main queue, and "cap" uses are "cap" turns there.
//!
//! Configuration: { cap = 4 }, 2 to 100.
#![no_std]

use edge::{Candidate, Candidates, Config, Global};

edge::manifest!(r#"{"name":"evict-s3fifo","hooks":["evict","admit"]}"#);
edge::init!(init);
edge::evict!(score);
edge::admit!(admit);

static CAP: Global<u32> = Global::new(4);

fn init(c: &Config) -> bool {
    CAP.set(c.u32("cap").unwrap_or(4));
    CAP.get() >= 2 && CAP.get() <= 100
}

/// Below this are those that were not asked for again: a candidate's hits count the use
/// that stored it.
const ONCE: i32 = -(1 << 30);

#[inline(always)]
fn score(c: &Candidate, _pressure: u32) -> i32 {
    if c.left_s == 0 {
        return i32::MIN;
    }
    if c.hits <= 1 {
        return ONCE - 1 - c.age_s.min(1 << 29) as i32;
    }
    let uses = c.hits.min(CAP.get());
    -((c.idle_ms / 4 / uses) as i32)
}

/// Everything may come in: what is used once leaves soon.
fn admit(_: &Candidate, _: &Candidates) -> bool {
    true
}
