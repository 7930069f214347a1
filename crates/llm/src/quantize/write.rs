//! Writes a planned file: under a temporary name, a batch of rows at a time on all threads, flushed to the disk, read
//! again and compared, and only then under its own name.

use std::fs::{File, TryLockError};
use std::io::{Seek as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use billion_kernels::{Format, Isa, Pool, dequantize, ops, quantize_on};

use super::merge::{self, MergeCheck};
use super::{Plan, Planned, entries, vocabulary};
use crate::Error;
use crate::load::{ModelFiles, default_threads};
use crate::weights::{Container, Weights};

/// Of the data of each tensor (`GGUF_DEFAULT_ALIGNMENT`).
const ALIGNMENT: u64 = 32;

/// Numbers that are held as f32 and in their new format at once, over all threads: some 16 MB each.
const BATCH: usize = 4 << 20;

/// Numbers that a thread takes at a time.
const CHUNK: usize = 64 << 10;

/// Mapped bytes after which the pages are given back, so that the input does not count as this process's memory.
const RELEASE_BYTES: usize = 32 << 20;

/// Rows of a tensor that are made again when the file is read again.
const COMPARED_ROWS: usize = 3;

/// Largest error of a row that was read again, as a part of the row's root mean square: far above what the coarsest format
/// does to ordinary weights, far below what another row would give.
const LARGEST_ERROR: f64 = 0.5;

/// How to write.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// Threads; none is one a core.
    pub threads: Option<usize>,
}

/// How far the writing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The tensor at work; none while the finished file is read again.
    pub tensor: Option<&'a str>,
    /// Tensors written.
    pub tensors_done: usize,
    /// Tensors in all.
    pub tensors: usize,
    /// Numbers written.
    pub done: u64,
    /// Numbers in all.
    pub total: u64,
    /// Bytes written.
    pub written: u64,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its size.
    pub bytes: u64,
    /// From the first byte to the check at the end.
    pub time: Duration,
    /// How near it comes to model and adapter, where one was merged.
    pub merge: Option<MergeCheck>,
}

/// The next multiple of the alignment.
pub(super) fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

impl Plan<'_> {
    /// What comes before the numbers: magic, metadata, the table of tensors, filled up to the alignment.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut head = b"GGUF".to_vec();
        head.extend(3_u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend((self.entries.len() as u64).to_le_bytes());
        self.entries.write(&mut head);
        for planned in &self.tensors {
            let shape = &planned.tensor.shape;
            entries::text(&mut head, &planned.tensor.name);
            head.extend((shape.len() as u32).to_le_bytes());
            // GGUF counts from the innermost dimension.
            for &dim in shape.iter().rev() {
                head.extend((dim as u64).to_le_bytes());
            }
            head.extend(planned.format.ggml_type().to_le_bytes());
            head.extend(planned.offset.to_le_bytes());
        }
        head.resize(aligned(head.len() as u64) as usize, 0);
        head
    }

    /// Writes the file to `out`, replacing what is there. `Error::Cancelled` if `on_progress` broke off: then nothing is
    /// left behind.
    ///
    /// It is written beside `out` under another name and checked before it gets its own, so a file called `out` is whole.
    /// What a killed process leaves ends in `.part` and is used for the next attempt.
    pub fn write(
        &self,
        out: &Path,
        options: &WriteOptions,
        on_progress: &mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
    ) -> Result<Written, Error> {
        let start = Instant::now();
        let mut draft = Draft::create(out)?;
        let pool = Pool::new(options.threads.unwrap_or_else(default_threads));
        let mut writing = Writing {
            plan: self,
            pool: &pool,
            chunks: Chunks {
                isa: Isa::detect(),
                scratch: Mutex::default(),
            },
            buffer: Vec::new(),
            mapped: 0,
            progress: Progress {
                tensor: None,
                tensors_done: 0,
                tensors: self.tensors.len(),
                done: 0,
                total: self.tensors.iter().map(Planned::elements).sum(),
                written: 0,
            },
            on_progress,
        };
        writing.everything(&mut draft)?;
        draft.sync()?;
        writing.progress.tensor = None;
        writing.tell()?;
        self.check(&draft.path)?;
        let merge = match self.adapter {
            Some(adapter) => {
                let threads = options.threads;
                Some(merge::compare(
                    self.files,
                    adapter,
                    &draft.path,
                    self.quant,
                    threads,
                )?)
            }
            None => None,
        };
        let bytes = draft.finish(out)?;
        Ok(Written {
            bytes,
            time: start.elapsed(),
            merge,
        })
    }

    /// Opens what was written as a model, compares the table of tensors with the plan, and makes rows of every tensor
    /// again to compare them with what the file holds.
    fn check(&self, path: &Path) -> Result<(), Error> {
        let wrong = |problem: String| Error::File {
            path: path.to_owned(),
            problem: format!(
                "{problem}; the disk or the memory of this machine may be faulty, try again"
            ),
        };
        let files = ModelFiles::open(path)?;
        let weights = files.weights();
        if weights.names().count() != self.tensors.len() {
            return Err(wrong(format!(
                "{} tensors were written and {} are read",
                self.tensors.len(),
                weights.names().count()
            )));
        }
        for planned in &self.tensors {
            check_tensor(planned, weights).map_err(|problem| {
                wrong(format!(
                    "what was written of {} is not what is read again: {problem}",
                    planned.tensor.name
                ))
            })?;
        }
        let (ours, theirs) = (self.files.tokenizer(), files.tokenizer());
        let from_folder = self.files.weights().container() == Container::Safetensors;
        if from_folder && !vocabulary::same_ids(ours, theirs, theirs.vocab_size()) {
            return Err(wrong(
                "the vocabulary that is read again differs".to_owned(),
            ));
        }
        weights.release();
        self.files.weights().release();
        Ok(())
    }
}

