//! Whether a model fits into the memory that is free now, in words with figures.

use crate::error::gb;
use crate::facts::Facts;

/// Context that the estimate counts on, in tokens (or the model's own, where that is shorter): a long chat. The cache
/// grows with use, so an empty one takes less.
pub const ESTIMATE_CONTEXT: usize = 2048;

/// An allowance for the program, the tokenizer, activations and logits.
const WORKING_BYTES: u64 = 128 << 20;

/// An allowance for the padding of packed tiles and the piece of the file just being read, as a share of the weights.
const LOADING_SHARE: f64 = 0.05;

/// Up to this share of the free memory a model runs well; the rest is left to other programs.
const COMFORTABLE_SHARE: f64 = 0.7;

/// How well a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FitLevel {
    /// With room to spare.
    Well,
    /// Barely.
    Tight,
    /// Not into what is free now.
    TooBig,
}

/// The estimate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    /// How well.
    pub level: FitLevel,
    /// "runs well", "tight: needs 3.1 GB, 3.4 GB free", "too big: needs 3.1 GB, 2.4 GB free".
    pub words: String,
    /// What the need is the sum of.
    pub sum: String,
    /// Expected need.
    pub need_bytes: u64,
    /// Free memory it was held against.
    pub free_bytes: u64,
}

/// Holds the need of a model with `context` tokens in its cache (none takes `ESTIMATE_CONTEXT`) against free memory.
pub fn fit(facts: &Facts, context: Option<usize>, free_bytes: u64) -> Fit {
    let context = context
        .unwrap_or(ESTIMATE_CONTEXT)
        .min(facts.context_len.max(1));
    let kv_bytes = facts.kv_bytes_per_token.saturating_mul(context as u64);
    let working = WORKING_BYTES + (facts.weight_bytes as f64 * LOADING_SHARE) as u64;
    let need_bytes = facts
        .weight_bytes
        .saturating_add(kv_bytes)
        .saturating_add(working);
    let level = if need_bytes as f64 <= free_bytes as f64 * COMFORTABLE_SHARE {
        FitLevel::Well
    } else if need_bytes <= free_bytes {
        FitLevel::Tight
    } else {
        FitLevel::TooBig
    };
    let figures = format!("needs {}, {} free", size(need_bytes), size(free_bytes));
    Fit {
        level,
        words: match level {
            FitLevel::Well => "runs well".to_owned(),
            FitLevel::Tight => format!("tight: {figures}"),
            FitLevel::TooBig => format!("too big: {figures}"),
        },
        sum: format!(
            "{} weights + {} cache of {context} tokens + {} to work in = {}",
            size(facts.weight_bytes),
            size(kv_bytes),
            size(working),
            size(need_bytes)
        ),
        need_bytes,
        free_bytes,
    }
}

fn size(bytes: u64) -> String {
    if gb(bytes) < 0.1 {
        format!("{:.0} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.1} GB", gb(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_sum() {
        // TinyLlama in F16: 2.2 GB of weights, 22 layers of 4 heads of 64, cache of F16.
        let facts = Facts {
            name: None,
            publisher: None,
            license: None,
            architecture: "llama".to_owned(),
            params: 1_100_048_384,
            quant: "F16".to_owned(),
            weight_bytes: 2_200_096_768,
            file_bytes: 2_200_100_000,
            context_len: 2048,
            kv_bytes_per_token: 2 * 22 * 256 * 2,
            chat: true,
        };
        let roomy = fit(&facts, None, 8_000_000_000);
        assert_eq!(
            (roomy.level, roomy.words.as_str()),
            (FitLevel::Well, "runs well")
        );
        assert_eq!(
            roomy.need_bytes,
            2_200_096_768 + 2048 * 22_528 + (128 << 20) + 110_004_838
        );
        assert_eq!(
            roomy.sum,
            "2.2 GB weights + 46 MB cache of 2048 tokens + 0.2 GB to work in = 2.5 GB"
        );
        let tight = fit(&facts, None, 2_600_000_000);
        assert_eq!(tight.words, "tight: needs 2.5 GB, 2.6 GB free");
        let none = fit(&facts, Some(1_000_000), 1_500_000_000);
        assert_eq!(none.words, "too big: needs 2.5 GB, 1.5 GB free");
    }
}
