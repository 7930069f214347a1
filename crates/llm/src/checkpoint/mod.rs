//! PyTorch checkpoints (`pytorch_model.bin`, sharded or not) to `model.safetensors`, once, without running anything of them.
//!
//! A checkpoint is a zip archive (`archive`) of a pickle (`pickle`), which says what the tensors are, and their numbers.
//! Everything it says is checked against the file before anything is written; numbers are copied one tensor at a time.
//! candle's `PthTensors` is not used: it takes every name that a pickle asks for as data instead of refusing it, allocates
//! what a length says before reading it, panics on short tuples, copies what a pickle repeats, and skips what it does not
//! understand.

mod archive;
mod pickle;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::weights::{file_error, map_file, read_error, release_map};
use pickle::Tensor;

/// What is converted, as transformers names it.
const WEIGHTS: &str = "pytorch_model.bin";
const INDEX: &str = "pytorch_model.bin.index.json";
/// What it becomes.
const CONVERTED: &str = "model.safetensors";
/// Where it is written until it is whole.
const PARTIAL: &str = "model.safetensors.partial";

/// An index of shards is small; a larger file is none.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// As the reference implementation of safetensors reads.
const MAX_HEADER_BYTES: usize = 100_000_000;
/// Bytes written between two reports.
const CHUNK_BYTES: usize = 4 << 20;
/// Tensors may share a storage (a tied head), and are then written twice; a file that grows more than this is hostile.
const MAX_GROWTH: u64 = 2;

/// How far a conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of tensors written.
    pub done_bytes: u64,
    /// Bytes of all tensors.
    pub total_bytes: u64,
}

/// Makes `model.safetensors` of the PyTorch checkpoint in `folder`, and gives its path; does nothing if it is there. It
/// appears whole or not at all. `on_progress` hears of every few megabytes and ends the conversion by `Break`.
pub fn convert_checkpoint(
    folder: &Path,
    on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<PathBuf, Error> {
    let target = folder.join(CONVERTED);
    if target.is_file() {
        return Ok(target);
    }
    let shards = shards(folder)?;
    let checkpoint = Checkpoint::open(folder, &shards)?;
    let (header, order) = checkpoint.header()?;

    let partial = folder.join(PARTIAL);
    let write_error = |source| Error::Write {
        path: partial.clone(),
        source,
    };
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&partial)
        .map_err(write_error)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(file_error(
                &partial,
                "another process is converting this checkpoint; wait for it".to_owned(),
            ));
        }
        Err(TryLockError::Error(source)) => return Err(write_error(source)),
    }
    // Another process may have ended its conversion between the two looks.
    if target.is_file() {
        return Ok(target);
    }
    file.set_len(0).map_err(write_error)?;
    let written = checkpoint
        .write(&header, &order, &mut file, on_progress, &write_error)
        .and_then(|()| file.sync_all().map_err(write_error))
        .and_then(|()| std::fs::rename(&partial, &target).map_err(write_error));
    if let Err(error) = written {
        // What cannot be removed is written over by the next conversion.
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    if let Ok(folder) = File::open(folder) {
        // Not every system can make names durable; they are then a little later.
        let _ = folder.sync_all();
    }
    Ok(target)
}

#[derive(serde::Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// The checkpoint's files, and of sharded ones the tensors that the index expects in each.
fn shards(folder: &Path) -> Result<BTreeMap<String, BTreeSet<String>>, Error> {
    if folder.join(WEIGHTS).is_file() {
        return Ok(BTreeMap::from([(WEIGHTS.to_owned(), BTreeSet::new())]));
    }
    let path = folder.join(INDEX);
    let about = match std::fs::metadata(&path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(file_error(
                folder,
                format!("no PyTorch checkpoint: there is neither {WEIGHTS} nor {INDEX}"),
            ));
        }
        Err(source) => return Err(read_error(&path, source)),
    };
    if about.len() > MAX_INDEX_BYTES {
        return Err(file_error(
            &path,
            format!(
                "{} bytes are too many for an index; at most {MAX_INDEX_BYTES} are read",
                about.len()
            ),
        ));
    }
    let text = std::fs::read(&path).map_err(|source| read_error(&path, source))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| {
        file_error(
            &path,
            format!("not a valid index of shards ({error}); download it again"),
        )
    })?;
    let mut shards: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, file) in index.weight_map {
        let is_bin = Path::new(&file).extension() == Some("bin".as_ref());
        if file.contains(['/', '\\']) || !is_bin {
            return Err(file_error(
                &path,
                format!(
                    "{tensor} is said to be in {file:?}, which is not a .bin file of this folder"
                ),
            ));
        }
        shards.entry(file).or_default().insert(tensor);
    }
    if shards.is_empty() {
        return Err(file_error(
            &path,
            "the index names no tensors; download it again".to_owned(),
        ));
    }
    Ok(shards)
}

