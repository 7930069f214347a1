//! The shapes of the catalogue's models (a table), by their publishers' `config.json`: what they take in memory can be told
//! before they are on this machine.

use crate::catalogue::Known;

/// What memory depends on besides the number of parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) layers: u64,
    /// Numbers in a vector of the model.
    pub(crate) hidden: u64,
    /// Numbers that the keys of a token take in a layer.
    pub(crate) kv_width: u64,
    pub(crate) vocab: u64,
    /// The head is the embedding.
    pub(crate) tied: bool,
}

impl Shape {
    const fn new(layers: u64, hidden: u64, kv_width: u64, vocab: u64, tied: bool) -> Self {
        Self {
            layers,
            hidden,
            kv_width,
            vocab,
            tied,
        }
    }

    /// The shape of a catalogued model.
    pub(crate) fn of(known: &Known) -> Self {
        match known.id {
            "smollm2-360m" => Self::new(32, 960, 320, 49_152, true),
            "smollm2-1.7b" => Self::new(24, 2048, 2048, 49_152, true),
            "tinyllama-1.1b" | "tinyllama-1.1b-chat" => Self::new(22, 2048, 256, 32_000, false),
            "llama-3.2-1b" | "llama-3.2-1b-instruct" => Self::new(16, 2048, 512, 128_256, true),
            "llama-3.2-3b" => Self::new(28, 3072, 1024, 128_256, true),
            "llama-3.1-8b" | "llama-3.1-8b-instruct" => Self::new(32, 4096, 1024, 128_256, false),
            "llama-2-7b" | "llama-2-7b-chat" => Self::new(32, 4096, 4096, 32_000, false),
            "stablelm-2-1.6b" | "stablelm-2-1.6b-chat" | "stablelm-2-zephyr-1.6b" => {
                Self::new(24, 2048, 2048, 100_352, false)
            }
            "stablelm-2-12b" => Self::new(40, 5120, 1280, 100_352, false),
            "pythia-70m" => Self::new(6, 512, 512, 50_304, false),
            "pythia-160m" => Self::new(12, 768, 768, 50_304, false),
            "pythia-410m" => Self::new(24, 1024, 1024, 50_304, false),
            "pythia-1b" => Self::new(16, 2048, 2048, 50_304, false),
            "pythia-1.4b" => Self::new(24, 2048, 2048, 50_304, false),
            "pythia-2.8b" => Self::new(32, 2560, 2560, 50_304, false),
            "pythia-6.9b" => Self::new(32, 4096, 4096, 50_432, false),
            // SmolLM2 135M, the starter.
            _ => Self::new(30, 576, 192, 49_152, true),
        }
    }

    /// Parameters of the embedding, and of a head of its own.
    pub(crate) fn vocab_params(self) -> (u64, u64) {
        let one = self.vocab * self.hidden;
        (one, if self.tied { 0 } else { one })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::CATALOGUE;

    #[test]
    fn shapes_add_up_to_the_parameters() {
        for known in &CATALOGUE {
            let shape = Shape::of(known);
            let (embedding, head) = shape.vocab_params();
            // Attention takes 2.1 to 4 squares of the width, the MLP 8 to 12: 10.4 (TinyLlama) to 16 (SmolLM2 1.7B).
            let rest = (known.params - embedding - head) as f64;
            let squares = rest / shape.layers as f64 / (shape.hidden * shape.hidden) as f64;
            assert!((10.3..16.1).contains(&squares), "{}: {squares}", known.id);
        }
    }
}