impl Planned<'_> {
    fn elements(&self) -> u64 {
        self.tensor.shape.iter().map(|&dim| dim as u64).product()
    }

    /// Bytes that are taken over as they are.
    fn kept(&self) -> Option<&[u8]> {
        let same = self.tensor.stored() == self.format;
        self.tensor.stored_bytes().filter(|_| same)
    }
}

fn check_tensor(planned: &Planned<'_>, weights: &Weights) -> Result<(), String> {
    let tensor = &planned.tensor;
    let view = weights
        .require(&tensor.name)
        .map_err(|error| error.to_string())?;
    if view.shape != tensor.shape || view.format != planned.format {
        return Err(format!(
            "expected {:?} of {}, found {:?} of {}",
            tensor.shape, planned.format, view.shape, view.format
        ));
    }
    let (rows, cols) = tensor.rows();
    // A list of numbers is compared whole.
    let (rows, cols) = if tensor.shape.len() == 1 {
        (1, rows)
    } else {
        (rows, cols)
    };
    let row_bytes = planned.bytes / rows;
    for at in 0..COMPARED_ROWS.min(rows) {
        let row = at * (rows - 1) / (COMPARED_ROWS - 1);
        let found = &view.bytes[row * row_bytes..(row + 1) * row_bytes];
        if let Some(kept) = planned.kept() {
            if &kept[row * row_bytes..(row + 1) * row_bytes] != found {
                return Err(format!("row {row} differs"));
            }
            continue;
        }
        let mut numbers = vec![0.0; cols];
        tensor
            .read(row, &mut numbers)
            .map_err(|error| error.to_string())?;
        let mut again = vec![0; row_bytes];
        quantize_on(Isa::detect(), planned.format, &numbers, &mut again);
        if again != found {
            return Err(format!("row {row} differs"));
        }
        let mut back = vec![0.0; cols];
        dequantize(planned.format, found, &mut back);
        let square = |x: f32| f64::from(x) * f64::from(x);
        let off: f64 = numbers.iter().zip(&back).map(|(x, y)| square(x - y)).sum();
        let all: f64 = numbers.iter().map(|x| square(*x)).sum();
        // Numbers too small for half floats become zeros.
        if off.sqrt() > LARGEST_ERROR * all.sqrt() + 1e-6 * (cols as f64).sqrt() {
            return Err(format!(
                "row {row} is off by {:.0} % of its size",
                100.0 * (off / all).sqrt()
            ));
        }
    }
    Ok(())
}

/// The writing of a plan.
struct Writing<'a> {
    plan: &'a Plan<'a>,
    pool: &'a Pool,
    chunks: Chunks,
    /// A batch in its new format.
    buffer: Vec<u8>,
    /// Bytes of the map read since its pages were given back.
    mapped: usize,
    progress: Progress<'a>,
    on_progress: &'a mut dyn FnMut(Progress<'_>) -> ControlFlow<()>,
}

