//! Merging an adapter into the weights that are written, and holding the result against base and adapter.
//!
//! Every adapted tensor is W + scale * B * A in f32, a row at a time, and then gets its format like any other. It owns no row
//! orders (`crate::adapter`) and no writing.

use std::path::Path;
use std::sync::Arc;

use super::Quant;
use super::tensors::{Layout, Tensor};
use crate::Error;
use crate::adapter::{Adapter, AttachedLayers, LowRank, Target};
use crate::decoder::{DecodeError, Run, TextCodec};
use crate::load::{LoadOptions, Loaded, ModelFiles, load};
use crate::spec::Pairing;
use crate::weights::Container;

/// What both models read: prose, figures, code and another language, so that many tokens are met.
const TEXT: &str = "The archive of the town was opened in the spring of 1683, and nobody knew who had the key. \
                    def area(width, height):\n    return width * height\n\nDie Antwort ist nicht 42, sondern 17.5 %.";

/// Most tokens of it that are compared.
const TOKENS: usize = 64;

/// What is added to some rows of a tensor.
#[derive(Clone, Debug)]
pub(super) struct Added {
    /// The first of the rows.
    first: usize,
    low_rank: Arc<LowRank>,
}

impl Added {
    /// Adds to rows from `first` on, shape (rows, cols), what belongs to them.
    pub fn add(&self, first: usize, cols: usize, rows: &mut [f32]) {
        let LowRank { rank, scale, a, b } = &*self.low_rank;
        for (row, out) in (first..).zip(rows.chunks_exact_mut(cols)) {
            let Some(b) = row
                .checked_sub(self.first)
                .and_then(|row| b.get(row * rank..(row + 1) * rank))
            else {
                continue;
            };
            for (b, a) in b.iter().zip(a.chunks_exact(cols)) {
                let factor = scale * b;
                for (out, a) in out.iter_mut().zip(a) {
                    *out += factor * a;
                }
            }
        }
    }
}

/// Puts an adapter to the tensors of the file to come.
pub(super) fn adapt(
    files: &ModelFiles,
    adapter: &Adapter,
    tensors: &mut [Tensor<'_>],
) -> Result<(), Error> {
    // Rows in the order of the file that is written.
    let mut spec = files.spec().clone();
    if files.weights().container() == Container::Safetensors
        && Layout::of(&spec.architecture)?.is_llama
    {
        spec.rotary.pairing = Pairing::Interleaved;
    }
    let AttachedLayers { layers } = adapter.attach(&spec)?;
    for (index, layer) in layers.iter().enumerate() {
        let mut first = 0;
        for (target, low_rank) in layer.all() {
            let name = |part: &str| format!("blk.{index}.{part}.weight");
            let fused = name("attn_qkv");
            let apart = name(part(target));
            let is_qkv = matches!(target, Target::Q | Target::K | Target::V);
            let tensor = tensors
                .iter_mut()
                .find(|tensor| tensor.name == apart || (is_qkv && tensor.name == fused));
            let Some(tensor) = tensor else {
                return Err(Error::Tensor {
                    tensor: apart,
                    problem: "the adapter changes it, but the model has none of this name"
                        .to_owned(),
                });
            };
            let at = if tensor.name == fused { first } else { 0 };
            first += target.shape(&spec).0;
            tensor.added.push(Added {
                first: at,
                low_rank: Arc::new(low_rank.clone()),
            });
        }
    }
    Ok(())
}

/// llama.cpp's name of a linear map.
const fn part(target: Target) -> &'static str {
    match target {
        Target::Q => "attn_q",
        Target::K => "attn_k",
        Target::V => "attn_v",
        Target::Qkv => "attn_qkv",
        Target::O => "attn_output",
        Target::Gate => "ffn_gate",
        Target::Up => "ffn_up",
        Target::Down => "ffn_down",
    }
}

/// How near a merged file comes to base and adapter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MergeCheck {
    /// Positions compared.
    pub tokens: usize,
    /// Root mean square of the difference between the logits of the merged file and those of base and adapter, as a part of
    /// that of the logits (each position's mean taken off, which changes no probability).
    pub difference: f64,
    /// Largest difference that passes for the format.
    pub bound: f64,
    /// The same of base against base and adapter: how far the adapter moves the model.
    pub moved: f64,
}

