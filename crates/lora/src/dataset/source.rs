//! The bytes of a dataset: which kind of file they are, and a reader that is bounded and counts lines.
//!
//! It owns no formats of rows. Bytes that are no UTF-8 are replaced so that reading goes on, and the row they are in is told.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use super::FileKind;
use crate::Error;

/// Most bytes of one row. A book has about one million.
pub(super) const MAX_ROW_BYTES: u64 = 16 << 20;

/// Bytes read at once.
const BUFFER: usize = 64 << 10;

/// Bytes that the kind of a file is told from.
const SNIFFED: u64 = 64 << 10;

pub(super) fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Dataset {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

pub(super) fn unread(path: &Path, source: io::Error) -> Error {
    Error::Read {
        path: path.to_owned(),
        source,
    }
}

/// Size and kind of a file; refuses what is empty or none of the kinds.
pub(super) fn look(path: &Path) -> Result<(u64, FileKind), Error> {
    let about = std::fs::metadata(path).map_err(|source| unread(path, source))?;
    if about.is_dir() {
        return Err(bad(path, "a folder; name a file of rows in it"));
    }
    if about.len() == 0 {
        return Err(bad(
            path,
            "the file is empty (0 bytes); choose another file",
        ));
    }
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SNIFFED).read_to_end(&mut start))
        .map_err(|source| unread(path, source))?;
    Ok((about.len(), kind(path, &start)?))
}

fn kind(path: &Path, start: &[u8]) -> Result<FileKind, Error> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    if start.starts_with(b"PAR1") {
        return Ok(FileKind::Parquet);
    }
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) {
        return Err(bad(path, "the text is UTF-16; save it as UTF-8"));
    }
    if start.starts_with(&[0x1f, 0x8b]) || start.starts_with(b"PK\x03\x04") {
        return Err(bad(
            path,
            "the file is packed (gzip or zip); unpack it first",
        ));
    }
    if start.contains(&0) {
        return Err(bad(
            path,
            "no text and no Parquet: it holds zero bytes; Billion reads json, jsonl, csv, tsv, parquet and txt",
        ));
    }
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() && start.len() < SNIFFED as usize {
        return Err(bad(
            path,
            format!(
                "only white space ({} bytes); choose another file",
                start.len()
            ),
        ));
    }
    let lines = || {
        // One whole object in the first line: JSON lines, whatever the file is called.
        let first = text.lines().next().unwrap_or_default();
        text.starts_with('{') && serde_json::from_str::<serde_json::Value>(first).is_ok()
    };
    Ok(match extension.as_str() {
        "csv" => FileKind::Csv,
        "tsv" | "tab" => FileKind::Tsv,
        "txt" | "text" | "md" => FileKind::Text,
        "parquet" => {
            return Err(bad(
                path,
                "called parquet, but it does not begin as Parquet does; download it again",
            ));
        }
        "json" | "jsonl" | "ndjson" if text.starts_with('[') => FileKind::Json,
        "jsonl" | "ndjson" => FileKind::Jsonl,
        // An object alone in its line may also be all of a JSON file.
        "json" if lines() && text.trim_end().lines().count() > 1 => FileKind::Jsonl,
        "json" => FileKind::Json,
        _ if text.starts_with('[') => FileKind::Json,
        _ if lines() => FileKind::Jsonl,
        _ if text.starts_with('{') => FileKind::Json,
        _ => {
            return Err(bad(
                path,
                format!(
                    "{} is no ending that tells how rows lie; rename it to end in json, jsonl, csv, tsv, parquet or txt",
                    if extension.is_empty() {
                        "none".to_owned()
                    } else {
                        format!(".{extension}")
                    }
                ),
            ));
        }
    })
}

/// What a [`Bounded`] reader has seen, shared with whoever parses what it gives.
#[derive(Clone, Default)]
pub(super) struct Seen(Rc<Counts>);

#[derive(Default)]
struct Counts {
    bytes: Cell<u64>,
    lines: Cell<u32>,
    row_start: Cell<u64>,
    /// Line of the first byte of the row that says something.
    row_line: Cell<Option<u32>>,
    /// Line of the first bytes of the row that are no UTF-8.
    broken: Cell<Option<u32>>,
}

impl Seen {
    /// Line that the row begins in, or that the next byte is in, from 1.
    pub fn line(&self) -> u32 {
        let line = self.0.row_line.get();
        line.unwrap_or(self.0.lines.get() + 1)
    }

    /// Bytes given out.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// A row is read: its successor may be as long. The line in which it had bytes that are no UTF-8, if it had any.
    pub fn next_row(&self) -> Option<u32> {
        self.0.row_start.set(self.0.bytes.get());
        self.0.row_line.set(None);
        self.0.broken.take()
    }
}

