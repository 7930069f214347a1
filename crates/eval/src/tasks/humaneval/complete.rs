//! Lets a model complete HumanEval problems, many at once, as lm-evaluation-harness 0.4.13 asks them: `humaneval` (task
//! version 1) for base models and `humaneval_instruct` (version 4) for models with a chat template.
//!
//! It judges nothing: whoever hears of a completion runs it, while the others are still being written.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use billion_llm::chat_template::{ChatTemplate, Message};
use billion_llm::decoder::TextCodec;
use billion_llm::generate::batch::{BatchEvent, Request, generate_batch};
use billion_llm::generate::{
    FinishReason, GenerateError, GenerateOptions, Generation, Piece, SamplerOptions,
};
use serde::{Deserialize, Serialize};

use super::Problem;
use crate::clock::Clock;
use crate::{Error, Event, UnderTest};

/// `max_gen_toks` of the harness.
pub const DEFAULT_MAX_TOKENS: usize = 1024;

/// What the harness ends a completion at (`until`).
const STOP: [&str; 5] = ["\nclass", "\ndef", "\n#", "\nif", "\nprint"];

/// Where the harness cuts an instruct model's answer. It cuts afterwards; ending there gives the same text sooner.
const FENCE: &str = "```";

/// Tokens between two steps told, over all problems at work.
const TOKENS_PER_STEP: usize = 16;

/// Prompt tokens a pass takes: whole prompts, mostly.
const PREFILL_CHUNK: usize = 256;

/// How a problem is put to the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// `Instruct` where the model has a chat template, else `Base`.
    #[default]
    Auto,
    /// The problem's prompt as it is; the model goes on from it.
    Base,
    /// The harness's question in the model's chat template, with the answer begun up to the end of the prompt.
    Instruct,
}

/// What to ask and how.
#[derive(Clone, Debug, PartialEq)]
pub struct HumanEvalOptions {
    /// The first so many problems, in file order.
    pub limit: Option<usize>,
    /// Samples a problem, at least 1. More than one needs a temperature.
    pub n: u32,
    /// 0 is greedy, as the harness asks for pass@1; with samples it takes 0.2.
    pub temperature: f32,
    /// Draw from the fewest tokens whose probabilities reach this; none is all. No other cut is made.
    pub top_p: Option<f32>,
    /// Most tokens of a completion.
    pub max_tokens: usize,
    /// Completions at work at once. It changes speed and memory, not a token.
    pub slots: usize,
    /// Each sample draws with a seed that follows from this, its problem's name and its number.
    pub seed: u64,
    /// How problems are put.
    pub form: Form,
}

impl Default for HumanEvalOptions {
    /// Greedy pass@1 of all problems, as the harness asks for it.
    fn default() -> Self {
        Self {
            limit: None,
            n: 1,
            temperature: 0.0,
            top_p: Some(0.95),
            max_tokens: DEFAULT_MAX_TOKENS,
            slots: 16,
            seed: 0,
            form: Form::Auto,
        }
    }
}

/// What the model wrote after a problem's prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// "HumanEval/0".
    pub task_id: String,
    /// Which sample of the problem, from 0.
    pub sample: u32,
    /// The program is the problem's prompt and this.
    pub completion: String,
    /// Tokens generated, an ending one included.
    pub tokens: u32,
    /// Why it ended: `context` with no tokens if the prompt alone is too long for the model.
    pub finish_reason: FinishReason,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Every completion, those of earlier sessions included, by problem in file order and by sample.
    pub completions: Vec<Completion>,
    /// How problems were put; never `auto`.
    pub form: Form,
    /// Tokens generated in this session.
    pub tokens: usize,
    /// Time of this session, the prompts' included.
    pub seconds: f64,
    /// Of it, time in passes over prompts.
    pub reading_seconds: f64,
    /// Tokens generated in this session by the time left after reading: the speed of writing, of all problems at work
    /// together. 0 if there was nothing left to do.
    pub tokens_per_s: f64,
}

/// Which completion: problem and sample.
type Key<'a> = (&'a str, u32);