/// Largest difference in logits that rounding to a format may make. Found (tests/adapters.rs): on the starter model, whose Q4_1
/// is rounded again, 0.0004 as F16, 0.013 as Q8_0 and Q6_K, 0.065 as Q5_K_M, 0.077 as Q4_K_M, 0.37 as Q4_0; on tiny models of
/// random weights, which rounding hurts most, at most 0.0016, 0.038, 0.25, 0.26 and 0.51. A mistake
/// that moves the logits less than a bound is not found here: that rows and scale are right is held by the tests against PEFT.
const fn bound(quant: Quant) -> f64 {
    match quant {
        Quant::F16 => 0.01,
        Quant::Q8_0 => 0.1,
        Quant::Q6K => 0.2,
        Quant::Q5KM => 0.4,
        Quant::Q4KM | Quant::Q4_0 => 0.6,
    }
}

/// Runs base with adapter, base alone, and the merged file over one text. Fails if they are further apart than the format
/// allows.
pub(super) fn compare(
    files: &ModelFiles,
    adapter: &Adapter,
    merged: &Path,
    quant: Quant,
    threads: Option<usize>,
) -> Result<MergeCheck, Error> {
    let mut tokens = files
        .tokenizer()
        .encode(TEXT, true, false)
        .map_err(Error::Tokenizer)?;
    tokens.truncate(TOKENS.min(files.spec().context_len));
    let options = LoadOptions {
        threads,
        context_len: Some(tokens.len()),
        ..LoadOptions::default()
    };
    let mut base = load(files, &options)?;
    let alone = logits(&mut base, &tokens)?;
    let attached = adapter.attach(files.spec())?;
    base.decoder
        .set_adapter(Some(&attached))
        .map_err(|error| failed(&error))?;
    let expected = logits(&mut base, &tokens)?;
    // One model at a time.
    drop(base);
    let found = logits(&mut load(&ModelFiles::open(merged)?, &options)?, &tokens)?;
    let check = MergeCheck {
        tokens: tokens.len(),
        difference: apart(&found, &expected),
        bound: bound(quant),
        moved: apart(&alone, &expected),
    };
    if check.difference <= check.bound {
        return Ok(check);
    }
    Err(Error::File {
        path: merged.to_owned(),
        problem: format!(
            "the merged file's logits are off from those of model and adapter by {:.1} % over {} tokens, more than the {:.0} % \
             that rounding to {} explains, so it was not kept; choose a format of more bits, for example q8_0",
            100.0 * check.difference,
            check.tokens,
            100.0 * check.bound,
            quant.name()
        ),
    })
}

fn failed(error: &DecodeError) -> Error {
    Error::Backend(error.to_string())
}

/// Logits at every position, a row each.
fn logits(loaded: &mut Loaded, tokens: &[u32]) -> Result<Vec<Vec<f32>>, Error> {
    let want: Vec<usize> = (0..tokens.len()).collect();
    let seq = loaded.decoder.open().map_err(|error| failed(&error))?;
    let run = Run {
        seq,
        tokens,
        want: &want,
    };
    let logits = loaded
        .decoder
        .forward(&[run])
        .map_err(|error| failed(&error))?;
    loaded.decoder.close(seq);
    Ok((0..logits.rows())
        .map(|row| logits.row(row).to_vec())
        .collect())
}

/// Root mean square of the difference as a part of that of `expected`, each row's mean taken off; not a number is as far apart
/// as can be.
fn apart(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    let (mut off, mut all) = (0.0, 0.0);
    for (found, expected) in found.iter().zip(expected) {
        let width = found.len().min(expected.len());
        let mean =
            |row: &[f32]| row[..width].iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64;
        let (mean_found, mean_expected) = (mean(found), mean(expected));
        for (x, y) in found.iter().zip(expected) {
            let (x, y) = (f64::from(*x) - mean_found, f64::from(*y) - mean_expected);
            off += (x - y) * (x - y);
            all += y * y;
        }
    }
    let apart = (off / all).sqrt();
    if apart.is_nan() { f64::INFINITY } else { apart }
}
