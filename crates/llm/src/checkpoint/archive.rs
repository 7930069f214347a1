//! The table of contents of a zip archive as `torch.save` writes it: entries stored as they are, one after another.
//!
//! Format: PKWARE's APPNOTE.TXT 6.3, sections 4.3 and 4.5.3 (zip64). Whatever a checkpoint does not need is refused:
//! compression, encryption, several disks, two entries of one name, entries that share bytes. Checksums are not compared:
//! PyTorch may be told not to write them, and downloads are checked by their hash.

use std::collections::BTreeMap;
use std::ops::Range;

const END: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const END64: &[u8] = b"PK\x06\x06";
const END64_BYTES: usize = 56;
const LOCATOR64: &[u8] = b"PK\x06\x07";
const LOCATOR64_BYTES: usize = 20;
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_BYTES: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
/// A comment's length is a 16-bit number.
const MAX_COMMENT: usize = u16::MAX as usize;
/// Stands for a number that is in the zip64 field instead.
const IN_ZIP64: u64 = u32::MAX as u64;

/// Where the bytes of every entry lie, by name. The error is the problem, without the path.
pub(super) fn entries(bytes: &[u8]) -> Result<BTreeMap<String, Range<usize>>, String> {
    let (start, end, count) = directory(bytes)?;
    let directory = &bytes[start..end];
    let mut found = BTreeMap::new();
    let mut taken: Vec<(usize, usize, String)> = Vec::new();
    let mut at = 0;
    for number in 0..count {
        let entry = Central::read(directory, at)
            .map_err(|problem| format!("entry {number} of the archive: {problem}"))?;
        at += entry.bytes;
        let data = entry
            .data(&bytes[..start])
            .map_err(|problem| format!("{} in the archive: {problem}", entry.name))?;
        taken.push((entry.local, data.end, entry.name.clone()));
        if found.insert(entry.name.clone(), data).is_some() {
            return Err(format!(
                "the archive holds two entries named {}",
                entry.name
            ));
        }
    }
    if at != directory.len() {
        return Err(format!(
            "the archive's table says {count} entries in {} bytes, but they take {at}",
            directory.len()
        ));
    }
    taken.sort();
    for pair in taken.windows(2) {
        if pair[0].1 > pair[1].0 {
            return Err(format!(
                "{} and {} share bytes of the archive ({} begins at {}, the other ends at {})",
                pair[0].2, pair[1].2, pair[1].2, pair[1].0, pair[0].1
            ));
        }
    }
    Ok(found)
}

/// Where the table lies, and its number of entries.
fn directory(bytes: &[u8]) -> Result<(usize, usize, u64), String> {
    let least = bytes.len().saturating_sub(END_BYTES + MAX_COMMENT);
    let at = (least..=bytes.len().saturating_sub(END_BYTES))
        .rev()
        .find(|&at| {
            bytes[at..].starts_with(END)
                && number(bytes, at + 20, 2).is_ok_and(|n| at + END_BYTES + n == bytes.len())
        })
        .ok_or_else(|| {
            format!(
                "the archive's end is missing from its {} bytes: the file is truncated, download it again",
                bytes.len()
            )
        })?;
    let mut fields = [
        number(bytes, at + 10, 2)? as u64,
        number(bytes, at + 12, 4)? as u64,
        number(bytes, at + 16, 4)? as u64,
    ];
    let locator = at
        .checked_sub(LOCATOR64_BYTES)
        .filter(|&at| bytes[at..].starts_with(LOCATOR64));
    let mut limit = at;
    if let Some(locator) = locator {
        let at = number(bytes, locator + 8, 8)?;
        let there = bytes.get(at..).is_some_and(|rest| rest.starts_with(END64));
        if !there || locator.saturating_sub(at) < END64_BYTES {
            return Err(format!(
                "the archive's zip64 table is not at byte {at}, where it is said to be"
            ));
        }
        fields = [
            number(bytes, at + 32, 8)? as u64,
            number(bytes, at + 40, 8)? as u64,
            number(bytes, at + 48, 8)? as u64,
        ];
        limit = at;
    }
    let [count, size, start] = fields;
    let end = start.checked_add(size).filter(|&end| end <= limit as u64);
    let Some(end) = end else {
        return Err(format!(
            "the archive's table is said to have {size} bytes from byte {start}, but the archive ends at byte {limit}"
        ));
    };
    if count > size / CENTRAL_BYTES as u64 {
        return Err(format!(
            "the archive's table of {size} bytes cannot hold {count} entries"
        ));
    }
    Ok((start as usize, end as usize, count))
}

