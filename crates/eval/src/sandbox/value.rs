//! The values that cross from one interpreter to the other: CPython's marshal format, version 2, restricted to exact
//! plain values. It checks that bytes are such a value; it never builds one.
//!
//! marshal keeps what JSON would lose (tuple, set, bytes, keys of any type, infinities, NaN, integers of any size) and
//! writes no subclass: those it refuses. Version 2 has neither references nor interned strings (CPython 3.12,
//! `Python/marshal.c`). Reading it is only safe when its form has been checked, which happens here.

/// Deeper nesting is no plain value; CPython's own reader stops at 1500 on WASI.
const DEEPEST: usize = 200;

/// Why bytes are no plain value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A well-formed value of a kind that is not plain: code, `...`, nesting too deep.
    NotPlain(&'static str),
    /// No encoder writes such bytes: they are forged.
    Malformed(&'static str),
}

/// Checks that `bytes` are one plain value and nothing more.
pub fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut reader = Reader { rest: bytes };
    match reader.value(0)? {
        Kind::End => Err(Fault::Malformed("an end where a value must be")),
        _ if reader.rest.is_empty() => Ok(()),
        _ => Err(Fault::Malformed("bytes after the value")),
    }
}

/// What was read, as far as its surroundings need to know.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// May be a key of a dictionary or a member of a set.
    Hashable,
    /// A list, set or dictionary, or a tuple that holds one.
    Unhashable,
    /// The end of a dictionary.
    End,
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Kind, Fault> {
        if depth > DEEPEST {
            return Err(Fault::NotPlain("a value nested too deep"));
        }
        match self.take(1)?[0] {
            b'N' | b'T' | b'F' => Ok(Kind::Hashable),
            b'i' => self.take(4).map(|_| Kind::Hashable),
            b'g' => self.take(8).map(|_| Kind::Hashable),
            b'y' => self.take(16).map(|_| Kind::Hashable),
            b'l' => self.integer(),
            b's' => self.sized().map(|_| Kind::Hashable),
            b'u' => {
                if !is_surrogate_utf8(self.sized()?) {
                    return Err(Fault::Malformed("a text that is not UTF-8"));
                }
                Ok(Kind::Hashable)
            }
            b'(' => self.items(depth, false),
            b'[' => self.items(depth, false).map(|_| Kind::Unhashable),
            b'<' => self.items(depth, true).map(|_| Kind::Unhashable),
            b'>' => self.items(depth, true),
            b'{' => loop {
                match self.value(depth + 1)? {
                    Kind::End => return Ok(Kind::Unhashable),
                    Kind::Unhashable => {
                        return Err(Fault::Malformed("a key that cannot be hashed"));
                    }
                    Kind::Hashable => self.member(depth)?,
                };
            },
            b'0' => Ok(Kind::End),
            b'.' => Err(Fault::NotPlain("Ellipsis")),
            b'S' => Err(Fault::NotPlain("StopIteration")),
            b'c' => Err(Fault::NotPlain("a code object")),
            _ => Err(Fault::Malformed("an unknown type of value")),
        }
    }

    /// A value that is not an end.
    fn member(&mut self, depth: usize) -> Result<Kind, Fault> {
        match self.value(depth + 1)? {
            Kind::End => Err(Fault::Malformed("an end where a value must be")),
            kind => Ok(kind),
        }
    }

    fn items(&mut self, depth: usize, hashable: bool) -> Result<Kind, Fault> {
        let count = self.count()?;
        let mut all = Kind::Hashable;
        for _ in 0..count {
            if self.member(depth)? == Kind::Unhashable {
                all = Kind::Unhashable;
                if hashable {
                    return Err(Fault::Malformed("a member that cannot be hashed"));
                }
            }
        }
        Ok(all)
    }

    /// Digits of 15 bits, the last of them not zero; the count's sign is the number's.
    fn integer(&mut self) -> Result<Kind, Fault> {
        let bytes = self.take(4)?;
        let count = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).unsigned_abs();
        let digits = self.take(count as usize * 2)?;
        let small = digits.chunks_exact(2).all(|d| d[1] < 0x80);
        if !small || digits.ends_with(&[0, 0]) {
            return Err(Fault::Malformed("an integer with impossible digits"));
        }
        Ok(Kind::Hashable)
    }

    fn sized(&mut self) -> Result<&[u8], Fault> {
        let count = self.count()?;
        self.take(count)
    }

    /// A count of things that take at least one byte each.
    fn count(&mut self) -> Result<usize, Fault> {
        let bytes = self.take(4)?;
        let count = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if count > self.rest.len() {
            return Err(Fault::Malformed("a size beyond the end"));
        }
        Ok(count)
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Fault> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(Fault::Malformed("a value cut short"))?;
        self.rest = rest;
        Ok(taken)
    }
}

