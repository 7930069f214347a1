//! `adapter_model.safetensors`: reads an adapter's folder and writes one that PEFT loads.
//!
//! Tensors are called `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`, as PEFT's `save_pretrained` calls
//! them. A file is not trusted: names, shapes, sizes and every number are checked.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, View};

use super::config::{self, Read};
use super::targets::{blocks, last};
use super::{Adapter, AdapterConfig, Module, Target};
use crate::Error;
use crate::spec::DecoderSpec;

/// Its name in the folder of an adapter.
pub(super) const NAME: &str = "adapter_model.safetensors";

/// What PEFT puts before the path of a module of a causal language model.
const PREFIX: &str = "base_model.model.";

/// Bytes of a header beyond which it is no adapter: a line a tensor, thousands at most.
const MAX_HEADER: u64 = 16 << 20;

/// The two matrices of a module, as the file has them.
#[derive(Default)]
struct Pair<'a> {
    a: Option<TensorView<'a>>,
    b: Option<TensorView<'a>>,
}

impl Adapter {
    /// Reads `adapter_config.json` and `adapter_model.safetensors` of a folder and checks that they fit the model.
    pub fn read(folder: &Path, spec: &DecoderSpec) -> Result<Self, Error> {
        let read = config::read(folder)?;
        let path = folder.join(NAME);
        let bytes = bytes_of(folder, &path, largest(&read, spec))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| Error::File {
            path: path.clone(),
            problem: format!(
                "not a whole safetensors file ({error}; it has {} bytes); write the adapter again or download it again",
                bytes.len()
            ),
        })?;
        let modules = modules(&file, &read, spec).map_err(|problem| Error::File {
            path: path.clone(),
            problem,
        })?;
        // The list in the settings may be a pattern, or name what is not there: the tensors tell.
        let mut targets: Vec<Target> = modules.iter().map(|module| module.target).collect();
        targets.sort_unstable();
        targets.dedup();
        let names = targets.iter().filter_map(|target| target.name(spec));
        let config = AdapterConfig {
            target_modules: names.map(str::to_owned).collect(),
            ..read.config
        };
        Ok(Self { config, modules })
    }

    /// Writes the folder that PEFT loads. Each file is written beside its place, brought to the disk and renamed, the
    /// weights first: a folder with settings is whole.
    pub fn write(&self, folder: &Path, spec: &DecoderSpec) -> Result<(), Error> {
        self.check_for_writing(spec)?;
        std::fs::create_dir_all(folder).map_err(|source| Error::Write {
            path: folder.to_owned(),
            source,
        })?;
        let mut tensors = BTreeMap::new();
        for module in &self.modules {
            let (out, cols) = module.target.shape(spec);
            let path = module_path(module, spec);
            let a = Numbers(&module.a, [module.rank, cols]);
            let b = Numbers(&module.b, [out, module.rank]);
            tensors.insert(format!("{PREFIX}{path}.lora_A.weight"), a);
            tensors.insert(format!("{PREFIX}{path}.lora_B.weight"), b);
        }
        let about = [("format".to_owned(), "pt".to_owned())];
        let bytes = safetensors::serialize(tensors, Some(about.into_iter().collect()))
            .map_err(|error| Error::Backend(format!("the adapter cannot be laid out: {error}")))?;
        put(&folder.join(NAME), &bytes)?;
        let settings = config::write(&self.config, &self.modules, spec);
        put(&folder.join(config::NAME), settings.as_bytes())?;
        if let Ok(folder) = File::open(folder) {
            // The names survive a power cut then; a system that cannot do that for folders keeps the files all the same.
            let _ = folder.sync_all();
        }
        Ok(())
    }

    fn check_for_writing(&self, spec: &DecoderSpec) -> Result<(), Error> {
        for module in &self.modules {
            let (out, cols) = module.target.shape(spec);
            let fits = module.a.len() == module.rank * cols && module.b.len() == out * module.rank;
            if !fits || module.target.name(spec).is_none() || module.layer >= spec.layers {
                return Err(Error::Unsupported(format!(
                    "block {} {:?} of rank {} with {} and {} numbers does not fit a {} model of {} blocks whose map is \
                     {out} x {cols}",
                    module.layer,
                    module.target,
                    module.rank,
                    module.a.len(),
                    module.b.len(),
                    spec.architecture,
                    spec.layers
                )));
            }
            let all = module.a.iter().chain(&module.b);
            if let Some(odd) = all.copied().find(|x| !x.is_finite()) {
                return Err(Error::Unsupported(format!(
                    "block {} {:?} holds {odd}: the training diverged, so it is not written",
                    module.layer, module.target
                )));
            }
        }
        Ok(())
    }
}

