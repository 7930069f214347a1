//! GPT-NeoX, which Pythia is built as: layer norm and biases everywhere, fused queries, keys and values, partial rotary,
//! GELU, and attention and MLP side by side behind a norm each (or one after the other).
//!
//! Old checkpoints also hold masks (`attention.bias`, `attention.masked_bias`) and frequencies (`rotary_emb.inv_freq`);
//! nobody asks for them.

use super::config::{Config, SizeKeys, Sizes, limit};
use super::layout::{self, Bias, Biases, Names, Qkv, Vocabulary};
use super::llama;
use super::rope::{self, RopeKeys};
use super::{Description, Family};
use crate::Error;
use crate::spec::{DecoderSpec, Mlp, Norm, Pairing, Residual, Rotary};
use crate::weights::Weights;

pub(super) const FAMILY: Family = Family {
    gguf: Some(("gptneox", from_gguf)),
    hugging_face: ("gpt_neox", from_config),
};

const GGUF: Names = Names {
    qkv: Qkv::Stacked("blk.{}.attn_qkv"),
    gate: None,
    ..llama::GGUF
};

const HUGGING_FACE: Names = Names {
    embedding: "gpt_neox.embed_in",
    final_norm: "gpt_neox.final_layer_norm",
    // The second is transformers 5's name in memory; it still writes the first.
    head: &["embed_out", "lm_head"],
    attention_norm: "gpt_neox.layers.{}.input_layernorm",
    qkv: Qkv::ByHead("gpt_neox.layers.{}.attention.query_key_value"),
    o: "gpt_neox.layers.{}.attention.dense",
    qk_norm: None,
    mlp_norm: Some("gpt_neox.layers.{}.post_attention_layernorm"),
    gate: None,
    up: "gpt_neox.layers.{}.mlp.dense_h_to_4h",
    down: "gpt_neox.layers.{}.mlp.dense_4h_to_h",
};

/// `GPTNeoXConfig` of transformers where the file says nothing.
const DEFAULT_EPS: f64 = 1e-5;
const DEFAULT_ACTIVATION: &str = "gelu";
const ROPE: RopeKeys = RopeKeys {
    base: "rotary_emb_base",
    part: "rotary_pct",
    default_part: 0.25,
};

/// GGUF files say which GELU they mean only if they hold `hidden_activation`, which llama.cpp's converter does not write
/// for this family and llama.cpp does not read (it computes by tanh). The models were trained with the exact one, all of
/// Pythia at least.
fn from_gguf(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    let sizes = config.sizes(&SizeKeys::GGUF)?;
    let rotary = rope::from_gguf(config, weights, sizes.head_dim, Pairing::Halves)?;
    let eps = config.positive("attention.layer_norm_epsilon")?;
    let vocabulary = Vocabulary {
        size: layout::vocab_size(config, weights, &GGUF)?,
        tied_head: layout::head_missing(weights, &GGUF),
    };
    let form = Form {
        mlp: activation(config, "hidden_activation")?,
        residual: residual(config)?,
    };
    Ok(Description {
        spec: spec(&form, &sizes, rotary, eps, &vocabulary),
        names: GGUF,
        biases: biases(Bias::IfThere),
    })
}

fn from_config(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    let sizes = config.sizes(&SizeKeys::GPT_NEOX)?;
    let rotary = rope::from_config(config, sizes.head_dim, sizes.context_len, &ROPE)?;
    let eps = config.positive_if("layer_norm_eps")?.unwrap_or(DEFAULT_EPS);
    let vocabulary = Vocabulary {
        size: config.count("vocab_size", limit::VOCAB)?,
        tied_head: match config.flag_if("tie_word_embeddings")? {
            Some(tied) => tied,
            None => layout::head_missing(weights, &HUGGING_FACE),
        },
    };
    let form = Form {
        mlp: activation(config, "hidden_act")?,
        residual: residual(config)?,
    };
    let attention = config.flag_if("attention_bias")?.unwrap_or(true);
    Ok(Description {
        spec: spec(&form, &sizes, rotary, eps, &vocabulary),
        names: HUGGING_FACE,
        biases: biases(Bias::from_flag(Some(attention))),
    })
}

/// What the models of the family differ in.
struct Form {
    mlp: Mlp,
    residual: Residual,
}

/// Both kinds of file name it alike, and mean side by side if they do not.
fn residual(config: &Config<'_>) -> Result<Residual, Error> {
    Ok(match config.flag_if("use_parallel_residual")? {
        Some(false) => Residual::Sequential,
        _ => Residual::Parallel,
    })
}

/// The names of transformers' activations.py; the four of the second kind compute the same.
fn activation(config: &Config<'_>, key: &str) -> Result<Mlp, Error> {
    let name = config.text_if(key)?;
    match name.as_deref().unwrap_or(DEFAULT_ACTIVATION) {
        "gelu" | "gelu_python" => Ok(Mlp::Gelu),
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_accurate" => Ok(Mlp::GeluTanh),
        other => Err(config.unsupported(&format!(
            "{key} is {other:?}; for this architecture gelu, gelu_new, gelu_fast and gelu_pytorch_tanh are run"
        ))),
    }
}

fn biases(attention: Bias) -> Biases {
    Biases {
        qkv: attention,
        o: attention,
        mlp: Bias::Always,
    }
}

fn spec(
    form: &Form,
    sizes: &Sizes,
    rotary: Rotary,
    eps: f64,
    vocabulary: &Vocabulary,
) -> DecoderSpec {
    DecoderSpec {
        norm: Norm::Layer { eps: eps as f32 },
        residual: form.residual,
        mlp: form.mlp,
        ..llama::spec("gpt_neox", sizes, rotary, eps, vocabulary)
    }
}
