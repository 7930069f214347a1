//! Judges completions: the program is prompt and completion, as the official harness (openai/human-eval,
//! `execution.py`) puts it together, and the tests ask it across the sandbox.
//!
//! Two things differ from that harness on purpose. Helpers that tests take from the prompt (`poly`, `encode_cyclic`,
//! `encode_shift`) are the prompt's own, which a completion cannot redefine for them; and arguments are copies, so tests
//! never see what a program does to them. No test of HumanEval depends on either.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Problem;
use crate::sandbox::{Limits, Python, Trial, Verdict};
use crate::{Error, Event};

/// How often `on_event` hears that the work goes on, and may cancel it.
const HEARTBEAT: Duration = Duration::from_millis(100);

/// What was found out about one completion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// One line about it for people, at most 300 characters; empty where the verdict says all.
    pub detail: String,
    /// Processor time it took, slept time included.
    pub seconds: f64,
}

/// One completion to judge.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What it completes.
    pub problem: &'a Problem,
    /// What follows the problem's prompt.
    pub completion: &'a str,
}

/// A judged attempt: its place among those given, and the judgement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Index into the attempts.
    pub index: usize,
    /// What was found out.
    pub judgement: Judgement,
}

/// Judges one completion. An error means that no verdict could be made, which is no fault of the completion.
pub fn judge(
    python: &Python,
    problem: &Problem,
    completion: &str,
    limits: &Limits,
) -> Result<Judgement, Error> {
    let attempt = Attempt {
        problem,
        completion,
    };
    judge_until(python, &attempt, limits, &Arc::default())
}

fn judge_until(
    python: &Python,
    attempt: &Attempt<'_>,
    limits: &Limits,
    cancelled: &Arc<AtomicBool>,
) -> Result<Judgement, Error> {
    let problem = attempt.problem;
    // The harness goes on with "\n" and the tests, which begin with empty lines: what is left open at the end of a
    // completion ends there in the same way.
    let program = format!("{}{}\n\n", problem.prompt, attempt.completion);
    let trial = Trial {
        program: &program,
        context: &problem.prompt,
        test: &problem.test,
        entry_point: &problem.entry_point,
    };
    let finding = python.examine_until(&trial, limits, cancelled)?;
    Ok(Judgement {
        verdict: finding.verdict,
        detail: finding.detail,
        seconds: finding.time.as_secs_f64(),
    })
}

/// Judges `attempts` on `threads` cores and gives their judgements in the order of the attempts. `on_event` is told of
/// each as it is made, in any order, and hears ten times a second that the work goes on; it may break to cancel, which
/// takes effect at once. Each thread may take twice the memory limit.
pub fn judge_all(
    python: &Python,
    attempts: &[Attempt<'_>],
    limits: &Limits,
    threads: usize,
    on_event: &mut dyn FnMut(Event<Judged>) -> ControlFlow<()>,
) -> Result<Vec<Judgement>, Error> {
    let next = AtomicUsize::new(0);
    let cancelled = Arc::new(AtomicBool::new(false));
    let total = attempts.len();
    let mut judgements: Vec<Option<Judgement>> = vec![None; total];
    std::thread::scope(|scope| {
        let (made, judged) = channel();
        for _ in 0..threads.clamp(1, total.max(1)) {
            let (made, next, cancelled) = (made.clone(), &next, &cancelled);
            scope.spawn(move || {
                while !cancelled.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(attempt) = attempts.get(index) else {
                        return;
                    };
                    let judgement = judge_until(python, attempt, limits, cancelled);
                    if made.send((index, judgement)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(made);
        let mut done = 0;
        let mut tell = |made: Option<(usize, Judgement)>| {
            let event = if let Some((index, judgement)) = made {
                done += 1;
                judgements[index] = Some(judgement.clone());
                let sample = Judged { index, judgement };
                Event::Answered {
                    sample,
                    done,
                    total,
                }
            } else {
                let what = "running programs".to_owned();
                Event::Step { what, done, total }
            };
            match on_event(event) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Cancelled),
            }
        };
        let result = loop {
            let told = match judged.recv_timeout(HEARTBEAT) {
                Ok((index, judgement)) => judgement.and_then(|made| tell(Some((index, made)))),
                Err(RecvTimeoutError::Timeout) => tell(None),
                Err(RecvTimeoutError::Disconnected) => break Ok(()),
            };
            if told.is_err() {
                break told;
            }
        };
        cancelled.store(true, Ordering::Relaxed);
        result
    })?;
    Ok(judgements.into_iter().flatten().collect())
}

/// What the self-test found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTest {
    /// Judgements of the canonical solutions, in the order of the problems: all must have passed.
    pub canonical: Vec<Judgement>,
    /// Judgements of `return None`: none may have passed.
    pub nothing: Vec<Judgement>,
}

impl SelfTest {
    /// Whether every canonical solution passed and `return None` passed nowhere.
    pub fn is_sound(&self) -> bool {
        let passed = |j: &Judgement| j.verdict == Verdict::Passed;
        self.canonical.iter().all(passed) && !self.nothing.iter().any(passed)
    }
}

/// A completion that is right for no problem.
pub const RETURN_NONE: &str = "    return None\n";

/// Judges the canonical solution of every problem, and `return None` for each.
pub fn self_test(
    python: &Python,
    problems: &[Problem],
    limits: &Limits,
    threads: usize,
    on_event: &mut dyn FnMut(Event<Judged>) -> ControlFlow<()>,
) -> Result<SelfTest, Error> {
    let attempt = |problem, completion| Attempt {
        problem,
        completion,
    };
    let attempts: Vec<Attempt<'_>> = (problems.iter())
        .map(|p| attempt(p, p.canonical_solution.as_str()))
        .chain(problems.iter().map(|p| attempt(p, RETURN_NONE)))
        .collect();
    let mut canonical = judge_all(python, &attempts, limits, threads, on_event)?;
    let nothing = canonical.split_off(problems.len());
    Ok(SelfTest { canonical, nothing })
}
