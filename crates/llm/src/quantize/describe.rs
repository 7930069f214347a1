//! Metadata of a model that comes from Hugging Face files: architecture, sizes, rotary scaling, what it is called.
//!
//! Keys: ggml's docs/gguf.md and llama.cpp's conversion scripts. The vocabulary's are in `vocabulary`.

use serde_json::Value as Json;

use super::entries::Entries;
use super::tensors::{Layout, Tensor, of_numbers};
use super::{About, Quant};
use crate::Error;
use crate::load::ModelFiles;
use crate::spec::{DecoderSpec, Mlp, Norm, Residual};

/// Where the file says nothing (transformers).
const DEFAULT_BASE: f64 = 10_000.0;

/// Frequencies are kept as f32: closer than this they are the same.
const SAME: f64 = 1e-5;

/// Version of the block formats (`GGML_QNT_VERSION`).
const QUANTIZATION_VERSION: usize = 2;

/// What a file is whatever it was made from.
pub(super) fn kind(entries: &mut Entries, quant: Quant) {
    entries.u32("general.quantization_version", QUANTIZATION_VERSION);
    entries.u32("general.file_type", quant.file_type());
}

/// Everything but the vocabulary, and the tensors that hold what is configuration elsewhere.
pub(super) fn describe(
    files: &ModelFiles,
    config: &Json,
    about: &About,
) -> Result<(Entries, Vec<Tensor<'static>>), Error> {
    let spec = files.spec();
    let layout = Layout::of(&spec.architecture)?;
    let mut entries = Entries::default();
    entries.text("general.architecture", layout.architecture);
    entries.text("general.type", "model");
    let folder = files.weights().folder().file_name();
    let name = about
        .name
        .clone()
        .or_else(|| folder.map(|name| name.to_string_lossy().into_owned()));
    if let Some(name) = name {
        entries.text("general.name", name);
    }
    entries.text("general.size_label", size_label(files.params()));
    if let Some(license) = &about.license {
        entries.text("general.license", license);
    }
    if let Some(publisher) = &about.publisher {
        entries.text("general.organization", publisher);
    }
    let writer = concat!("Billion ", env!("CARGO_PKG_VERSION"));
    entries.text("general.quantized_by", writer);
    sizes(&mut entries, layout.architecture, spec);
    let extra = rope(&mut entries, layout, spec, base(config))?;
    Ok((entries, extra))
}

/// "1.1B", "135M".
fn size_label(params: u64) -> String {
    match params {
        0..1_000_000 => format!("{:.0}K", params as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0}M", params as f64 / 1e6),
        _ => format!("{:.1}B", params as f64 / 1e9),
    }
}

fn sizes(entries: &mut Entries, architecture: &str, spec: &DecoderSpec) {
    let key = |name: &str| format!("{architecture}.{name}");
    entries.u32(key("vocab_size"), spec.vocab_size);
    entries.u32(key("context_length"), spec.context_len);
    entries.u32(key("embedding_length"), spec.hidden);
    entries.u32(key("block_count"), spec.layers);
    entries.u32(key("feed_forward_length"), spec.ffn);
    entries.u32(key("attention.head_count"), spec.heads);
    entries.u32(key("attention.head_count_kv"), spec.kv_heads);
    if spec.heads * spec.head_dim != spec.hidden {
        entries.u32(key("attention.key_length"), spec.head_dim);
        entries.u32(key("attention.value_length"), spec.head_dim);
    }
    match spec.norm {
        Norm::Rms { eps } => entries.f32(key("attention.layer_norm_rms_epsilon"), eps),
        Norm::Layer { eps } => {
            entries.f32(key("attention.layer_norm_epsilon"), eps);
            let parallel = spec.residual == Residual::Parallel;
            entries.bool(key("use_parallel_residual"), parallel);
        }
    }
    // llama.cpp always takes the second; Billion reads which it is.
    match spec.mlp {
        Mlp::SwiGlu => {}
        Mlp::Gelu => entries.text(key("hidden_activation"), "gelu"),
        Mlp::GeluTanh => entries.text(key("hidden_activation"), "gelu_new"),
    }
}

/// Base of the rotary frequencies, as `config.json` has it.
fn base(config: &Json) -> f64 {
    let places = [
        &config["rope_parameters"]["rope_theta"],
        &config["rope_scaling"]["rope_theta"],
        &config["rotary_emb_base"],
        &config["rope_theta"],
    ];
    let found = places.into_iter().find_map(Json::as_f64);
    found.unwrap_or(DEFAULT_BASE)
}

/// How the frequencies of the decoder differ from those of the base alone says which scaling it is.
fn rope(
    entries: &mut Entries,
    layout: Layout,
    spec: &DecoderSpec,
    base: f64,
) -> Result<Vec<Tensor<'static>>, Error> {
    let key = |name: &str| format!("{}.rope.{name}", layout.architecture);
    let dims = spec.rotary.dims;
    entries.u32(key("dimension_count"), dims);
    entries.f32(key("freq_base"), base as f32);
    let divisors: Vec<f64> = (spec.rotary.frequencies.iter().enumerate())
        .map(|(pair, &scaled)| base.powf(-2.0 * pair as f64 / dims as f64) / f64::from(scaled))
        .map(|divisor| {
            let whole = divisor.round();
            let exact = (divisor - whole).abs() <= SAME * whole;
            if exact { whole } else { divisor }
        })
        .collect();
    let Some(&first) = divisors.first() else {
        return Ok(Vec::new());
    };
    if divisors
        .iter()
        .all(|divisor| (divisor - first).abs() <= SAME * first)
    {
        if first != 1.0 {
            entries.text(key("scaling.type"), "linear");
            entries.f32(key("scaling.factor"), first as f32);
        }
        return Ok(Vec::new());
    }
    if !layout.is_llama {
        return Err(Error::Unsupported(format!(
            "the rotary frequencies are scaled one by one, which GGUF files of {} cannot say",
            layout.architecture
        )));
    }
    let divisors: Vec<f32> = divisors.into_iter().map(|divisor| divisor as f32).collect();
    Ok(vec![of_numbers("rope_freqs.weight", &divisors)])
}
