//! Memory-mapped weights: GGUF and safetensors behind one type.
//!
//! It owns the map and the table of tensors: every offset and size is checked against the file before a tensor is
//! handed out. It does not know what a tensor is for (`models`), nor what its numbers mean (`billion-kernels`).

mod gguf;
mod metadata;
mod safetensors;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use billion_kernels::Format;
use memmap2::Mmap;

use crate::Error;
use crate::spec::TensorView;
pub use metadata::MetaValue;

/// Which kind of file the weights came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// One GGUF file (ggml-org/ggml, docs/gguf.md) with metadata and tokenizer inside.
    Gguf,
    /// One or more safetensors files beside `config.json` and `tokenizer.json`.
    Safetensors,
}

/// Where a tensor lies and how it is stored.
#[derive(Clone, Debug)]
struct Entry {
    /// Index into `Weights::maps`.
    map: usize,
    /// First byte inside the map.
    start: usize,
    /// Bytes; `start + len` lies inside the map.
    len: usize,
    /// Row-major, outermost first.
    shape: Vec<usize>,
    /// Format, or the file's name of one that Billion does not read.
    format: Result<Format, String>,
}

/// What a parser found in one file.
#[derive(Debug, Default)]
struct Parsed {
    metadata: BTreeMap<String, MetaValue>,
    tensors: BTreeMap<String, Entry>,
}

/// The weights of a model, memory-mapped: nothing is read before it is used.
#[derive(Debug)]
pub struct Weights {
    path: PathBuf,
    container: Container,
    maps: Vec<Mmap>,
    metadata: BTreeMap<String, MetaValue>,
    tensors: BTreeMap<String, Entry>,
}

impl Weights {
    /// Opens a `.gguf` file, a `.safetensors` file, or a folder that holds safetensors (sharded or not) or one GGUF
    /// file. Checks the headers and every tensor's place; reads no tensor data.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let about = std::fs::metadata(path).map_err(|source| read_error(path, source))?;
        if about.is_dir() {
            return Self::open_folder(path);
        }
        let map = map_file(path)?;
        if map.starts_with(gguf::MAGIC) {
            let parsed = gguf::parse(&map).map_err(|problem| file_error(path, problem))?;
            return Ok(Self::from_parsed(path, Container::Gguf, vec![map], parsed));
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => {
                let mut parsed = Parsed::default();
                safetensors::parse(&map, 0, &mut parsed)
                    .map_err(|problem| file_error(path, problem))?;
                Ok(Self::from_parsed(
                    path,
                    Container::Safetensors,
                    vec![map],
                    parsed,
                ))
            }
            Some("bin" | "pt" | "pth" | "ckpt") => Err(file_error(path, PICKLE.to_owned())),
            _ => Err(file_error(path, gguf::not_gguf(&map))),
        }
    }

    /// A folder as the Hugging Face Hub lays it out, or one with a single GGUF file in it.
    fn open_folder(folder: &Path) -> Result<Self, Error> {
        let files = list(folder)?;
        let has = |name: &str| files.iter().any(|file| file == name);
        let ending = |ending: &str| -> Vec<&String> {
            files.iter().filter(|file| file.ends_with(ending)).collect()
        };
        let shards = if has("model.safetensors") {
            vec!["model.safetensors".to_owned()]
        } else if has(safetensors::INDEX) {
            let path = folder.join(safetensors::INDEX);
            let text = std::fs::read(&path).map_err(|source| read_error(&path, source))?;
            let shards =
                safetensors::shards(&text).map_err(|problem| file_error(&path, problem))?;
            if let Some((missing, tensor)) = shards.iter().find(|(shard, _)| !has(shard)) {
                let count = shards.keys().filter(|shard| !has(shard)).count();
                return Err(file_error(
                    folder,
                    format!(
                        "{missing} is missing (the first of {count} of {} files; {} says that it holds {tensor}, for \
                         one); download it again",
                        shards.len(),
                        safetensors::INDEX
                    ),
                ));
            }
            shards.into_keys().collect()
        } else if let [only] = ending(".safetensors")[..] {
            vec![only.clone()]
        } else if let [only] = ending(".gguf")[..] {
            return Self::open(&folder.join(only));
        } else {
            return Err(file_error(folder, no_weights(&files)));
        };
        let mut parsed = Parsed::default();
        let mut maps = Vec::new();
        for shard in shards {
            let path = folder.join(&shard);
            let map = map_file(&path)?;
            safetensors::parse(&map, maps.len(), &mut parsed)
                .map_err(|problem| file_error(&path, problem))?;
            maps.push(map);
        }
        Ok(Self::from_parsed(
            folder,
            Container::Safetensors,
            maps,
            parsed,
        ))
    }

    fn from_parsed(path: &Path, container: Container, maps: Vec<Mmap>, parsed: Parsed) -> Self {
        Self {
            path: path.to_owned(),
            container,
            maps,
            metadata: parsed.metadata,
            tensors: parsed.tensors,
        }
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that holds `config.json` and `tokenizer.json`, if there are any.
    pub fn folder(&self) -> &Path {
        if self.path.is_dir() {
            &self.path
        } else {
            self.path.parent().unwrap_or(Path::new("."))
        }
    }

    /// Gives the map's pages back to the system: they stop counting as this process's memory, and a later read fetches
    /// them again. For when the weights were packed and the originals have served.
    pub fn release(&self) {
        self.maps.iter().for_each(release_map);
    }

    /// Which kind of file it is.
    pub fn container(&self) -> Container {
        self.container
    }

    /// A GGUF metadata value; none for safetensors.
    pub fn metadata(&self, key: &str) -> Option<&MetaValue> {
        self.metadata.get(key)
    }

    /// Keys of the metadata, sorted.
    pub fn metadata_keys(&self) -> impl Iterator<Item = &str> {
        self.metadata.keys().map(String::as_str)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether the file holds a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor; none if it is missing or stored in a format that Billion does not read.
    pub fn tensor(&self, name: &str) -> Option<TensorView<'_>> {
        self.require(name).ok()
    }

    /// A tensor, or why there is none.
    pub fn require(&self, name: &str) -> Result<TensorView<'_>, Error> {
        let problem = match self.tensors.get(name) {
            None => format!(
                "missing among the {} tensors of {}; the file is incomplete or of another model",
                self.tensors.len(),
                self.path.display()
            ),
            Some(entry) => match &entry.format {
                Ok(format) => {
                    return Ok(TensorView {
                        name: name.to_owned(),
                        format: *format,
                        shape: entry.shape.clone(),
                        bytes: Cow::Borrowed(
                            &self.maps[entry.map][entry.start..entry.start + entry.len],
                        ),
                        rows: None,
                    });
                }
                Err(found) => {
                    format!(
                        "stored as {found}, which Billion does not read; it reads F32, F16 and BF16"
                    )
                }
            },
        };
        Err(Error::Tensor {
            tensor: name.to_owned(),
            problem,
        })
    }

    /// Numbers in all tensors.
    pub fn elements(&self) -> u64 {
        self.tensors
            .values()
            .map(|entry| entry.shape.iter().map(|&dim| dim as u64).product::<u64>())
            .sum()
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.values().map(|entry| entry.len as u64).sum()
    }

    /// Bytes of the files, headers included.
    pub fn file_bytes(&self) -> u64 {
        self.maps.iter().map(|map| map.len() as u64).sum()
    }

    /// Bytes of all tensors by format, most first.
    pub fn bytes_by_format(&self) -> Vec<(Format, u64)> {
        let mut sums = BTreeMap::new();
        for entry in self.tensors.values() {
            if let Ok(format) = entry.format {
                *sums.entry(format).or_insert(0u64) += entry.len as u64;
            }
        }
        let mut sums: Vec<_> = sums.into_iter().collect();
        sums.sort_by_key(|&(_, bytes)| std::cmp::Reverse(bytes));
        sums
    }
}