/// The path of a module in the checkpoint: "model.layers.0.self_attn.q_proj".
pub(super) fn module_path(module: &Module, spec: &DecoderSpec) -> String {
    let known = Target::of(spec);
    let path = known.iter().find(|(target, _)| *target == module.target);
    let path = path.map_or("", |(_, path)| path);
    format!("{}{}.{path}", blocks(spec), module.layer)
}

/// A list of f32 as a safetensors tensor.
struct Numbers<'a>(&'a [f32], [usize; 2]);

impl View for Numbers<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.1
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.0.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
    fn data_len(&self) -> usize {
        size_of_val(self.0)
    }
}

/// Writes beside `path`, syncs, and renames.
fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".part");
    let draft = Path::new(&draft);
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let written = File::create(draft)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(draft, path));
    if written.is_err() {
        // Best effort: what is left ends in .part and is written over by the next attempt.
        let _ = std::fs::remove_file(draft);
    }
    written.map_err(failed)
}

/// Most bytes that an adapter of these ranks can have for this model.
fn largest(read: &Read, spec: &DecoderSpec) -> u64 {
    let mut bytes = MAX_HEADER;
    for layer in 0..spec.layers {
        for (target, path) in Target::of(spec) {
            let (out, cols) = target.shape(spec);
            let (rank, _) = read.of_module(&format!("{}{layer}.{path}", blocks(spec)));
            bytes += (rank * (out + cols)) as u64 * 4;
        }
    }
    bytes
}

fn bytes_of(folder: &Path, path: &Path, largest: u64) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let about = std::fs::metadata(path).map_err(|error| {
        if error.kind() != std::io::ErrorKind::NotFound {
            return failed(error);
        }
        let pickle = folder.join("adapter_model.bin").is_file();
        Error::File {
            path: folder.to_owned(),
            problem: if pickle {
                "the adapter is a pickle (adapter_model.bin), which can run code; save it again with \
                 safe_serialization=True"
                    .to_owned()
            } else {
                format!("{NAME} is missing; write the adapter again or download it again")
            },
        }
    })?;
    if about.len() > largest {
        return Err(Error::File {
            path: path.to_owned(),
            problem: format!(
                "{} bytes, but an adapter with these settings has at most {largest} for this model; it was trained for a \
                 larger one or holds more than LoRA matrices",
                about.len()
            ),
        });
    }
    std::fs::read(path).map_err(failed)
}

