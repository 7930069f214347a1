//! Qwen 2 and 2.5: Llama with biases at queries, keys and values.

use super::config::{Config, SizeKeys, limit};
use super::layout::{self, Bias, Biases, Vocabulary};
use super::llama::{self, GGUF, HUGGING_FACE};
use super::rope::{self, RopeKeys};
use super::{Description, Family};
use crate::Error;
use crate::spec::Pairing;
use crate::weights::Weights;

pub(super) const FAMILY: Family = Family {
    gguf: Some(("qwen2", from_gguf)),
    hugging_face: ("qwen2", from_config),
};

const BIASES: Biases = Biases {
    qkv: Bias::Always,
    o: Bias::Never,
    mlp: Bias::Never,
};

fn from_gguf(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    let sizes = config.sizes(&SizeKeys::GGUF)?;
    // llama.cpp's converter leaves the rows of q and k as they are.
    let rotary = rope::from_gguf(config, weights, sizes.head_dim, Pairing::Halves)?;
    let eps = config.positive("attention.layer_norm_rms_epsilon")?;
    let vocabulary = Vocabulary {
        size: layout::vocab_size(config, weights, &GGUF)?,
        tied_head: layout::head_missing(weights, &GGUF),
    };
    Ok(Description {
        spec: llama::spec("qwen2", &sizes, rotary, eps, &vocabulary),
        names: GGUF,
        biases: BIASES,
    })
}

fn from_config(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    config.expect_text("hidden_act", "silu")?;
    let mut sizes = config.sizes(&SizeKeys::HUGGING_FACE)?;
    let rotary = rope::from_config(config, sizes.head_dim, sizes.context_len, &RopeKeys::USUAL)?;
    // A window hides nothing from texts that fit in it.
    if config.flag_if("use_sliding_window")? == Some(true)
        && let Some(window) = config.count_if("sliding_window", limit::CONTEXT)?
    {
        sizes.context_len = sizes.context_len.min(window);
    }
    let vocabulary = Vocabulary {
        size: config.count("vocab_size", limit::VOCAB)?,
        tied_head: match config.flag_if("tie_word_embeddings")? {
            Some(tied) => tied,
            None => layout::head_missing(weights, &HUGGING_FACE),
        },
    };
    let eps = config.positive("rms_norm_eps")?;
    Ok(Description {
        spec: llama::spec("qwen2", &sizes, rotary, eps, &vocabulary),
        names: HUGGING_FACE,
        biases: BIASES,
    })
}
