//! Speculative decoding: a cheap draft proposes tokens, the target checks them all in one pass, and what comes out is
//! distributed exactly as the target alone would have it (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023,
//! arXiv 2302.01318). The draft is a smaller model, or the text itself (`lookup`).
//!
//! A drafted token x is kept with probability min(1, p(x) / q(x)), where p and q are what the target and the draft would
//! draw from after every filter; the first that is not kept is replaced by a draw from p above q, and where all are kept
//! the pass gives one token more. Greedy decoding is the case in which p and q hold one token each, so it needs no code of
//! its own. How many to draft is fixed, or follows acceptance and the measured cost of passes (`pace`), down to none at all.
//!
//! The output is that of the target to the last bit only where a pass of several rows gives each row the logits of a pass
//! alone: passes stay within [`Decoder::exact_rows`] where that is more than one.

mod costs;
mod lookup;
mod pace;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

pub use self::costs::{Costs, pass_costs};
pub use self::lookup::Lookup;
use self::pace::Pace;
use super::writer::{Step, Writer};
use super::{
    Distribution, FinishReason, GenerateError, GenerateOptions, Generation, Piece, Sampler,
    SamplerOptions, Session, check, chunk_end,
};
use crate::decoder::{DecodeError, Decoder, EXACT_ROWS, Logits, TextCodec};

/// Most tokens of a draft: with the token before them they are one pass of [`EXACT_ROWS`].
pub const MOST_DRAFTED: usize = EXACT_ROWS - 1;

/// Drafts are drawn with random numbers of their own, so that a seed gives plain decoding and speculation unrelated draws.
const DRAFT_SEED: u64 = 0x5bec_u64 << 32;

/// Where drafts come from.
pub enum Draft<'a> {
    /// A model with the target's vocabulary.
    Model {
        /// The smaller model.
        decoder: &'a mut dyn Decoder,
        /// Its cache of this text.
        session: &'a mut Session,
    },
    /// What followed the same words earlier in the text.
    Lookup(Lookup),
}

/// Whose text it is.
pub struct Target<'a> {
    /// The model.
    pub decoder: &'a mut dyn Decoder,
    /// Its cache of this text.
    pub session: &'a mut Session,
    /// Its tokens, which are the draft's too.
    pub codec: &'a dyn TextCodec,
}

/// How many tokens to draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// So many, at least 1 and at most [`MOST_DRAFTED`].
    Fixed(usize),
    /// As many as pay, by the acceptance so far and the measured cost of passes; none where none pay. When that is depends
    /// on the clock, so that drawn text (not greedy text) may differ from run to run.
    Auto,
}

/// How a token came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Drafted and kept.
    Accepted,
    /// The target's own in place of a drafted one.
    Corrected,
    /// The target's own after a draft that was kept whole.
    Bonus,
    /// The target's own with nothing drafted.
    Plain,
}

/// A token of the output.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Traced {
    /// The token.
    pub token: u32,
    /// How it came about.
    pub origin: Origin,
    /// What was drafted here and after and not kept; only before a corrected token.
    pub rejected: Vec<u32>,
}

/// How often drafts were right, and what passes cost.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Tokens drafted.
    pub drafted: usize,
    /// Of them kept.
    pub accepted: usize,
    /// Drafted tokens that were looked at: those kept, and the first of each draft that was not.
    pub tested: usize,
    /// Passes of the target after the prompt.
    pub passes: usize,
    /// Passes of the target that checked a draft.
    pub checks: usize,
    /// Time in passes of the draft model, its share of the prompt apart.
    pub drafting: Duration,
    /// Time in the draft model's pass over the prompt.
    pub draft_prefill: Duration,
    /// Passes that were plain because no draft would have paid, or none was found.
    pub plain: usize,
    /// Time in them.
    pub plain_time: Duration,
    /// Passes of the target after the prompt by the number of drafted tokens that they checked, 0 included.
    pub by_drafted: [usize; MOST_DRAFTED + 1],
    /// Drafts did not pay lately, so that none are made; they are tried again now and then.
    pub resting: bool,
}

