/// The configuration: JSON, as the `config` table of the hook. What is asked for here
/// are members of the outermost object, without escapes; everything else can be parsed
/// from [`Config::json`].
pub struct Config<'a> {
    b: &'a [u8],
}

impl<'a> Config<'a> {
    pub(crate) fn new(b: &'a [u8]) -> Self {
        Config { b }
    }

    pub fn json(&self) -> &'a [u8] {
        self.b
    }

    /// A number that is not negative; None if it is absent or something else.
    pub fn u32(&self, key: &str) -> Option<u32> {
        let mut v: u32 = 0;
        let mut digits = 0;
        for &c in self.find(key)? {
            match c {
                b'0'..=b'9' => v = v.checked_mul(10)?.checked_add((c - b'0') as u32)?,
                b',' | b'}' | b' ' | b'\n' if digits > 0 => return Some(v),
                _ => return None,
            }
            digits += 1;
        }
        None
    }

    /// A string without escapes.
    pub fn str(&self, key: &str) -> Option<&'a [u8]> {
        let v = self.find(key)?.strip_prefix(b"\"")?;
        let end = v.iter().position(|&c| c == b'"' || c == b'\\')?;
        if v[end] == b'"' {
            Some(&v[..end])
        } else {
            None
        }
    }

    /// What follows `"key":` in the outermost object.
    fn find(&self, key: &str) -> Option<&'a [u8]> {
        let (mut depth, mut i) = (0, 0);
        while i < self.b.len() {
            match self.b[i] {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => {
                    let start = i + 1;
                    i = self.end(start)?;
                    if depth == 1 && &self.b[start..i] == key.as_bytes() {
                        if let Some(v) = self.value(i + 1) {
                            return Some(v);
                        }
                    }
                }
                _ => {}
            }
            i += 1;
        }
        None
    }

    /// Where the string that starts at i ends.
    fn end(&self, mut i: usize) -> Option<usize> {
        while i < self.b.len() {
            match self.b[i] {
                b'\\' => i += 1,
                b'"' => return Some(i),
                _ => {}
            }
            i += 1;
        }
        None
    }

    /// What follows a colon and blanks at i.
    fn value(&self, i: usize) -> Option<&'a [u8]> {
        let rest = trim(self.b.get(i..)?).strip_prefix(b":")?;
        Some(trim(rest))
    }
}

fn trim(mut b: &[u8]) -> &[u8] {
    while let [b' ' | b'\n' | b'\t' | b'\r', rest @ ..] = b {
        b = rest;
    }
    b
}
