//! What speculative decoding brings a target on this machine: each prompt is continued plainly and with drafts in turns, and
//! both texts are compared token by token.
//!
//! Timed is what follows the first token, which both ways take from the same pass over the prompt; the draft's own pass over
//! the prompt counts as a cost of speculation. What passes cost is measured apart from both (`pass_costs`), so that theory
//! predicts the speed-up instead of repeating it.

use std::ops::ControlFlow;
use std::time::Duration;

use billion_llm::decoder::{Decoder, TextCodec};
use billion_llm::generate::speculate::{
    Costs, Counts, Draft, Lookup, MOST_DRAFTED, Target, Traced, Width, pass_costs, speculate,
};
use billion_llm::generate::{
    FinishReason, GenerateError, GenerateOptions, SamplerOptions, Session, generate,
};
use serde::{Deserialize, Serialize};

use super::load::{CpuTimes, DISTURBED_CORES};
use crate::clock::{Clock, suspended_between};
use crate::{Error, Event};

/// Numbers of drafted tokens that a sweep tries.
pub const SWEEP: [usize; 7] = [1, 2, 3, 4, 6, 8, 12];
/// How often each pass is timed for its cost.
const COST_REPEATS: usize = 3;

/// The models.
pub struct Pair<'a> {
    /// Whose text it is.
    pub target: &'a mut dyn Decoder,
    /// The smaller one; none drafts by prompt lookup.
    pub draft: Option<&'a mut dyn Decoder>,
    /// Tokens of both.
    pub codec: &'a dyn TextCodec,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct SpeculationOptions {
    /// How many tokens are drafted.
    pub width: Width,
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Most tokens of a text.
    pub max_tokens: usize,
    /// How often each text is written each way.
    pub repeat: usize,
    /// Also tries each number of [`SWEEP`] once.
    pub sweep: bool,
}

/// What the run reads besides the models.
pub struct Instruments<'a> {
    /// Times the whole run; passes are timed by the system's own clock.
    pub clock: &'a dyn Clock,
    /// Tells how busy the machine is: `CpuTimes::read`.
    pub cpu_times: &'a dyn Fn() -> Option<CpuTimes>,
    /// Tells whether the machine slept: `clock::time_suspended`.
    pub suspended: &'a dyn Fn() -> Option<Duration>,
}

/// One text, written once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Tokens after the first.
    pub tokens: usize,
    /// Their time.
    pub seconds: f64,
}

impl Timing {
    /// Tokens a second; none where there is nothing to divide.
    pub fn rate(&self) -> Option<f64> {
        (self.tokens > 0 && self.seconds > 0.0).then(|| self.tokens as f64 / self.seconds)
    }
}

/// A number of drafted tokens, tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// How many were drafted.
    pub k: usize,
    /// How long it took.
    pub timing: Timing,
    /// How drafts fared.
    pub counts: Counts,
}

/// A prompt, continued both ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PromptOutcome {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of plain decoding.
    pub plain_tokens: Vec<u32>,
    /// How the first repeat's tokens came about, in order.
    pub trace: Vec<Traced>,
    /// The text of the first repeat.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Plain decoding by repeat.
    pub plain: Vec<Timing>,
    /// Speculative decoding by repeat.
    pub speculative: Vec<Timing>,
    /// How drafts fared in the first repeat.
    pub counts: Counts,
    /// Every repeat of greedy decoding, and every number of a sweep, gave the plain tokens; none of drawn text.
    pub identical: Option<bool>,
    /// First token that differs in any of them, from 0.
    pub first_difference: Option<usize>,
    /// What passes cost.
    pub costs: Costs,
    /// The sweep.
    pub tried: Vec<Tried>,
}

impl PromptOutcome {
    /// Tokens of the speculative text of the first repeat.
    pub fn tokens(&self) -> Vec<u32> {
        self.trace.iter().map(|traced| traced.token).collect()
    }
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Prompt by prompt.
    pub prompts: Vec<PromptOutcome>,
    /// Cores that other programs kept busy meanwhile; none where the system does not say.
    pub other_cores_busy: Option<f64>,
    /// Why the figures may be disturbed, in words.
    pub notes: Vec<String>,
    /// Time of the whole run.
    pub seconds: f64,
}