/// Completes the problems that `options` choose, but for those in `done` (completions of an earlier, interrupted
/// session). `on_event` gets every new completion as soon as it is written and may break to cancel, which gives
/// `Error::Cancelled`; the decoder is left without open sequences either way.
pub fn run(
    model: &mut UnderTest<'_>,
    template: Option<&ChatTemplate>,
    problems: &[Problem],
    options: &HumanEvalOptions,
    done: &[Completion],
    on_event: &mut dyn FnMut(Event<Completion>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let start = model.clock.now();
    check(options)?;
    let (form, template) = settle(options.form, template)?;
    let problems = &problems[..problems.len().min(options.limit.unwrap_or(usize::MAX))];
    let keys: Vec<(&Problem, u32)> = problems
        .iter()
        .flat_map(|problem| (0..options.n).map(move |sample| (problem, sample)))
        .collect();
    let mut completions: BTreeMap<Key<'_>, Completion> = done
        .iter()
        .map(|c| ((c.task_id.as_str(), c.sample), c.clone()))
        .collect();
    let mut open = Vec::new();
    let mut requests = Vec::new();
    for problem in problems {
        let name = problem.task_id.as_str();
        let mut tokens = None;
        for sample in (0..options.n).filter(|&sample| !completions.contains_key(&(name, sample))) {
            let tokens = match &tokens {
                Some(tokens) => tokens,
                None => tokens.insert(prompt(model.codec, template, form, problem)?),
            };
            open.push((problem, sample));
            requests.push(Request {
                prompt: tokens.clone(),
                options: writing(options, form, (problem, sample)),
            });
        }
    }
    let mut session = Session {
        open: &open,
        requests: &requests,
        finished: keys.len() - open.len(),
        total: keys.len(),
        tokens: 0,
        failure: None,
        completions: Vec::new(),
        clock: model.clock,
        heard: model.clock.now(),
        reading: Duration::ZERO,
        on_event,
    };
    let flow = generate_batch(
        model.decoder,
        model.codec,
        &requests,
        options.slots,
        &mut |event| session.hear(event),
    )?;
    let (tokens, reading) = (session.tokens, session.reading);
    let (failure, written) = (session.failure, session.completions);
    if let Some(error) = failure {
        return Err(error);
    }
    if flow.is_break() {
        return Err(Error::Cancelled);
    }
    for (index, completion) in written {
        let (problem, sample) = open[index];
        completions.insert((&problem.task_id, sample), completion);
    }
    let time = model.clock.now().saturating_sub(start);
    let writing_seconds = time.saturating_sub(reading).as_secs_f64();
    Ok(Outcome {
        completions: keys
            .iter()
            .filter_map(|(problem, sample)| {
                completions.remove(&(problem.task_id.as_str(), *sample))
            })
            .collect(),
        form,
        tokens,
        seconds: time.as_secs_f64(),
        reading_seconds: reading.as_secs_f64(),
        tokens_per_s: if tokens > 0 && writing_seconds > 0.0 {
            tokens as f64 / writing_seconds
        } else {
            0.0
        },
    })
}

fn check(options: &HumanEvalOptions) -> Result<(), Error> {
    let problem = if options.n == 0 {
        "0 samples a problem; at least 1 is needed".to_owned()
    } else if options.n > 1 && options.temperature == 0.0 {
        format!(
            "{} samples at temperature 0 would all be alike; give a temperature (0.2 is usual for pass@1, 0.8 for \
             pass@10 and beyond) or take one sample",
            options.n
        )
    } else if options.max_tokens == 0 {
        "0 tokens a completion; at least 1 is needed".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::Options(problem))
}

/// The form that is used, and the template where it is `Instruct`.
fn settle(
    form: Form,
    template: Option<&ChatTemplate>,
) -> Result<(Form, Option<&ChatTemplate>), Error> {
    match (form, template) {
        (Form::Base, _) | (Form::Auto, None) => Ok((Form::Base, None)),
        (Form::Instruct | Form::Auto, Some(template)) => Ok((Form::Instruct, Some(template))),
        (Form::Instruct, None) => Err(Error::Options(
            "the model has no chat template, so it cannot be asked in the instruct form; ask in the base form"
                .to_owned(),
        )),
    }
}

/// The tokens that `problem` is put to the model with.
pub fn prompt(
    codec: &dyn TextCodec,
    template: Option<&ChatTemplate>,
    form: Form,
    problem: &Problem,
) -> Result<Vec<u32>, Error> {
    let fail = |error: String| Error::Text {
        what: problem.task_id.clone(),
        problem: error,
    };
    let (_, Some(template)) = settle(form, template)? else {
        return codec.encode(&problem.prompt, true, true).map_err(fail);
    };
    let text = template
        .render_unfinished(&instruct_messages(problem))
        .map_err(|error| fail(format!("{error}; ask in the base form")))?;
    let plain = codec.encode(&text, false, true).map_err(fail)?;
    let special = codec.encode(&text, true, true).map_err(fail)?;
    // A template that has written BOS gets no second one.
    let twice = special.len() == plain.len() + 1 && special.first() == plain.first();
    Ok(if twice { plain } else { special })
}

/// What the harness ends a completion at; for an instruct model's, also where it cuts it.
pub fn stop_strings(form: Form) -> Vec<String> {
    let mut stop: Vec<String> = STOP.map(str::to_owned).into();
    if form == Form::Instruct {
        stop.push(FENCE.to_owned());
    }
    stop
}

/// How the sample of a problem is written, in a form that is not `Auto`.
fn writing(
    options: &HumanEvalOptions,
    form: Form,
    (problem, sample): (&Problem, u32),
) -> GenerateOptions {
    GenerateOptions {
        max_tokens: options.max_tokens,
        sampler: SamplerOptions {
            temperature: options.temperature,
            top_k: 0,
            top_p: options.top_p.unwrap_or(1.0),
            min_p: 0.0,
            seed: sample_seed(options.seed, &problem.task_id, sample),
            ..SamplerOptions::default()
        },
        stop: stop_strings(form),
        prefill_chunk: PREFILL_CHUNK,
        ..GenerateOptions::default()
    }
}

/// `doc_to_text` and `gen_prefix` of `humaneval_instruct`: the question, and the answer up to where the model goes on.
fn instruct_messages(problem: &Problem) -> [Message; 2] {
    let prompt = &problem.prompt;
    [
        Message::new(
            "user",
            format!(
                "Write a solution to the following problem and make sure that it passes the tests:\n\
                 ```python\n{prompt}\n```\n"
            ),
        ),
        Message::new(
            "assistant",
            format!("Here is the completed function:\n```python\n{prompt}\n"),
        ),
    ]
}

/// FNV-1a over all three: the same on every platform, and unlike for samples of one problem and of all problems.
fn sample_seed(seed: u64, task_id: &str, sample: u32) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(sample.to_le_bytes());
    bytes
        .chain(task_id.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// A run at work: what is heard of the batch becomes events.
struct Session<'a> {
    open: &'a [(&'a Problem, u32)],
    requests: &'a [Request],
    finished: usize,
    total: usize,
    tokens: usize,
    failure: Option<Error>,
    /// By request.
    completions: Vec<(usize, Completion)>,
    clock: &'a dyn Clock,
    /// When the last event of the batch was dealt with; the pass that the next one tells of began then.
    heard: Duration,
    reading: Duration,
    on_event: &'a mut dyn FnMut(Event<Completion>) -> ControlFlow<()>,
}

