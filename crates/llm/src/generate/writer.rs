//! One generation under way, apart from its cache: chooses tokens, turns them into text, and knows when to end.
//!
//! `generate` and `speculate` drive one, `batch` many; that all give the same text follows from all using this.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::stream::{LONG_TOKEN_BYTES, TextStream};
use super::{
    FinishReason, GenerateError, GenerateOptions, Generation, Piece, RESERVED_TOKENS, Sampler,
};
use crate::decoder::TextCodec;

/// What a generation needs next.
pub(super) enum Step {
    /// Run this token and come back with the logits after it.
    Run(u32),
    /// It has ended.
    End(FinishReason),
}

/// The state of one generation.
pub(super) struct Writer<'a> {
    options: &'a GenerateOptions,
    sampler: Sampler,
    stream: TextStream<'a>,
    /// Of the token at hand.
    bytes: Vec<u8>,
    /// Prompt and what was chosen.
    history: Vec<u32>,
    prompt_tokens: usize,
    reused_tokens: usize,
    start: Instant,
    prefill: Duration,
    first_token: Option<Instant>,
}

impl<'a> Writer<'a> {
    /// Before the prompt is run; `reused_tokens` of it are in the cache.
    pub(super) fn new(
        prompt: &[u32],
        options: &'a GenerateOptions,
        start: Instant,
        reused_tokens: usize,
    ) -> Self {
        let reserved = options.max_tokens.min(RESERVED_TOKENS);
        let mut history = Vec::with_capacity(prompt.len() + reserved);
        history.extend_from_slice(prompt);
        Self {
            options,
            sampler: Sampler::new(options.sampler),
            stream: TextStream::new(&options.stop, reserved),
            bytes: Vec::with_capacity(LONG_TOKEN_BYTES),
            history,
            prompt_tokens: prompt.len(),
            reused_tokens,
            start,
            prefill: Duration::ZERO,
            first_token: None,
        }
    }

    /// A pass over the prompt has just ended.
    pub(super) fn prefilled(&mut self) {
        self.prefill = self.start.elapsed();
    }

    /// Chooses the token after `logits`, shape (vocab_size), which follow everything chosen so far.
    pub(super) fn step(
        &mut self,
        codec: &dyn TextCodec,
        context_len: usize,
        logits: &[f32],
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Step, GenerateError> {
        if self.is_full() {
            return Ok(Step::End(FinishReason::Length));
        }
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(GenerateError::NotANumber {
                position: self.history.len(),
            });
        }
        let token = self.sampler.pick(logits, &self.history);
        Ok(self.push(token, codec, context_len, on_piece))
    }

    /// Takes `token` as the next one, however it was chosen.
    pub(super) fn push(
        &mut self,
        token: u32,
        codec: &dyn TextCodec,
        context_len: usize,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Step {
        self.first_token.get_or_insert_with(Instant::now);
        self.history.push(token);
        if !self.options.ignore_eos && codec.eos_tokens().contains(&token) {
            // The generation ends here either way.
            let _ = on_piece(Piece::Text { token, text: "" });
            return Step::End(FinishReason::Stop);
        }
        self.bytes.clear();
        codec.append_token_bytes(token, &mut self.bytes);
        let stopped = self.stream.push(&self.bytes);
        let text = self.stream.take();
        let flow = on_piece(Piece::Text { token, text });
        if stopped {
            Step::End(FinishReason::Stop)
        } else if flow.is_break() {
            Step::End(FinishReason::Cancelled)
        } else if self.is_full() {
            Step::End(FinishReason::Length)
        } else if self.history.len() > context_len {
            // All but the last token are in the cache, and that one has no room.
            Step::End(FinishReason::Context)
        } else {
            Step::Run(token)
        }
    }

    /// Prompt and what was chosen.
    pub(super) fn history(&self) -> &[u32] {
        &self.history
    }

    /// Tokens that may still be chosen.
    pub(super) fn left(&self) -> usize {
        (self.prompt_tokens + self.options.max_tokens).saturating_sub(self.history.len())
    }

    /// What the next token is drawn from, and the random state it is drawn with.
    pub(super) fn sampler(&mut self) -> (&mut Sampler, &[u32]) {
        (&mut self.sampler, &self.history)
    }

    fn is_full(&self) -> bool {
        self.history.len() - self.prompt_tokens >= self.options.max_tokens
    }

    /// The result; hands out the text held back until now.
    pub(super) fn finish(
        mut self,
        finish_reason: FinishReason,
        on_piece: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Generation {
        let rest = self.stream.finish();
        if !rest.is_empty() {
            // The generation is over, so a break has nothing left to stop.
            let _ = on_piece(Piece::Rest(rest));
        }
        Generation {
            tokens: self.history.split_off(self.prompt_tokens),
            text: self.stream.into_text(),
            finish_reason,
            prompt_tokens: self.prompt_tokens,
            reused_tokens: self.reused_tokens,
            time_to_first_token: self.first_token.map(|first| first - self.start),
            prefill: self.prefill,
            decode: self
                .first_token
                .map_or(Duration::ZERO, |first| first.elapsed()),
        }
    }
}
