//! LoRA adapters (E. Hu et al. 2021, arXiv 2106.09685): a linear map W gets scale * B * A added, B (out, rank) and A (rank,
//! in) small.
//!
//! It owns what an adapter is, PEFT's files, and the mapping from those to the rows of a model as it is loaded. It trains
//! nothing (`billion-lora`); both executors apply what `attach` gives.
//!
//! On disk rows are in the order of the Hugging Face checkpoint. A model in memory may differ twice: GGUF files of Llama have
//! the rows of q and k permuted so that neighbours rotate together, and GPT-NeoX fuses queries, keys and values head by head.

mod attach;
mod config;
mod file;
mod targets;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::spec::{DecoderSpec, Mlp};
pub use targets::{Targets, targets};

/// Largest rank that is read: at the size of a model's own matrices an adapter has no point.
pub const MAX_RANK: usize = 4096;

/// A linear map that an adapter can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention's output.
    O,
    /// The gate of a SwiGLU MLP.
    Gate,
    /// Into the MLP.
    Up,
    /// Out of the MLP.
    Down,
    /// Queries, keys and values in one map, head by head (GPT-NeoX).
    Qkv,
}

/// What `adapter_config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterConfig {
    /// Rank of every module that has none of its own.
    pub r: usize,
    /// Strength: the product is scaled by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Scaled by `lora_alpha / sqrt(r)` instead (D. Kalajdzievski 2023, arXiv 2312.03732).
    pub use_rslora: bool,
    /// Share of inputs dropped in training; nothing is dropped when the adapter is used.
    pub lora_dropout: f64,
    /// Names of the adapted linear maps, as PEFT spells them ("q_proj").
    pub target_modules: Vec<String>,
    /// The model it was trained on, as whoever trained it named it.
    pub base_model: Option<String>,
}

impl AdapterConfig {
    /// What the product of a module of this rank is multiplied by.
    pub fn scale(&self, rank: usize) -> f32 {
        scale(self.lora_alpha, rank, self.use_rslora)
    }
}

/// `alpha / rank`, or `alpha / sqrt(rank)` for rank-stabilised LoRA.
fn scale(alpha: f64, rank: usize, use_rslora: bool) -> f32 {
    let rank = rank as f64;
    (alpha / if use_rslora { rank.sqrt() } else { rank }) as f32
}

/// One adapted linear map, rows in the order of the Hugging Face checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// Number of the block.
    pub layer: usize,
    /// Which linear map of it.
    pub target: Target,
    /// Its rank.
    pub rank: usize,
    /// What its product is multiplied by.
    pub scale: f32,
    /// Shape: (rank, in).
    pub a: Vec<f32>,
    /// Shape: (out, rank).
    pub b: Vec<f32>,
}

/// An adapter as it is on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// How it was made.
    pub config: AdapterConfig,
    /// By block, then by target.
    pub modules: Vec<Module>,
}

impl Adapter {
    /// Numbers in all modules.
    pub fn params(&self) -> u64 {
        let of = |module: &Module| (module.a.len() + module.b.len()) as u64;
        self.modules.iter().map(of).sum()
    }
}

/// What is added to one linear map of a loaded model: scale * B * A.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Rows of A, columns of B.
    pub rank: usize,
    /// What the product is multiplied by.
    pub scale: f32,
    /// Shape: (rank, in). Queries, keys and values of a fused map share one.
    pub a: Arc<Vec<f32>>,
    /// Shape: (out, rank), rows in the order of the loaded model.
    pub b: Vec<f32>,
}

/// What is added to the linear maps of one block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttachedLayer {
    /// To queries.
    pub q: Option<LowRank>,
    /// To keys.
    pub k: Option<LowRank>,
    /// To values.
    pub v: Option<LowRank>,
    /// To attention's output.
    pub o: Option<LowRank>,
    /// To the MLP's gate.
    pub gate: Option<LowRank>,
    /// Into the MLP.
    pub up: Option<LowRank>,
    /// Out of the MLP.
    pub down: Option<LowRank>,
}

/// An adapter in the row order of one loaded model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttachedLayers {
    /// One a block.
    pub layers: Vec<AttachedLayer>,
}

impl AttachedLayer {
    /// What is added, in the order of [`Target`]: queries, keys, values, output, gate, up, down.
    pub fn all(&self) -> impl Iterator<Item = (Target, &LowRank)> {
        [
            (Target::Q, &self.q),
            (Target::K, &self.k),
            (Target::V, &self.v),
            (Target::O, &self.o),
            (Target::Gate, &self.gate),
            (Target::Up, &self.up),
            (Target::Down, &self.down),
        ]
        .into_iter()
        .filter_map(|(target, low_rank)| Some((target, low_rank.as_ref()?)))
    }

    /// The place of a linear map; none for the fused one.
    pub fn place(&mut self, target: Target) -> Option<&mut Option<LowRank>> {
        Some(match target {
            Target::Q => &mut self.q,
            Target::K => &mut self.k,
            Target::V => &mut self.v,
            Target::O => &mut self.o,
            Target::Gate => &mut self.gate,
            Target::Up => &mut self.up,
            Target::Down => &mut self.down,
            Target::Qkv => return None,
        })
    }
}

impl AttachedLayers {
    /// Says which matrix does not fit a model.
    pub(crate) fn check(&self, spec: &DecoderSpec) -> Result<(), String> {
        if self.layers.len() != spec.layers {
            return Err(format!(
                "an adapter of {} blocks for a model of {}",
                self.layers.len(),
                spec.layers
            ));
        }
        for (index, layer) in self.layers.iter().enumerate() {
            for (target, low_rank) in layer.all() {
                let (out, cols) = target.shape(spec);
                let LowRank { rank, a, b, .. } = low_rank;
                let gated = target != Target::Gate || spec.mlp == Mlp::SwiGlu;
                if *rank == 0 || a.len() != rank * cols || b.len() != out * rank || !gated {
                    return Err(format!(
                        "the adapter's block {index} {target:?} of rank {rank} has {} and {} numbers; the model's map is \
                         {out} x {cols}",
                        a.len(),
                        b.len()
                    ));
                }
            }
        }
        Ok(())
    }

    /// Bytes of its numbers; a shared A counts once.
    pub fn bytes(&self) -> usize {
        let mut seen = std::collections::BTreeSet::new();
        let mut numbers = 0;
        for (_, low_rank) in self.layers.iter().flat_map(AttachedLayer::all) {
            numbers += low_rank.b.len();
            if seen.insert(Arc::as_ptr(&low_rank.a)) {
                numbers += low_rank.a.len();
            }
        }
        numbers * size_of::<f32>()
    }
}