impl Counts {
    /// Share of drafted tokens that were kept; none when nothing was drafted.
    pub fn acceptance_rate(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// Probability that a drafted token is kept, given that those before it were.
    pub fn alpha(&self) -> Option<f64> {
        (self.tested > 0).then(|| self.accepted as f64 / self.tested as f64)
    }
}

/// A finished speculative generation.
#[derive(Clone, Debug, PartialEq)]
pub struct Speculation {
    /// As plain decoding tells it.
    pub generation: Generation,
    /// Every token and how it came about.
    pub trace: Vec<Traced>,
    /// How drafts fared.
    pub counts: Counts,
}

/// Runs `prompt` and generates after it, with drafts. `on_piece` hears what plain decoding would tell, and with each token
/// the counts so far; it may break to cancel. Both sessions stay usable after a cancel and after an error.
pub fn speculate(
    target: Target<'_>,
    draft: Draft<'_>,
    width: Width,
    prompt: &[u32],
    options: &GenerateOptions,
    on_piece: &mut dyn FnMut(Piece<'_>, &Counts) -> ControlFlow<()>,
) -> Result<Speculation, GenerateError> {
    let start = Instant::now();
    let Target {
        decoder: target,
        session,
        codec,
    } = target;
    let (context_len, vocab_size) = (target.context_len(), target.vocab_size());
    check(context_len, prompt, options)?;
    if let Width::Fixed(k) = width
        && !(1..=MOST_DRAFTED).contains(&k)
    {
        return Err(GenerateError::BadOption(format!(
            "k is {k}; expected 1 to {MOST_DRAFTED} drafted tokens"
        )));
    }
    let seq = session.rewind_to(target, prompt)?;
    let mut writer = Writer::new(prompt, options, start, session.held.len());
    let mut counts = Counts::default();
    let mut logits = Logits::default();
    while session.held.len() < prompt.len() {
        let done = session.held.len();
        let end = chunk_end(prompt.len(), done, options);
        let last = [end - done - 1];
        let want: &[usize] = if end == prompt.len() { &last } else { &[] };
        logits = session.append(target, seq, &prompt[done..end], want)?;
        writer.prefilled();
        let piece = Piece::Prefill {
            done: end,
            total: prompt.len(),
        };
        if on_piece(piece, &counts).is_break() {
            let generation = writer.finish(FinishReason::Cancelled, &mut |piece| {
                on_piece(piece, &counts)
            });
            return Ok(Speculation {
                generation,
                trace: Vec::new(),
                counts,
            });
        }
    }
    let mut round = Round {
        target,
        drafter: Drafter::new(draft, &options.sampler, vocab_size),
        pace: Pace::new(width),
        codec,
        session,
        seq,
        context_len,
        trace: Vec::new(),
        counts: &mut counts,
    };
    let reason = round.run(&mut writer, logits, options, on_piece)?;
    let trace = round.trace;
    let generation = writer.finish(reason, &mut |piece| on_piece(piece, &counts));
    Ok(Speculation {
        generation,
        trace,
        counts,
    })
}

/// The part after the prompt.
struct Round<'a, 'b> {
    target: &'a mut dyn Decoder,
    drafter: Drafter<'b>,
    pace: Pace,
    codec: &'a dyn TextCodec,
    session: &'a mut Session,
    seq: crate::decoder::SeqId,
    context_len: usize,
    trace: Vec<Traced>,
    counts: &'a mut Counts,
}

impl Round<'_, '_> {
    fn run(
        &mut self,
        writer: &mut Writer<'_>,
        after_prompt: Logits,
        options: &GenerateOptions,
        on_piece: &mut dyn FnMut(Piece<'_>, &Counts) -> ControlFlow<()>,
    ) -> Result<FinishReason, GenerateError> {
        let mut last = match self.plain(writer, &after_prompt.data, on_piece)? {
            Step::Run(token) => token,
            Step::End(reason) => return Ok(reason),
        };
        self.target.recycle(after_prompt);
        loop {
            // The last token is not in the cache yet; behind it there must be room for the draft, and of the output one
            // token is the target's own.
            let room = self.context_len - self.session.held.len() - 1;
            let most = self
                .pace
                .width(self.counts)
                .min(room)
                .min(writer.left().saturating_sub(1));
            let draft = if most > 0 {
                self.drafter
                    .draft(writer.history(), most, options, self.codec, self.counts)?
            } else {
                Vec::new()
            };
            if draft.is_empty() && self.drafter.is_lookup() {
                self.pace.found_nothing();
            }
            if let Some((steps, took)) = self.drafter.steps() {
                self.pace.drafted(steps, took);
            }
            let mut run = Vec::with_capacity(1 + draft.len());
            run.push(last);
            run.extend(draft.iter().map(|(token, _)| *token));
            let want: Vec<usize> = (0..run.len()).collect();
            let before = Instant::now();
            let logits = self.session.append(self.target, self.seq, &run, &want)?;
            let took = before.elapsed();
            self.pace.passed(run.len(), took);
            self.counts.passes += 1;
            self.counts.by_drafted[draft.len()] += 1;
            self.counts.resting = self.pace.rests();
            let step = if draft.is_empty() {
                self.counts.plain += 1;
                self.counts.plain_time += took;
                self.plain(writer, &logits.data, on_piece)?
            } else {
                self.check(writer, &draft, &logits.data, on_piece)?
            };
            self.target.recycle(logits);
            // What was not kept is forgotten: the cache holds all but the last token of the text.
            let keep = writer.history().len() - 1;
            if self.session.held.len() > keep {
                self.target.truncate(self.seq, keep)?;
                self.session.held.truncate(keep);
            }
            self.drafter.forget_after(keep)?;
            match step {
                Step::Run(token) => last = token,
                Step::End(reason) => return Ok(reason),
            }
        }
    }

    /// The target's own next token.
    fn plain(
        &mut self,
        writer: &mut Writer<'_>,
        logits: &[f32],
        on_piece: &mut dyn FnMut(Piece<'_>, &Counts) -> ControlFlow<()>,
    ) -> Result<Step, GenerateError> {
        let had = writer.history().len();
        let counts = &*self.counts;
        let step = writer.step(self.codec, self.context_len, logits, &mut |piece| {
            on_piece(piece, counts)
        })?;
        self.trace
            .extend(writer.history()[had..].iter().map(|&token| Traced {
                token,
                origin: Origin::Plain,
                rejected: Vec::new(),
            }));
        Ok(step)
    }

    /// Keeps what the target would have said of `draft`; `logits` are those after the token before it and after each of it.
    fn check(
        &mut self,
        writer: &mut Writer<'_>,
        draft: &[(u32, Distribution)],
        logits: &[f32],
        on_piece: &mut dyn FnMut(Piece<'_>, &Counts) -> ControlFlow<()>,
    ) -> Result<Step, GenerateError> {
        self.counts.checks += 1;
        self.counts.drafted += draft.len();
        let rows = logits.chunks_exact(logits.len() / (draft.len() + 1));
        let mut step = None;
        for (i, row) in rows.enumerate() {
            if row.iter().any(|logit| logit.is_nan()) {
                return Err(GenerateError::NotANumber {
                    position: writer.history().len(),
                });
            }
            let (sampler, history) = writer.sampler();
            let of_target = sampler.distribution(row, history);
            let (token, origin) = match draft.get(i) {
                None => (of_target.draw(sampler.unit()), Origin::Bonus),
                Some((token, of_draft)) => {
                    let (p, q) = (of_target.of(*token), of_draft.of(*token));
                    self.counts.tested += 1;
                    if sampler.unit() * q < p {
                        self.counts.accepted += 1;
                        (*token, Origin::Accepted)
                    } else {
                        let rest = of_target.above(of_draft);
                        (rest.draw(sampler.unit()), Origin::Corrected)
                    }
                }
            };
            self.trace.push(Traced {
                token,
                origin,
                rejected: if origin == Origin::Corrected {
                    draft[i..].iter().map(|(token, _)| *token).collect()
                } else {
                    Vec::new()
                },
            });
            let counts = &*self.counts;
            let pushed = writer.push(token, self.codec, self.context_len, &mut |piece| {
                on_piece(piece, counts)
            });
            let ended = matches!(pushed, Step::End(_));
            step = Some(pushed);
            if ended || origin == Origin::Corrected {
                break;
            }
        }
        self.pace.tested(self.counts);
        // There is one row more than drafted tokens.
        step.ok_or_else(|| {
            GenerateError::Decode(DecodeError::Backend(
                "a pass over a draft gave no logits".to_owned(),
            ))
        })
    }
}

/// Where drafts come from, at work.
enum Drafter<'a> {
    Model {
        decoder: &'a mut dyn Decoder,
        session: &'a mut Session,
        sampler: Sampler,
        /// Rows of the target's head: a token beyond them cannot be said to it.
        vocab_size: usize,
        /// It has run the text once.
        begun: bool,
        /// Steps of the last draft and their time, without what it had to catch up with after a pause.
        steps: Option<(usize, Duration)>,
    },
    Lookup(Lookup),
}

impl<'a> Drafter<'a> {
    fn new(draft: Draft<'a>, sampler: &SamplerOptions, vocab_size: usize) -> Self {
        match draft {
            Draft::Model { decoder, session } => Self::Model {
                decoder,
                session,
                sampler: Sampler::new(SamplerOptions {
                    seed: sampler.seed ^ DRAFT_SEED,
                    ..*sampler
                }),
                vocab_size,
                begun: false,
                steps: None,
            },
            Draft::Lookup(lookup) => Self::Lookup(lookup),
        }
    }

    fn is_lookup(&self) -> bool {
        matches!(self, Self::Lookup(_))
    }

    /// Steps of the last draft and their time; none where they tell nothing of a step's cost.
    fn steps(&mut self) -> Option<(usize, Duration)> {
        match self {
            Self::Model { steps, .. } => steps.take(),
            Self::Lookup(_) => None,
        }
    }

    /// At most `most` tokens after `history`, each with what it was drawn from.
    fn draft(
        &mut self,
        history: &[u32],
        most: usize,
        options: &GenerateOptions,
        codec: &dyn TextCodec,
        counts: &mut Counts,
    ) -> Result<Vec<(u32, Distribution)>, GenerateError> {
        match self {
            Self::Lookup(lookup) => {
                let found = lookup.find(history, most).into_iter();
                Ok(found.map(|t| (t, Distribution::certain(t))).collect())
            }
            Self::Model {
                decoder,
                session,
                sampler,
                vocab_size: of_target,
                begun,
                steps,
            } => {
                let vocab_size = decoder.vocab_size();
                let room = decoder.context_len().saturating_sub(history.len());
                let most = most.min(room);
                // A row of padding that only the target has cannot be said to the draft.
                if most == 0 || history.iter().any(|&token| token as usize >= vocab_size) {
                    return Ok(Vec::new());
                }
                let mut before = Instant::now();
                let seq = session.rewind_to(*decoder, history)?;
                let mut logits = Logits::default();
                // After a draft that was kept whole there are two tokens to run, else one; more are those of a pause.
                let caught_up = history.len() - session.held.len() > 2;
                while session.held.len() < history.len() {
                    let done = session.held.len();
                    let end = chunk_end(history.len(), done, options);
                    let last = [end - done - 1];
                    let want: &[usize] = if end == history.len() { &last } else { &[] };
                    logits = session.append(*decoder, seq, &history[done..end], want)?;
                }
                if !*begun {
                    *begun = true;
                    counts.draft_prefill = before.elapsed();
                    before = Instant::now();
                }
                let mut text = history.to_vec();
                let mut draft: Vec<(u32, Distribution)> = Vec::with_capacity(most);
                let stepped = if caught_up { Instant::now() } else { before };
                loop {
                    if logits.data.iter().any(|logit| logit.is_nan()) {
                        // A damaged draft is no reason to stop the target.
                        break;
                    }
                    let distribution = sampler.distribution(&logits.data, &text);
                    let token = distribution.draw(sampler.unit());
                    if token as usize >= *of_target {
                        // The target never says it: it draws this place itself.
                        break;
                    }
                    draft.push((token, distribution));
                    let ends = !options.ignore_eos && codec.eos_tokens().contains(&token);
                    if draft.len() == most || ends {
                        break;
                    }
                    text.push(token);
                    decoder.recycle(logits);
                    logits = session.append(*decoder, seq, &[token], &[0])?;
                }
                decoder.recycle(logits);
                counts.drafting += before.elapsed();
                let ran = draft.len().saturating_sub(usize::from(caught_up));
                *steps = (ran > 0).then(|| (ran, stepped.elapsed()));
                Ok(draft)
            }
        }
    }

    /// Cuts the draft's cache back to what the text has kept.
    fn forget_after(&mut self, keep: usize) -> Result<(), DecodeError> {
        if let Self::Model {
            decoder, session, ..
        } = self
            && session.held.len() > keep
            && let Some(seq) = session.seq
        {
            decoder.truncate(seq, keep)?;
            session.held.truncate(keep);
        }
        Ok(())
    }
}
