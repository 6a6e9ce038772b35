//! Hooks for edgenode in Rust, ABI 1; see hooks/abi/ABI.md and docs/hooks-rust.md.
//!
//! No standard library, no dependencies, no allocation: what a [`Request`] gives are
//! views of the input area, valid until the hook returns, and an [`Answer`] writes
//! into the output area.
//!
//! ```ignore
//! #![no_std]
//! use edge::{Answer, Request};
//!
//! edge::manifest!(r#"{"hooks": ["route"], "headers": ["x-tenant"]}"#);
//! edge::route!(decide);
//!
//! fn decide(r: &Request, a: &mut Answer) {
//!     if r.path().starts_with(b"/live/") {
//!         a.pass();
//!     }
//! }
//! ```
//!
//! A module says `manifest!` once and each of `init!`, `route!`, `ttl!`, `evict!` and
//! `admit!` at most once; without `init!` every configuration is accepted.
#![no_std]

mod answer;
mod config;
mod request;

pub mod host;

pub use answer::Answer;
pub use config::Config;
pub use request::{Candidate, Candidates, Request};

use core::cell::UnsafeCell;

/// ABI 1.0.
pub const VERSION: i32 = 1 << 16;

/// A lifetime or window that is left as it is; a candidate that never expires.
pub const AS_COMPUTED: u32 = u32::MAX;

/// Content bytes that are not known.
pub const UNKNOWN: u64 = u64::MAX;

/// Tiers, for [`Answer::tiers`] and [`Request::tiers`].
pub const L1: u8 = 1;
pub const L2: u8 = 2;
pub const L3: u8 = 4;

/// Flags of a request, for [`Request::is`].
pub mod flag {
    /// Key or headers did not fit: assume the worst.
    pub const TRUNCATED: u16 = 1;
    pub const TLS: u16 = 2;
    /// A request of a site; without it, of the items API.
    pub const SITE: u16 = 4;
    pub const LIFETIME_KNOWN: u16 = 8;
    /// A client certificate was verified.
    pub const CLIENT_CERT: u16 = 16;
}

/// What is done, see [`Request::operation`].
pub mod operation {
    pub const READ: u8 = 1;
    pub const WRITE: u8 = 2;
    pub const DELETE: u8 = 3;
    pub const PURGE: u8 = 4;
}

/// The request's method, see [`Request::method`].
pub mod method {
    pub const OTHER: u8 = 0;
    pub const GET: u8 = 1;
    pub const HEAD: u8 = 2;
    pub const POST: u8 = 3;
    pub const PUT: u8 = 4;
    pub const DELETE: u8 = 5;
    pub const PATCH: u8 = 6;
    pub const OPTIONS: u8 = 7;
}

/// A cell for what `init!` takes from the configuration. A guest runs one call at a
/// time, so that it needs no lock.
pub struct Global<T: Copy>(UnsafeCell<T>);

// A module has one thread.
unsafe impl<T: Copy> Sync for Global<T> {}

