//! evict-s3fifo: scores in the manner of S3-FIFO (Yang et al., "FIFO queues are all you
//! need for cache eviction", SOSP 2023): what was used but once leaves first, oldest
//! first; the rest leaves by how often it was used, up to "cap" uses, then by age.
//!
//! S3-FIFO keeps queues. A guest has none and does without: an item that is asked for
//! again within its probation is what S3-FIFO would have moved to the main queue, and
//! instead of a count that falls as the queue goes round, uses are weighed against age.
//!
//! Configuration: { cap = 3, probation = 10 }, uses that count, and seconds during which
//! a newcomer without uses is left alone when others can leave.
#![no_std]

use edge::{Candidate, Candidates, Config, Global};

edge::manifest!(r#"{"name":"evict-s3fifo","hooks":["evict","admit"]}"#);
edge::init!(init);
edge::evict!(score);
edge::admit!(admit);

static CAP: Global<u32> = Global::new(3);
static PROBATION: Global<u32> = Global::new(10);

fn init(c: &Config) -> bool {
    CAP.set(c.u32("cap").unwrap_or(3));
    PROBATION.set(c.u32("probation").unwrap_or(10));
    CAP.get() <= 100 && PROBATION.get() <= 86_400
}

/// log2 of v in 1/256, v > 0, straight between powers of two.
#[inline(always)]
fn log2_256(v: u32) -> i32 {
    let zeros = v.leading_zeros();
    ((31 - zeros) << 8 | (v << zeros >> 23 & 255)) as i32
}

/// Main items score 0 and above, those on probation below.
#[inline(always)]
fn score(c: &Candidate, _pressure: u32) -> i32 {
    if c.left_s == 0 {
        return i32::MIN;
    }
    let age = (c.age_s + 1 - c.age_s / u32::MAX).min(1 << 24) as i32;
    if c.hits == 0 {
        let young = (c.age_s < PROBATION.get()) as i32;
        return -(1 << 25) * (1 - young) - age;
    }
    // Each use counts as much as three halvings of the time since the last one.
    let uses = c.hits.min(CAP.get()) as i32;
    (1 << 20) + uses * 768 - log2_256(c.idle_ms / 64 + 1)
}

/// Everything may come in: what is used once leaves soon.
fn admit(_: &Candidate, _: &Candidates) -> bool {
    true
}
