//! Continuous batching: many prompts gone on from at once, at most so many at a time, a finished one's place taken at
//! once by the next.
//!
//! Every generation is the one that `generate` gives with a fresh session, whatever the number of slots. Prompts are run
//! alone, in the same passes as there, and chosen tokens together in passes of at most [`Decoder::exact_rows`] rows, where a row's
//! logits do not depend on its neighbours. It owns no order: requests are begun in the order in which they are given.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::time::Instant;

use super::writer::{Step, Writer};
use super::{GenerateError, GenerateOptions, Generation, Piece, check, chunk_end};
use crate::decoder::{DecodeError, Decoder, EXACT_ROWS, Logits, Run, SeqId, TextCodec};

/// A prompt and how to go on from it.
#[derive(Clone, Debug)]
pub struct Request {
    /// At least one token.
    pub prompt: Vec<u32>,
    /// Each request has its own, its seed too.
    pub options: GenerateOptions,
}

/// What happens in a batch. The receiver may break at any of them to cancel all that has not finished.
#[derive(Debug)]
pub enum BatchEvent<'a> {
    /// A step of a request.
    Piece {
        /// Its index.
        request: usize,
        /// As `generate` tells it. A prompt that another has run already sends no `Prefill`.
        piece: Piece<'a>,
    },
    /// A request has ended; nothing more comes of it.
    Finished {
        /// Its index.
        request: usize,
        /// What it gave, or why it could not run. The others go on.
        result: Result<Generation, GenerateError>,
    },
}

/// Goes on from every request's prompt, at most `slots` (at least one) at a time, and tells `on_event` of each step and
/// of each that has ended. Breaks if `on_event` did: what has not finished by then is dropped.
///
/// Neighbours in the list whose prompts begin alike share what they can share without running other passes than each
/// would alone: whole prefill chunks, or, where the prompts are equal, all of it.
///
/// A request that cannot run fails alone, with its own error. An error here is the decoder's own in a pass that several
/// requests share, and ends them all. No sequence is left open.
pub fn generate_batch(
    decoder: &mut dyn Decoder,
    codec: &dyn TextCodec,
    requests: &[Request],
    slots: usize,
    on_event: &mut dyn FnMut(BatchEvent<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, DecodeError> {
    let mut batch = Batch {
        decoder,
        codec,
        requests,
        on_event,
        active: Vec::new(),
        waiting: Vec::new(),
        kept: None,
        next: 0,
        flow: ControlFlow::Continue(()),
    };
    let result = batch.run(slots.max(1));
    batch.close();
    result.map(|()| batch.flow)
}

/// A batch at work.
struct Batch<'a> {
    decoder: &'a mut dyn Decoder,
    codec: &'a dyn TextCodec,
    requests: &'a [Request],
    on_event: &'a mut dyn FnMut(BatchEvent<'_>) -> ControlFlow<()>,
    /// At most as many as there are slots; their order never changes what they give.
    active: Vec<Slot<'a>>,
    /// The active ones of a step whose pass is still to come; empty between steps.
    waiting: Vec<Slot<'a>>,
    kept: Option<Kept>,
    /// The first request that has not begun.
    next: usize,
    /// Whether the receiver broke off.
    flow: ControlFlow<()>,
}

/// A request that has run its prompt and goes on.
struct Slot<'a> {
    request: usize,
    seq: SeqId,
    writer: Writer<'a>,
    /// Chosen and not yet run.
    token: u32,
}

/// The cache of a prompt that the next request begins like.
struct Kept {
    request: usize,
    seq: SeqId,
    /// After the prompt, one row.
    logits: Logits,
}

/// What became of an attempt to begin a request.
enum Admission {
    /// It goes on, or has ended already.
    Begun,
    /// Its prompt needs memory that requests at work hold.
    NoRoom,
}

