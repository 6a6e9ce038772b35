use crate::flag;
use core::slice;

/// The input of route and ttl: a view of the block.
pub struct Request {
    p: *const u8,
}

impl Request {
    #[inline(always)]
    pub(crate) fn at(p: *const u8) -> Self {
        Request { p }
    }

    // The host writes every field of the head, and offsets within the area.
    #[inline(always)]
    fn read<T: Copy>(&self, at: usize) -> T {
        unsafe { (self.p.add(at) as *const T).read() }
    }

    #[inline(always)]
    fn bytes(&self, at: u32, len: u32) -> &[u8] {
        unsafe { slice::from_raw_parts(self.p.add(at as usize), len as usize) }
    }

    /// One of [`crate::operation`].
    #[inline(always)]
    pub fn operation(&self) -> u8 {
        self.read(3)
    }

    /// One of [`crate::method`].
    #[inline(always)]
    pub fn method(&self) -> u8 {
        self.read(4)
    }

    /// The tiers as now decided.
    #[inline(always)]
    pub fn tiers(&self) -> u8 {
        self.read(5)
    }

    #[inline(always)]
    pub fn flags(&self) -> u16 {
        self.read(6)
    }

    /// Reports whether all of the flags are set, see [`crate::flag`].
    #[inline(always)]
    pub fn is(&self, flags: u16) -> bool {
        self.flags() & flags == flags
    }

    /// The time of the request, Unix milliseconds.
    #[inline(always)]
    pub fn now_ms(&self) -> u64 {
        self.read(8)
    }

    /// The size of the content, [`crate::UNKNOWN`] if not known.
    #[inline(always)]
    pub fn content_bytes(&self) -> u64 {
        self.read(16)
    }

    /// The response's status, 0 if there is none yet.
    #[inline(always)]
    pub fn status(&self) -> u16 {
        self.read(38)
    }

    /// The lifetime in seconds as computed so far.
    #[inline(always)]
    pub fn lifetime(&self) -> Option<u32> {
        if self.is(flag::LIFETIME_KNOWN) {
            Some(self.read(40))
        } else {
            None
        }
    }

    /// How often the item was asked for, 0 if not known.
    #[inline(always)]
    pub fn hits(&self) -> u32 {
        self.read(44)
    }

    /// The client's address, IPv4 as ::ffff:a.b.c.d.
    #[inline(always)]
    pub fn client(&self) -> [u8; 16] {
        self.read(48)
    }

    /// `scheme://host/path?query`, or the id.
    #[inline(always)]
    pub fn key(&self) -> &[u8] {
        self.bytes(self.read(24), self.read(28))
    }

    /// Path and query of a site's request; the id otherwise.
    #[inline(always)]
    pub fn path(&self) -> &[u8] {
        let key = self.key();
        if !self.is(flag::SITE) {
            return key;
        }
        let mut slashes = 0;
        for (i, &c) in key.iter().enumerate() {
            if c == b'/' {
                slashes += 1;
                if slashes == 3 {
                    return &key[i..];
                }
            }
        }
        &[]
    }

    /// The number of header lines.
    #[inline(always)]
    pub fn header_count(&self) -> usize {
        self.read::<u16>(36) as usize
    }

    /// Header line i: the position of its name in the manifest's list, with bit 15 for
    /// the response's, and its value.
    #[inline(always)]
    pub fn line(&self, i: usize) -> (u16, &[u8]) {
        assert!(i < self.header_count());
        self.entry(i)
    }

    #[inline(always)]
    fn entry(&self, i: usize) -> (u16, &[u8]) {
        let table: u32 = self.read(32);
        let e: u64 = self.read(table as usize + i * 8);
        (e as u16, self.bytes((e >> 32) as u32, (e >> 16) as u16 as u32))
    }

    /// All header lines, as [`Request::line`].
    #[inline(always)]
    pub fn lines(&self) -> impl Iterator<Item = (u16, &[u8])> {
        (0..self.header_count()).map(move |i| self.entry(i))
    }

    /// The first line of request header number `name` of the manifest's list.
    #[inline(always)]
    pub fn header(&self, name: u16) -> Option<&[u8]> {
        self.lines().find(|l| l.0 == name).map(|l| l.1)
    }

    /// The same for the manifest's response headers.
    #[inline(always)]
    pub fn response_header(&self, name: u16) -> Option<&[u8]> {
        self.header(name | 1 << 15)
    }
}

/// An item that might be evicted. All numbers saturate.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Candidate {
    /// Hash of the id.
    pub id: u64,
    /// Bytes.
    pub size: u32,
    /// Seconds since it was stored.
    pub age_s: u32,
    /// Milliseconds since its last use.
    pub idle_ms: u32,
    pub hits: u32,
    /// Seconds until it expires; [`crate::AS_COMPUTED`] if it does not.
    pub left_s: u32,
    pub flags: u16,
    pub tag_class: u16,
}

impl Candidate {
    pub(crate) const NONE: Candidate =
        Candidate { id: 0, size: 0, age_s: 0, idle_ms: 0, hits: 0, left_s: 0, flags: 0, tag_class: 0 };
}

/// The input of evict and admit.
pub struct Candidates {
    p: *const u8,
}

impl Candidates {
    #[inline(always)]
    pub(crate) fn at(block: *const u8) -> Self {
        let head = unsafe { (block as *const u16).read() };
        Candidates { p: unsafe { block.add(head as usize) } }
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        unsafe { (self.p as *const u32).read() as usize }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In 1/65536.
    #[inline(always)]
    pub fn pressure(&self) -> u32 {
        unsafe { (self.p as *const u32).add(1).read() }
    }

    #[inline(always)]
    pub fn iter(&self) -> slice::Iter<'_, Candidate> {
        unsafe { slice::from_raw_parts(self.p.add(8) as *const Candidate, self.len()) }.iter()
    }
}
