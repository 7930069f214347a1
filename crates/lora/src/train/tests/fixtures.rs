//! Tiny models, what PEFT computed with them (`tests/fixtures/make.py`), and an engine without files.

use std::path::{Path, PathBuf};

use billion_kernels::Isa;
use billion_llm::adapter::{Adapter, Module, Target};
use billion_llm::load::ModelFiles;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::dataset::Example;
use crate::train::cpu::{CpuEngine, CpuSettings};
use crate::train::engine::{Engine, Work};
use crate::train::options::TrainOptions;
use crate::train::plan::scored;
use crate::train::trainable::Trainable;

/// (fixture of this crate, folder or file of crates/llm's).
pub const CASES: [(&str, &str); 9] = [
    ("gqa", "gqa"),
    ("gqa", "gqa.gguf"),
    ("llama3", "llama3"),
    ("llama3", "llama3.gguf"),
    ("stablelm_1_6b", "families/stablelm_1_6b"),
    ("stablelm_12b", "families/stablelm_12b"),
    ("pythia", "families/pythia"),
    ("pythia", "families/pythia.gguf"),
    ("neox_serial", "families/neox_serial"),
];

pub fn model(name: &str) -> ModelFiles {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../llm/tests/fixtures")
        .join(name);
    ModelFiles::open(&path).unwrap()
}

/// What PEFT and PyTorch computed.
pub struct Peft {
    pub rows: Vec<Example>,
    pub options: TrainOptions,
    pub losses: Vec<f64>,
    file: Vec<u8>,
}

pub fn peft(name: &str) -> Peft {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/fixtures"]
        .iter()
        .collect();
    let file = std::fs::read(path.join(format!("{name}.safetensors"))).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
    let said: Value =
        serde_json::from_str(&metadata.metadata().as_ref().unwrap()["options"]).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let rows = (0..3)
        .map(|i| {
            let tokens = tensors.tensor(&format!("tokens.{i}")).unwrap();
            let scored = tensors.tensor(&format!("scored.{i}")).unwrap();
            let tokens = tokens.data().as_chunks::<4>().0;
            Example {
                tokens: tokens.iter().map(|t| u32::from_le_bytes(*t)).collect(),
                scored: scored.data().iter().map(|s| *s != 0).collect(),
                row: i + 1,
            }
        })
        .collect();
    let losses = tensors.tensor("losses").unwrap();
    let losses = losses.data().as_chunks::<8>().0;
    let losses = losses.iter().map(|l| f64::from_le_bytes(*l)).collect();
    let number = |key: &str| said[key].as_f64().unwrap() as f32;
    let options = TrainOptions {
        rank: number("rank") as u32,
        alpha: number("alpha"),
        rslora: said["rslora"].as_bool().unwrap(),
        learning_rate: number("learning_rate"),
        targets: vec!["all-linear".to_owned()],
        ..TrainOptions::default()
    };
    Peft {
        rows,
        options,
        losses,
        file,
    }
}

impl Peft {
    /// A and B of every module under "start" or "gradient", as an adapter.
    pub fn adapter(&self, what: &str, files: &ModelFiles, like: &Adapter) -> Adapter {
        let tensors = SafeTensors::deserialize(&self.file).unwrap();
        let spec = files.spec();
        let modules = like.modules.iter().map(|module| {
            let name = module.target.name(spec).unwrap();
            let (blocks, part) = match (spec.architecture.as_str(), module.target) {
                ("gpt_neox", Target::Up | Target::Down) => ("gpt_neox.layers", "mlp"),
                ("gpt_neox", _) => ("gpt_neox.layers", "attention"),
                (_, Target::Gate | Target::Up | Target::Down) => ("model.layers", "mlp"),
                _ => ("model.layers", "self_attn"),
            };
            let numbers = |letter: &str| -> Vec<f32> {
                let path = format!(
                    "{what}.{blocks}.{}.{part}.{name}.lora_{letter}",
                    module.layer
                );
                let view = tensors.tensor(&path).unwrap();
                let chunks = view.data().as_chunks::<4>().0;
                chunks
                    .iter()
                    .map(|four| f32::from_le_bytes(*four))
                    .collect()
            };
            Module {
                a: numbers("A"),
                b: numbers("B"),
                ..module.clone()
            }
        });
        Adapter {
            config: like.config.clone(),
            modules: modules.collect(),
        }
    }
}

/// How a test's engine computes.
#[derive(Clone, Copy)]
pub struct How {
    pub isa: Isa,
    pub threads: usize,
    pub recompute: bool,
}

impl Default for How {
    fn default() -> Self {
        Self {
            isa: Isa::detect(),
            threads: 2,
            recompute: false,
        }
    }
}

/// Calls `f` with an engine of the model.
pub fn with_engine<T>(
    files: &ModelFiles,
    trainable: &Trainable,
    how: How,
    f: impl FnOnce(&mut dyn Engine) -> T,
) -> T {
    let tensors = files.tensors().unwrap();
    let settings = CpuSettings {
        isa: how.isa,
        threads: how.threads,
        recompute: how.recompute,
        weight_bytes: 0,
    };
    f(&mut CpuEngine::new(files.spec(), &tensors, trainable, &settings).unwrap())
}

/// Mean loss and its gradient.
pub fn gradients(
    engine: &mut dyn Engine,
    numbers: &[f32],
    rows: &[Example],
    dropout: f32,
) -> (f64, Vec<f32>) {
    let rows: Vec<(&Example, u64)> = rows.iter().map(|row| (row, u64::from(row.row))).collect();
    let count = scored(&rows);
    let mut gradients = vec![0.0; numbers.len()];
    let work = Work {
        numbers,
        examples: &rows,
        scale: 1.0 / count as f32,
        dropout,
    };
    let loss = engine.gradients(&work, &mut gradients).unwrap();
    (loss / count as f64, gradients)
}