impl<'a> Batch<'a> {
    fn run(&mut self, slots: usize) -> Result<(), DecodeError> {
        // Sequences at work when memory last ran out: none is begun until one of them has ended.
        let mut crowded = usize::MAX;
        loop {
            while self.next < self.requests.len()
                && self.active.len() < slots.min(crowded)
                && self.flow.is_continue()
            {
                match self.admit() {
                    Admission::Begun => crowded = usize::MAX,
                    Admission::NoRoom => crowded = self.active.len(),
                }
            }
            if self.active.is_empty() || self.flow.is_break() {
                return Ok(());
            }
            self.advance()?;
        }
    }

    /// Begins the next request: runs its prompt and chooses its first token.
    fn admit(&mut self) -> Admission {
        let request = self.next;
        let Request { prompt, options } = &self.requests[request];
        if let Err(error) = check(self.decoder.context_len(), prompt, options) {
            self.next += 1;
            self.finished(request, Err(error));
            return Admission::Begun;
        }
        let start = Instant::now();
        let mut seq = None;
        let result = self.prefill(request, start, &mut seq);
        if let Err(DecodeError::Backend(_)) = result
            && !self.active.is_empty()
        {
            self.release(seq);
            return Admission::NoRoom;
        }
        self.next += 1;
        let (writer, logits) = match result {
            Ok(Some(begun)) => begun,
            Ok(None) => {
                self.release(seq);
                return Admission::Begun;
            }
            Err(error) => {
                self.release(seq);
                self.finished(request, Err(error.into()));
                return Admission::Begun;
            }
        };
        if let Some(seq) = seq {
            self.keep(request, seq, &logits);
            self.choose(request, seq, writer, &logits.data);
        }
        self.decoder.recycle(logits);
        Admission::Begun
    }

    /// Runs the prompt of `request` in a sequence of its own, from what the kept one shares with it on. Gives the logits
    /// after it; nothing if the receiver broke off.
    fn prefill(
        &mut self,
        request: usize,
        start: Instant,
        seq: &mut Option<SeqId>,
    ) -> Result<Option<(Writer<'a>, Logits)>, DecodeError> {
        let Request { prompt, options } = &self.requests[request];
        let mut logits = Logits::default();
        let mut done = 0;
        if let Some(kept) = &self.kept {
            done = shared(&self.requests[kept.request], &self.requests[request]);
            if done == prompt.len() {
                logits.clone_from(&kept.logits);
            }
        }
        let own = match &self.kept {
            Some(kept) if done > 0 => self.decoder.fork(kept.seq, done)?,
            _ => self.decoder.open()?,
        };
        *seq = Some(own);
        let mut writer = Writer::new(prompt, options, start, done);
        while done < prompt.len() {
            let end = chunk_end(prompt.len(), done, options);
            let last = [end - done - 1];
            let run = Run {
                seq: own,
                tokens: &prompt[done..end],
                want: if end == prompt.len() { &last } else { &[] },
            };
            logits = self.decoder.forward(&[run])?;
            writer.prefilled();
            done = end;
            let total = prompt.len();
            self.flow = (self.on_event)(BatchEvent::Piece {
                request,
                piece: Piece::Prefill { done, total },
            });
            if self.flow.is_break() {
                return Ok(None);
            }
        }
        Ok(Some((writer, logits)))
    }

    /// Keeps the cache of a prompt that has just been run if the next request can use it, and none otherwise.
    fn keep(&mut self, request: usize, seq: SeqId, logits: &Logits) {
        let prompt = &self.requests[request].prompt;
        let useful = self
            .requests
            .get(request + 1)
            .is_some_and(|next| shared(&self.requests[request], next) > 0);
        let same = self
            .kept
            .as_ref()
            .is_some_and(|kept| self.requests[kept.request].prompt == *prompt);
        if useful && same {
            return;
        }
        if let Some(kept) = self.kept.take() {
            self.decoder.close(kept.seq);
        }
        // Without it the next prompt is run from its start: slower, not wrong.
        if useful && let Ok(fork) = self.decoder.fork(seq, prompt.len()) {
            self.kept = Some(Kept {
                request,
                seq: fork,
                logits: logits.clone(),
            });
        }
    }

