//! What a model file says about itself, by opening and checking it without loading it.

use std::path::Path;

use billion_llm::load::ModelFiles;
use billion_llm::spec::{DecoderSpec, Mlp, Norm, Pairing, Residual};
use billion_llm::weights::{Container, MetaValue, Weights};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What lists and forecasts need of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The name that the file gives itself.
    pub name: Option<String>,
    /// Who made it, by the file.
    pub publisher: Option<String>,
    /// Its licence, by the file.
    pub license: Option<String>,
    /// "llama", "stablelm", "gpt_neox".
    pub architecture: String,
    /// Number of parameters.
    pub params: u64,
    /// "Q4_1", "BF16".
    pub quant: String,
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Bytes of the files of weights.
    pub file_bytes: u64,
    /// Longest context in tokens.
    pub context_len: usize,
    /// Bytes of KV cache a token takes.
    pub kv_bytes_per_token: u64,
    /// It has a chat template.
    pub chat: bool,
}

/// Everything that opening a model tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The short of it.
    pub facts: Facts,
    /// Label and value, in order, for people.
    pub details: Vec<(&'static str, String)>,
    /// Source of the chat template.
    pub chat_template: Option<String>,
}

/// Opens and checks the model at `path`: every header, every tensor's shape, the tokenizer, the chat template.
pub fn inspect(path: &Path) -> Result<Inspection, Error> {
    let files = ModelFiles::open(path)?;
    // Looks at the shape of every tensor, so that a file with a missing one is refused now.
    files.tensors()?;
    let spec = files.spec();
    let weights = files.weights();
    let facts = Facts {
        name: text(weights, "general.name"),
        publisher: text(weights, "general.organization")
            .or_else(|| text(weights, "general.author")),
        license: text(weights, "general.license"),
        architecture: spec.architecture.clone(),
        params: files.params(),
        quant: files.quant(),
        weight_bytes: files.weight_bytes(),
        file_bytes: weights.file_bytes(),
        context_len: spec.context_len,
        kv_bytes_per_token: kv_bytes_per_token(spec, &files.quant()),
        chat: files.chat_template().is_some(),
    };
    Ok(Inspection {
        details: details(spec, weights, &facts),
        chat_template: files
            .chat_template()
            .map(|template| template.source().to_owned()),
        facts,
    })
}

/// Keys and values of every layer: two bytes a number, or four where the weights are F32 (design.md).
fn kv_bytes_per_token(spec: &DecoderSpec, quant: &str) -> u64 {
    let number = if quant == "F32" { 4 } else { 2 };
    (2 * spec.layers * spec.kv_width() * number) as u64
}

fn text(weights: &Weights, key: &str) -> Option<String> {
    weights
        .metadata(key)
        .and_then(MetaValue::as_str)
        .map(|text| text.trim().chars().take(200).collect::<String>())
        .filter(|text| !text.is_empty())
}

fn details(spec: &DecoderSpec, weights: &Weights, facts: &Facts) -> Vec<(&'static str, String)> {
    let container = match weights.container() {
        Container::Gguf => "GGUF",
        Container::Safetensors => "safetensors",
    };
    let formats: Vec<String> = weights
        .bytes_by_format()
        .iter()
        .map(|(format, bytes)| format!("{} {}", format.name(), megabytes(*bytes)))
        .collect();
    let norm = match spec.norm {
        Norm::Rms { eps } => format!("RMS norm, epsilon {eps:e}"),
        Norm::Layer { eps } => format!("layer norm, epsilon {eps:e}"),
    };
    let mlp = match spec.mlp {
        Mlp::SwiGlu => "SwiGLU",
        Mlp::Gelu => "GELU",
        Mlp::GeluTanh => "GELU (tanh)",
    };
    let residual = match spec.residual {
        Residual::Sequential => "sequential",
        Residual::Parallel => "parallel",
    };
    let pairing = match spec.rotary.pairing {
        Pairing::Halves => "halves",
        Pairing::Interleaved => "neighbours",
    };
    let head = if spec.tied_head {
        "shared with the embedding"
    } else {
        "of its own"
    };
    vec![
        ("Architecture", spec.architecture.clone()),
        ("Parameters", thousands(facts.params)),
        ("File format", container.to_owned()),
        ("Tensors by format", formats.join(", ")),
        ("Weights", megabytes(facts.weight_bytes)),
        ("Layers", spec.layers.to_string()),
        ("Width", spec.hidden.to_string()),
        (
            "Heads",
            format!(
                "{} of {} numbers; {} for keys and values",
                spec.heads, spec.head_dim, spec.kv_heads
            ),
        ),
        ("MLP", format!("{mlp}, {} wide, {residual}", spec.ffn)),
        ("Norm", norm),
        (
            "Rotary",
            format!(
                "{} of {} dimensions, pairs of {pairing}",
                spec.rotary.dims, spec.head_dim
            ),
        ),
        (
            "Vocabulary",
            format!("{} tokens", thousands(spec.vocab_size as u64)),
        ),
        ("Head", head.to_owned()),
        (
            "Context",
            format!("{} tokens", thousands(spec.context_len as u64)),
        ),
        (
            "KV cache",
            format!("{:.1} kB a token", facts.kv_bytes_per_token as f64 / 1e3),
        ),
    ]
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// With commas between groups of three digits.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, architecture, parameters and numbers in keys and values of a token of the tiny models of billion-llm.
    const FAMILIES: [(&str, &str, u64, u64); 4] = [
        ("stablelm_1_6b", "stablelm", 24_064, 2 * 2 * 32),
        ("stablelm_12b", "stablelm", 21_792, 2 * 2 * 16),
        ("pythia", "gpt_neox", 21_712, 2 * 2 * 32),
        ("qwen2", "qwen2", 17_952, 2 * 2 * 16),
    ];

    #[test]
    fn every_architecture_is_known_from_both_kinds_of_files() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../llm/tests/fixtures/families");
        for (name, architecture, params, kv) in FAMILIES {
            for path in [models.join(name), models.join(format!("{name}.gguf"))] {
                let facts = inspect(&path).expect("a whole model").facts;
                assert_eq!(facts.architecture, architecture);
                // Masks and frequencies of old checkpoints are in the file, but no parameters.
                assert_eq!((facts.params, facts.weight_bytes), (params, params * 4));
                assert_eq!((facts.quant.as_str(), facts.context_len), ("F32", 128));
                assert_eq!(facts.kv_bytes_per_token, kv * 4);
                assert_eq!(facts.chat, name == "stablelm_1_6b");
            }
        }
    }

    #[test]
    fn digits_are_grouped() {
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(134_515_008), "134,515,008");
    }
}
