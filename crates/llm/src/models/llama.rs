//! Llama 2 and 3 and what is built like them (TinyLlama, SmolLM2): RMS norm, grouped queries, SwiGLU, full rotary.

use super::config::{Config, SizeKeys, Sizes, limit};
use super::layout::{self, Bias, Biases, Names, Qkv, Vocabulary};
use super::rope::{self, RopeKeys};
use super::{Description, Family};
use crate::Error;
use crate::spec::{DecoderSpec, Mlp, Norm, Pairing, Residual, Rotary};
use crate::weights::Weights;

pub(super) const FAMILY: Family = Family {
    gguf: Some(("llama", from_gguf)),
    hugging_face: ("llama", from_config),
};

/// Also of what is built like Llama.
pub(super) const GGUF: Names = Names {
    embedding: "token_embd",
    final_norm: "output_norm",
    head: &["output"],
    attention_norm: "blk.{}.attn_norm",
    qkv: Qkv::Apart(["blk.{}.attn_q", "blk.{}.attn_k", "blk.{}.attn_v"]),
    o: "blk.{}.attn_output",
    qk_norm: None,
    mlp_norm: Some("blk.{}.ffn_norm"),
    gate: Some("blk.{}.ffn_gate"),
    up: "blk.{}.ffn_up",
    down: "blk.{}.ffn_down",
};

/// Also of what is built like Llama.
pub(super) const HUGGING_FACE: Names = Names {
    embedding: "model.embed_tokens",
    final_norm: "model.norm",
    head: &["lm_head"],
    attention_norm: "model.layers.{}.input_layernorm",
    qkv: Qkv::Apart([
        "model.layers.{}.self_attn.q_proj",
        "model.layers.{}.self_attn.k_proj",
        "model.layers.{}.self_attn.v_proj",
    ]),
    o: "model.layers.{}.self_attn.o_proj",
    qk_norm: None,
    mlp_norm: Some("model.layers.{}.post_attention_layernorm"),
    gate: Some("model.layers.{}.mlp.gate_proj"),
    up: "model.layers.{}.mlp.up_proj",
    down: "model.layers.{}.mlp.down_proj",
};

fn from_gguf(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    if config
        .count_if("expert_count", limit::HEADS)
        .ok()
        .flatten()
        .is_some()
    {
        return Err(
            config.unsupported("the model is a mixture of experts, which Billion does not run")
        );
    }
    let sizes = config.sizes(&SizeKeys::GGUF)?;
    // llama.cpp's converter reorders the rows of q and k so that neighbours form a pair.
    let rotary = rope::from_gguf(config, weights, sizes.head_dim, Pairing::Interleaved)?;
    let eps = config.positive("attention.layer_norm_rms_epsilon")?;
    let vocabulary = Vocabulary {
        size: layout::vocab_size(config, weights, &GGUF)?,
        tied_head: layout::head_missing(weights, &GGUF),
    };
    Ok(Description {
        spec: spec("llama", &sizes, rotary, eps, &vocabulary),
        names: GGUF,
        biases: Biases {
            qkv: Bias::IfThere,
            o: Bias::IfThere,
            mlp: Bias::IfThere,
        },
    })
}

fn from_config(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    config.expect_text("hidden_act", "silu")?;
    let sizes = config.sizes(&SizeKeys::HUGGING_FACE)?;
    let rotary = rope::from_config(config, sizes.head_dim, sizes.context_len, &RopeKeys::USUAL)?;
    let eps = config.positive("rms_norm_eps")?;
    let vocabulary = Vocabulary {
        size: config.count("vocab_size", limit::VOCAB)?,
        tied_head: match config.flag_if("tie_word_embeddings")? {
            Some(tied) => tied,
            None => layout::head_missing(weights, &HUGGING_FACE),
        },
    };
    let attention = Bias::from_flag(config.flag_if("attention_bias")?);
    Ok(Description {
        spec: spec("llama", &sizes, rotary, eps, &vocabulary),
        names: HUGGING_FACE,
        biases: Biases {
            qkv: attention,
            o: attention,
            mlp: Bias::from_flag(config.flag_if("mlp_bias")?),
        },
    })
}

/// Of everything that is built like Llama.
pub(super) fn spec(
    architecture: &str,
    sizes: &Sizes,
    rotary: Rotary,
    eps: f64,
    vocabulary: &Vocabulary,
) -> DecoderSpec {
    DecoderSpec {
        architecture: architecture.to_owned(),
        vocab_size: vocabulary.size,
        hidden: sizes.hidden,
        layers: sizes.layers,
        heads: sizes.heads,
        kv_heads: sizes.kv_heads,
        head_dim: sizes.head_dim,
        ffn: sizes.ffn,
        context_len: sizes.context_len,
        norm: Norm::Rms { eps: eps as f32 },
        rotary,
        qk_norm: false,
        residual: Residual::Sequential,
        mlp: Mlp::SwiGlu,
        tied_head: vocabulary.tied_head,
    }
}