fn modules(file: &SafeTensors<'_>, read: &Read, spec: &DecoderSpec) -> Result<Vec<Module>, String> {
    let mut pairs: BTreeMap<(usize, Target), (String, Pair<'_>)> = BTreeMap::new();
    let mut names = file.names();
    names.sort_unstable();
    for name in names {
        let (layer, target, path, part) = place(name, spec)?;
        let view = file.tensor(name).map_err(|error| error.to_string())?;
        let (_, pair) = pairs
            .entry((layer, target))
            .or_insert_with(|| (path, Pair::default()));
        match part {
            Part::A => pair.a = Some(view),
            Part::B => pair.b = Some(view),
        }
    }
    if pairs.is_empty() {
        return Err(
            "it holds no tensors, so it changes nothing; train or download it again".to_owned(),
        );
    }
    pairs
        .into_iter()
        .map(|((layer, target), (path, pair))| {
            let (Some(a), Some(b)) = (pair.a, pair.b) else {
                return Err(format!(
                    "{path} has only one of lora_A and lora_B; the file is incomplete"
                ));
            };
            let (out, cols) = target.shape(spec);
            let (rank, scale) = read.of_module(&path);
            shape(&a, [rank, cols], &path, "lora_A")?;
            shape(&b, [out, rank], &path, "lora_B")?;
            Ok(Module {
                layer,
                target,
                rank,
                scale,
                a: numbers(&a, &path, "lora_A")?,
                b: numbers(&b, &path, "lora_B")?,
            })
        })
        .collect()
}

enum Part {
    A,
    B,
}

/// Block, linear map, path and matrix that a tensor's name means.
fn place(name: &str, spec: &DecoderSpec) -> Result<(usize, Target, String, Part), String> {
    let known = || {
        let names: Vec<_> = Target::of(spec)
            .into_iter()
            .map(|(_, path)| last(path))
            .collect();
        format!("a {} model has {}", spec.architecture, names.join(", "))
    };
    let stem = name.strip_suffix(".weight");
    let (path, part) = match stem {
        Some(stem) if stem.ends_with(".lora_A") => (&stem[..stem.len() - 7], Part::A),
        Some(stem) if stem.ends_with(".lora_B") => (&stem[..stem.len() - 7], Part::B),
        _ if name.contains("lora_magnitude_vector") => {
            return Err(format!(
                "{name}: DoRA magnitudes, which Billion does not run"
            ));
        }
        _ if name.contains("lora_embedding") => {
            return Err(format!(
                "{name}: an adapted embedding, which Billion does not run; it adapts linear maps of blocks ({})",
                known()
            ));
        }
        _ => {
            return Err(format!(
                "{name}: no LoRA matrix; Billion reads lora_A.weight and lora_B.weight of linear maps of blocks only"
            ));
        }
    };
    let path = path.strip_prefix(PREFIX).unwrap_or(path);
    let inside = path.strip_prefix(blocks(spec));
    let Some((layer, inside)) = inside.and_then(|inside| inside.split_once('.')) else {
        return Err(format!(
            "{path} is no linear map of a block that Billion adapts: {}, at {}N.; was it trained for another kind of \
             model?",
            known(),
            blocks(spec)
        ));
    };
    let Ok(layer) = layer.parse::<usize>() else {
        return Err(format!("{path}: {layer:?} is no number of a block"));
    };
    if layer >= spec.layers {
        return Err(format!(
            "it adapts block {layer}, but the model has blocks 0 to {}: it was trained for a deeper model",
            spec.layers.saturating_sub(1)
        ));
    }
    let targets = Target::of(spec);
    match targets.iter().find(|(_, known)| *known == inside) {
        Some((target, _)) => Ok((layer, *target, path.to_owned(), part)),
        None => Err(format!(
            "{path}: {inside} is no linear map that Billion adapts; {}",
            known()
        )),
    }
}

fn shape(
    view: &TensorView<'_>,
    expected: [usize; 2],
    path: &str,
    part: &str,
) -> Result<(), String> {
    if view.shape() == expected {
        return Ok(());
    }
    let [rank_at, width_at] = if part == "lora_A" { [0, 1] } else { [1, 0] };
    let why = match view.shape() {
        found @ [_, _] if found[width_at] != expected[width_at] => {
            "it was trained for a model of another size"
        }
        found @ [_, _] if found[rank_at] != expected[rank_at] => {
            "the rank in adapter_config.json is another one"
        }
        _ => "the file is damaged",
    };
    Err(format!(
        "{path}.{part} has the shape {:?}, expected {expected:?} for this model: {why}",
        view.shape()
    ))
}

fn numbers(view: &TensorView<'_>, path: &str, part: &str) -> Result<Vec<f32>, String> {
    let data = view.data();
    let numbers: Vec<f32> = match view.dtype() {
        Dtype::F32 => data
            .as_chunks::<4>()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
        Dtype::F16 => data
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&bytes| half::f16::from_le_bytes(bytes).to_f32())
            .collect(),
        Dtype::BF16 => data
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&bytes| half::bf16::from_le_bytes(bytes).to_f32())
            .collect(),
        other => {
            return Err(format!(
                "{path}.{part} is stored as {other:?}; Billion reads F32, F16 and BF16"
            ));
        }
    };
    if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
        return Err(format!(
            "{path}.{part}: number {at} is {}; the training diverged or the file is damaged",
            numbers[at]
        ));
    }
    Ok(numbers)
}