/// A tensor whose numbers are known to be in the file.
struct Placed {
    tensor: Tensor,
    /// Index of its file.
    file: usize,
    /// Its storage's bytes in the file.
    storage: Range<usize>,
    /// Bytes once written.
    bytes: u64,
}

/// The files of a checkpoint, and what is in them.
struct Checkpoint {
    folder: PathBuf,
    maps: Vec<Mmap>,
    tensors: BTreeMap<String, Placed>,
}

impl Checkpoint {
    fn open(folder: &Path, shards: &BTreeMap<String, BTreeSet<String>>) -> Result<Self, Error> {
        let mut checkpoint = Self {
            folder: folder.to_owned(),
            maps: Vec::new(),
            tensors: BTreeMap::new(),
        };
        for (shard, expected) in shards {
            let path = folder.join(shard);
            let map = map_file(&path)?;
            let bad = |problem: String| file_error(&path, problem);
            let mut found = tensors(&map).map_err(bad)?;
            if let Some(missing) = expected.iter().find(|name| !found.contains_key(*name)) {
                return Err(bad(format!(
                    "{missing} is missing from its {} tensors, although {INDEX} says that it is there; download it again",
                    found.len()
                )));
            }
            for placed in found.values_mut() {
                placed.file = checkpoint.maps.len();
            }
            if let Some(twice) = found
                .keys()
                .find(|name| checkpoint.tensors.contains_key(*name))
            {
                return Err(bad(format!(
                    "{twice} is in another file of the checkpoint too"
                )));
            }
            checkpoint.tensors.append(&mut found);
            checkpoint.maps.push(map);
        }
        let total = checkpoint.total_bytes();
        let held: u64 = checkpoint.maps.iter().map(|map| map.len() as u64).sum();
        if total > held.saturating_mul(MAX_GROWTH) {
            return Err(file_error(
                folder,
                format!(
                    "its tensors would take {total} bytes, more than {MAX_GROWTH} times the checkpoint's {held}: they \
                     share their numbers in a way that models do not"
                ),
            ));
        }
        Ok(checkpoint)
    }

    fn total_bytes(&self) -> u64 {
        let bytes = self.tensors.values().map(|placed| placed.bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// The header of the safetensors file, and the tensors in the order of their bytes: wide numbers first, so that all are
    /// aligned.
    fn header(&self) -> Result<(Vec<u8>, Vec<&Placed>), Error> {
        let mut order: Vec<_> = self.tensors.iter().collect();
        order.sort_by_key(|(_, placed)| std::cmp::Reverse(placed.tensor.kind.bytes));
        let mut header = Map::new();
        header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
        let mut at = 0;
        for (name, placed) in &order {
            let entry = json!({
                "dtype": placed.tensor.kind.safetensors,
                "shape": placed.tensor.shape,
                "data_offsets": [at, at + placed.bytes],
            });
            at += placed.bytes;
            if header.insert((*name).clone(), entry).is_some() {
                return Err(file_error(
                    &self.folder,
                    format!(
                        "a tensor is named {name}, which safetensors files keep for themselves"
                    ),
                ));
            }
        }
        let mut text = Value::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        if text.len() > MAX_HEADER_BYTES {
            return Err(file_error(
                &self.folder,
                format!(
                    "{} tensors need a header of {} bytes; at most {MAX_HEADER_BYTES} are allowed",
                    order.len(),
                    text.len()
                ),
            ));
        }
        Ok((text, order.into_iter().map(|(_, placed)| placed).collect()))
    }

    fn write(
        &self,
        header: &[u8],
        order: &[&Placed],
        file: &mut File,
        on_progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
        write_error: &dyn Fn(std::io::Error) -> Error,
    ) -> Result<(), Error> {
        let mut progress = Progress {
            done_bytes: 0,
            total_bytes: self.total_bytes(),
        };
        let len = (header.len() as u64).to_le_bytes();
        file.write_all(&len).map_err(write_error)?;
        file.write_all(header).map_err(write_error)?;
        let mut buffer = Vec::new();
        for placed in order {
            let map = &self.maps[placed.file];
            let storage = &map[placed.storage.clone()];
            let mut write = |part: &[u8]| -> Result<(), Error> {
                file.write_all(part).map_err(write_error)?;
                progress.done_bytes += part.len() as u64;
                match on_progress(progress) {
                    ControlFlow::Continue(()) => Ok(()),
                    ControlFlow::Break(()) => Err(Error::Cancelled),
                }
            };
            if let Some(range) = placed.tensor.adjacent(placed.bytes) {
                for part in storage[range].chunks(CHUNK_BYTES) {
                    write(part)?;
                    // What was written is not read again: memory stays at a chunk, whatever the tensor's size.
                    release_map(map);
                }
            } else {
                placed.tensor.gather(storage, &mut buffer, &mut write)?;
                release_map(map);
            }
        }
        Ok(())
    }
}

impl Tensor {
    /// Number of its numbers; none if it cannot be counted.
    fn elements(&self) -> Option<u64> {
        self.shape
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim))
    }