impl Session<'_> {
    fn hear(&mut self, event: BatchEvent<'_>) -> ControlFlow<()> {
        if let BatchEvent::Piece {
            piece: Piece::Prefill { .. },
            ..
        } = event
        {
            self.reading += self.clock.now().saturating_sub(self.heard);
        }
        let flow = self.tell(event);
        self.heard = self.clock.now();
        flow
    }

    fn tell(&mut self, event: BatchEvent<'_>) -> ControlFlow<()> {
        match event {
            BatchEvent::Piece {
                piece: Piece::Text { .. },
                ..
            } => {
                self.tokens += 1;
                if self.tokens.is_multiple_of(TOKENS_PER_STEP) {
                    self.step(format!("{} tokens written", self.tokens))
                } else {
                    ControlFlow::Continue(())
                }
            }
            BatchEvent::Piece {
                request,
                piece: Piece::Prefill { .. },
            } => self.step(format!("{} read", self.open[request].0.task_id)),
            BatchEvent::Piece {
                piece: Piece::Rest(_),
                ..
            } => ControlFlow::Continue(()),
            BatchEvent::Finished { request, result } => self.finished(request, result),
        }
    }

    fn step(&mut self, what: String) -> ControlFlow<()> {
        (self.on_event)(Event::Step {
            what,
            done: self.finished,
            total: self.total,
        })
    }

    fn finished(
        &mut self,
        request: usize,
        result: Result<Generation, GenerateError>,
    ) -> ControlFlow<()> {
        let (problem, sample) = self.open[request];
        let (completion, tokens, finish_reason) = match result {
            Ok(generation) => {
                let tokens = generation.tokens.len() as u32;
                (generation.text, tokens, generation.finish_reason)
            }
            // A model that cannot read the problem cannot solve it: that is its result.
            Err(GenerateError::PromptTooLong { .. }) => (String::new(), 0, FinishReason::Context),
            Err(error) => {
                let task_id = problem.task_id.clone();
                self.failure = Some(match error {
                    GenerateError::NotANumber { .. } => Error::NotANumber(task_id),
                    GenerateError::Decode(error) => Error::Decode(error),
                    GenerateError::BadOption(problem) => {
                        Error::Options(format!("sampling option {problem}"))
                    }
                    error => Error::Text {
                        what: task_id,
                        problem: error.to_string(),
                    },
                });
                return ControlFlow::Break(());
            }
        };
        let completion = Completion {
            task_id: problem.task_id.clone(),
            sample,
            completion,
            tokens,
            finish_reason,
            prompt_tokens: self.requests[request].prompt.len() as u32,
        };
        self.completions.push((request, completion.clone()));
        self.finished += 1;
        (self.on_event)(Event::Answered {
            sample: completion,
            done: self.finished,
            total: self.total,
        })
    }
}
