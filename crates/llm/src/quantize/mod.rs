//! Makes GGUF files of model files: the numbers of each tensor in the format that a recipe gives it, and metadata that
//! llama.cpp and Billion read.
//!
//! A [`Plan`] says what the file will hold before anything is written; [`Plan::write`] streams tensor by tensor from the
//! map, a few megabytes at a time on all threads. It owns recipes, metadata and the writing; numbers become blocks in
//! `billion-kernels`, and what models are is read by `load` and `models`.

mod describe;
mod entries;
mod merge;
mod recipe;
mod tensors;
#[cfg(test)]
mod tests;
mod vocabulary;
mod write;

use std::path::{Path, PathBuf};

use billion_kernels::Format;

use crate::Error;
use crate::adapter::Adapter;
use crate::load::{ModelFiles, chat_template_source};
use crate::tokenizer::JsonConfigs;
use crate::weights::Container;
use entries::Entries;
pub use merge::MergeCheck;
use recipe::Recipe;
use tensors::Tensor;
pub use write::{Progress, WriteOptions, Written};

/// What a model can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quant {
    /// 4 bits, one scale in 32: fastest to compute with.
    Q4_0,
    /// 4 bits with scales and minima, more for the tensors that need it: the usual choice.
    Q4KM,
    /// 5 bits with scales and minima, more for the tensors that need it.
    Q5KM,
    /// 6 bits.
    Q6K,
    /// 8 bits: nothing lost that can be measured easily.
    Q8_0,
    /// Half floats.
    F16,
}

impl Quant {
    /// Every one, smallest first.
    pub const ALL: [Self; 6] = [
        Self::Q4_0,
        Self::Q4KM,
        Self::Q5KM,
        Self::Q6K,
        Self::Q8_0,
        Self::F16,
    ];

    /// As commands and references spell it: "q4_k_m".
    pub const fn id(self) -> &'static str {
        match self {
            Self::Q4_0 => "q4_0",
            Self::Q4KM => "q4_k_m",
            Self::Q5KM => "q5_k_m",
            Self::Q6K => "q6_k",
            Self::Q8_0 => "q8_0",
            Self::F16 => "f16",
        }
    }

    /// As people and files know it: "Q4_K_M".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4KM => "Q4_K_M",
            Self::Q5KM => "Q5_K_M",
            Self::Q6K => "Q6_K",
            Self::Q8_0 => "Q8_0",
            Self::F16 => "F16",
        }
    }

    /// The one of this id, in any case; or what there is.
    pub fn parse(id: &str) -> Result<Self, Error> {
        let known = |quant: &Self| quant.id().eq_ignore_ascii_case(id);
        Self::ALL.into_iter().find(known).ok_or_else(|| {
            Error::Unsupported(format!(
                "{id:?} is not a format that Billion writes; it writes {}",
                Self::ALL.map(Self::id).join(", ")
            ))
        })
    }

    /// Format of most tensors.
    const fn usual_format(self) -> Format {
        match self {
            Self::Q4_0 => Format::Q4_0,
            Self::Q4KM => Format::Q4_K,
            Self::Q5KM => Format::Q5_K,
            Self::Q6K => Format::Q6_K,
            Self::Q8_0 => Format::Q8_0,
            Self::F16 => Format::F16,
        }
    }

    /// `enum llama_ftype` (llama.h).
    const fn file_type(self) -> usize {
        match self {
            Self::Q4_0 => 2,
            Self::Q4KM => 15,
            Self::Q5KM => 17,
            Self::Q6K => 18,
            Self::Q8_0 => 7,
            Self::F16 => 1,
        }
    }
}

/// What is known of a model that its Hugging Face files do not say.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// What people call it.
    pub name: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// Who made it.
    pub publisher: Option<String>,
}

/// The file of `quant` that was made of the weights with this hash, inside the library's folder of models.
pub fn cached_path(models: &Path, sha256: &str, quant: Quant) -> PathBuf {
    models
        .join("quantized")
        .join(format!("{sha256}.{}.gguf", quant.id()))
}

/// Bytes of the tensors of a file of `quant`; the file has some more for its head.
pub fn tensor_bytes(files: &ModelFiles, quant: Quant) -> Result<u64, Error> {
    let planned = plan_tensors(files, quant, None, Vec::new())?;
    Ok(planned.iter().map(|tensor| tensor.bytes as u64).sum())
}

/// A file to be written: everything but its numbers.
#[derive(Debug)]
pub struct Plan<'a> {
    files: &'a ModelFiles,
    quant: Quant,
    /// What is merged into the weights.
    adapter: Option<&'a Adapter>,
    entries: Entries,
    tensors: Vec<Planned<'a>>,
}

/// A tensor and what becomes of it.
#[derive(Debug)]
struct Planned<'a> {
    tensor: Tensor<'a>,
    format: Format,
    /// In the file.
    bytes: usize,
    /// From the start of the data.
    offset: u64,
}

impl<'a> Plan<'a> {
    /// A file of `quant` from an opened model. Refuses a model that is quantized already: what was rounded once would be
    /// rounded again.
    pub fn new(files: &'a ModelFiles, quant: Quant, about: &About) -> Result<Self, Error> {
        refuse_quantized(files)?;
        Self::of(files, quant, about, None)
    }

