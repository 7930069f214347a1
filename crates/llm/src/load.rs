//! Opens a model file or folder, and loads it into an executor.
//!
//! `ModelFiles` is everything that can be known without loading: description, tokenizer, chat template, sizes, each
//! checked. `load` packs the weights. It owns no parsing and no arithmetic.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Error;
use crate::adapter::Adapter;
use crate::candle::{CandleDecoder, CandleOptions};
use crate::chat_template::ChatTemplate;
use crate::cpu::{CpuDecoder, CpuOptions};
use crate::decoder::Decoder;
use crate::device::Device;
use crate::models::{self, Description};
use crate::spec::{DecoderSpec, DecoderTensors, TensorView};
use crate::tokenizer::Tokenizer;
use crate::weights::{Container, MetaValue, Weights};

/// More threads than any machine that Billion runs on has.
const MAX_THREADS: usize = 1024;

/// A model that was opened and checked, but not loaded.
#[derive(Debug)]
pub struct ModelFiles {
    weights: Weights,
    description: Description,
    /// Numbers and bytes of the tensors that the decoder reads.
    elements: u64,
    bytes: u64,
    tokenizer: Arc<Tokenizer>,
    /// The template, or why there is none although the model has one.
    chat_template: Option<Result<ChatTemplate, Error>>,
}

impl ModelFiles {
    /// Opens a GGUF file, or a folder (or a file in one) of safetensors with `config.json` and `tokenizer.json`. Checks
    /// that every tensor is there in the shape that the configuration asks for.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let weights = Weights::open(path)?;
        let description = models::describe(&weights)?;
        let tensors = models::tensors(&weights, &description)?;
        let elements = tensors.all().map(|view| view.elements() as u64).sum();
        let bytes = tensors.all().filter_map(TensorView::stored_bytes);
        let bytes = bytes.map(|bytes| bytes as u64).sum();
        drop(tensors);
        let tokenizer = match weights.container() {
            Container::Gguf => Tokenizer::from_gguf(&weights)?,
            Container::Safetensors => Tokenizer::from_folder(weights.folder())?,
        };
        let chat_template = chat_template_source(&weights)?
            .map(|source| ChatTemplate::new(&source, &tokenizer.bos_text(), &tokenizer.eos_text()));
        Ok(Self {
            weights,
            description,
            elements,
            bytes,
            tokenizer: Arc::new(tokenizer),
            chat_template,
        })
    }

    /// What the decoder computes.
    pub fn spec(&self) -> &DecoderSpec {
        &self.description.spec
    }

    /// The mapped files.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// How messages become a prompt; none for a base model, and for one whose template cannot be read.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()?.as_ref().ok()
    }

    /// Why the model's chat template cannot be used, where it has one that cannot. Everything but chat works without.
    pub fn chat_template_problem(&self) -> Option<&Error> {
        self.chat_template.as_ref()?.as_ref().err()
    }

    /// The tensors by role, borrowed from the map.
    pub fn tensors(&self) -> Result<DecoderTensors<TensorView<'_>>, Error> {
        models::tensors(&self.weights, &self.description)
    }

    /// Parameters: numbers in all tensors that the decoder reads, so not the masks of old checkpoints. A tied head is
    /// counted once.
    pub fn params(&self) -> u64 {
        self.elements
    }

    /// How the weights are stored, for people: what a GGUF file says of itself ("Q4_K_M"), else the format that most
    /// bytes are in.
    pub fn quant(&self) -> String {
        let named = self
            .weights
            .metadata("general.file_type")
            .and_then(MetaValue::as_u64)
            .and_then(file_type_name);
        if let Some(name) = named {
            return name.to_owned();
        }
        match self.weights.bytes_by_format().first() {
            Some((format, _)) => format.name().to_owned(),
            None => "unknown".to_owned(),
        }
    }

    /// Bytes in the file of all tensors that the decoder reads.
    pub fn weight_bytes(&self) -> u64 {
        self.bytes
    }
}

/// Which executor runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Executor {
    /// Billion's own kernels.
    #[default]
    Cpu,
    /// candle, in F32: slow and large, the second opinion. It is also what runs a model on a GPU, with weights held as stored.
    Candle,
}

/// How to load a model. Nothing said: the CPU executor, all cores, the model's own context.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Where it runs.
    pub device: Device,
    /// Which executor runs it on the processor; on a GPU there is only candle's.
    pub executor: Executor,
    /// Threads that compute; the cores of this machine if none.
    pub threads: Option<usize>,
    /// Most tokens a sequence may hold; the model's own limit if none. More than that is refused.
    pub context_len: Option<usize>,
    /// Folder of a PEFT adapter that sequences are opened with.
    pub adapter: Option<PathBuf>,
}

/// A loaded model and what speaks for it.
pub struct Loaded {
    /// Turns tokens into logits.
    pub decoder: Box<dyn Decoder>,
    /// Turns text into tokens.
    pub tokenizer: Arc<Tokenizer>,
    /// Turns messages into a prompt; none for base models.
    pub chat_template: Option<ChatTemplate>,
    /// What the decoder computes.
    pub spec: DecoderSpec,
    /// What the arithmetic runs on: "AVX512-VNNI", "AVX2", "scalar"; "candle" for the candle executor, "CUDA" or "Metal" on a
    /// GPU.
    pub isa: &'static str,
    /// Threads that compute; on a GPU the one that feeds it.
    pub threads: usize,
    /// How long loading took.
    pub load_time: Duration,
}

