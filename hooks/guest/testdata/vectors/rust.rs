//! The vector guest in Rust: see README.md in this folder.
#![no_std]

use core::cell::UnsafeCell;
use edge::{host, Answer, Candidate, Candidates, Config, Request, AS_COMPUTED, L1, L2, L3};

edge::manifest!(r#"{"name":"vectors-rust","hooks":["route","ttl","evict","admit"],"headers":["x-a","x-b","x-c","x-d"],"response_headers":["content-type","x-r"],"capabilities":["header","kv_get"],"fuel":{"route":20000000},"metrics":[{"name":"seen","kind":"counter"},{"name":"size","kind":"histogram"}]}"#);
edge::init!(init);
edge::route!(route);
edge::ttl!(ttl);
edge::evict!(score);
edge::admit!(admit);

struct Buffer(UnsafeCell<([u8; 1024], usize)>);
unsafe impl Sync for Buffer {}
static DUMP: Buffer = Buffer(UnsafeCell::new(([0; 1024], 0)));

fn dump() -> &'static mut ([u8; 1024], usize) {
    unsafe { &mut *DUMP.0.get() }
}

fn start() {
    dump().1 = 0;
}

fn bytes(b: &[u8]) {
    let d = dump();
    for &c in b {
        d.0[d.1] = c;
        d.1 += 1;
    }
}

fn word(v: u32) {
    bytes(&v.to_le_bytes());
}

fn half(v: u16) {
    bytes(&v.to_le_bytes());
}

fn written() -> &'static [u8] {
    let d = dump();
    &d.0[..d.1]
}

fn fnv(b: &[u8]) -> u32 {
    b.iter().fold(2166136261, |h: u32, &c| (h ^ c as u32).wrapping_mul(16777619))
}

fn look_up(v: Option<&[u8]>) {
    word(v.map_or(u32::MAX, |v| v.len() as u32));
    word(v.map_or(0, fnv));
}

fn dump_input(r: &Request) -> &'static [u8] {
    start();
    bytes(&[r.operation(), r.method(), r.tiers(), 0]);
    half(r.flags());
    half(r.status());
    bytes(&r.now_ms().to_le_bytes());
    bytes(&r.content_bytes().to_le_bytes());
    word(r.lifetime().unwrap_or(0));
    word(r.hits());
    bytes(&r.client());
    word(r.path().len() as u32);
    word(r.key().len() as u32);
    word(fnv(r.key()));
    word(r.header_count() as u32);
    for (i, (name, value)) in r.lines().enumerate() {
        half(if r.line(i).1 == value { name } else { 0xffff });
        half(value.len() as u16);
        word(fnv(value));
    }
    look_up(r.header(0));
    look_up(r.header(1));
    look_up(r.response_header(0));
    look_up(r.response_header(1));
    written()
}

fn init(c: &Config) -> bool {
    c.u32("refuse").unwrap_or(0) == 0
}

fn route(r: &Request, a: &mut Answer) {
    match r.key() {
        b"vector:route" => each(a),
        b"vector:deny" => a.deny(429, "slow down"),
        b"vector:pass" => a.pass(),
        b"vector:pool" => a.pool(2),
        b"vector:default" => {}
        b"vector:error" => a.error(),
        b"vector:full" => {
            for _ in 0..3000 {
                a.tag(b"tag");
            }
        }
        b"vector:host" => ask_host(a),
        _ => a.answer(200, &[], dump_input(r)),
    }
}

fn each(a: &mut Answer) {
    a.key_addition(b"eu");
    a.target(b"/b?c=d");
    a.tag(b"news");
    a.state(b"hot-1");
    a.tiers(L1, L1 | L2 | L3);
    a.deny(429, "slow down");
    a.reuse(60);
    a.set_request_header("X-Variant", b"b");
    a.set_response_header("x-served-by", b"");
    a.remove_request_header("Cookie");
    a.answer(200, &[("content-type", b"text/plain")], b"hi");
}

fn found(n: Option<usize>, b: &[u8]) {
    word(n.map_or(u32::MAX, |n| n as u32));
    if let Some(n) = n {
        word(fnv(&b[..n.min(b.len())]));
    }
}

fn ask_host(a: &mut Answer) {
    let mut b = [0; 64];
    start();
    host::log(host::INFO, "hello from the guest");
    host::metric_add(0, 2);
    host::metric_observe(1, 0.5);
    bytes(&host::now_ms().to_le_bytes());
    found(host::header("x-unlisted", &mut b), &b);
    found(host::header("x-absent", &mut b), &b);
    found(host::config("greeting", &mut b), &b);
    let mut two = [0; 2];
    found(host::kv_get(b"uk/1", &mut two), &two);
    word(host::tag_add(b"added") as u32);
    word(host::tag_add(b"no,tag") as u32);
    a.answer(200, &[], written());
}

fn ttl(r: &Request, a: &mut Answer) {
    match r.key() {
        b"vector:ttl" => {
            a.lifetime(60);
            a.tag(&[b't'; 256]);
            a.lifetimes(1, 2, AS_COMPUTED);
            a.stale(60, AS_COMPUTED);
        }
        b"vector:no-store" => a.no_store(),
        _ => a.lifetime(fnv(dump_input(r))),
    }
}

fn digest(c: &Candidate, pressure: u32) -> u32 {
    start();
    bytes(&c.id.to_le_bytes());
    word(c.size);
    word(c.age_s);
    word(c.idle_ms);
    word(c.hits);
    word(c.left_s);
    half(c.flags);
    half(c.tag_class);
    word(pressure);
    fnv(written())
}

fn score(c: &Candidate, pressure: u32) -> i32 {
    digest(c, pressure) as i32
}

fn admit(_: &Candidate, all: &Candidates) -> bool {
    all.iter().fold(0, |x, c| x ^ digest(c, all.pressure())) & 1 == 1
}
