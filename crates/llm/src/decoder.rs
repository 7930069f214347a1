//! The small interface that generation, evaluation and speed measurement see: open a sequence, run tokens, read logits.
//!
//! Both executors implement it, and tests implement it with fakes. It owns no arithmetic and no text.

use crate::adapter::AttachedLayers;

/// Most rows of a pass for which a [`Decoder`] on a processor promises batch invariance; see [`Decoder::exact_rows`].
pub const EXACT_ROWS: usize = 16;

/// A sequence (a KV cache of its own) inside a decoder. Valid until `close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqId(pub u32);

/// Tokens to append to one sequence in one pass, and the positions whose logits are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The sequence that the tokens are appended to. A pass holds a sequence at most once.
    pub seq: SeqId,
    /// New tokens, at least one.
    pub tokens: &'a [u32],
    /// Indices into `tokens`, ascending, whose next-token logits are wanted. May be empty.
    pub want: &'a [usize],
}

/// Logits of the wanted positions, in the order of the runs and of their `want` lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// Row-major, shape: (rows, vocab_size).
    pub data: Vec<f32>,
    /// Width of a row.
    pub vocab_size: usize,
}

impl Logits {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.data.len().checked_div(self.vocab_size).unwrap_or(0)
    }

    /// Logits of row `i`, shape: (vocab_size).
    ///
    /// # Panics
    /// If `i` is not below `rows()`.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.vocab_size..(i + 1) * self.vocab_size]
    }
}

/// Why a pass could not run.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The sequence would outgrow the context.
    #[error(
        "the context is full: {have} tokens held, {add} more asked for, {limit} fit; shorten the prompt or start a new chat"
    )]
    ContextFull {
        /// Tokens held.
        have: usize,
        /// Tokens asked to append.
        add: usize,
        /// Context length of the decoder.
        limit: usize,
    },
    /// A token id is outside the vocabulary.
    #[error(
        "token id {token} is outside the vocabulary of {vocab_size} tokens: the tokenizer does not belong to these weights"
    )]
    TokenOutOfRange {
        /// The offending id.
        token: u32,
        /// Vocabulary size.
        vocab_size: usize,
    },
    /// A sequence id is unknown, closed, used twice in one pass, or a wanted index lies outside its tokens.
    #[error("invalid pass: {0}")]
    Invalid(String),
    /// The backend failed (out of memory, device fault).
    #[error("{0}")]
    Backend(String),
}

/// A loaded model that turns tokens into logits. Both executors share this one KV-cache contract.
///
/// **Batch invariance:** for 1 to 16 rows ([`EXACT_ROWS`]) in a pass, a row's logits are bit-identical whatever the batch, its
/// neighbours or how the sequence was cut into passes. On a GPU it holds for fewer rows: ask [`Decoder::exact_rows`].
pub trait Decoder: Send {
    /// Width of a logits row (rows of the head, which may exceed the tokenizer's vocabulary by padding).
    fn vocab_size(&self) -> usize;
    /// Most tokens a sequence can hold.
    fn context_len(&self) -> usize;
    /// Opens an empty sequence.
    fn open(&mut self) -> Result<SeqId, DecodeError>;
    /// Opens a sequence that starts as the first `len` tokens of `seq`; the prefix is shared, read-only.
    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, DecodeError>;
    /// Tokens held by `seq` (0 if it is not open).
    fn len(&self, seq: SeqId) -> usize;
    /// Forgets all but the first `len` tokens of `seq`.
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), DecodeError>;
    /// Closes `seq` and frees what nobody shares.
    fn close(&mut self, seq: SeqId);
    /// Appends tokens to several sequences (of any lengths) in one pass and returns the wanted logits.
    /// On an error no sequence has changed.
    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Logits, DecodeError>;
    /// Takes back logits that nobody reads any more, of whatever pass, so that the next pass need not allocate any.
    fn recycle(&mut self, logits: Logits) {
        drop(logits);
    }
    /// Sequences opened from now on are computed with this adapter, or with none; those that are open keep theirs, and a fork
    /// has its parent's. So base and tuned models answer side by side from one set of weights.
    fn set_adapter(&mut self, adapter: Option<&AttachedLayers>) -> Result<(), DecodeError> {
        match adapter {
            None => Ok(()),
            Some(_) => Err(DecodeError::Invalid(
                "this decoder takes no adapters".to_owned(),
            )),
        }
    }
    /// Most rows of a pass for which batch invariance holds, at least 1. Where it is 1, a pass of a single row gives the same
    /// logits whatever came in between, but several rows of a sequence at once may differ from one by one in the last bits:
    /// speculation keeps the distribution there only as nearly as the arithmetic does.
    fn exact_rows(&self) -> usize {
        EXACT_ROWS
    }
    /// Bytes of KV cache one token takes, all layers, keys and values.
    fn kv_bytes_per_token(&self) -> usize;
    /// Bytes the weights take as held by this executor, those of the adapter for new sequences included.
    fn weights_bytes(&self) -> usize;
}

/// Text to token ids and back, as evaluation and generation need it; the real one is `tokenizer::Tokenizer`.
pub trait TextCodec: Send + Sync {
    /// Encodes text. `add_special` adds what the model wants at the start of a text (BOS), where it wants any.
    /// Special tokens spelled out in `text` are recognised only if `parse_special`.
    fn encode(
        &self,
        text: &str,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<u32>, String>;
    /// The bytes of one token as it appears inside a text (not at its start); special tokens give no bytes.
    fn token_bytes(&self, token: u32) -> Vec<u8>;
    /// Appends the bytes of one token, as [`Self::token_bytes`] gives them: for text that grows a token at a time.
    fn append_token_bytes(&self, token: u32, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.token_bytes(token));
    }
    /// Decodes a whole text, special tokens left out; invalid UTF-8 becomes U+FFFD.
    fn decode(&self, tokens: &[u32]) -> String;
    /// Tokens that end a generation (EOS, end-of-turn).
    fn eos_tokens(&self) -> &[u32];
}
