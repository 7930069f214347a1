//! `--samples FILE`: a JSON line for each question or completion of a run, written whole or not at all.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::api::ApiError;

/// Where samples lie until they are complete: beside their place; a pipe or a device takes them as they come.
fn partial(path: &Path) -> PathBuf {
    if path.exists() && !path.is_file() {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Finds out before hours of work, not after them, that samples cannot be written.
pub(super) fn check_writable(path: &Path) -> Result<(), ApiError> {
    let partial = partial(path);
    if partial == path && !path.is_dir() {
        return Ok(());
    }
    std::fs::File::create(&partial)
        .and_then(|_| std::fs::remove_file(&partial))
        .map_err(|error| unwritten(path, &error))
}

fn unwritten(path: &Path, error: &std::io::Error) -> ApiError {
    ApiError::failed(format!(
        "the samples cannot be written to {}: {error}; choose another --samples FILE",
        path.display()
    ))
}

/// Writes a line for each. A file is written beside its place and moved there, so that the file is whole or not there.
pub(super) fn write_samples(
    path: &Path,
    lines: impl Iterator<Item = impl Serialize>,
) -> Result<(), ApiError> {
    let fail = |error: std::io::Error| {
        let ApiError { code, message, .. } = unwritten(path, &error);
        ApiError {
            code,
            message: format!("{message}; the run itself is stored, see billion results list"),
            link: None,
        }
    };
    let partial = partial(path);
    let mut file = std::io::BufWriter::new(std::fs::File::create(&partial).map_err(fail)?);
    for line in lines {
        serde_json::to_writer(&mut file, &line).map_err(|error| fail(error.into()))?;
        file.write_all(b"\n").map_err(fail)?;
    }
    let file = file
        .into_inner()
        .map_err(|error| fail(error.into_error()))?;
    if partial == path {
        return Ok(());
    }
    file.sync_all().map_err(fail)?;
    drop(file);
    std::fs::rename(&partial, path).map_err(fail)
}
