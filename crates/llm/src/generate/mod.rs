//! Generation: prompt in, streamed text out, with sampling, stop strings, cancel, and reuse of a chat's KV cache.
//!
//! It sees a model only through `Decoder` and text only through `TextCodec`, so it is tested on fakes. It does not own
//! chat templates or speculation.

mod sampler;
mod stream;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::decoder::{DecodeError, Decoder, Run, SeqId, TextCodec};
pub use sampler::{Sampler, SamplerOptions, greedy};
use stream::TextStream;

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
    ) -> Result<Vec<f32>, DecodeError> {
        let logits = decoder.forward(&[Run { seq, tokens, want }])?;
        self.held.extend_from_slice(tokens);
        Ok(logits.data)
    }
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
    options
        .sampler
        .validate()
        .map_err(GenerateError::BadOption)?;
    if prompt.is_empty() {
        return Err(GenerateError::EmptyPrompt);
    }
    let context_len = decoder.context_len();
    if prompt.len() >= context_len {
        return Err(GenerateError::PromptTooLong {
            prompt_tokens: prompt.len(),
            context_len,
        });
    }
    let seq = session.rewind_to(decoder, prompt)?;
    let mut result = Generation {
        tokens: Vec::new(),
        text: String::new(),
        finish_reason: FinishReason::Cancelled,
        prompt_tokens: prompt.len(),
        reused_tokens: session.held.len(),
        time_to_first_token: None,
        prefill: Duration::ZERO,
        decode: Duration::ZERO,
    };
    let mut logits = Vec::new();
    while session.held.len() < prompt.len() {
        let done = session.held.len();
        let end = prompt.len().min(done + options.prefill_chunk.max(1));
        let last = [end - done - 1];
        let want: &[usize] = if end == prompt.len() { &last } else { &[] };
        logits = session.append(decoder, seq, &prompt[done..end], want)?;
        result.prefill = start.elapsed();
        let piece = Piece::Prefill {
            done: end,
            total: prompt.len(),
        };
        if on_piece(piece).is_break() {
            return Ok(result);
        }
    }

    let mut sampler = Sampler::new(options.sampler);
    let mut stream = TextStream::new(&options.stop);
    let mut history = prompt.to_vec();
    let mut first_token = None;
    result.finish_reason = loop {
        if result.tokens.len() == options.max_tokens {
            break FinishReason::Length;
        }
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(GenerateError::NotANumber {
                position: session.held.len(),
            });
        }
        let token = sampler.pick(&logits, &history);
        first_token.get_or_insert_with(Instant::now);
        result.tokens.push(token);
        history.push(token);
        if !options.ignore_eos && codec.eos_tokens().contains(&token) {
            let piece = Piece::Text { token, text: "" };
            // The generation ends here either way.
            let _ = on_piece(piece);
            break FinishReason::Stop;
        }
        let stopped = stream.push(&codec.token_bytes(token));
        let text = stream.take();
        let flow = on_piece(Piece::Text { token, text });
        if stopped {
            break FinishReason::Stop;
        }
        if flow.is_break() {
            break FinishReason::Cancelled;
        }
        if result.tokens.len() == options.max_tokens {
            break FinishReason::Length;
        }
        if session.held.len() == context_len {
            break FinishReason::Context;
        }
        logits = session.append(decoder, seq, &[token], &[0])?;
    };
    let rest = stream.finish();
    if !rest.is_empty() {
        // The generation is over, so a break has nothing left to stop.
        let _ = on_piece(Piece::Rest(rest));
    }
    result.text = stream.into_text();
    if let Some(first) = first_token {
        result.time_to_first_token = Some(first - start);
        result.decode = first.elapsed();
    }
    Ok(result)
}
