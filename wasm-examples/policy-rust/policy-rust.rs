//! policy-rust: one policy with all four hooks, the same in every language; what it
//! does stands in ../policy-c/policy-c.c.
#![no_std]

use edge::{flag, Answer, Candidate, Candidates, Config, Global, Request, AS_COMPUTED};

edge::manifest!(r#"{"name":"policy-rust","hooks":["route","ttl","evict","admit"],"headers":["x-tenant","cookie"],"response_headers":["content-type"],"guards":true}"#);
edge::init!(init);
edge::route!(route);
edge::ttl!(ttl);
edge::evict!(score);
edge::admit!(admit);

const TENANT: u16 = 0;
const COOKIE: u16 = 1;
const TYPE: u16 = 0; // of the response headers

static HTML: Global<u32> = Global::new(30);

fn init(c: &Config) -> bool {
    HTML.set(c.u32("html").unwrap_or(30));
    true
}

fn route(r: &Request, a: &mut Answer) {
    let path = r.path();
    if path.starts_with(b"/internal/") && !r.is(flag::CLIENT_CERT) {
        return a.deny(403, "internal");
    }
    if path.starts_with(b"/live/") {
        return a.pass();
    }
    let tenant = match r.header(TENANT) {
        Some(tenant) => tenant,
        None => return,
    };
    if tenant.is_empty() || tenant.len() > 32 {
        return a.deny(400, "bad tenant");
    }
    a.key_addition(tenant);
    if tenant.starts_with(b"eu") {
        a.pool(0);
    } else if tenant.starts_with(b"us") {
        a.pool(1);
    }
}

fn logged_in(r: &Request) -> bool {
    // With the flag the cookie may have been cut off.
    r.is(flag::TRUNCATED) || r.lines().any(|(name, value)| name == COOKIE && value.windows(8).any(|w| w == b"session="))
}

fn ttl(r: &Request, a: &mut Answer) {
    if logged_in(r) {
        return a.no_store();
    }
    if r.status() >= 400 {
        return a.lifetime(5);
    }
    if r.path().starts_with(b"/static/") {
        a.lifetime(31_536_000);
        return a.stale(60, AS_COMPUTED);
    }
    match r.response_header(TYPE) {
        Some(t) if t.starts_with(b"image/") => a.lifetime(86_400),
        Some(t) if t.starts_with(b"text/html") => a.lifetime(HTML.get()),
        _ => {}
    }
}

/// log2 of v in 1/256, v > 0, straight between powers of two.
#[inline(always)]
fn log2_256(v: u32) -> i32 {
    let zeros = v.leading_zeros();
    ((31 - zeros) << 8 | (v << zeros >> 23 & 255)) as i32
}

#[inline(always)]
fn score(c: &Candidate, _pressure: u32) -> i32 {
    if c.left_s == 0 {
        return -2_000_000_000;
    }
    log2_256(c.hits.saturating_add(1)) - log2_256(c.size | 1) - log2_256(c.idle_ms / 1024 + 1)
}

fn admit(newcomer: &Candidate, all: &Candidates) -> bool {
    let worst = all.iter().skip(1).map(|c| score(c, 0)).min();
    worst.map_or(true, |worst| score(newcomer, 0) > worst)
}