    /// Runs the token that each active request has chosen, and chooses the next ones.
    fn advance(&mut self) -> Result<(), DecodeError> {
        // Two lists that change places, so that a step allocates nothing.
        let mut waiting = std::mem::take(&mut self.waiting);
        std::mem::swap(&mut self.active, &mut waiting);
        let result = self.run_all(&mut waiting);
        // All sequences must be found when the batch is closed.
        self.active.append(&mut waiting);
        self.waiting = waiting;
        result
    }

    /// Takes from `waiting` those whose passes were run, which is all unless the decoder failed or the receiver broke off.
    fn run_all(&mut self, waiting: &mut Vec<Slot<'a>>) -> Result<(), DecodeError> {
        let rows = self.decoder.exact_rows().clamp(1, EXACT_ROWS);
        while !waiting.is_empty() && self.flow.is_continue() {
            let group = rows.min(waiting.len());
            let logits = self.pass(&waiting[..group])?;
            for (row, slot) in waiting.drain(..group).enumerate() {
                self.choose(slot.request, slot.seq, slot.writer, logits.row(row));
            }
            self.decoder.recycle(logits);
        }
        Ok(())
    }

    /// At most [`EXACT_ROWS`] of them.
    fn pass(&mut self, group: &[Slot<'_>]) -> Result<Logits, DecodeError> {
        let mut runs = [Run {
            seq: SeqId(0),
            tokens: &[],
            want: &[0],
        }; EXACT_ROWS];
        for (run, slot) in runs.iter_mut().zip(group) {
            run.seq = slot.seq;
            run.tokens = std::slice::from_ref(&slot.token);
        }
        self.decoder.forward(&runs[..group.len()])
    }

    /// Chooses a request's next token; it goes on, or ends and gives its place free.
    fn choose(&mut self, request: usize, seq: SeqId, mut writer: Writer<'a>, logits: &[f32]) {
        if self.flow.is_break() {
            self.decoder.close(seq);
            return;
        }
        let context_len = self.decoder.context_len();
        let flow = Cell::new(ControlFlow::Continue(()));
        let on_event = &mut *self.on_event;
        let mut on_piece = |piece: Piece<'_>| {
            let heard = on_event(BatchEvent::Piece { request, piece });
            if heard.is_break() {
                flow.set(heard);
            }
            heard
        };
        let result = match writer.step(self.codec, context_len, logits, &mut on_piece) {
            Ok(Step::Run(token)) => {
                self.active.push(Slot {
                    request,
                    seq,
                    writer,
                    token,
                });
                return;
            }
            Ok(Step::End(_)) if flow.get().is_break() => None,
            Ok(Step::End(reason)) => Some(Ok(writer.finish(reason, &mut on_piece))),
            Err(error) => Some(Err(error)),
        };
        self.flow = flow.get();
        self.decoder.close(seq);
        if let Some(result) = result {
            self.finished(request, result);
        }
    }

    fn finished(&mut self, request: usize, result: Result<Generation, GenerateError>) {
        let heard = (self.on_event)(BatchEvent::Finished { request, result });
        if heard.is_break() {
            self.flow = heard;
        }
    }

    fn release(&mut self, seq: Option<SeqId>) {
        if let Some(seq) = seq {
            self.decoder.close(seq);
        }
    }

    fn close(&mut self) {
        for slot in std::mem::take(&mut self.active) {
            self.decoder.close(slot.seq);
        }
        if let Some(kept) = self.kept.take() {
            self.decoder.close(kept.seq);
        }
    }
}

/// How many tokens of `later`'s prompt need not be run once `earlier`'s were: all if the prompts are equal, else the
/// chunks that both would run, short of the last token.
fn shared(earlier: &Request, later: &Request) -> usize {
    let chunk = later.options.prefill_chunk.max(1);
    if earlier.options.prefill_chunk.max(1) != chunk {
        return 0;
    }
    if earlier.prompt == later.prompt {
        return later.prompt.len();
    }
    let common = earlier
        .prompt
        .iter()
        .zip(&later.prompt)
        .take_while(|(a, b)| a == b)
        .count();
    common.min(later.prompt.len().saturating_sub(1)) / chunk * chunk
}
