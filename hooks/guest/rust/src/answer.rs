const OK: u64 = 0;
const DEFAULT: u64 = 1;
const PASS: u64 = 2;
const DENY: u64 = 3;
const ERROR: u64 = 4;

const RECORDS: u64 = 1;
const NO_STORE: u64 = 2;

/// What a hook decides. Untouched it means: as if the module were absent. Records that
/// do not fit make the answer a guest error.
pub struct Answer {
    out: *mut u8,
    len: usize,
    at: usize,
    status: u64,
    flags: u64,
    value: u32,
    full: bool,
}

impl Answer {
    #[inline(always)]
    pub(crate) fn at(out: *mut u8, len: usize, value: u32) -> Self {
        Answer { out, len, at: 0, status: DEFAULT, flags: 0, value, full: false }
    }

    #[inline(always)]
    pub(crate) fn result(mut self) -> i64 {
        if self.full {
            return (ERROR << 56) as i64;
        }
        if self.status == DEFAULT || self.status == ERROR {
            return (self.status << 56) as i64;
        }
        if self.at > 0 {
            // put left room for the end.
            unsafe { (self.out.add(self.at) as *mut u64).write(0) };
            self.flags |= RECORDS;
        }
        (self.status << 56 | self.flags << 32 | self.value as u64) as i64
    }

    #[inline(always)]
    fn touch(&mut self) {
        if self.status == DEFAULT {
            self.status = OK;
        }
    }

    /// Neither read nor store; for ttl: do not store.
    #[inline(always)]
    pub fn pass(&mut self) {
        self.status = PASS;
    }

    /// Refuses the request with a status from 400 to 599.
    #[inline(always)]
    pub fn deny(&mut self, status: u16, reason: &str) {
        self.status = DENY;
        self.record(8, &[&status.to_le_bytes(), reason.as_bytes()]);
    }

    /// The module cannot decide: a fault.
    #[inline(always)]
    pub fn error(&mut self) {
        self.status = ERROR;
    }

    /// Chooses an origin pool by its position in the configuration.
    #[inline(always)]
    pub fn pool(&mut self, n: u32) {
        self.touch();
        self.value = n + 1;
    }

    /// Sets the lifetime in seconds.
    #[inline(always)]
    pub fn lifetime(&mut self, seconds: u32) {
        self.touch();
        self.value = seconds;
    }

    /// Forbids storing.
    #[inline(always)]
    pub fn no_store(&mut self) {
        self.touch();
        self.flags |= NO_STORE;
    }

    /// Adds to the key, up to 256 bytes.
    #[inline(always)]
    pub fn key_addition(&mut self, b: &[u8]) {
        self.record(1, &[b]);
    }

    /// Replaces path and query.
    #[inline(always)]
    pub fn target(&mut self, b: &[u8]) {
        self.record(2, &[b]);
    }

    #[inline(always)]
    pub fn tag(&mut self, b: &[u8]) {
        self.record(3, &[b]);
    }

    /// Sets the item's state, 1 to 32 of `a-z 0-9 _ -`.
    #[inline(always)]
    pub fn state(&mut self, b: &[u8]) {
        self.record(4, &[b]);
    }

    /// Chooses the tiers to read and to write: [`crate::L1`] and so on.
    #[inline(always)]
    pub fn tiers(&mut self, read: u8, write: u8) {
        self.record(5, &[&[read, write]]);
    }

    /// Sets a lifetime in seconds for each tier; [`crate::AS_COMPUTED`] leaves one.
    #[inline(always)]
    pub fn lifetimes(&mut self, l1: u32, l2: u32, l3: u32) {
        self.record(6, &[&l1.to_le_bytes(), &l2.to_le_bytes(), &l3.to_le_bytes()]);
    }

    /// Sets the stale windows in seconds; [`crate::AS_COMPUTED`] leaves one.
    #[inline(always)]
    pub fn stale(&mut self, while_revalidate: u32, if_error: u32) {
        self.record(7, &[&while_revalidate.to_le_bytes(), &if_error.to_le_bytes()]);
    }

    /// Allows the verdict to be reused for equal inputs.
    #[inline(always)]
    pub fn reuse(&mut self, seconds: u32) {
        self.record(9, &[&seconds.to_le_bytes()]);
    }

    #[inline(always)]
    pub fn set_request_header(&mut self, name: &str, value: &[u8]) {
        self.record(10, &[&(name.len() as u16).to_le_bytes(), name.as_bytes(), value]);
    }

    #[inline(always)]
    pub fn set_response_header(&mut self, name: &str, value: &[u8]) {
        self.record(11, &[&(name.len() as u16).to_le_bytes(), name.as_bytes(), value]);
    }

    #[inline(always)]
    pub fn remove_request_header(&mut self, name: &str) {
        self.record(12, &[&[0, 0], name.as_bytes()]);
    }

    #[inline(always)]
    pub fn remove_response_header(&mut self, name: &str) {
        self.record(12, &[&[1, 0], name.as_bytes()]);
    }

    /// Answers the request at once, with a status from 200 to 599 and a body of at most
    /// 4 KiB.
    pub fn answer(&mut self, status: u16, fields: &[(&str, &[u8])], body: &[u8]) {
        let mut n = 8 + body.len();
        for f in fields {
            n += 4 + f.0.len() + f.1.len();
        }
        let mut p = match self.put(13, n) {
            Some(p) => p,
            None => return,
        };
        p = append(p, &status.to_le_bytes());
        p = append(p, &(fields.len() as u16).to_le_bytes());
        p = append(p, &(body.len() as u32).to_le_bytes());
        for f in fields {
            p = append(p, &(f.0.len() as u16).to_le_bytes());
            p = append(p, &(f.1.len() as u16).to_le_bytes());
            p = append(append(p, f.0.as_bytes()), f.1);
        }
        append(p, body);
    }

    /// Adds a record of any type, of parts; see hooks/abi/ABI.md.
    #[inline(always)]
    pub fn record(&mut self, typ: u16, parts: &[&[u8]]) {
        let n = parts.iter().map(|p| p.len()).sum();
        if let Some(mut p) = self.put(typ, n) {
            for part in parts {
                p = append(p, part);
            }
        }
    }

    /// Makes room for a record and its end; returns where its content goes.
    #[inline(always)]
    fn put(&mut self, typ: u16, n: usize) -> Option<*mut u8> {
        self.touch();
        let size = (4 + n + 7) & !7;
        if n > 0xffff || size + 8 > self.len - self.at {
            self.full = true;
            return None;
        }
        unsafe {
            let p = self.out.add(self.at);
            (p.add(size - 8) as *mut u64).write(0);
            (p as *mut u32).write(typ as u32 | (n as u32) << 16);
            self.at += size;
            Some(p.add(4))
        }
    }
}

/// A loop: for the few bytes of a record it is faster than a call of memcpy.
#[inline(always)]
fn append(to: *mut u8, b: &[u8]) -> *mut u8 {
    for (i, &c) in b.iter().enumerate() {
        unsafe { to.add(i).write_volatile(c) };
    }
    unsafe { to.add(b.len()) }
}

