//! Host functions. Each costs fuel, see hooks/abi/ABI.md, section 6; after [`now_ms`],
//! [`header`] or [`kv_get`] a verdict is not reusable.

mod raw {
    #[link(wasm_import_module = "edge")]
    extern "C" {
        pub fn log(level: u32, text: *const u8, len: u32);
        pub fn metric_add(id: u32, n: i64);
        pub fn metric_observe(id: u32, v: f64);
        pub fn now_ms() -> i64;
        pub fn header(response: u32, name: *const u8, len: u32, buf: *mut u8, cap: u32) -> i32;
        pub fn config(key: *const u8, len: u32, buf: *mut u8, cap: u32) -> i32;
        pub fn kv_get(key: *const u8, len: u32, buf: *mut u8, cap: u32) -> i32;
        pub fn tag_add(tag: *const u8, len: u32) -> i32;
    }
}

/// Levels of [`log`].
pub const DEBUG: u32 = 0;
pub const INFO: u32 = 1;
pub const WARNING: u32 = 2;
pub const ERROR: u32 = 3;

/// Writes to the node's log, at a bounded rate.
pub fn log(level: u32, text: &str) {
    unsafe { raw::log(level, text.as_ptr(), text.len() as u32) }
}

/// Adds to counter number `id` of the manifest's metrics; n is not negative.
pub fn metric_add(id: u32, n: i64) {
    unsafe { raw::metric_add(id, n) }
}

/// Adds to histogram number `id` of the manifest's metrics; v is not negative.
pub fn metric_observe(id: u32, v: f64) {
    unsafe { raw::metric_observe(id, v) }
}

/// The time of the request, Unix milliseconds.
pub fn now_ms() -> u64 {
    unsafe { raw::now_ms() as u64 }
}

/// The first line of a request header, in lower case, copied to buf as far as it fits;
/// returns its whole length. Needs the capability `header`.
pub fn header(name: &str, buf: &mut [u8]) -> Option<usize> {
    found(unsafe { raw::header(0, name.as_ptr(), name.len() as u32, buf.as_mut_ptr(), buf.len() as u32) })
}

/// The same of the response.
pub fn response_header(name: &str, buf: &mut [u8]) -> Option<usize> {
    found(unsafe { raw::header(1, name.as_ptr(), name.len() as u32, buf.as_mut_ptr(), buf.len() as u32) })
}

/// A value of the configuration: strings as they are, others as JSON.
pub fn config(key: &str, buf: &mut [u8]) -> Option<usize> {
    found(unsafe { raw::config(key.as_ptr(), key.len() as u32, buf.as_mut_ptr(), buf.len() as u32) })
}

/// A value of the memory tier. Needs the capability `kv_get`.
pub fn kv_get(key: &[u8], buf: &mut [u8]) -> Option<usize> {
    found(unsafe { raw::kv_get(key.as_ptr(), key.len() as u32, buf.as_mut_ptr(), buf.len() as u32) })
}

/// Adds a tag to the verdict; false if it is none or there are 64.
pub fn tag_add(tag: &[u8]) -> bool {
    unsafe { raw::tag_add(tag.as_ptr(), tag.len() as u32) == 1 }
}

fn found(n: i32) -> Option<usize> {
    if n < 0 {
        None
    } else {
        Some(n as usize)
    }
}
