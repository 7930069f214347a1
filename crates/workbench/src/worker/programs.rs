//! What a worker does for HumanEval: writing completions with its model, and running programs in the sandbox without one.

use std::collections::HashMap;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::thread::available_parallelism;

use billion_eval::sandbox::{Limits, Python};
use billion_eval::tasks::humaneval::{
    self, Attempt, HumanEvalOptions, Problem, judge_all, read_problems,
};
use billion_eval::{Event, UnderTest};
use billion_llm::chat_template::ChatTemplate;

use super::engine::{Work, failed, measured};
use super::protocol::{Body, CompleteAsk, JudgeAsk, Outcome};
use crate::api::ApiError;

/// Writes what is still to be written.
pub(super) fn complete(
    mut model: UnderTest<'_>,
    template: Option<&ChatTemplate>,
    work: Work<'_>,
    ask: &CompleteAsk,
) -> Result<Outcome, ApiError> {
    let problems = read_problems(&ask.problems).map_err(failed)?;
    let options = HumanEvalOptions {
        limit: ask.limit.map(|limit| limit as usize),
        n: ask.n,
        temperature: ask.temperature,
        max_tokens: ask.max_tokens as usize,
        seed: u64::from(ask.seed),
        form: ask.form,
        ..HumanEvalOptions::default()
    };
    humaneval::run(
        &mut model,
        template,
        &problems,
        &options,
        &ask.written,
        &mut |event| match event {
            Event::Step { what, done, total } => work.progress(&what, done, total),
            Event::Answered {
                sample,
                done,
                total,
            } => work.send(Body::Completion {
                completion: sample,
                done: done as u32,
                total: total as u32,
            }),
        },
    )
    .map_err(measured)?;
    Ok(Outcome::Completed)
}

/// Runs programs, as many at once as there are cores.
pub(super) fn judge(work: Work<'_>, ask: &JudgeAsk) -> Result<Outcome, ApiError> {
    let problems = read_problems(&ask.problems).map_err(failed)?;
    let known: HashMap<&str, &Problem> = problems
        .iter()
        .map(|problem| (problem.task_id.as_str(), problem))
        .collect();
    let attempts = ask
        .completions
        .iter()
        .map(|asked| {
            let problem = known.get(asked.task_id.as_str()).ok_or_else(|| {
                failed(format!("there is no HumanEval problem {:?}", asked.task_id))
            })?;
            Ok(Attempt {
                problem,
                completion: &asked.completion,
            })
        })
        .collect::<Result<Vec<_>, ApiError>>()?;
    if let ControlFlow::Break(()) = work.progress("prepares the sandbox", 0, attempts.len()) {
        return Err(ApiError::cancelled());
    }
    let python = Python::open(&ask.python, &ask.cache).map_err(failed)?;
    let threads = ask.threads.map_or_else(
        || available_parallelism().map_or(1, NonZero::get),
        |threads| threads as usize,
    );
    judge_all(
        &python,
        &attempts,
        &Limits::default(),
        threads,
        &mut |event| match event {
            Event::Step { what, done, total } => work.progress(&what, done, total),
            Event::Answered { sample, done, .. } => work.send(Body::Judged {
                index: sample.index as u32,
                judgement: sample.judgement,
                done: done as u32,
            }),
        },
    )
    .map_err(measured)?;
    Ok(Outcome::Judged)
}
