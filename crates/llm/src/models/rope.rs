//! Rotary frequencies from a configuration: base, scaling, factors stored in the file.
//!
//! The formulas are those of transformers (modeling_rope_utils.py) and llama.cpp (ggml_rope_ext). They are computed in
//! double precision and rounded once.

use std::f64::consts::TAU;

use super::config::Config;
use crate::Error;
use crate::spec::{Pairing, Rotary};
use crate::weights::Weights;

/// Of the RoFormer paper, and what every format assumes if it says nothing.
const DEFAULT_BASE: f64 = 10_000.0;

/// How the context was stretched beyond what the model was first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scaling {
    None,
    /// Every frequency divided by a factor (kaiokendev 2023; arXiv 2306.15595).
    Linear(f64),
    /// Llama 3.1: long waves divided by `factor`, short ones kept, blended between (`_compute_llama3_parameters`).
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original_context: f64,
    },
}

/// From GGUF metadata and, where the file has it, `rope_freqs.weight`: a divisor for each frequency, which is how
/// Llama 3 scaling is stored.
pub(super) fn from_gguf(
    config: &Config<'_>,
    weights: &Weights,
    head_dim: usize,
    pairing: Pairing,
) -> Result<Rotary, Error> {
    let dims = config
        .count_if("rope.dimension_count", head_dim)?
        .unwrap_or(head_dim);
    let base = config
        .positive_if("rope.freq_base")?
        .unwrap_or(DEFAULT_BASE);
    let scaling = match config.text_if("rope.scaling.type")?.as_deref() {
        Some("linear") => Scaling::Linear(config.positive("rope.scaling.factor")?),
        Some("none") => Scaling::None,
        // Files from before the type was stored.
        None => config
            .positive_if("rope.scale_linear")?
            .map_or(Scaling::None, Scaling::Linear),
        Some(other) => return Err(unknown_scaling(config, other)),
    };
    let mut frequencies = frequencies(config, dims, base, scaling)?;
    let name = "rope_freqs.weight";
    if weights.contains(name) {
        let factors = weights.require(name)?;
        if factors.format != billion_kernels::Format::F32 || factors.shape != [dims / 2] {
            return Err(Error::Tensor {
                tensor: name.to_owned(),
                problem: format!(
                    "expected {} numbers of F32 (half of {dims} rotated dimensions), found {:?} of {}",
                    dims / 2,
                    factors.shape,
                    factors.format
                ),
            });
        }
        let (factors, _) = factors.bytes.as_chunks::<4>();
        for (frequency, factor) in frequencies.iter_mut().zip(factors) {
            let factor = f32::from_le_bytes(*factor);
            if !(factor.is_finite() && factor > 0.0) {
                return Err(Error::Tensor {
                    tensor: name.to_owned(),
                    problem: format!(
                        "a divisor is {factor}; the file is damaged, download it again"
                    ),
                });
            }
            *frequency /= f64::from(factor);
        }
    }
    Ok(rotary(dims, pairing, &frequencies))
}

/// Keys of `config.json` before transformers 5, where architectures differ.
pub(super) struct RopeKeys {
    pub base: &'static str,
    /// Part of a head that is rotated.
    pub part: &'static str,
    /// What holds if the part is not given.
    pub default_part: f64,
}

impl RopeKeys {
    /// Most architectures.
    pub const USUAL: Self = Self {
        base: "rope_theta",
        part: "partial_rotary_factor",
        default_part: 1.0,
    };
}

/// From `config.json`: `rope_parameters` (transformers 5), or `keys` and `rope_scaling` (before).
pub(super) fn from_config(
    config: &Config<'_>,
    head_dim: usize,
    context_len: usize,
    keys: &RopeKeys,
) -> Result<Rotary, Error> {
    let group = if config.has("rope_parameters") {
        "rope_parameters"
    } else {
        "rope_scaling"
    };
    let in_group = |key: &str| format!("{group}.{key}");
    let first_of = |names: [&str; 3]| -> Result<Option<f64>, Error> {
        for name in names {
            if let Some(value) = config.positive_if(name)? {
                return Ok(Some(value));
            }
        }
        Ok(None)
    };
    // transformers 4 wrote an architecture's own names and the common ones side by side.
    let base = first_of([&in_group("rope_theta"), keys.base, "rope_theta"])?;
    let base = base.unwrap_or(DEFAULT_BASE);
    let part = "partial_rotary_factor";
    let part = first_of([&in_group(part), keys.part, part])?.unwrap_or(keys.default_part);
    let kind = match config.text_if(&in_group("rope_type"))? {
        Some(kind) => Some(kind),
        None => config.text_if(&in_group("type"))?,
    };
    let scaling = match kind.as_deref() {
        None | Some("default") => Scaling::None,
        Some("linear") => Scaling::Linear(config.positive(&in_group("factor"))?),
        Some("llama3") => Scaling::Llama3 {
            factor: config.positive(&in_group("factor"))?,
            low: config.positive(&in_group("low_freq_factor"))?,
            high: config.positive(&in_group("high_freq_factor"))?,
            original_context: config
                .positive_if(&in_group("original_max_position_embeddings"))?
                .unwrap_or(context_len as f64),
        },
        Some(other) => return Err(unknown_scaling(config, other)),
    };
    let dims = (head_dim as f64 * part) as usize;
    if dims == 0 || dims > head_dim {
        return Err(config.bad(format!(
            "{} is {part}; expected above 0, at most 1, and at least one of {head_dim} dimensions",
            keys.part
        )));
    }
    let frequencies = frequencies(config, dims, base, scaling)?;
    Ok(rotary(dims, Pairing::Halves, &frequencies))
}

fn unknown_scaling(config: &Config<'_>, name: &str) -> Error {
    config.unsupported(&format!(
        "rope scaling {name:?} is not one that Billion runs; it runs linear and llama3"
    ))
}

fn rotary(dims: usize, pairing: Pairing, frequencies: &[f64]) -> Rotary {
    Rotary {
        dims,
        pairing,
        frequencies: frequencies
            .iter()
            .map(|&frequency| frequency as f32)
            .collect(),
    }
}

/// Radians a position of each pair.
fn frequencies(
    config: &Config<'_>,
    dims: usize,
    base: f64,
    scaling: Scaling,
) -> Result<Vec<f64>, Error> {
    if !dims.is_multiple_of(2) {
        return Err(config.bad(format!("{dims} rotated dimensions do not form pairs")));
    }
    if let Scaling::Llama3 { low, high, .. } = scaling
        && high <= low
    {
        return Err(config.bad(format!(
            "high_freq_factor {high} must be above low_freq_factor {low}"
        )));
    }
    Ok((0..dims / 2)
        .map(|pair| {
            let plain = base.powf(-2.0 * pair as f64 / dims as f64);
            scale(plain, scaling)
        })
        .collect())
}

fn scale(frequency: f64, scaling: Scaling) -> f64 {
    match scaling {
        Scaling::None => frequency,
        Scaling::Linear(factor) => frequency / factor,
        Scaling::Llama3 {
            factor,
            low,
            high,
            original_context,
        } => {
            let wavelength = TAU / frequency;
            if wavelength > original_context / low {
                frequency / factor
            } else if wavelength < original_context / high {
                frequency
            } else {
                let kept = (original_context / wavelength - low) / (high - low);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}