/// UTF-8 that may hold lone surrogates, as Python's `surrogatepass` writes it.
fn is_surrogate_utf8(mut bytes: &[u8]) -> bool {
    while let Err(error) = std::str::from_utf8(bytes) {
        match &bytes[error.valid_up_to()..] {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, rest @ ..] => bytes = rest,
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `marshal.dumps(value, 2)` of CPython 3.12 for each value.
    const PLAIN: &[(&str, &[u8])] = &[
        ("None", b"N"),
        ("-1", b"i\xff\xff\xff\xff"),
        ("2**40", b"l\x03\0\0\0\0\0\0\0\0\x04"),
        ("-inf", b"g\0\0\0\0\0\0\xf0\xff"),
        ("1j", b"y\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xf0?"),
        ("'\\ud800h\\xe9'", b"u\x06\0\0\0\xed\xa0\x80h\xc3\xa9"),
        ("{(1,): [True]}", b"{(\x01\0\0\0i\x01\0\0\0[\x01\0\0\0T0"),
        ("{frozenset()}", b"<\x01\0\0\0>\0\0\0\0"),
        ("b'\\xff'", b"s\x01\0\0\0\xff"),
    ];

    #[test]
    fn plain_values_pass_and_every_truncation_fails() {
        for (name, bytes) in PLAIN {
            assert_eq!(check(bytes), Ok(()), "{name}");
            for cut in 0..bytes.len() {
                assert!(check(&bytes[..cut]).is_err(), "{name} cut at {cut}");
            }
            let longer = [bytes, &b"N"[..]].concat();
            assert!(check(&longer).is_err(), "{name} and more");
        }
    }

    #[test]
    fn forged_values_are_told_from_values_that_are_not_plain() {
        for bytes in [
            &b"0"[..],
            b"[\x01\0\0\x000",
            b"<\x01\0\0\0[\0\0\0\0",
            b"{[\0\0\0\0N0",
            b"{<\0\0\0\0N0",
            b">\x01\0\0\0(\x01\0\0\0[\0\0\0\0",
            b"{N00",
            b"[\xff\xff\xff\xff",
            b"[\xff\xff\xff\x7f",
            b"l\x01\0\0\0\0\0",
            b"l\x01\0\0\0\0\x80",
            b"l\0\0\0\x80",
            b"u\x01\0\0\0\xff",
            b"u\x02\0\0\0\xed\xa0",
            b"r\0\0\0\0",
            b"\xe9\0\0\0\0",
            b"R",
        ] {
            assert!(
                matches!(check(bytes), Err(Fault::Malformed(_))),
                "{bytes:?}"
            );
        }
        for bytes in [&b"."[..], b"S", b"c\0\0", b"[\x01\0\0\0."] {
            assert!(matches!(check(bytes), Err(Fault::NotPlain(_))), "{bytes:?}");
        }
        let deep = [b"[\x01\0\0\0".repeat(300), b"N".to_vec()].concat();
        assert!(matches!(check(&deep), Err(Fault::NotPlain(_))));
    }
}
