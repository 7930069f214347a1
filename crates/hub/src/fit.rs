//! Whether a model fits into the memory that is free now, in words with figures.

use crate::catalogue::Known;
use crate::error::gb;
use crate::facts::Facts;
use crate::shapes::Shape;

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

/// What a model asks of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Bytes of the weights.
    pub weight_bytes: u64,
    /// Bytes of cache a token takes; none while the model's header was not read.
    pub kv_bytes_per_token: Option<u64>,
    /// Longest context in tokens.
    pub context_len: usize,
}

impl Need {
    /// Of a model on this machine, by its header.
    pub fn of(facts: &Facts) -> Self {
        Self {
            weight_bytes: facts.weight_bytes,
            kv_bytes_per_token: Some(facts.kv_bytes_per_token),
            context_len: facts.context_len,
        }
    }

    /// Of a catalogued model as its publisher gives it.
    pub fn published(known: &Known) -> Self {
        Self::with_bytes(known, known.about_bytes(), known.weight_bytes)
    }

    /// Of a catalogued model in 16 bits a weight.
    pub fn sixteen_bit(known: &Known) -> Self {
        Self::with_bytes(known, known.params * 2, 2)
    }

    /// Of a catalogued model quantized to Q4_0 here: 4.5 bits a weight, and 6.5625 (Q6_K) for the head, which is the
    /// embedding where they are one.
    pub fn four_bit(known: &Known) -> Self {
        let (embedding, head) = Shape::of(known).vocab_params();
        let in_q6 = if head == 0 { embedding } else { head };
        let bits = (known.params - in_q6) as f64 * 4.5 + in_q6 as f64 * 6.5625;
        Self::with_bytes(known, (bits / 8.0) as u64, 2)
    }

    /// Of files of this size, before any of them was read.
    pub fn of_files(weight_bytes: u64) -> Self {
        Self {
            weight_bytes,
            kv_bytes_per_token: None,
            context_len: ESTIMATE_CONTEXT,
        }
    }

    fn with_bytes(known: &Known, weight_bytes: u64, number_bytes: u64) -> Self {
        let shape = Shape::of(known);
        Self {
            weight_bytes,
            kv_bytes_per_token: Some(2 * shape.layers * shape.kv_width * number_bytes),
            context_len: known.context_len,
        }
    }

    /// Holds it, with `context` tokens in the cache (none takes `ESTIMATE_CONTEXT`, and both at most the model's own),
    /// against free memory.
    pub fn fit(&self, context: Option<usize>, free_bytes: u64) -> Fit {
        let context = context
            .unwrap_or(ESTIMATE_CONTEXT)
            .min(self.context_len.max(1));
        let kv_bytes = self
            .kv_bytes_per_token
            .map(|bytes| bytes.saturating_mul(context as u64));
        let working = WORKING_BYTES + (self.weight_bytes as f64 * LOADING_SHARE) as u64;
        let need_bytes = self
            .weight_bytes
            .saturating_add(kv_bytes.unwrap_or(0))
            .saturating_add(working);
        let level = if need_bytes as f64 <= free_bytes as f64 * COMFORTABLE_SHARE {
            FitLevel::Well
        } else if need_bytes <= free_bytes {
            FitLevel::Tight
        } else {
            FitLevel::TooBig
        };
        let figures = format!("needs {}, {} free", size(need_bytes), size(free_bytes));
        let cache = match kv_bytes {
            Some(bytes) => format!("{} cache of {context} tokens", size(bytes)),
            None => "a cache that its header will tell".to_owned(),
        };
        Fit {
            level,
            words: match level {
                FitLevel::Well => "runs well".to_owned(),
                FitLevel::Tight => format!("tight: {figures}"),
                FitLevel::TooBig => format!("too big: {figures}"),
            },
            sum: format!(
                "{} weights + {cache} + {} to work in = {}",
                size(self.weight_bytes),
                size(working),
                size(need_bytes)
            ),
            need_bytes,
            free_bytes,
        }
    }
}

/// Holds the need of a model with `context` tokens in its cache (none takes `ESTIMATE_CONTEXT`) against free memory.
pub fn fit(facts: &Facts, context: Option<usize>, free_bytes: u64) -> Fit {
    Need::of(facts).fit(context, free_bytes)
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
    use crate::catalogue::CATALOGUE;

    #[test]
    fn every_contender_fits_into_four_gigabytes_as_int4() {
        // design.md: "INT4 fits every contender in 4 GB", with 2k tokens of context.
        for known in CATALOGUE.iter().filter(|known| known.contender) {
            let fit = Need::four_bit(known).fit(Some(2048), 4_000_000_000);
            assert!(fit.level != FitLevel::TooBig, "{}: {}", known.id, fit.sum);
            assert!(fit.need_bytes < Need::sixteen_bit(known).fit(None, 0).need_bytes);
        }
        let tinyllama = Known::find("tinyllama").expect("known");
        let published = Need::published(tinyllama);
        assert_eq!(published, Need::sixteen_bit(tinyllama));
        assert_eq!(published.kv_bytes_per_token, Some(22_528));
        // llama-quantize makes a file of 637.7 MB of it (Q4_0, head in Q6_K).
        let four = Need::four_bit(tinyllama).weight_bytes as f64;
        assert!((four / 637.7e6 - 1.0).abs() < 0.01, "{four}");
        let unread = Need::of_files(2_200_000_000).fit(None, 8_000_000_000);
        assert_eq!(
            unread.sum,
            "2.2 GB weights + a cache that its header will tell + 0.2 GB to work in = 2.4 GB"
        );
    }

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
