//! LoRA adapters (E. Hu et al. 2021, arXiv 2106.09685): a linear map W gets scale * B * A added, B (out, rank) and A (rank,
//! in) small.
//!
//! It owns what an adapter is, PEFT's files, and the mapping from those to the rows of a model as it is loaded. It trains
//! nothing (`billion-lora`); both executors apply what `attach` gives.
//!
//! On disk rows are in the order of the Hugging Face checkpoint. A model in memory may differ twice: GGUF files of Llama have
//! the rows of q and k permuted so that neighbours rotate together, and GPT-NeoX fuses queries, keys and values head by head.

use std::sync::Arc;

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
