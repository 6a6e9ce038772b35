//! route-ab-geo: pools by the client's country, and an experiment by client.
//!
//! - the header that a proxy in front sets, x-country, chooses the pool: the countries
//!   of "us" in the configuration the second one, all others the first;
//! - "percent" of the clients see variant b: by the cookie ab=a or ab=b if there is one,
//!   else by the client's network (IPv4 /24, IPv6 /48), so that one client stays with
//!   one variant. Variants are stored apart, the origin is told by x-variant, and the
//!   client's browser by a cookie;
//! - what is no GET or HEAD, and the items API, is left alone.
//!
//! Configuration: { percent = 20, us = "US CA MX" }
#![no_std]

use edge::{flag, method, Answer, Config, Global, Request};

edge::manifest!(r#"{"name":"route-ab-geo","hooks":["route"],"headers":["x-country","cookie"]}"#);
edge::init!(init);
edge::route!(route);

const COUNTRY: u16 = 0;
const COOKIE: u16 = 1;

const COUNTRIES: usize = 64;

static PERCENT: Global<u32> = Global::new(0);
static US: Global<([u8; COUNTRIES], usize)> = Global::new(([0; COUNTRIES], 0));

fn init(c: &Config) -> bool {
    let percent = c.u32("percent").unwrap_or(0);
    PERCENT.set(percent);
    let us = c.str("us").unwrap_or(b"US");
    if us.len() > COUNTRIES {
        return false;
    }
    let mut list = [0; COUNTRIES];
    for (to, from) in list.iter_mut().zip(us) {
        *to = *from;
    }
    US.set((list, us.len()));
    percent <= 100
}

fn route(r: &Request, a: &mut Answer) {
    if !r.is(flag::SITE) || r.method() != method::GET && r.method() != method::HEAD {
        return;
    }
    if let Some(country) = r.header(COUNTRY) {
        a.pool(is_us(country) as u32);
    }
    let chosen = by_cookie(r);
    let b = chosen.unwrap_or_else(|| by_network(r) < PERCENT.get());
    a.key_addition(if b { b"ab-b" } else { b"ab-a" });
    a.set_request_header("x-variant", if b { b"b" } else { b"a" });
    if chosen.is_none() {
        a.set_response_header("set-cookie", if b { b"ab=b; Path=/" } else { b"ab=a; Path=/" });
    }
}

fn is_us(country: &[u8]) -> bool {
    let (list, n) = US.get();
    list[..n].split(|&c| c == b' ').any(|one| !one.is_empty() && one == country)
}

/// The variant that a cookie names.
fn by_cookie(r: &Request) -> Option<bool> {
    for (name, line) in r.lines() {
        if name != COOKIE {
            continue;
        }
        for field in line.split(|&c| c == b';') {
            match field.strip_prefix(b" ").unwrap_or(field) {
                b"ab=a" => return Some(false),
                b"ab=b" => return Some(true),
                _ => {}
            }
        }
    }
    None
}

/// A number below 100 that is the same for one network: FNV-1a of its bytes, its lower
/// bits mixed by a multiplication.
fn by_network(r: &Request) -> u32 {
    let ip = r.client();
    let v4 = ip[..10] == [0; 10] && ip[10] == 0xff && ip[11] == 0xff;
    let network = if v4 { &ip[12..15] } else { &ip[..6] };
    let mut h = 2_166_136_261_u32;
    for &c in network {
        h = (h ^ c as u32).wrapping_mul(16_777_619);
    }
    ((h as u64 * 100) >> 32) as u32
}