    /// Its bytes in the storage where they lie there in order; `bytes` is their number.
    fn adjacent(&self, bytes: u64) -> Option<Range<usize>> {
        let start = (self.offset * self.kind.bytes) as usize;
        if bytes == 0 {
            return Some(start..start);
        }
        let mut step = 1;
        for (&dim, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if dim != 1 && stride != step {
                return None;
            }
            step *= dim;
        }
        Some(start..start + bytes as usize)
    }

    /// Its numbers in order, from anywhere in the storage, in parts.
    fn gather(
        &self,
        storage: &[u8],
        buffer: &mut Vec<u8>,
        write: &mut dyn FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let width = self.kind.bytes as usize;
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        buffer.clear();
        loop {
            buffer.extend_from_slice(&storage[at as usize * width..][..width]);
            if buffer.len() >= CHUNK_BYTES {
                write(buffer)?;
                buffer.clear();
            }
            let mut dim = self.shape.len();
            loop {
                let Some(inner) = dim.checked_sub(1) else {
                    return write(buffer);
                };
                dim = inner;
                index[dim] += 1;
                at += self.strides[dim];
                if index[dim] < self.shape[dim] {
                    break;
                }
                at -= self.strides[dim] * self.shape[dim];
                index[dim] = 0;
            }
        }
    }
}

/// The tensors of one file, each checked against the storage that it is made of.
fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, Placed>, String> {
    if !bytes.starts_with(b"PK") {
        return Err(if bytes.starts_with(b"\x80") {
            "the file was saved by a PyTorch before 1.6, whose format is not read; get a safetensors or GGUF version of \
             the model"
                .to_owned()
        } else {
            "not a PyTorch checkpoint; download it again".to_owned()
        });
    }
    let entries = archive::entries(bytes)?;
    let mut pickles = entries
        .iter()
        .filter_map(|(name, place)| Some((name.strip_suffix("/data.pkl")?, place)));
    let (Some((folder, place)), None) = (pickles.next(), pickles.next()) else {
        return Err(
            "the archive must hold one data.pkl in one folder; it is no PyTorch checkpoint"
                .to_owned(),
        );
    };
    if let Some(order) = entries.get(&format!("{folder}/byteorder"))
        && bytes[order.clone()] != *b"little"
    {
        return Err(
            "its numbers are not in little-endian order, the only one that is read".to_owned(),
        );
    }
    let mut placed = BTreeMap::new();
    for (name, tensor) in pickle::state_dict(&bytes[place.clone()])? {
        let entry = format!("{folder}/data/{}", tensor.storage);
        let storage = entries.get(&entry).ok_or_else(|| {
            format!("tensor {name}: its numbers should be in {entry}, which the archive lacks")
        })?;
        let bytes = check(&tensor, storage.len() as u64)
            .map_err(|problem| format!("tensor {name}: {problem}"))?;
        let tensor = Placed {
            tensor,
            file: 0,
            storage: storage.clone(),
            bytes,
        };
        placed.insert(name, tensor);
    }
    if placed.is_empty() {
        return Err("it holds no tensors".to_owned());
    }
    Ok(placed)
}

/// That a tensor lies within its storage of `held` bytes; gives the bytes that it takes.
fn check(tensor: &Tensor, held: u64) -> Result<u64, String> {
    let said = tensor.storage_len.checked_mul(tensor.kind.bytes);
    if said != Some(held) {
        return Err(format!(
            "its storage is said to have {} numbers of {} bytes, but has {held} bytes; the file is damaged",
            tensor.storage_len, tensor.kind.bytes
        ));
    }
    let elements = tensor
        .elements()
        .filter(|&elements| elements <= tensor.storage_len)
        .ok_or_else(|| {
            format!(
                "its shape {:?} has more numbers than the {} of its storage",
                tensor.shape, tensor.storage_len
            )
        })?;
    let last = tensor
        .shape
        .iter()
        .zip(&tensor.strides)
        .try_fold(tensor.offset, |last, (&dim, &stride)| {
            last.checked_add(dim.saturating_sub(1).checked_mul(stride)?)
        });
    let fits = match last {
        Some(last) if elements > 0 => last < tensor.storage_len,
        Some(_) => tensor.offset <= tensor.storage_len,
        None => false,
    };
    if !fits {
        return Err(format!(
            "its shape {:?} with strides {:?} from number {} reaches beyond the {} numbers of its storage",
            tensor.shape, tensor.strides, tensor.offset, tensor.storage_len
        ));
    }
    Ok(elements * tensor.kind.bytes)
}