/// An entry as the table has it.
struct Central {
    name: String,
    /// Where its own header lies.
    local: usize,
    method: usize,
    len: u64,
    /// Bytes of its line in the table.
    bytes: usize,
}

impl Central {
    fn read(table: &[u8], at: usize) -> Result<Self, String> {
        if !table
            .get(at..)
            .is_some_and(|rest| rest.starts_with(CENTRAL))
        {
            return Err("its line is missing from the table; the file is damaged".to_owned());
        }
        let lengths = [
            number(table, at + 28, 2)?,
            number(table, at + 30, 2)?,
            number(table, at + 32, 2)?,
        ];
        let bytes = CENTRAL_BYTES + lengths.iter().sum::<usize>();
        let line = table
            .get(at..at + bytes)
            .ok_or("its line ends beyond the table; the file is damaged")?;
        let name = &line[CENTRAL_BYTES..CENTRAL_BYTES + lengths[0]];
        let name = std::str::from_utf8(name).map_err(|_| "its name is not UTF-8".to_owned())?;
        let extra = &line[CENTRAL_BYTES + lengths[0]..][..lengths[1]];
        let mut sizes = [
            number(line, 24, 4)? as u64,
            number(line, 20, 4)? as u64,
            number(line, 42, 4)? as u64,
        ];
        widen(&mut sizes, extra)?;
        let [len, stored, local] = sizes;
        if number(line, 8, 2)? & 1 != 0 {
            return Err(format!("{name} is encrypted"));
        }
        let method = number(line, 10, 2)?;
        if method != 0 || stored != len {
            return Err(format!(
                "{name} is compressed (method {method}, {stored} bytes for {len}); PyTorch stores entries as they are"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            local: usize::try_from(local).map_err(|_| "its place is beyond the file".to_owned())?,
            method,
            len,
            bytes,
        })
    }

    /// Where its bytes are, in the archive before the table.
    fn data(&self, bytes: &[u8]) -> Result<Range<usize>, String> {
        let header = bytes
            .get(self.local..)
            .filter(|rest| rest.starts_with(LOCAL) && rest.len() >= LOCAL_BYTES)
            .ok_or_else(|| format!("no header at byte {}; the file is damaged", self.local))?;
        let (name, extra) = (number(header, 26, 2)?, number(header, 28, 2)?);
        let own_name = header.get(LOCAL_BYTES..LOCAL_BYTES + name);
        if own_name != Some(self.name.as_bytes()) || number(header, 8, 2)? != self.method {
            return Err("its header and the table disagree; the file is damaged".to_owned());
        }
        let start = self.local + LOCAL_BYTES + name + extra;
        match (start as u64).checked_add(self.len) {
            Some(end) if end <= bytes.len() as u64 => Ok(start..end as usize),
            _ => Err(format!(
                "{} bytes from byte {start}, but the archive's table begins at byte {}; the file is damaged or truncated",
                self.len,
                bytes.len()
            )),
        }
    }
}

/// Replaces numbers that do not fit in 32 bits by those of the zip64 field, which lists them in this order.
fn widen(sizes: &mut [u64; 3], mut extra: &[u8]) -> Result<(), String> {
    while extra.len() >= 4 {
        let (id, len) = (number(extra, 0, 2)?, number(extra, 2, 2)?);
        let field = extra
            .get(4..4 + len)
            .ok_or("its extra field is cut short; the file is damaged")?;
        extra = &extra[4 + len..];
        if id != 1 {
            continue;
        }
        let mut at = 0;
        for size in sizes.iter_mut().filter(|size| **size == IN_ZIP64) {
            *size = number(field, at, 8)? as u64;
            at += 8;
        }
        return Ok(());
    }
    Ok(())
}

/// A little-endian number of up to eight bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Result<usize, String> {
    let field = at.checked_add(len).and_then(|end| bytes.get(at..end));
    let field = field.ok_or_else(|| {
        format!("a number at byte {at} is cut off; the file is damaged or truncated")
    })?;
    let value = field
        .iter()
        .rev()
        .fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    usize::try_from(value).map_err(|_| format!("the number {value} is beyond this machine"))
}
