//! What training a model takes, and what the machine has: decides whether blocks are run again in the backward pass.

use std::fs;

use billion_kernels::Format;
use billion_llm::load::ModelFiles;
use billion_llm::spec::{DecoderSpec, DecoderTensors, TensorView};

use super::cpu::{PASS_ROWS, saved_bytes};
use super::options::{Recompute, TrainOptions};
use super::run::state_bytes;
use crate::Error;

/// Weights above this are given back to the system block by block: reading them again from its cache costs little beside
/// multiplying by them.
const RELEASE_ABOVE: u64 = 512 << 20;

/// Part of the free memory that is planned with.
const SHARE: f64 = 0.8;

/// What was decided about memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryPlan {
    /// Run each block again in the backward pass.
    pub recompute: bool,
    /// Give pages of the mapped weights back after each block.
    pub release: bool,
    /// Bytes of weights that are in memory at a time.
    pub weight_bytes: u64,
}

/// Decides. `longest`: tokens of the longest row.
pub(super) fn plan(
    files: &ModelFiles,
    tensors: &DecoderTensors<TensorView<'_>>,
    options: &TrainOptions,
    (longest, trainable): (usize, usize),
) -> Result<MemoryPlan, Error> {
    let spec = files.spec();
    let release = files.weight_bytes() > RELEASE_ABOVE;
    let weight_bytes = if release {
        let largest = tensors
            .layers
            .iter()
            .map(|layer| stored(layer.all()))
            .max()
            .unwrap_or(0);
        let ends = stored([&tensors.embedding]).max(stored(&tensors.head));
        largest.max(ends)
    } else {
        files.weight_bytes()
    };
    let exact = tensors
        .all()
        .filter(|view| view.shape.len() > 1)
        .all(|view| view.format == Format::F32);
    let rows = PASS_ROWS.max(longest);
    let scratch = scratch_bytes(spec, rows);
    let needs = |recompute| {
        weight_bytes + scratch + state_bytes(trainable) + saved_bytes(spec, rows, exact, recompute)
    };
    let free = options
        .memory_bytes
        .or_else(|| Some((available()? as f64 * SHARE) as u64));
    let recompute = match options.recompute {
        Recompute::None => false,
        Recompute::EveryBlock => true,
        Recompute::Auto => free.is_some_and(|free| needs(false) > free),
    };
    if let Some(free) = free
        && needs(recompute) > free
    {
        return Err(Error::Options(format!(
            "training needs about {} MB of memory, {} MB may be used; choose shorter rows (the longest has {longest} tokens), a smaller quantization or a smaller model",
            needs(recompute).div_ceil(1_000_000),
            free / 1_000_000
        )));
    }
    Ok(MemoryPlan {
        recompute,
        release,
        weight_bytes,
    })
}

fn stored<'a, 'b: 'a>(views: impl IntoIterator<Item = &'a TensorView<'b>>) -> u64 {
    let bytes = views.into_iter().filter_map(TensorView::stored_bytes);
    bytes.map(|bytes| bytes as u64).sum()
}

/// Bytes of a pass's buffers, about.
fn scratch_bytes(spec: &DecoderSpec, rows: usize) -> u64 {
    let row = 10 * spec.hidden + 6 * spec.q_width() + 6 * spec.kv_width() + 6 * spec.ffn;
    (rows * row * size_of::<f32>()) as u64 + (160 << 20)
}

/// Bytes that can be allocated without pushing anything out that cannot be read again (Linux: `MemAvailable` and free swap,
/// proc(5)); none where the system does not say.
fn available() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let number = line.trim_start_matches(':').trim().strip_suffix("kB")?;
        number.trim().parse().ok()
    };
    Some((field("MemAvailable")? + field("SwapFree").unwrap_or(0)) * 1024)
}
