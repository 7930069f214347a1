//! Reads the official folder out of its archive, in place: nothing is written, so no path of the archive can lead anywhere.
//!
//! Members count by their last two names only (`test/SUBJECT_test.csv`, whatever stands before), the rest is skipped. Sizes
//! and counts are bounded, so that a damaged or hostile archive cannot fill memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::data::{SubjectData, csv_rows};
use super::sources::Split;
use super::{MmluData, SUBJECTS};
use crate::Error;

/// Most bytes of one file; the largest official one, professional_law_test.csv, has 2 MB.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Most bytes of all files read; the official ones have 8 MB.
const MAX_TOTAL_BYTES: u64 = 64 << 20;
/// Most entries; the official archive has about 250.
const MAX_ENTRIES: usize = 10_000;
/// Most bytes that a compressed archive may unpack to on the way; the official one has 166 MB.
const MAX_UNPACKED_BYTES: u64 = 1 << 30;

/// Reads a tar file; what is not read is skipped over.
pub(super) fn read_tar(path: &Path) -> Result<MmluData, Error> {
    let mut archive = tar::Archive::new(BufReader::new(open(path)?));
    let entries = archive
        .entries_with_seek()
        .map_err(|error| damaged(path, error))?;
    read_entries(path, entries)
}

/// Reads a gzipped tar file.
pub(super) fn read_tar_gz(path: &Path) -> Result<MmluData, Error> {
    let unpacked = flate2::read::MultiGzDecoder::new(BufReader::new(open(path)?));
    let mut archive = tar::Archive::new(unpacked.take(MAX_UNPACKED_BYTES));
    let entries = archive.entries().map_err(|error| damaged(path, error))?;
    read_entries(path, entries)
}

fn read_entries<R: Read>(path: &Path, entries: tar::Entries<'_, R>) -> Result<MmluData, Error> {
    let mut found = Found::new(path);
    for entry in entries {
        let mut entry = entry.map_err(|error| damaged(path, error))?;
        found.count_entry()?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let size = entry.size();
        found.take(&name, size, &mut entry)?;
    }
    found.finish()
}

/// Reads a zip file.
pub(super) fn read_zip(path: &Path) -> Result<MmluData, Error> {
    let mut archive =
        zip::ZipArchive::new(BufReader::new(open(path)?)).map_err(|error| damaged(path, error))?;
    let mut found = Found::new(path);
    for index in 0..archive.len() {
        found.count_entry()?;
        let mut entry = archive
            .by_index(index)
            .map_err(|error| damaged(path, error))?;
        if !entry.is_file() {
            continue;
        }
        let name = entry.name().map_err(|error| damaged(path, error))?;
        let (name, size) = (name.into_owned(), entry.size());
        found.take(&name, size, &mut entry)?;
    }
    found.finish()
}

/// What an archive had so far.
struct Found<'a> {
    path: &'a Path,
    entries: usize,
    bytes: u64,
    subjects: BTreeMap<&'static str, SubjectData>,
}

impl<'a> Found<'a> {
    fn new(path: &'a Path) -> Self {
        Self {
            path,
            entries: 0,
            bytes: 0,
            subjects: BTreeMap::new(),
        }
    }

    fn count_entry(&mut self) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(self.refused(&format!(
                "it has more than {MAX_ENTRIES} entries; MMLU's own has about 250"
            )));
        }
        Ok(())
    }

    /// Reads a member if it is one of the official files.
    fn take(&mut self, name: &str, size: u64, member: &mut dyn Read) -> Result<(), Error> {
        let Some((split, subject)) = official(name) else {
            return Ok(());
        };
        let too_big = |bytes: u64, limit: u64| {
            format!("{name} brings it to {bytes} bytes, more than the {limit} that MMLU can need")
        };
        if size > MAX_FILE_BYTES {
            return Err(self.refused(&too_big(size, MAX_FILE_BYTES)));
        }
        let mut bytes = Vec::new();
        // What a header says of the size may be wrong.
        member
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| damaged(self.path, error))?;
        self.bytes += bytes.len() as u64;
        if bytes.len() as u64 > MAX_FILE_BYTES || self.bytes > MAX_TOTAL_BYTES {
            return Err(self.refused(&too_big(self.bytes, MAX_TOTAL_BYTES)));
        }
        let label = self.path.join(name);
        let rows = csv_rows(&label, bytes)?;
        let data = self.subjects.entry(subject).or_default();
        let place = match split {
            Split::Dev => &mut data.dev,
            Split::Test => &mut data.test,
        };
        if !place.is_empty() {
            return Err(self.refused(&format!(
                "it holds {subject}_{}.csv twice, the second time as {name}",
                split.name()
            )));
        }
        *place = rows;
        Ok(())
    }

    fn finish(self) -> Result<MmluData, Error> {
        let mut data = MmluData::default();
        for (subject, found) in self.subjects {
            if !found.test.is_empty() {
                data.subjects.insert(subject.to_owned(), found);
            }
        }
        if data.subjects.is_empty() {
            return Err(Error::Options(format!(
                "{} holds no MMLU questions: none of its {} entries is test/SUBJECT_test.csv of one of the 57 subjects",
                self.path.display(),
                self.entries
            )));
        }
        Ok(data)
    }

    fn refused(&self, why: &str) -> Error {
        Error::Options(format!(
            "the archive {} is refused: {why}",
            self.path.display()
        ))
    }
}

/// Split and subject of a member, by its last two names.
fn official(name: &str) -> Option<(Split, &'static str)> {
    let mut names = name.rsplit(['/', '\\']);
    let (file, folder) = (names.next()?, names.next()?);
    let split = [Split::Dev, Split::Test]
        .into_iter()
        .find(|split| split.name() == folder)?;
    let stem = file.strip_suffix(".csv")?.strip_suffix(split.name())?;
    let subject = stem.strip_suffix('_')?;
    let at = SUBJECTS
        .binary_search_by(|(known, _)| (*known).cmp(subject))
        .ok()?;
    Some((split, SUBJECTS[at].0))
}

fn open(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Read {
        path: PathBuf::from(path),
        source,
    })
}

fn damaged(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::Options(format!(
        "the archive {} cannot be read: {error}; it is damaged or not complete, fetch it again",
        path.display()
    ))
}
