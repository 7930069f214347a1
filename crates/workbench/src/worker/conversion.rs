//! What a worker does to write a model as a GGUF file. The file is `billion-llm`'s; this looks at the disk, feeds and
//! reports it.

use std::path::Path;

use billion_llm::adapter::Adapter;
use billion_llm::load::ModelFiles;
use billion_llm::quantize::{About, Plan, Quant, WriteOptions};

use super::engine::{Work, failed};
use super::protocol::{ConvertAsk, Outcome};
use crate::api::ApiError;
use crate::machine::bytes_words;
use crate::reports::MergeReport;

/// Bytes of a unit of progress.
pub(crate) const PROGRESS_BYTES: u64 = 1_000_000;

/// Writes the file, if the disk has room for it.
pub(super) fn convert(work: Work<'_>, ask: &ConvertAsk) -> Result<Outcome, ApiError> {
    let quant = Quant::parse(&ask.quant).map_err(failed)?;
    if work.progress("reads the model", 0, 0).is_break() {
        return Err(ApiError::cancelled());
    }
    let files = ModelFiles::open(&ask.source).map_err(failed)?;
    let about = About {
        name: Some(ask.name.clone()),
        license: ask.license.clone(),
        publisher: ask.publisher.clone(),
    };
    let adapter = match &ask.adapter {
        Some(folder) => Some(Adapter::read(folder, files.spec()).map_err(failed)?),
        None => None,
    };
    let plan = match &adapter {
        Some(adapter) => Plan::merged(&files, adapter, quant, &about),
        None => Plan::new(&files, quant, &about),
    };
    let plan = plan.map_err(failed)?;
    let bytes = plan.file_bytes();
    check_room(&ask.out, bytes)?;
    let options = WriteOptions {
        threads: ask.threads.map(|n| n as usize),
    };
    let units = |bytes: u64| bytes.div_ceil(PROGRESS_BYTES) as usize;
    let written = plan.write(&ask.out, &options, &mut |progress| {
        let step = match progress.tensor {
            Some(tensor) => format!(
                "writes {tensor}, tensor {} of {}",
                progress.tensors_done + 1,
                progress.tensors
            ),
            None if ask.adapter.is_some() => {
                "reads the file again and compares its logits with those of model and adapter"
                    .to_owned()
            }
            None => "reads the file again and compares".to_owned(),
        };
        work.progress(&step, units(progress.written), units(bytes))
    });
    match written {
        Ok(written) => Ok(Outcome::Converted {
            bytes: written.bytes,
            seconds: written.time.as_secs_f64(),
            merge: written.merge.map(|merge| MergeReport {
                adapter: ask
                    .adapter
                    .iter()
                    .map(|folder| folder.display().to_string())
                    .collect(),
                tokens: merge.tokens as u32,
                difference: merge.difference,
                bound: merge.bound,
                moved: merge.moved,
            }),
        }),
        Err(billion_llm::Error::Cancelled) => Err(ApiError::cancelled()),
        Err(error) => Err(failed(error)),
    }
}

/// Writes safetensors for a checkpoint that is PyTorch's pickle.
pub(super) fn convert_checkpoint(work: Work<'_>, folder: &Path) -> Result<Outcome, ApiError> {
    let mut cancelled = false;
    let written = billion_llm::convert_checkpoint(folder, &mut |progress| {
        let units = |bytes: u64| bytes.div_ceil(PROGRESS_BYTES) as usize;
        let step = format!(
            "converts the checkpoint, {} of {}",
            bytes_words(progress.done_bytes),
            bytes_words(progress.total_bytes)
        );
        let flow = work.progress(
            &step,
            units(progress.done_bytes),
            units(progress.total_bytes),
        );
        cancelled = flow.is_break();
        flow
    });
    match written {
        Ok(_) => Ok(Outcome::CheckpointConverted),
        Err(_) if cancelled => Err(ApiError::cancelled()),
        Err(error) => Err(failed(error)),
    }
}

/// A file that cannot be finished is not begun.
fn check_room(out: &Path, bytes: u64) -> Result<(), ApiError> {
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match free_disk_bytes(folder) {
        Some(free) if free < bytes => Err(ApiError::failed(format!(
            "{} needs {}, but {} has {} free; make room, or write to another disk",
            out.display(),
            bytes_words(bytes),
            folder.display(),
            bytes_words(free)
        ))),
        _ => Ok(()),
    }
}

/// None where the system does not tell it: then the writing tells.
#[cfg(unix)]
fn free_disk_bytes(folder: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(folder).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

#[cfg(not(unix))]
fn free_disk_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_before_anything_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("model.gguf");
        check_room(&out, 1000).unwrap();
        let error = check_room(&out, 1 << 60).unwrap_err();
        assert!(
            error.message.contains("needs") && error.message.contains("free"),
            "{}",
            error.message
        );
        check_room(Path::new("model.gguf"), 1000).unwrap();
    }
}
