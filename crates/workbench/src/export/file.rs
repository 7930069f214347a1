//! Writes an export: whole or not at all, and with an error that says what to do next.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use crate::api::{ApiError, Exported};
use crate::machine::bytes_words;

/// Finds out before hours of work, not after them, that a file cannot be written.
pub(super) fn check(path: &Path) -> Result<(), ApiError> {
    let place = place(path)?;
    if let Place::Beside(partial, _) = place {
        std::fs::File::create(&partial)
            .and_then(|_| std::fs::remove_file(&partial))
            .map_err(|error| unwritten(path, 0, &error))?;
    }
    Ok(())
}

/// Writes the bytes. A file is written beside its place, synced and moved there; a pipe or a device takes them at once.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<Exported, ApiError> {
    let fail = |error: std::io::Error| unwritten(path, bytes.len() as u64, &error);
    match place(path)? {
        Place::Straight => {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .map_err(fail)?;
            file.write_all(bytes)
                .and_then(|()| file.flush())
                .map_err(fail)?;
        }
        Place::Beside(partial, target) => {
            let written = std::fs::File::create(&partial)
                .and_then(|mut file| {
                    file.write_all(bytes)?;
                    file.sync_all()
                })
                .and_then(|()| std::fs::rename(&partial, &target));
            if let Err(error) = written {
                // The first error matters; half a file is of no use.
                let _ = std::fs::remove_file(&partial);
                return Err(fail(error));
            }
            if let Some(folder) = target.parent() {
                // So that the new name lasts too; not every system can.
                let _ = std::fs::File::open(folder).and_then(|folder| folder.sync_all());
            }
        }
    }
    Ok(Exported {
        path: path.display().to_string(),
        bytes: bytes.len() as u64,
    })
}

enum Place {
    /// Written here first, then moved there.
    Beside(PathBuf, PathBuf),
    /// A pipe or a device.
    Straight,
}

fn place(path: &Path) -> Result<Place, ApiError> {
    if path.as_os_str().is_empty() {
        return Err(ApiError::failed(
            "give the file to write, for example --out report.html",
        ));
    }
    // A link to a file keeps pointing at it.
    let target = match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => {
            return Err(ApiError::failed(format!(
                "{} is a folder; give a file in it, for example {}",
                path.display(),
                path.join("report.html").display()
            )));
        }
        Ok(about) if !about.is_file() => return Ok(Place::Straight),
        Ok(_) => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        Err(_) => path.to_owned(),
    };
    let target = std::path::absolute(&target).unwrap_or(target);
    let (Some(folder), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(ApiError::failed(format!(
            "{} is no name of a file; give one, for example report.html",
            path.display()
        )));
    };
    if !folder.is_dir() {
        return Err(ApiError::failed(format!(
            "the folder {} does not exist; make it or choose another",
            folder.display()
        )));
    }
    let mut partial = std::ffi::OsString::from(".");
    partial.push(name);
    partial.push(format!(".{}.partial", std::process::id()));
    Ok(Place::Beside(folder.join(partial), target))
}

fn unwritten(path: &Path, bytes: u64, error: &std::io::Error) -> ApiError {
    let why = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => format!(
            "the disk is full, {} are needed: make room or choose another disk",
            bytes_words(bytes)
        ),
        ErrorKind::PermissionDenied => "you may not write there; choose another folder".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "that disk can only be read; choose another".to_owned(),
        _ => format!("{error}; choose another place"),
    };
    ApiError::failed(format!("{} cannot be written: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        for text in ["first", "second"] {
            let exported = write(&path, text.as_bytes()).unwrap();
            assert_eq!(exported.bytes, text.len() as u64);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        check(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_says_why_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for (path, says) in [
            (dir.path().join("no/such/a.csv"), "does not exist; make it"),
            (dir.path().to_owned(), "is a folder; give a file in it"),
            (PathBuf::new(), "give the file to write"),
            (PathBuf::from("/"), "is a folder"),
        ] {
            for error in [write(&path, b"x").unwrap_err(), check(&path).unwrap_err()] {
                assert!(error.message.contains(says), "{path:?}: {}", error.message);
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_with_its_size_and_links_stay_links() {
        let full = write(Path::new("/dev/full"), &vec![0; 3_000_000]).unwrap_err();
        assert!(
            full.message.contains("the disk is full, 3 MB are needed"),
            "{}",
            full.message
        );
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        std::fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write(&link, b"new").unwrap();
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&real).unwrap(), "new");
    }
}