impl<T: Copy> Global<T> {
    pub const fn new(value: T) -> Self {
        Global(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub fn get(&self) -> T {
        unsafe { *self.0.get() }
    }

    #[inline(always)]
    pub fn set(&self, value: T) {
        unsafe { *self.0.get() = value }
    }
}

const AREA: usize = 24 * 1024;

#[repr(align(8))]
struct Area(UnsafeCell<[u8; AREA]>);

unsafe impl Sync for Area {}

static BUFFER: Area = Area(UnsafeCell::new([0; AREA]));
static INPUT_BYTES: Global<usize> = Global::new(0);
static OUTPUT_BYTES: Global<usize> = Global::new(0);

#[inline(always)]
fn input_area() -> *mut u8 {
    BUFFER.0.get() as *mut u8
}

#[inline(always)]
fn output_area() -> *mut u8 {
    unsafe { input_area().add(INPUT_BYTES.get()) }
}

#[no_mangle]
pub extern "C" fn edge_abi_version() -> i32 {
    VERSION
}

#[no_mangle]
pub extern "C" fn edge_alloc_buf(input: u32, output: u32) -> *mut u8 {
    if input as u64 + output as u64 > AREA as u64 {
        return core::ptr::null_mut();
    }
    INPUT_BYTES.set(input as usize);
    OUTPUT_BYTES.set(output as usize);
    input_area()
}

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}

/// Puts the manifest, JSON, into the module.
#[macro_export]
macro_rules! manifest {
    ($json:expr) => {
        #[link_section = "edge.manifest"]
        #[used]
        pub static EDGE_MANIFEST: [u8; $json.len()] = $crate::bytes_of($json);
    };
}

#[doc(hidden)]
pub const fn bytes_of<const N: usize>(text: &str) -> [u8; N] {
    let mut out = [0; N];
    let mut i = 0;
    while i < N {
        out[i] = text.as_bytes()[i];
        i += 1;
    }
    out
}

/// Exports `fn(&Config) -> bool` that gets the configuration; false refuses it.
#[macro_export]
macro_rules! init {
    ($f:expr) => {
        #[no_mangle]
        pub extern "C" fn edge_init(len: u32) -> i32 {
            !$crate::with_config(len, $f) as i32
        }
    };
    () => {
        #[no_mangle]
        pub extern "C" fn edge_init(_len: u32) -> i32 {
            0
        }
    };
}

/// Exports `fn(&Request, &mut Answer)` as the route hook.
#[macro_export]
macro_rules! route {
    ($f:expr) => {
        #[no_mangle]
        pub extern "C" fn edge_on_route(_len: u32) -> i64 {
            $crate::with_request(0, $f)
        }
    };
}

/// Exports `fn(&Request, &mut Answer)` as the ttl hook.
#[macro_export]
macro_rules! ttl {
    ($f:expr) => {
        #[no_mangle]
        pub extern "C" fn edge_on_ttl(_len: u32) -> i64 {
            $crate::with_request($crate::AS_COMPUTED, $f)
        }
    };
}

/// Exports `fn(&Candidate, u32) -> i32`, candidate and pressure in 1/65536 to score,
/// as the evict hook. The lowest score leaves first.
#[macro_export]
macro_rules! evict {
    ($f:expr) => {
        #[no_mangle]
        pub extern "C" fn edge_on_evict(_len: u32) -> i64 {
            $crate::with_scores($f)
        }
    };
}

/// Exports `fn(&Candidate, &Candidates) -> bool` as the admit hook: the newcomer,
/// and all candidates, of which it is number 0.
#[macro_export]
macro_rules! admit {
    ($f:expr) => {
        #[no_mangle]
        pub extern "C" fn edge_on_admit(_len: u32) -> i64 {
            $crate::with_newcomer($f)
        }
    };
}

#[doc(hidden)]
#[inline(always)]
pub fn with_config(len: u32, f: fn(&Config) -> bool) -> bool {
    f(&Config::new(unsafe { core::slice::from_raw_parts(input_area(), len as usize) }))
}

#[doc(hidden)]
#[inline(always)]
pub fn with_request(value: u32, f: impl FnOnce(&Request, &mut Answer)) -> i64 {
    let request = Request::at(input_area());
    let mut answer = Answer::at(output_area(), OUTPUT_BYTES.get(), value);
    f(&request, &mut answer);
    answer.result()
}

#[doc(hidden)]
#[inline(always)]
pub fn with_scores(f: impl Fn(&Candidate, u32) -> i32) -> i64 {
    let candidates = Candidates::at(input_area());
    let scores = output_area() as *mut i32;
    let pressure = candidates.pressure();
    for (i, c) in candidates.iter().enumerate() {
        unsafe { scores.add(i).write(f(c, pressure)) }
    }
    candidates.len() as i64
}

#[doc(hidden)]
#[inline(always)]
pub fn with_newcomer(f: impl FnOnce(&Candidate, &Candidates) -> bool) -> i64 {
    let candidates = Candidates::at(input_area());
    match candidates.iter().next() {
        Some(newcomer) => f(newcomer, &candidates) as i64,
        None => f(&Candidate::NONE, &candidates) as i64,
    }
}
