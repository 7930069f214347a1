//! Reads the tiny decoders of `tests/decoders` (see `make.py` there) for the tests of both executors.

use std::borrow::Cow;
use std::path::Path;

use billion_kernels::Format;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::spec::{
    DecoderSpec, DecoderTensors, LayerTensors, Linear, Mlp, Norm, NormTensors, Pairing, Residual,
    Rotary, TensorView,
};

/// Every fixture, by file stem.
pub(crate) const NAMES: [&str; 6] = [
    "llama_halves",
    "llama_interleaved",
    "stablelm_2_1_6b",
    "stablelm_2_12b",
    "gpt_neox_parallel",
    "gpt_neox_sequential",
];

/// A tiny decoder and what transformers computes with it.
pub(crate) struct Fixture {
    pub(crate) spec: DecoderSpec,
    pub(crate) tensors: DecoderTensors<TensorView<'static>>,
    pub(crate) tokens: Vec<u32>,
    /// Shape: (tokens, vocab_size).
    pub(crate) logits: Vec<f32>,
}

/// Reads one fixture.
pub(crate) fn read(name: &str) -> Fixture {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/decoders")
        .join(format!("{name}.safetensors"));
    let bytes = std::fs::read(path).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let described = &metadata.metadata().as_ref().unwrap()["spec"];
    let described: Value = serde_json::from_str(described).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let spec = spec(&described, floats(&file, "frequencies"));
    let tokens = file.tensor("tokens").unwrap();
    let tokens = tokens.data().chunks_exact(8);
    Fixture {
        tensors: tensors(&file, &spec),
        spec,
        tokens: tokens.map(|token| u32::from(token[0])).collect(),
        logits: floats(&file, "logits"),
    }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = file.tensor(name).unwrap();
    let chunks = data.data().as_chunks::<4>().0;
    chunks
        .iter()
        .map(|&four| f32::from_le_bytes(four))
        .collect()
}

fn spec(described: &Value, frequencies: Vec<f32>) -> DecoderSpec {
    let number = |key: &str| described[key].as_u64().unwrap() as usize;
    let eps = described["eps"].as_f64().unwrap() as f32;
    DecoderSpec {
        architecture: described["name"].as_str().unwrap().to_owned(),
        vocab_size: number("vocab_size"),
        hidden: number("hidden"),
        layers: number("layers"),
        heads: number("heads"),
        kv_heads: number("kv_heads"),
        head_dim: number("head_dim"),
        ffn: number("ffn"),
        context_len: 64,
        norm: match described["norm"].as_str().unwrap() {
            "rms" => Norm::Rms { eps },
            _ => Norm::Layer { eps },
        },
        rotary: Rotary {
            dims: number("rotary_dims"),
            pairing: match described["pairing"].as_str().unwrap() {
                "halves" => Pairing::Halves,
                _ => Pairing::Interleaved,
            },
            frequencies,
        },
        qk_norm: described["qk_norm"].as_bool().unwrap(),
        residual: match described["residual"].as_str().unwrap() {
            "sequential" => Residual::Sequential,
            _ => Residual::Parallel,
        },
        mlp: match described["mlp"].as_str().unwrap() {
            "swiglu" => Mlp::SwiGlu,
            "gelu" => Mlp::Gelu,
            _ => Mlp::GeluTanh,
        },
        tied_head: described["tied_head"].as_bool().unwrap(),
    }
}

fn tensors(file: &SafeTensors<'_>, spec: &DecoderSpec) -> DecoderTensors<TensorView<'static>> {
    let find = |name: String| {
        file.tensor(&name).ok().map(|data| TensorView {
            name,
            format: Format::F32,
            shape: data.shape().to_vec(),
            bytes: Cow::Owned(data.data().to_vec()),
            rows: None,
        })
    };
    let norm = |name: String| {
        find(format!("{name}.weight")).map(|weight| NormTensors {
            weight,
            bias: find(format!("{name}.bias")),
        })
    };
    let linear = |name: String| {
        find(format!("{name}.weight")).map(|weight| Linear {
            weight,
            bias: find(format!("{name}.bias")),
        })
    };
    let layer = |i: usize| LayerTensors {
        attention_norm: norm(format!("layers.{i}.attention_norm")).unwrap(),
        q: linear(format!("layers.{i}.q")).unwrap(),
        k: linear(format!("layers.{i}.k")).unwrap(),
        v: linear(format!("layers.{i}.v")).unwrap(),
        o: linear(format!("layers.{i}.o")).unwrap(),
        q_norm: find(format!("layers.{i}.q_norm")),
        k_norm: find(format!("layers.{i}.k_norm")),
        mlp_norm: norm(format!("layers.{i}.mlp_norm")),
        gate: linear(format!("layers.{i}.gate")),
        up: linear(format!("layers.{i}.up")).unwrap(),
        down: linear(format!("layers.{i}.down")).unwrap(),
    };
    DecoderTensors {
        embedding: find("embedding".to_owned()).unwrap(),
        layers: (0..spec.layers).map(layer).collect(),
        final_norm: norm("final_norm".to_owned()).unwrap(),
        head: find("head".to_owned()),
    }
}
