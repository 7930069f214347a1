//! Mistral 7B and its kin: Llama with a sliding window, which Billion does not run beyond its width. In GGUF files they are
//! called "llama".

use super::config::{Config, SizeKeys, limit};
use super::layout::{self, Bias, Biases, Vocabulary};
use super::llama::{self, HUGGING_FACE};
use super::rope::{self, RopeKeys};
use super::{Description, Family};
use crate::Error;
use crate::weights::Weights;

pub(super) const FAMILY: Family = Family {
    gguf: None,
    hugging_face: ("mistral", from_config),
};

fn from_config(config: &Config<'_>, weights: &Weights) -> Result<Description, Error> {
    config.expect_text("hidden_act", "silu")?;
    let mut sizes = config.sizes(&SizeKeys::HUGGING_FACE)?;
    let rotary = rope::from_config(config, sizes.head_dim, sizes.context_len, &RopeKeys::USUAL)?;
    // A window hides nothing from texts that fit in it.
    if let Some(window) = config.count_if("sliding_window", limit::CONTEXT)? {
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
        spec: llama::spec("mistral", &sizes, rotary, eps, &vocabulary),
        names: HUGGING_FACE,
        biases: Biases {
            qkv: Bias::Never,
            o: Bias::Never,
            mlp: Bias::Never,
        },
    })
}