/// Gives a file's text: the mark at its start left out, bytes that are no UTF-8 replaced by question marks if asked, and an error
/// when a row does not end.
pub(super) struct Bounded<R> {
    inner: R,
    seen: Seen,
    replaces: bool,
    /// Read from `inner` and not given out: from `at` to `ready`. Behind it, the start of a character that is cut off.
    buffer: Vec<u8>,
    at: usize,
    ready: usize,
    /// Places in the buffer where bytes were replaced, ascending.
    replaced: VecDeque<usize>,
}

impl Bounded<File> {
    /// Opens a file; `replaces` bytes that are no UTF-8.
    pub fn open(path: &Path, replaces: bool) -> Result<(Self, Seen), Error> {
        let file = File::open(path).map_err(|source| unread(path, source))?;
        let seen = Seen::default();
        let mut new = Self::new(file, seen.clone(), replaces);
        new.fill().map_err(|source| unread(path, source))?;
        if new.buffer[..new.ready].starts_with(&[0xef, 0xbb, 0xbf]) {
            new.at = 3;
        }
        Ok((new, seen))
    }
}

impl<R: Read> Bounded<R> {
    fn new(inner: R, seen: Seen, replaces: bool) -> Self {
        Self {
            inner,
            seen,
            replaces,
            buffer: Vec::new(),
            at: 0,
            ready: 0,
            replaced: VecDeque::new(),
        }
    }

    /// Reads more once everything is given out.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.drain(..self.ready);
        (self.at, self.ready) = (0, 0);
        let kept = self.buffer.len();
        self.buffer.resize(kept + BUFFER, 0);
        let read = self.inner.read(&mut self.buffer[kept..]);
        self.buffer.truncate(kept + *read.as_ref().unwrap_or(&0));
        let count = read?;
        self.ready = self.buffer.len();
        while self.replaces && self.at < self.ready {
            let Err(error) = std::str::from_utf8(&self.buffer[self.at..]) else {
                break;
            };
            let from = self.at + error.valid_up_to();
            match error.error_len() {
                // A character that the next bytes may complete.
                None if count > 0 => {
                    self.ready = from;
                    break;
                }
                len => {
                    let end = len.map_or(self.buffer.len(), |len| from + len);
                    self.buffer[from..end].fill(b'?');
                    self.replaced.push_back(from);
                    self.at = end;
                }
            }
        }
        self.at = 0;
        Ok(())
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready {
            self.fill()?;
            // What was read may all be the start of one character.
            while self.at == self.ready && !self.buffer.is_empty() {
                self.fill()?;
            }
        }
        let count = out.len().min(self.ready - self.at);
        let counts = &self.seen.0;
        let in_row = counts.bytes.get() - counts.row_start.get() + count as u64;
        // Parsers read ahead of rows by their buffer.
        if in_row > MAX_ROW_BYTES + out.len() as u64 {
            return Err(io::Error::other(format!(
                "a row is longer than {} MB; is a quote or bracket not closed?",
                MAX_ROW_BYTES >> 20
            )));
        }
        let given = &self.buffer[self.at..self.at + count];
        for (place, byte) in (self.at..).zip(given) {
            if self.replaced.front() == Some(&place) {
                self.replaced.pop_front();
                if counts.broken.get().is_none() {
                    counts.broken.set(Some(counts.lines.get() + 1));
                }
            }
            if counts.row_line.get().is_none() && !b" \t\r\n,[".contains(byte) {
                counts.row_line.set(Some(counts.lines.get() + 1));
            }
            if *byte == b'\n' {
                counts.lines.set(counts.lines.get() + 1);
            }
        }
        out[..count].copy_from_slice(given);
        counts.bytes.set(counts.bytes.get() + count as u64);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives three bytes at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = out.len().min(1);
            self.0.read(&mut out[..count])
        }
    }

    fn read(bytes: &[u8]) -> (String, Option<u32>) {
        let seen = Seen::default();
        let mut all = Vec::new();
        Bounded::new(Slow(bytes), seen.clone(), true)
            .read_to_end(&mut all)
            .unwrap();
        (String::from_utf8(all).unwrap(), seen.next_row())
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced_and_told() {
        for text in ["plain", "éß漢🦀 and more 漢漢", ""] {
            assert_eq!(read(text.as_bytes()), (text.to_owned(), None));
        }
        for (bytes, text, line) in [
            (&b"a\xffb"[..], "a?b", 1),
            (b"\n\xed\xa0\x80.", "\n???.", 2),
            (b"12\xe2(\xa1", "12?(?", 1),
            (b"one\ntwo\n\xf0\x9f\xa6", "one\ntwo\n???", 3),
        ] {
            assert_eq!(read(bytes), (text.to_owned(), Some(line)), "{bytes:x?}");
        }
    }

    #[test]
    fn a_row_without_end_is_an_error() {
        let endless = io::repeat(b'x');
        let mut bounded = Bounded::new(endless, Seen::default(), true);
        let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
        assert!(error.to_string().contains("longer than 16 MB"), "{error}");
    }
}
