//! Finds and reads MMLU wherever a person keeps it: the official folder or its archive, parquet files of `cais/mmlu` (as
//! downloaded, or in the Hub's cache), or the starter pack's file. What a file is, its first bytes say, not its name.
//!
//! It owns which files count; how each form is read is in `data`, `archive` and `columns`.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{MmluData, SUBJECTS, archive, columns};
use crate::Error;

/// What was expected, for every error about a place that holds no MMLU.
const EXPECTED: &str = "expected a folder with test/SUBJECT_test.csv and dev/SUBJECT_dev.csv, such a folder as .tar, .tar.gz or .zip, or parquet files of cais/mmlu (test-*.parquet and dev-*.parquet)";

/// A split of MMLU that Billion uses; `val` and `auxiliary_train` are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Split {
    Dev,
    Test,
}

impl Split {
    /// "dev" or "test".
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Test => "test",
        }
    }
}

/// MMLU somewhere on this machine: found, not read yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    form: Form,
    files: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Starter,
    /// The folder that holds `test` and perhaps `dev`.
    Folder(PathBuf),
    Tar,
    TarGz,
    Zip,
    /// The first so many of the files are the test split, the rest the dev split.
    Parquet {
        tests: usize,
    },
}

impl Location {
    /// Looks at what lies at `path`.
    pub fn find(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        if std::fs::metadata(path).map_err(fail)?.is_dir() {
            return Self::in_folder(path);
        }
        let form = match form_of_file(path).map_err(fail)? {
            Some(Form::Parquet { .. }) => return Self::beside(path),
            Some(form) => form,
            None => {
                return Err(Error::Options(format!(
                    "{} holds no MMLU questions: {EXPECTED}",
                    path.display()
                )));
            }
        };
        Ok(Self {
            form,
            files: vec![path.to_owned()],
        })
    }

    /// The files whose bytes fix the questions, in a fixed order.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Reads the questions.
    pub fn read(&self) -> Result<MmluData, Error> {
        let first = &self.files[0];
        match &self.form {
            Form::Starter => MmluData::from_starter(first),
            Form::Folder(folder) => MmluData::from_folder(folder),
            Form::Tar => archive::read_tar(first),
            Form::TarGz => archive::read_tar_gz(first),
            Form::Zip => archive::read_zip(first),
            Form::Parquet { tests } => {
                let (test, dev) = self.files.split_at(*tests);
                columns::read(test, dev)
            }
        }
    }

    fn in_folder(folder: &Path) -> Result<Self, Error> {
        for base in [folder.to_owned(), folder.join("data")] {
            let files = csv_files(&base);
            if files.iter().any(|file| file.ends_with_split(Split::Test)) {
                return Ok(Self {
                    form: Form::Folder(base),
                    files: files.into_iter().map(|file| file.0).collect(),
                });
            }
        }
        let mut bases = vec![folder.to_owned(), folder.join("all")];
        if let Some(snapshot) = hub_snapshot(folder) {
            bases.extend([snapshot.join("all"), snapshot]);
        }
        for base in &bases {
            if let Some(found) = Self::parquet(std::slice::from_ref(base)) {
                return Ok(found);
            }
        }
        // A folder a subject, as the Hub has them beside `all`.
        for base in &bases {
            let folders: Vec<PathBuf> = SUBJECTS.iter().map(|(name, _)| base.join(name)).collect();
            if let Some(found) = Self::parquet(&folders) {
                return Ok(found);
            }
        }
        let entries = std::fs::read_dir(folder).map_or(0, Iterator::count);
        Err(Error::Options(format!(
            "{} holds no MMLU questions among its {entries} entries: {EXPECTED}",
            folder.display()
        )))
    }

    /// A parquet file of the test split, with what lies beside it.
    fn beside(file: &Path) -> Result<Self, Error> {
        let split = parquet_split(file);
        let folder = file.parent().unwrap_or(Path::new(""));
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        match (split, Self::parquet(&[folder.to_owned()])) {
            (Some(_), Some(found)) => Ok(found),
            _ => Err(Error::Options(format!(
                "{} is parquet, but neither called test-*.parquet nor lying beside such a file: keep the names that cais/mmlu gives its files",
                file.display()
            ))),
        }
    }

    fn parquet(folders: &[PathBuf]) -> Option<Self> {
        let of = |split: Split| {
            let mut files: Vec<PathBuf> = folders
                .iter()
                .filter_map(|folder| std::fs::read_dir(folder).ok())
                .flatten()
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .filter(|path| parquet_split(path) == Some(split) && path.is_file())
                .collect();
            files.sort();
            files
        };
        let mut files = of(Split::Test);
        let tests = files.len();
        files.extend(of(Split::Dev));
        (tests > 0).then_some(Self {
            form: Form::Parquet { tests },
            files,
        })
    }
}

/// A CSV file of the official folder.
struct CsvFile(PathBuf, Split);

impl CsvFile {
    fn ends_with_split(&self, split: Split) -> bool {
        self.1 == split
    }
}

/// The official files below a folder: dev first, then test, each by subject.
fn csv_files(folder: &Path) -> Vec<CsvFile> {
    [Split::Dev, Split::Test]
        .into_iter()
        .flat_map(|split| {
            SUBJECTS
                .iter()
                .map(move |(subject, _)| CsvFile(csv_path(folder, split, subject), split))
        })
        .filter(|file| file.0.is_file())
        .collect()
}

/// Where the official folder keeps a subject.
pub(super) fn csv_path(folder: &Path, split: Split, subject: &str) -> PathBuf {
    let split = split.name();
    folder.join(split).join(format!("{subject}_{split}.csv"))
}

/// The split that a parquet file of the Hub holds, by its name: `test-00000-of-00001.parquet`.
fn parquet_split(path: &Path) -> Option<Split> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".parquet")?;
    [Split::Dev, Split::Test]
        .into_iter()
        .find(|split| stem == split.name() || stem.starts_with(&format!("{}-", split.name())))
}

/// The snapshot that a repository's folder in the Hub's cache (`datasets--cais--mmlu`) stands for.
fn hub_snapshot(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.join("snapshots");
    if let Ok(commit) = std::fs::read_to_string(folder.join("refs/main")) {
        let current = snapshots.join(commit.trim());
        if current.is_dir() {
            return Some(current);
        }
    }
    std::fs::read_dir(snapshots)
        .ok()?
        .filter_map(Result::ok)
        .max_by_key(|entry| {
            let changed = entry.metadata().and_then(|status| status.modified()).ok();
            (changed, entry.file_name())
        })
        .map(|entry| entry.path())
}

/// What a file is by its first bytes; `None` if it cannot be MMLU.
fn form_of_file(path: &Path) -> std::io::Result<Option<Form>> {
    let mut start = Vec::with_capacity(512);
    std::fs::File::open(path)?
        .take(512)
        .read_to_end(&mut start)?;
    Ok(if start.starts_with(b"PK\x03\x04") {
        Some(Form::Zip)
    } else if start.starts_with(&[0x1f, 0x8b]) {
        Some(Form::TarGz)
    } else if start.starts_with(b"PAR1") {
        Some(Form::Parquet { tests: 0 })
    } else if start.get(257..262) == Some(b"ustar") {
        Some(Form::Tar)
    } else if start.starts_with(b"{") {
        Some(Form::Starter)
    } else {
        None
    })
}

#[cfg(test)]
mod tests;