const PICKLE: &str = "PyTorch pickle files are not read, because they can run code; get a safetensors or GGUF version \
                      of the model, or convert it";

fn no_weights(files: &[String]) -> String {
    let count = |ending: &str| files.iter().filter(|file| file.ends_with(ending)).count();
    let ggufs = count(".gguf");
    let tensors = count(".safetensors");
    let pickles: usize = [".bin", ".pt", ".pth", ".ckpt"]
        .into_iter()
        .map(count)
        .sum();
    if ggufs > 1 {
        return format!("the folder holds {ggufs} GGUF files; open one of them");
    }
    if tensors > 1 {
        return format!(
            "the folder holds {tensors} safetensors files but no {}; download that file too",
            safetensors::INDEX
        );
    }
    if pickles > 0 {
        return format!("the folder holds {pickles} PyTorch pickle files and no others: {PICKLE}");
    }
    format!(
        "no weights among the {} files of the folder; expected model.safetensors, {} or a .gguf file",
        files.len(),
        safetensors::INDEX
    )
}

/// Names of the files in a folder, sorted.
fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| read_error(folder, source))? {
        let entry = entry.map_err(|source| read_error(folder, source))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Gives a map's pages back to the system; a later read fetches them again.
pub(crate) fn release_map(map: &Mmap) {
    #[cfg(unix)]
    {
        #[expect(
            unsafe_code,
            reason = "without it every loaded model counts twice, packed and mapped"
        )]
        // SAFETY: the map is read-only and backed by a file, so dropped pages come back with the same bytes.
        let outcome = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        // A system that refuses keeps the pages, which costs memory and nothing else.
        drop(outcome);
    }
    #[cfg(not(unix))]
    let _ = map;
}

/// A file's bytes, read when they are looked at.
pub(crate) fn map_file(path: &Path) -> Result<Mmap, Error> {
    let file = File::open(path).map_err(|source| read_error(path, source))?;
    let about = file.metadata().map_err(|source| read_error(path, source))?;
    if !about.is_file() {
        return Err(file_error(path, "not a file".to_owned()));
    }
    if about.len() == 0 {
        return Err(file_error(
            path,
            "the file is empty (0 bytes); download it again".to_owned(),
        ));
    }
    #[expect(
        unsafe_code,
        reason = "a model must not be copied into memory to be read; the map is the point of this module"
    )]
    // SAFETY: the map is read-only and private to `Weights`. A program that cuts the file short while it is mapped
    // would end this process by SIGBUS: models are opened in the worker process, which may die without harm.
    let map = unsafe { Mmap::map(&file) };
    map.map_err(|source| read_error(path, source))
}

pub(crate) fn read_error(path: &Path, source: std::io::Error) -> Error {
    Error::Read {
        path: path.to_owned(),
        source,
    }
}

pub(crate) fn file_error(path: &Path, problem: String) -> Error {
    Error::File {
        path: path.to_owned(),
        problem,
    }
}