/// Measures. `on_event` may break to cancel (`Error::Cancelled`).
pub fn run(
    pair: &mut Pair<'_>,
    prompts: &[Vec<u32>],
    options: &SpeculationOptions,
    instruments: &Instruments<'_>,
    on_event: &mut dyn FnMut(Event<()>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    check(pair, prompts, options)?;
    let start = instruments.clock.now();
    let before = (instruments.cpu_times)();
    let awake = (instruments.suspended)();
    let sweep = if options.sweep { SWEEP.len() } else { 0 };
    let mut bench = Bench {
        pair,
        options,
        on_event,
        done: 0,
        total: prompts.len() * (2 * options.repeat + sweep + 1),
        sessions: [Session::new(), Session::new()],
    };
    let outcomes: Result<Vec<PromptOutcome>, Error> =
        prompts.iter().map(|prompt| bench.prompt(prompt)).collect();
    bench.close();
    let prompts = outcomes?;
    if let Some(slept) = suspended_between(awake, (instruments.suspended)()) {
        return Err(Error::Implausible(format!(
            "the machine was suspended for {:.0} s meanwhile; measure again while it stays awake",
            slept.as_secs_f64()
        )));
    }
    let others = match (before, (instruments.cpu_times)()) {
        (Some(before), Some(after)) => after.others_since(&before),
        _ => None,
    };
    let mut notes = Vec::new();
    if let Some(busy) = others.filter(|busy| *busy > DISTURBED_CORES) {
        notes.push(format!(
            "other programs kept {busy:.1} cores busy meanwhile; close them and measure again for a steady figure"
        ));
    }
    Ok(Outcome {
        prompts,
        other_cores_busy: others,
        notes,
        seconds: instruments.clock.now().saturating_sub(start).as_secs_f64(),
    })
}

fn check(pair: &Pair<'_>, prompts: &[Vec<u32>], options: &SpeculationOptions) -> Result<(), Error> {
    if prompts.is_empty() {
        return Err(Error::Options("there is no prompt to measure with".into()));
    }
    if options.repeat == 0 {
        return Err(Error::Options("repeat must be at least 1".into()));
    }
    if options.max_tokens < 2 {
        return Err(Error::Options(format!(
            "a text of {} is too short to be timed; take at least 2 tokens",
            options.max_tokens
        )));
    }
    let limit = pair.target.context_len();
    for (i, prompt) in prompts.iter().enumerate() {
        if prompt.len() + 2 > limit {
            return Err(Error::Options(format!(
                "prompt {} has {} tokens, but the target holds {limit} and a text needs room for at least 2; shorten it",
                i + 1,
                prompt.len()
            )));
        }
    }
    Ok(())
}

/// A run at work.
struct Bench<'a, 'p> {
    pair: &'a mut Pair<'p>,
    options: &'a SpeculationOptions,
    on_event: &'a mut dyn FnMut(Event<()>) -> ControlFlow<()>,
    done: usize,
    total: usize,
    /// Of the target and of the draft.
    sessions: [Session; 2],
}

/// A text with drafts.
struct Drafted {
    timing: Timing,
    trace: Vec<Traced>,
    text: String,
    reason: FinishReason,
    counts: Counts,
}

impl Bench<'_, '_> {
    fn close(&mut self) {
        let [of_target, of_draft] = &mut self.sessions;
        of_target.close(self.pair.target);
        if let Some(draft) = &mut self.pair.draft {
            of_draft.close(*draft);
        }
    }

    fn prompt(&mut self, prompt: &[u32]) -> Result<PromptOutcome, Error> {
        let greedy = self.options.sampler.temperature == 0.0;
        let (mut plain, mut speculative) = (Vec::new(), Vec::new());
        let mut plain_tokens = Vec::new();
        let mut first: Option<Drafted> = None;
        let mut difference: Option<usize> = None;
        let mut costs = Costs::default();
        let mut compare = |plain: &[u32], trace: &[Traced]| {
            let found = first_difference(plain, trace);
            difference = match (difference, found) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
        };
        for repeat in 0..self.options.repeat {
            // In turns, and each way goes first as often as the other.
            for drafts in [repeat % 2 == 1, repeat % 2 == 0] {
                if drafts {
                    let drafted = self.speculative(prompt, self.options.width)?;
                    speculative.push(drafted.timing);
                    if greedy && !plain_tokens.is_empty() {
                        compare(&plain_tokens, &drafted.trace);
                    }
                    first.get_or_insert(drafted);
                } else {
                    let (tokens, timing) = self.plain(prompt)?;
                    plain.push(timing);
                    if plain_tokens.is_empty() {
                        plain_tokens = tokens;
                    }
                }
            }
            if repeat == 0 {
                costs = self.costs(prompt, &plain_tokens)?;
            }
        }
        let mut tried = Vec::new();
        if self.options.sweep {
            for k in SWEEP {
                let drafted = self.speculative(prompt, Width::Fixed(k))?;
                if greedy {
                    compare(&plain_tokens, &drafted.trace);
                }
                tried.push(Tried {
                    k,
                    timing: drafted.timing,
                    counts: drafted.counts,
                });
            }
        }
        let Some(first) = first else {
            return Err(Error::Options("repeat must be at least 1".into()));
        };
        Ok(PromptOutcome {
            prompt_tokens: prompt.len(),
            plain_tokens,
            trace: first.trace,
            text: first.text,
            finish_reason: first.reason,
            plain,
            speculative,
            counts: first.counts,
            identical: greedy.then_some(difference.is_none()),
            first_difference: difference,
            costs,
            tried,
        })
    }

    fn options(&self) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.options.max_tokens,
            sampler: self.options.sampler,
            ..GenerateOptions::default()
        }
    }

    fn plain(&mut self, prompt: &[u32]) -> Result<(Vec<u32>, Timing), Error> {
        let options = self.options();
        let (done, total) = (self.done, self.total);
        let on_event = &mut *self.on_event;
        let made = generate(
            self.pair.target,
            self.pair.codec,
            &mut self.sessions[0],
            prompt,
            &options,
            &mut |_| step(on_event, "plain decoding", done, total),
        )
        .map_err(refused)?;
        self.done += 1;
        if made.finish_reason == FinishReason::Cancelled {
            return Err(Error::Cancelled);
        }
        let timing = Timing {
            tokens: made.tokens.len().saturating_sub(1),
            seconds: made.decode.as_secs_f64(),
        };
        Ok((made.tokens, timing))
    }

    fn speculative(&mut self, prompt: &[u32], width: Width) -> Result<Drafted, Error> {
        let options = self.options();
        let (done, total) = (self.done, self.total);
        let what = match width {
            Width::Fixed(k) => format!("{k} drafted at a time"),
            Width::Auto => "drafts as they pay".to_owned(),
        };
        let [of_target, of_draft] = &mut self.sessions;
        let draft = match &mut self.pair.draft {
            Some(decoder) => {
                // It begins anew, so that its reading of the prompt counts each time.
                of_draft.close(*decoder);
                Draft::Model {
                    decoder: *decoder,
                    session: of_draft,
                }
            }
            None => Draft::Lookup(Lookup::default()),
        };
        let target = Target {
            decoder: self.pair.target,
            session: of_target,
            codec: self.pair.codec,
        };
        let on_event = &mut *self.on_event;
        let made = speculate(target, draft, width, prompt, &options, &mut |_, _| {
            step(on_event, &what, done, total)
        })
        .map_err(refused)?;
        self.done += 1;
        if made.generation.finish_reason == FinishReason::Cancelled {
            return Err(Error::Cancelled);
        }
        Ok(Drafted {
            timing: Timing {
                tokens: made.trace.len().saturating_sub(1),
                seconds: made.generation.decode.as_secs_f64(),
            },
            trace: made.trace,
            text: made.generation.text,
            reason: made.generation.finish_reason,
            counts: made.counts,
        })
    }

    fn costs(&mut self, prompt: &[u32], written: &[u32]) -> Result<Costs, Error> {
        let (done, total) = (self.done, self.total);
        let text = [prompt, written].concat();
        let most_rows = match self.options.width {
            Width::Fixed(k) if !self.options.sweep => k + 1,
            _ => MOST_DRAFTED + 1,
        };
        let [of_target, of_draft] = &mut self.sessions;
        let mut target = Target {
            decoder: self.pair.target,
            session: of_target,
            codec: self.pair.codec,
        };
        let draft = match &mut self.pair.draft {
            Some(decoder) => {
                let decoder: &mut dyn Decoder = *decoder;
                Some((decoder, of_draft))
            }
            None => None,
        };
        let on_event = &mut *self.on_event;
        let costs = pass_costs(
            &mut target,
            draft,
            (&text, prompt.len()),
            most_rows,
            (&self.options.sampler, COST_REPEATS),
            &mut || step(on_event, "costs of passes", done, total),
        )
        .map_err(refused)?;
        self.done += 1;
        costs.ok_or(Error::Cancelled)
    }
}

fn step(
    on_event: &mut dyn FnMut(Event<()>) -> ControlFlow<()>,
    what: &str,
    done: usize,
    total: usize,
) -> ControlFlow<()> {
    on_event(Event::Step {
        what: what.to_owned(),
        done,
        total,
    })
}

/// Index of the first token that the two texts do not share; one that is shorter differs where it ends.
fn first_difference(plain: &[u32], trace: &[Traced]) -> Option<usize> {
    let same = plain
        .iter()
        .zip(trace)
        .take_while(|(plain, traced)| **plain == traced.token)
        .count();
    (same < plain.len() || same < trace.len()).then_some(same)
}

fn refused(error: GenerateError) -> Error {
    match error {
        GenerateError::Decode(error) => Error::Decode(error),
        GenerateError::NotANumber { position } => {
            Error::NotANumber(format!("a text of {position} tokens"))
        }
        other => Error::Options(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
