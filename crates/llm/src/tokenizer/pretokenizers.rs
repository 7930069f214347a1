//! How byte-level BPE vocabularies of GGUF files cut a text before merging, by `tokenizer.ggml.pre`.
//!
//! The patterns are those of llama.cpp's `llama-vocab.cpp` (`llm_tokenizer_bpe`), in the spelling of `tokenizer.json`.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

use crate::Error;

/// GPT-2's pattern (A. Radford et al. 2019, `encoder.py`).
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Llama 3's pattern: numbers in groups of at most three digits.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Qwen 2's pattern, also StableLM 2's: digits one by one.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a family cuts text.
pub(super) struct Pretokenizer {
    /// Applied one after another; matches and what lies between them become pieces.
    patterns: &'static [&'static str],
    /// A piece that is a token as a whole is taken as such.
    pub(super) ignore_merges: bool,
    /// BOS is added unless the file says otherwise.
    pub(super) add_bos: bool,
    /// Text is brought to Unicode's composed form (NFC) first, as the models' own tokenizers have it. llama.cpp does not.
    pub(super) composes: bool,
}

impl Pretokenizer {
    /// The one named `pre`; files from before May 2024 name none.
    pub(super) fn named(pre: Option<&str>) -> Result<Self, Error> {
        let plain = |patterns| Self {
            patterns,
            ignore_merges: false,
            add_bos: false,
            composes: false,
        };
        let composing = |patterns| Self {
            composes: true,
            ..plain(patterns)
        };
        Ok(match pre.unwrap_or("default") {
            "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
            // GPT-NeoX's tokenizer (tokenization_gpt_neox.py of transformers); the converter calls Pythia's "olmo".
            "mpt" | "olmo" | "dolma" | "neox" | "gpt-neox" => composing(&[GPT2]),
            "gpt-2" | "phi-2" | "jais" | "jina-es" | "jina-de" | "jina-v1-en" | "jina-v2-es"
            | "jina-v2-de" | "jina-v2-code" | "roberta-bpe" | "exaone4" | "mellum"
            | "modern-bert" | "gigachat" | "trillion" | "granite-docling" => plain(&[GPT2]),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone"
            | "minerva-7b" | "mellum2" => plain(&[r"\p{N}", GPT2]),
            "falcon" => plain(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
            "dbrx" | "smaug-bpe" | "chatglm-bpe" => plain(&[LLAMA3]),
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral"
            | "midm-2.0" | "lfm2" => Self {
                patterns: &[LLAMA3],
                ignore_merges: true,
                add_bos: true,
                composes: false,
            },
            // StableLM 2: tokenization_arcade100k.py in its repository; Qwen 2: its tokenizer.json.
            "stablelm2" | "qwen2" => composing(&[QWEN2]),
            "deepseek-r1-qwen" | "kormo" | "megrez" | "hunyuan" | "grok-2" | "solar-open" => {
                plain(&[QWEN2])
            }
            other => {
                return Err(Error::Unsupported(format!(
                    "the vocabulary is cut by the pre-tokenizer {other:?} (tokenizer.ggml.pre), which Billion does not \
                     know; use the model's safetensors with its tokenizer.json instead"
                )));
            }
        })
    }

    /// The same for the `tokenizers` crate, mapping bytes to the byte-level alphabet last.
    pub(super) fn build(&self) -> tokenizers::Result<Sequence> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for &pattern in self.patterns {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, false, false).into());
        Ok(Sequence::new(steps))
    }
}
