//! A file that is still coming: its bytes so far, and beside it the journal that says which of them are there.
//!
//! Lines are only ever added: `w FROM TO` once a range is written, `s FROM TO` once it is on the disk. What was written is
//! there after a quit or a kill, but after a power cut only what was on the disk. So of a journal from an earlier run of
//! the machine only `s` counts. A half line at the end was being written and counts for nothing, and the hash of the whole
//! file has the last word in any case.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::ranges::Ranges;
use crate::Error;
use crate::import::sync_folder;

const TITLE: &str = "billion-download 1";

/// No more of a journal is read; that of a 100 GB file takes 3 MB.
const LONGEST: u64 = 64 << 20;

/// The journal of a file that is coming.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    place: PathBuf,
}

/// A file that is coming.
#[derive(Debug)]
pub(crate) struct Partial {
    /// Read and written at offsets by several threads.
    pub data: File,
    /// Where its bytes lie.
    pub place: PathBuf,
    /// What is recorded of it.
    pub journal: Journal,
    /// What is there of it already.
    pub there: Ranges,
}

/// Where the parts of the blob of this name lie while it is coming. Python leaves both alone.
pub(crate) fn places(blob: &Path) -> (PathBuf, PathBuf) {
    let with = |ending: &str| {
        let mut name = blob.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    (with(".billion-part"), with(".billion-journal"))
}

/// What the machine calls this run of itself; none where it does not say.
fn this_boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// What a journal says is there of a file of `bytes`, of this path in its repository; none if it is of another.
fn read(place: &Path, bytes: u64, path: &str) -> Option<Ranges> {
    let mut text = Vec::new();
    File::open(place)
        .ok()?
        .take(LONGEST)
        .read_to_end(&mut text)
        .ok()?;
    let text = String::from_utf8(text).ok()?;
    // The last line counts only if it is whole.
    let whole = &text[..=text.rfind('\n')?];
    let mut lines = whole.lines();
    if lines.next()? != TITLE || lines.next()? != format!("{bytes} {path}") {
        return None;
    }
    let boot = lines.next()?;
    let same_boot = this_boot().is_some_and(|this| boot == format!("boot {this}"));
    let mut written = Ranges::default();
    let mut on_disk = Ranges::default();
    for line in lines {
        let mut words = line.split(' ');
        let (kind, from, to) = (words.next()?, words.next()?, words.next()?);
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        if from > to || to > bytes || words.next().is_some() {
            return None;
        }
        written.insert(from, to);
        match kind {
            "w" => {}
            "s" => on_disk.insert(from, to),
            _ => return None,
        }
    }
    Some(if same_boot { written } else { on_disk })
}

/// The path in its repository that a journal belongs to.
pub(crate) fn belongs_to(journal: &Path) -> Option<String> {
    let mut head = vec![0; 1024];
    let mut file = File::open(journal).ok()?;
    let read = file.read(&mut head).ok()?;
    let text = String::from_utf8_lossy(&head[..read]).into_owned();
    let mut lines = text.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let (_, path) = lines.next()?.split_once(' ')?;
    Some(path.to_owned())
}

/// What is there of the blob, without opening it for more.
pub(crate) fn kept_bytes(blob: &Path, bytes: u64, path: &str) -> u64 {
    let (data, journal) = places(blob);
    let whole = std::fs::metadata(data).is_ok_and(|about| about.len() == bytes);
    if !whole {
        return 0;
    }
    read(&journal, bytes, path).map_or(0, |ranges| ranges.bytes())
}

/// Removes what is there of the blob.
pub(crate) fn remove(blob: &Path) -> Result<(), Error> {
    let (data, journal) = places(blob);
    for place in [journal, data] {
        match std::fs::remove_file(&place) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("remove", &place)(error)),
        }
    }
    Ok(())
}

impl Partial {
    /// Opens what is there of the blob, or begins it. `path` is the file's in its repository.
    pub(crate) fn open(blob: &Path, bytes: u64, path: &str) -> Result<Self, Error> {
        let (place, journal_place) = places(blob);
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&place)
            .map_err(Error::io("write", &place))?;
        let same_size = data.metadata().is_ok_and(|about| about.len() == bytes);
        let there = same_size
            .then(|| read(&journal_place, bytes, path))
            .flatten()
            .unwrap_or_default();
        if there.bytes() == 0 {
            // Nothing of another file may stay between what is going to be written.
            data.set_len(0)
                .and_then(|()| data.set_len(bytes))
                .map_err(Error::io("write", &place))?;
        }
        data.sync_all().map_err(Error::io("write", &place))?;
        let mut text = format!(
            "{TITLE}\n{bytes} {path}\nboot {}\n",
            this_boot().unwrap_or_default()
        );
        text.push_str(&lines('s', &there));
        let fresh = journal_place.with_extension("billion-journal-new");
        let written = File::create(&fresh)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&fresh, &journal_place));
        written.map_err(Error::io("write", &journal_place))?;
        if let Some(folder) = blob.parent() {
            sync_folder(folder);
        }
        let journal = OpenOptions::new()
            .append(true)
            .open(&journal_place)
            .map_err(Error::io("write", &journal_place))?;
        Ok(Self {
            data,
            place,
            journal: Journal {
                file: journal,
                place: journal_place,
            },
            there,
        })
    }
}

