//! StableLM: layer norm, partial rotary, SwiGLU. 2 1.6B has biases at queries, keys and values; 2 12B has grouped queries,
//! norms of each query and key head, and attention and MLP side by side behind one norm.

use super::config::{Config, SizeKeys, Sizes, limit};
use super::layout::{self, Bias, Biases, Names, Vocabulary};
use super::llama;
use super::rope::{self, RopeKeys};
use super::{Description, Family};
use crate::Error;
use crate::spec::{DecoderSpec, Mlp, Norm, Pairing, Residual, Rotary};
use crate::weights::Weights;

pub(super) const FAMILY: Family = Family {
    gguf: Some(("stablelm", from_gguf)),
    hugging_face: ("stablelm", from_config),
};

const GGUF: Names = Names {
    qk_norm: Some(["blk.{}.attn_q_norm", "blk.{}.attn_k_norm"]),
    ..llama::GGUF
};

const HUGGING_FACE: Names = Names {
    qk_norm: Some([
        "model.layers.{}.self_attn.q_layernorm.norms.{head}",
        "model.layers.{}.self_attn.k_layernorm.norms.{head}",
    ]),
    ..llama::HUGGING_FACE
};

/// `StableLmConfig` of transformers where the file says nothing.
const DEFAULT_EPS: f64 = 1e-5;
const ROPE: RopeKeys = RopeKeys {
    default_part: 0.25,
    ..RopeKeys::USUAL
};

/// What the models of the family differ in.
struct Form {
    qkv_bias: Bias,
    qk_norm: bool,
    residual: Residual,
}

/// llama.cpp goes by the tensors too: its converter writes `use_parallel_residual` even where it is wrong.
fn from_gguf(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    let sizes = config.sizes(&SizeKeys::GGUF)?;
    let rotary = rope::from_gguf(config, weights, sizes.head_dim, Pairing::Halves)?;
    let eps = config.positive("attention.layer_norm_epsilon")?;
    let vocabulary = Vocabulary {
        size: layout::vocab_size(config, weights, &GGUF)?,
        tied_head: layout::head_missing(weights, &GGUF),
    };
    let form = Form {
        qkv_bias: Bias::IfThere,
        qk_norm: weights.contains("blk.0.attn_q_norm.weight"),
        residual: if weights.contains("blk.0.ffn_norm.weight") {
            Residual::Sequential
        } else {
            Residual::Parallel
        },
    };
    Ok(description(
        &form,
        spec(&form, &sizes, rotary, eps, &vocabulary),
        GGUF,
    ))
}

fn from_config(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    config.expect_text("hidden_act", "silu")?;
    let sizes = config.sizes(&SizeKeys::HUGGING_FACE)?;
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
        qkv_bias: Bias::from_flag(config.flag_if("use_qkv_bias")?),
        qk_norm: config.flag_if("qk_layernorm")? == Some(true),
        residual: if config.flag_if("use_parallel_residual")? == Some(true) {
            Residual::Parallel
        } else {
            Residual::Sequential
        },
    };
    Ok(description(
        &form,
        spec(&form, &sizes, rotary, eps, &vocabulary),
        HUGGING_FACE,
    ))
}

fn description(form: &Form, spec: DecoderSpec, names: Names) -> Description {
    Description {
        spec,
        names: Names {
            mlp_norm: names
                .mlp_norm
                .filter(|_| form.residual == Residual::Sequential),
            ..names
        },
        biases: Biases {
            qkv: form.qkv_bias,
            o: Bias::Never,
            mlp: Bias::Never,
        },
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
        qk_norm: form.qk_norm,
        residual: form.residual,
        mlp: Mlp::SwiGlu,
        ..llama::spec("stablelm", sizes, rotary, eps, vocabulary)
    }
}