    /// A file of `quant` from an opened model with an adapter merged into it. A model that is quantized already is taken too,
    /// since it is what the adapter was trained on: adapted tensors are rounded again, the others stay as they are unless
    /// `quant` has fewer bits.
    pub fn merged(
        files: &'a ModelFiles,
        adapter: &'a Adapter,
        quant: Quant,
        about: &About,
    ) -> Result<Self, Error> {
        Self::of(files, quant, about, Some(adapter))
    }

    fn of(
        files: &'a ModelFiles,
        quant: Quant,
        about: &About,
        adapter: Option<&'a Adapter>,
    ) -> Result<Self, Error> {
        let weights = files.weights();
        let (mut entries, extra) = match weights.container() {
            Container::Gguf => {
                let mut entries = Entries::of_file(weights.path())?;
                entries.retain(|key| !key.starts_with("split.") && key != "general.alignment");
                (entries, Vec::new())
            }
            Container::Safetensors => {
                let config = JsonConfigs::read(weights.folder())?.model;
                let (mut entries, extra) = describe::describe(files, &config, about)?;
                describe::kind(&mut entries, quant);
                let architecture = tensors::Layout::of(&files.spec().architecture)?.architecture;
                entries.extend(vocabulary::vocabulary(
                    weights.folder(),
                    files.tokenizer(),
                    files.spec().vocab_size,
                    architecture,
                )?);
                if let Some(template) = chat_template_source(weights)? {
                    entries.text("tokenizer.chat_template", template);
                }
                (entries, extra)
            }
        };
        describe::kind(&mut entries, quant);
        Ok(Self {
            files,
            quant,
            adapter,
            entries,
            tensors: plan_tensors(files, quant, adapter, extra)?,
        })
    }

    /// Bytes that the file will have.
    pub fn file_bytes(&self) -> u64 {
        let data = self
            .tensors
            .last()
            .map_or(0, |last| last.offset + last.bytes as u64);
        self.head().len() as u64 + write::aligned(data)
    }

    /// Name and format of every tensor, in the order of the file.
    pub fn formats(&self) -> impl Iterator<Item = (&str, Format)> {
        let tensors = self.tensors.iter();
        tensors.map(|planned| (planned.tensor.name.as_str(), planned.format))
    }
}

fn plan_tensors<'a>(
    files: &'a ModelFiles,
    quant: Quant,
    adapter: Option<&Adapter>,
    extra: Vec<Tensor<'static>>,
) -> Result<Vec<Planned<'a>>, Error> {
    let mut all: Vec<Tensor<'a>> = extra
        .into_iter()
        .map(|tensor| tensor as Tensor<'a>)
        .collect();
    all.extend(tensors::tensors(files)?);
    if let Some(adapter) = adapter {
        merge::adapt(files, adapter, &mut all)?;
    }
    let spec = files.spec();
    let model = recipe::Model {
        layers: spec.layers,
        grouped: spec.heads != spec.kv_heads,
    };
    let recipe = Recipe::new(quant, model, all.iter().map(|tensor| tensor.name.as_str()));
    let mut offset = 0;
    all.into_iter()
        .map(|tensor| {
            let format = match recipe.format(&tensor.name, &tensor.shape) {
                // Of a quantized model that an adapter is merged into.
                Some(format) if stays(&tensor, format) => tensor.stored(),
                Some(format) => format,
                None if tensor.from_gguf => tensor.stored(),
                None => Format::F32,
            };
            let (rows, cols) = tensor.rows();
            let too_large = || Error::Tensor {
                tensor: tensor.name.clone(),
                problem: format!("{rows} x {cols} numbers of {format} are not possible"),
            };
            // A list of one dimension is kept whole in its own format.
            let row_bytes = format.row_bytes(if tensor.shape.len() == 1 { rows } else { cols });
            let rows = if tensor.shape.len() == 1 { 1 } else { rows };
            let bytes = row_bytes
                .and_then(|bytes| bytes.checked_mul(rows))
                .ok_or_else(too_large)?;
            let at = offset;
            offset += write::aligned(bytes as u64);
            Ok(Planned {
                tensor,
                format,
                bytes,
                offset: at,
            })
        })
        .collect()
}

/// It is quantized, nothing is added to it, and the new format has as many bits or more.
fn stays(tensor: &Tensor<'_>, format: Format) -> bool {
    let stored = tensor.stored();
    let bits = |format: Format| format.block_bytes() as f64 / format.block_elems() as f64;
    tensor.from_gguf
        && stored.is_quantized()
        && tensor.added.is_empty()
        && bits(stored) <= bits(format)
}

/// Quantizing what is quantized already adds one rounding to another.
fn refuse_quantized(files: &ModelFiles) -> Result<(), Error> {
    let weights = files.weights();
    if weights.container() == Container::Safetensors {
        return Ok(());
    }
    for name in weights.names() {
        let view = weights.require(name)?;
        if recipe::is_quantizable(name, &view.shape) && view.format.is_quantized() {
            return Err(Error::Unsupported(format!(
                "{} is quantized already ({}; tensor {name} is {}): quantizing it again would round its weights twice; \
                 start from the F16, BF16 or F32 file, or from the safetensors of the model",
                weights.path().display(),
                files.quant(),
                view.format
            )));
        }
    }
    Ok(())
}