impl Loaded {
    /// Sequences opened from now on are computed with the adapter in this folder, or with none. The weights stay.
    pub fn swap_adapter(&mut self, folder: Option<&Path>) -> Result<(), Error> {
        let adapter = match folder {
            Some(folder) => Some(Adapter::read(folder, &self.spec)?.attach(&self.spec)?),
            None => None,
        };
        let set = self.decoder.set_adapter(adapter.as_ref());
        set.map_err(|error| Error::Unsupported(error.to_string()))
    }
}

/// Loads an opened model.
pub fn load(files: &ModelFiles, options: &LoadOptions) -> Result<Loaded, Error> {
    let start = Instant::now();
    let spec = files.spec();
    let threads = match options.threads {
        None => default_threads(),
        Some(threads) if (1..=MAX_THREADS).contains(&threads) => threads,
        Some(threads) => {
            return Err(Error::Unsupported(format!(
                "{threads} threads: expected 1 to {MAX_THREADS}"
            )));
        }
    };
    if let Some(asked) = options.context_len
        && !(1..=spec.context_len).contains(&asked)
    {
        return Err(Error::Unsupported(format!(
            "a context of {asked} tokens: the model was made for at most {0}; choose 1 to {0}",
            spec.context_len
        )));
    }
    // What does not fit is told before minutes of loading.
    let adapter = match &options.adapter {
        Some(folder) => Some(Adapter::read(folder, spec)?.attach(spec)?),
        None => None,
    };
    let tensors = files.tensors()?;
    let (mut decoder, isa, threads): (Box<dyn Decoder>, _, _) =
        match (options.device, options.executor) {
            (Device::Cpu, Executor::Cpu) => {
                let options = CpuOptions {
                    threads,
                    context_len: options.context_len,
                    isa: None,
                };
                let release = || files.weights().release();
                let decoder = CpuDecoder::load_stepwise(spec, &tensors, &options, &release)?;
                let (isa, threads) = (decoder.isa().name(), decoder.threads());
                (Box::new(decoder), isa, threads)
            }
            (device, _) => {
                let options = CandleOptions {
                    context_len: options.context_len,
                    ..CandleOptions::on(device.open()?)
                };
                let decoder = CandleDecoder::load(spec, &tensors, &options)?;
                let (isa, threads) = match device {
                    // candle sizes its own pool.
                    Device::Cpu => ("candle", candle_core::utils::get_num_threads()),
                    Device::Cuda => ("CUDA", 1),
                    Device::Metal => ("Metal", 1),
                };
                (Box::new(decoder), isa, threads)
            }
        };
    drop(tensors);
    files.weights().release();
    if adapter.is_some() {
        let set = decoder.set_adapter(adapter.as_ref());
        set.map_err(|error| Error::Unsupported(error.to_string()))?;
    }
    Ok(Loaded {
        decoder,
        tokenizer: Arc::clone(files.tokenizer()),
        chat_template: files.chat_template().cloned(),
        spec: spec.clone(),
        isa,
        threads,
        load_time: start.elapsed(),
    })
}

/// Cores that this process may use, hyperthreads not counted: two on one core share the units that the kernels keep
/// busy.
pub(crate) fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    match physical_cores() {
        Some(cores) => cores.clamp(1, allowed),
        None => allowed,
    }
}

/// Physical cores, as Linux lists them; none elsewhere.
fn physical_cores() -> Option<usize> {
    let mut cores = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir("/sys/devices/system/cpu").ok()? {
        let siblings = entry.ok()?.path().join("topology/thread_siblings_list");
        if let Ok(list) = std::fs::read_to_string(siblings) {
            cores.insert(list);
        }
    }
    (!cores.is_empty()).then_some(cores.len())
}

/// Source of the chat template, where the model has one. As transformers looks for it: a file of its own first.
pub(crate) fn chat_template_source(weights: &Weights) -> Result<Option<String>, Error> {
    if weights.container() == Container::Gguf {
        let value = weights.metadata("tokenizer.chat_template");
        return Ok(value.and_then(MetaValue::as_str).map(str::to_owned));
    }
    let read = |name: &str| -> Result<Option<Vec<u8>>, Error> {
        let path = weights.folder().join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    };
    if let Some(source) = read("chat_template.jinja")? {
        return match String::from_utf8(source) {
            Ok(source) => Ok(Some(source)),
            Err(_) => Err(Error::ChatTemplate(
                "chat_template.jinja is not valid UTF-8; download it again".to_owned(),
            )),
        };
    }
    for name in ["chat_template.json", "tokenizer_config.json"] {
        let Some(bytes) = read(name)? else { continue };
        let json: Value = serde_json::from_slice(&bytes).map_err(|error| Error::File {
            path: weights.folder().join(name),
            problem: format!("not valid JSON ({error}); download it again"),
        })?;
        if let Some(source) = template_in(&json["chat_template"]) {
            return Ok(Some(source));
        }
    }
    Ok(None)
}

/// A template, or the one named "default" of several.
fn template_in(value: &Value) -> Option<String> {
    match value {
        Value::String(source) => Some(source.clone()),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        _ => None,
    }
}

/// `enum llama_ftype` (llama.h) of the formats that Billion runs.
fn file_type_name(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        21 => "Q2_K_S",
        32 => "BF16",
        _ => return None,
    })
}