impl<'a> Writing<'a> {
    fn tell(&mut self) -> Result<(), Error> {
        match (self.on_progress)(self.progress) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    fn put(&mut self, draft: &mut Draft, bytes: &[u8]) -> Result<(), Error> {
        self.progress.written += bytes.len() as u64;
        draft.write(bytes)
    }

    fn everything(&mut self, draft: &mut Draft) -> Result<(), Error> {
        self.put(draft, &self.plan.head())?;
        for planned in &self.plan.tensors {
            self.progress.tensor = Some(&planned.tensor.name);
            match planned.kept() {
                Some(bytes) => self.copy(planned, bytes, draft)?,
                None => self.convert(planned, draft)?,
            }
            let padding = aligned(planned.bytes as u64) - planned.bytes as u64;
            self.put(draft, &[0; ALIGNMENT as usize][..padding as usize])?;
            self.progress.tensors_done += 1;
        }
        self.tell()
    }

    /// A tensor that stays as it is.
    fn copy(
        &mut self,
        planned: &Planned<'_>,
        bytes: &[u8],
        draft: &mut Draft,
    ) -> Result<(), Error> {
        let before = self.progress.done;
        let mut copied = 0;
        for part in bytes.chunks(RELEASE_BYTES) {
            self.tell()?;
            self.put(draft, part)?;
            copied += part.len();
            let share = copied as f64 / bytes.len() as f64;
            self.progress.done = before + (planned.elements() as f64 * share) as u64;
            self.count_mapped(part.len());
        }
        self.progress.done = before + planned.elements();
        Ok(())
    }

    /// A tensor whose numbers get another format.
    fn convert(&mut self, planned: &'a Planned<'_>, draft: &mut Draft) -> Result<(), Error> {
        let (rows, cols) = planned.tensor.rows();
        // A list of numbers is read as rows of one, but lies in blocks of its own format: floats always.
        let row_bytes = planned.bytes / rows;
        let rows_in_batch = (BATCH / cols).clamp(1, rows);
        let rows_in_chunk = (CHUNK / cols).max(1);
        let stored = planned.tensor.stored();
        for first in (0..rows).step_by(rows_in_batch) {
            self.tell()?;
            let count = rows_in_batch.min(rows - first);
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.resize(count * row_bytes, 0);
            let mut chunks: Vec<_> = buffer.chunks_mut(rows_in_chunk * row_bytes).collect();
            let failed = Mutex::new(None);
            let converting = &self.chunks;
            ops::for_each(self.pool, &mut chunks, &|index, out| {
                let numbers = out.len() / row_bytes * cols;
                let row = first + index * rows_in_chunk;
                if let Err(error) = converting.convert(planned, row, numbers, out) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                }
            });
            if let Some(error) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(error);
            }
            self.put(draft, &buffer)?;
            self.buffer = buffer;
            self.progress.done += (count * cols) as u64;
            let read = stored.row_bytes(count * cols).unwrap_or(count * cols * 4);
            self.count_mapped(read);
        }
        Ok(())
    }

    fn count_mapped(&mut self, bytes: usize) {
        self.mapped += bytes;
        if self.mapped >= RELEASE_BYTES {
            self.plan.files.weights().release();
            self.mapped = 0;
        }
    }
}

/// What the threads share.
struct Chunks {
    isa: Isa,
    /// Buffers of f32 that threads take and bring back.
    scratch: Mutex<Vec<Vec<f32>>>,
}

impl Chunks {
    /// `numbers` numbers from row `row` on into `out`.
    fn convert(
        &self,
        planned: &Planned<'_>,
        row: usize,
        numbers: usize,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let lock = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut x = lock().pop().unwrap_or_default();
        x.resize(numbers, 0.0);
        planned.tensor.read(row, &mut x)?;
        let limit = if planned.format == Format::F32 {
            f32::MAX
        } else {
            // Scales are half floats as well.
            half::f16::MAX.to_f32()
        };
        // All are looked at, so that the loop becomes a wide one.
        if !x.iter().fold(true, |fine, v| fine & (v.abs() <= limit)) {
            let fits = |v: &f32| v.abs() <= limit;
            let bad = x.iter().position(|v| !fits(v)).unwrap_or(0);
            return Err(Error::Tensor {
                tensor: planned.tensor.name.clone(),
                problem: format!(
                    "number {bad} from row {row} on is {}, but {} holds at most {limit:e}; the file is damaged or was \
                     not trained to the end",
                    x[bad], planned.format
                ),
            });
        }
        quantize_on(self.isa, planned.format, &x, out);
        lock().push(x);
        Ok(())
    }
}

/// A file under its temporary name, which is removed unless it is finished.
struct Draft {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Draft {
    fn create(out: &Path) -> Result<Self, Error> {
        let Some(name) = out.file_name() else {
            return Err(Error::Unsupported(format!(
                "{} is not the name of a file; name one that ends in .gguf",
                out.display()
            )));
        };
        let mut name = name.to_owned();
        name.push(".part");
        let path = out.with_file_name(name);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false);
        let file = file.open(&path).map_err(failed)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(Error::File {
                    path: out.to_owned(),
                    problem: "another process of Billion is writing this file; wait for it, or name another".to_owned(),
                });
            }
            // Some network disks have no locks; then nobody else is asked.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        file.set_len(0).map_err(failed)?;
        Ok(Self {
            path,
            file,
            finished: false,
        })
    }

    fn failed(&self, source: std::io::Error) -> Error {
        Error::Write {
            path: self.path.clone(),
            source,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file
            .write_all(bytes)
            .map_err(|error| self.failed(error))
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.file.sync_all().map_err(|error| self.failed(error))
    }

    /// Gives the file its own name; its size.
    fn finish(mut self, out: &Path) -> Result<u64, Error> {
        let bytes = self.file.stream_position();
        let bytes = bytes.map_err(|error| self.failed(error))?;
        std::fs::rename(&self.path, out).map_err(|error| self.failed(error))?;
        self.finished = true;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Ok(folder) = File::open(folder.unwrap_or(Path::new("."))) {
            // The name survives a power cut then; a system that cannot do that for folders keeps the file all the same.
            let _ = folder.sync_all();
        }
        Ok(bytes)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed ends in .part and is written over by the next attempt.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
