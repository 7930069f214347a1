//! Generation: prompt in, streamed text out, with sampling, stop strings, cancel, and reuse of a chat's KV cache.
//!
//! It sees a model only through `Decoder` and text only through `TextCodec`, so it is tested on fakes. It does not own
//! chat templates.

pub mod batch;
mod sampler;
pub mod speculate;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::decoder::{DecodeError, Decoder, Logits, Run, SeqId, TextCodec};
pub use sampler::{Distribution, Sampler, SamplerOptions, greedy};
use writer::{Step, Writer};

/// Generated tokens for which lists are made long enough at the start, so that none of them waits for memory.
const RESERVED_TOKENS: usize = 1024;

/// What to generate and when to end.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most tokens to generate; the context may end it sooner.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Texts that end the generation; they are not part of it.
    pub stop: Vec<String>,
    /// Go on after end-of-text tokens (for measuring speed).
    pub ignore_eos: bool,
    /// Prompt tokens a pass takes; a cancel waits for one pass at most.
    pub prefill_chunk: usize,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            max_tokens: 512,
            sampler: SamplerOptions::default(),
            stop: Vec::new(),
            ignore_eos: false,
            prefill_chunk: 128,
        }
    }
}

/// What happens during a generation, in order. The receiver may break at any of them to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// `done` of `total` prompt tokens are in the cache (those found there at the start included).
    Prefill {
        /// In the cache.
        done: usize,
        /// Prompt length.
        total: usize,
    },
    /// A token was chosen, and `text` (perhaps empty) can be shown.
    Text {
        /// The token.
        token: u32,
        /// Whole characters, never a part of a stop string.
        text: &'a str,
    },
    /// The rest of the text, held back until now. Not sent if there is none.
    Rest(&'a str),
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// An end-of-text token or a stop string.
    Stop,
    /// `max_tokens` reached.
    Length,
    /// The receiver broke off.
    Cancelled,
    /// The context is full.
    Context,
}

/// A finished generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// Tokens chosen, the ending one included.
    pub tokens: Vec<u32>,
    /// Their text, without special tokens and without the stop string.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Length of the prompt.
    pub prompt_tokens: usize,
    /// Prompt tokens that were already in the cache.
    pub reused_tokens: usize,
    /// From the start to the first token chosen; none if there is none.
    pub time_to_first_token: Option<Duration>,
    /// Time in passes over the prompt.
    pub prefill: Duration,
    /// From the first token chosen to the end.
    pub decode: Duration,
}

/// Why a generation could not run.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Nothing to go on from.
    #[error("the prompt is empty: the model needs at least one token")]
    EmptyPrompt,
    /// The prompt leaves no room.
    #[error("the prompt has {prompt_tokens} tokens, but the context holds {context_len} and one must stay free; shorten the prompt by {} tokens", prompt_tokens + 1 - context_len)]
    PromptTooLong {
        /// Length of the prompt.
        prompt_tokens: usize,
        /// Context of the decoder.
        context_len: usize,
    },
    /// A sampling option is out of range.
    #[error("sampling option {0}")]
    BadOption(String),
    /// The model gave something that is not a number.
    #[error(
        "the model's logits after {position} tokens are not numbers: the weights are damaged or the numbers overflowed"
    )]
    NotANumber {
        /// Tokens in the cache.
        position: usize,
    },
    /// The decoder failed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The KV cache of one chat, kept from turn to turn: a prompt that begins like the last one only pays for the rest.
#[derive(Debug, Default)]
pub struct Session {
    seq: Option<SeqId>,
    /// Tokens whose keys and values the decoder holds.
    held: Vec<u32>,
}

impl Session {
    /// A session that holds nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens held in the cache.
    pub fn held(&self) -> &[u32] {
        &self.held
    }

    /// Frees the cache.
    pub fn close(&mut self, decoder: &mut dyn Decoder) {
        if let Some(seq) = self.seq.take() {
            decoder.close(seq);
        }
        self.held.clear();
    }

    /// Opens the sequence if need be and cuts it back to what it shares with `prompt`, at least one token short of it,
    /// so that the last prompt token is run and gives logits.
    fn rewind_to(
        &mut self,
        decoder: &mut dyn Decoder,
        prompt: &[u32],
    ) -> Result<SeqId, DecodeError> {
        let seq = match self.seq {
            Some(seq) => seq,
            None => *self.seq.insert(decoder.open()?),
        };
        let shared = self
            .held
            .iter()
            .zip(&prompt[..prompt.len() - 1])
            .take_while(|(a, b)| a == b)
            .count();
        if shared < self.held.len() {
            decoder.truncate(seq, shared)?;
            self.held.truncate(shared);
        }
        Ok(seq)
    }

    fn append(
        &mut self,
        decoder: &mut dyn Decoder,
        seq: SeqId,
        tokens: &[u32],
        want: &[usize],
    ) -> Result<Logits, DecodeError> {
        let logits = decoder.forward(&[Run { seq, tokens, want }])?;
        self.held.extend_from_slice(tokens);
        Ok(logits)
    }
}

/// Whether `prompt` can be gone on from: something in it, room behind it, options in range.
fn check(
    context_len: usize,
    prompt: &[u32],
    options: &GenerateOptions,
) -> Result<(), GenerateError> {
    options
        .sampler
        .validate()
        .map_err(GenerateError::BadOption)?;
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt.len() >= context_len {
        return Err(GenerateError::PromptTooLong {
            prompt_tokens: prompt.len(),
            context_len,
        });
    }
    Ok(())
}

/// Runs `prompt` and generates after it. `on_piece` hears of every step and may break to cancel; what was generated so
/// far is returned all the same, and `session` stays usable after a cancel and after an error.
pub fn generate(
    decoder: &mut dyn Decoder,
    codec: &dyn TextCodec,
    session: &mut Session,
    prompt: &[u32],
    options: &GenerateOptions,
    on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
) -> Result<Generation, GenerateError> {
    let start = Instant::now();
    let context_len = decoder.context_len();
    check(context_len, prompt, options)?;
    let seq = session.rewind_to(decoder, prompt)?;
    let length = prompt.len() + options.max_tokens.min(RESERVED_TOKENS);
    session.held.reserve(length - session.held.len());
    let mut writer = Writer::new(prompt, options, start, session.held.len());
    let mut logits = Logits::default();
    while session.held.len() < prompt.len() {
        let done = session.held.len();
        let end = chunk_end(prompt.len(), done, options);
        let last = [end - done - 1];
        let want: &[usize] = if end == prompt.len() { &last } else { &[] };
        logits = session.append(decoder, seq, &prompt[done..end], want)?;
        writer.prefilled();
        let piece = Piece::Prefill {
            done: end,
            total: prompt.len(),
        };
        if on_piece(piece).is_break() {
            return Ok(writer.finish(FinishReason::Cancelled, on_piece));
        }
    }
    let reason = loop {
        match writer.step(codec, context_len, &logits.data, on_piece)? {
            Step::Run(token) => {
                decoder.recycle(logits);
                logits = session.append(decoder, seq, &[token], &[0])?;
            }
            Step::End(reason) => break reason,
        }
    };
    decoder.recycle(logits);
    Ok(writer.finish(reason, on_piece))
}

/// Where the pass over a prompt that starts at its token `done` ends. A prompt's passes depend on its own length only.
fn chunk_end(prompt_tokens: usize, done: usize, options: &GenerateOptions) -> usize {
    prompt_tokens.min(done + options.prefill_chunk.max(1))
}