impl Journal {
    /// Records that `from..to` is written.
    pub(crate) fn record(&mut self, from: u64, to: u64) -> Result<(), Error> {
        self.file
            .write_all(format!("w {from} {to}\n").as_bytes())
            .map_err(Error::io("write", &self.place))
    }

    /// Records that these ranges are on the disk.
    pub(crate) fn record_synced(&mut self, ranges: &Ranges) -> Result<(), Error> {
        self.file
            .write_all(lines('s', ranges).as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(Error::io("write", &self.place))
    }
}

fn lines(kind: char, ranges: &Ranges) -> String {
    use std::fmt::Write as _;

    ranges.iter().fold(String::new(), |mut text, (from, to)| {
        let _ = writeln!(text, "{kind} {from} {to}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(from, to) in list {
            ranges.insert(from, to);
        }
        ranges
    }

    #[test]
    fn what_is_recorded_is_there_again_and_another_file_begins_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let blob = dir.path().join("abc");
        let mut partial = Partial::open(&blob, 100, "a/model.gguf").expect("opened");
        assert_eq!(partial.there, Ranges::default());
        partial.journal.record(0, 10).expect("recorded");
        partial.journal.record(20, 30).expect("recorded");
        drop(partial);
        assert_eq!(kept_bytes(&blob, 100, "a/model.gguf"), 20);
        let (_, journal) = places(&blob);
        assert_eq!(belongs_to(&journal).as_deref(), Some("a/model.gguf"));
        // A line that broke off counts for nothing.
        let mut text = std::fs::read_to_string(&journal).expect("read");
        text.push_str("w 40 5");
        std::fs::write(&journal, &text).expect("written");
        let again = Partial::open(&blob, 100, "a/model.gguf").expect("opened");
        assert_eq!(again.there, ranges(&[(0, 10), (20, 30)]));
        for (bytes, path) in [(101, "a/model.gguf"), (100, "b/model.gguf")] {
            assert_eq!(kept_bytes(&blob, bytes, path), 0);
        }
        let other = Partial::open(&blob, 101, "a/model.gguf").expect("opened");
        assert_eq!(other.there, Ranges::default());
        assert_eq!(
            std::fs::metadata(places(&blob).0).expect("there").len(),
            101
        );
        remove(&blob).expect("removed");
        remove(&blob).expect("nothing left to remove");
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
    }

    #[test]
    fn after_a_restart_of_the_machine_only_what_was_on_the_disk_counts() {
        let dir = tempfile::tempdir().expect("a folder");
        let blob = dir.path().join("abc");
        let mut partial = Partial::open(&blob, 100, "f").expect("opened");
        partial.journal.record(0, 10).expect("recorded");
        partial
            .journal
            .record_synced(&ranges(&[(0, 10)]))
            .expect("recorded");
        partial.journal.record(10, 50).expect("recorded");
        drop(partial);
        let (_, journal) = places(&blob);
        if this_boot().is_some() {
            assert_eq!(kept_bytes(&blob, 100, "f"), 50);
        }
        let text = std::fs::read_to_string(&journal).expect("read");
        let boot = text.lines().nth(2).expect("a boot").to_owned();
        std::fs::write(&journal, text.replace(&boot, "boot another")).expect("written");
        assert_eq!(kept_bytes(&blob, 100, "f"), 10);
    }

    #[test]
    fn journals_that_make_no_sense_count_for_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let blob = dir.path().join("abc");
        drop(Partial::open(&blob, 100, "f").expect("opened"));
        let (_, journal) = places(&blob);
        let head = std::fs::read_to_string(&journal).expect("read");
        for tail in [
            "w 5 4\n",
            "w 0 101\n",
            "w 0\n",
            "x 0 1\n",
            "w 0 1 2\n",
            "w -1 2\n",
            "\n",
        ] {
            std::fs::write(&journal, format!("{head}w 0 9\n{tail}")).expect("written");
            assert_eq!(kept_bytes(&blob, 100, "f"), 0, "{tail:?}");
        }
        std::fs::write(&journal, [0xff, b'\n']).expect("written");
        assert_eq!(kept_bytes(&blob, 100, "f"), 0);
    }
}
