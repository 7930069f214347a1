//! Tokenizers: text to token ids and back, from `tokenizer.json` and from a GGUF vocabulary.
//!
//! Byte-level BPE and everything that `tokenizer.json` describes run on the `tokenizers` crate; a GGUF's SentencePiece
//! vocabulary runs on `spm`, which merges by score as SentencePiece does. This file owns what is common: special tokens,
//! the tokens that end a generation, and the exact bytes of a token. It knows no chat templates.

mod agreement;
mod gguf;
mod json;
mod pieces;
mod pretokenizers;
mod spm;
#[cfg(test)]
mod tests;

use std::fmt;

use tokenizers::{AddedVocabulary, Model, OffsetType, PreTokenizer};

pub use agreement::{Agreement, Disagreement};
pub use json::JsonConfigs;
use pieces::Pieces;
use spm::Spm;

use crate::decoder::TextCodec;

/// Spellings of tokens that end a text or a turn, whatever the configuration says (as llama.cpp's `special_eog_ids`).
const END_TOKENS: [&str; 12] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "<｜end▁of▁sentence｜>",
];

/// Most tokens a vocabulary may have; a larger id is a damaged file.
const MAX_VOCAB: usize = 1 << 22;

/// Longest spelling of a token in bytes; a longer one is a damaged file.
const MAX_TOKEN_BYTES: usize = 1 << 16;

/// A model's tokenizer.
pub struct Tokenizer {
    engine: Engine,
    pieces: Pieces,
    bos: Option<u32>,
    add_bos: bool,
    /// Further tokens put before a text, after BOS.
    prefix: Vec<u32>,
    eos: Vec<u32>,
    /// A text's first piece begins with a space that is not in the text.
    strips_first_space: bool,
}

/// What turns text into ids.
enum Engine {
    Library(Box<Library>),
    SentencePiece(Box<Spm>),
}

/// The `tokenizers` crate's pipeline.
struct Library {
    inner: tokenizers::Tokenizer,
    /// Its added tokens, special ones spelled out in a text taken as plain text.
    literal: AddedVocabulary,
}

impl Library {
    fn new(inner: tokenizers::Tokenizer) -> Self {
        let mut literal = inner.get_added_vocabulary().clone();
        literal.set_encode_special_tokens(true);
        Self { inner, literal }
    }

    /// The ids of a text without anything added around it; truncation and padding of the file are not applied.
    fn encode(&self, text: &str, parse_special: bool) -> tokenizers::Result<Vec<u32>> {
        let added = if parse_special {
            self.inner.get_added_vocabulary()
        } else {
            &self.literal
        };
        let mut pieces = added.extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(pretokenizer) = self.inner.get_pre_tokenizer() {
            pretokenizer.pre_tokenize(&mut pieces)?;
        }
        let model = self.inner.get_model();
        pieces.tokenize(|piece| model.tokenize(piece.get()))?;
        let encoding = pieces.into_encoding(None, 0, OffsetType::None)?;
        Ok(encoding.get_ids().to_vec())
    }
}

impl Tokenizer {
    /// One more than the largest token id.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token's spelling in the vocabulary; none if there is no such token.
    pub fn token_text(&self, token: u32) -> Option<String> {
        match &self.engine {
            Engine::Library(library) => library.inner.id_to_token(token),
            Engine::SentencePiece(spm) => spm.token_text(token).map(str::to_owned),
        }
    }

    /// The token of this exact spelling.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        match &self.engine {
            Engine::Library(library) => library.inner.token_to_id(text),
            Engine::SentencePiece(spm) => spm.token_id(text),
        }
    }

    /// The token that begins a text, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether the model wants BOS at the start of a text.
    pub fn adds_bos(&self) -> bool {
        self.add_bos && self.bos.is_some()
    }

    /// The spelling of BOS, as chat templates want it; empty if there is none.
    pub fn bos_text(&self) -> String {
        self.bos
            .and_then(|token| self.token_text(token))
            .unwrap_or_default()
    }

    /// The spelling of the first end token, as chat templates want it; empty if there is none.
    pub fn eos_text(&self) -> String {
        self.eos
            .first()
            .and_then(|&token| self.token_text(token))
            .unwrap_or_default()
    }
}

impl TextCodec for Tokenizer {
    fn encode(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<u32>, String> {
        let mut ids = Vec::new();
        if add_special {
            ids.extend(self.bos.filter(|_| self.add_bos));
            ids.extend(&self.prefix);
        }
        match &self.engine {
            Engine::Library(library) => ids.extend(
                library
                    .encode(text, parse_special)
                    .map_err(|error| format!("cannot encode the text: {error}"))?,
            ),
            Engine::SentencePiece(spm) => spm.encode(text, parse_special, &mut ids)?,
        }
        Ok(ids)
    }

    fn token_bytes(&self, token: u32) -> Vec<u8> {
        self.pieces.get(token).to_vec()
    }

    fn append_token_bytes(&self, token: u32, to: &mut Vec<u8>) {
        to.extend_from_slice(self.pieces.get(token));
    }

    fn decode(&self, tokens: &[u32]) -> String {
        let mut bytes = Vec::new();
        for &token in tokens {
            bytes.extend_from_slice(self.pieces.get(token));
        }
        let text = if self.strips_first_space {
            bytes.strip_prefix(b" ").unwrap_or(&bytes)
        } else {
            &bytes
        };
        String::from_utf8_lossy(text).into_owned()
    }

    fn eos_tokens(&self) -> &[u32] {
        &self.eos
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let engine = match self.engine {
            Engine::Library(_) => "tokenizers",
            Engine::SentencePiece(_) => "spm",
        };
        f.debug_struct("Tokenizer")
            .field("engine", &engine)
            .field("vocab_size", &self.vocab_size())
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}
