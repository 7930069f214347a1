//! The loop: steps, looks at held-out rows, checkpoints, and every way in which a run can end. Arithmetic is an `Engine`'s.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use billion_llm::adapter::Adapter;

use super::checkpoint::{Record, State, from_bits};
use super::engine::{Engine, Work};
use super::optimizer::{AdamW, clip, learning_rate};
use super::options::{Ending, Forecast, Step, TrainEvent, TrainOptions};
use super::plan::{Plan, scored};
use crate::Error;
use crate::dataset::Example;

/// Steps after which a run's own speed is told.
const TIMED_STEPS: u32 = 3;

/// Program, tokenizer, norms and stacks of threads: what a process with the starter model held beyond what is counted.
const PROCESS_BYTES: u64 = 40 << 20;

/// What a run has besides its engine.
pub(super) struct Run<'a> {
    pub plan: Plan<'a>,
    pub held_out: &'a [Example],
    pub options: &'a TrainOptions,
    pub folder: &'a Path,
    /// Numbers of the whole model.
    pub model_params: u64,
}

/// What the loop leaves, before it becomes an adapter.
pub(super) struct Left {
    pub numbers: Vec<f32>,
    pub ending: Ending,
    pub record: Record,
    /// Step of `numbers`.
    pub kept_step: u32,
    pub tokens: u64,
    pub train_seconds: f64,
}

/// Whoever listens.
pub(super) type Listener<'a> = dyn FnMut(TrainEvent) -> ControlFlow<()> + 'a;

/// Runs from `state` to an end.
pub(super) fn run(
    run: &mut Run<'_>,
    engine: &mut dyn Engine,
    mut state: State,
    on: &mut Listener<'_>,
) -> Result<Left, Error> {
    let of = run.plan.steps;
    // The last numbers that gave a loss, and their step.
    let mut good = (state.numbers.clone(), state.record.step);
    let mut gradients = vec![0.0_f32; state.numbers.len()];
    let (mut tokens, mut train_seconds, mut look_seconds) = (0_u64, 0.0, 0.0);
    let mut ending = Ending::Finished;
    let mut stopped = false;
    let total_tokens = run.plan.tokens();
    let mut left = total_tokens.saturating_sub(tokens_before(&mut run.plan, state.record.step));

    if state.record.held_out.is_empty() {
        let begin = Instant::now();
        stopped |= look(run, engine, &mut state, on)?;
        look_seconds = begin.elapsed().as_secs_f64();
    }
    while !stopped && state.record.step < of {
        let begin = Instant::now();
        let step = state.record.step + 1;
        let rows = run.plan.step(step);
        let step_tokens: u64 = rows.iter().map(|(row, _)| row.tokens.len() as u64).sum();
        let count = scored(&rows);
        gradients.fill(0.0);
        let sum = engine.gradients(
            &Work {
                numbers: &state.numbers,
                examples: &rows,
                scale: 1.0 / count as f32,
                dropout: run.options.dropout,
            },
            &mut gradients,
        )?;
        let loss = sum / count as f64;
        let norm = clip(&mut gradients, run.options.clip);
        let rate = learning_rate(run.options, step, of);
        if !(loss.is_finite() && norm.is_finite()) {
            ending = Ending::Diverged {
                explanation: diverged(step, of, loss, norm, rate, good.1),
            };
            break;
        }
        good.0.copy_from_slice(&state.numbers);
        good.1 = step - 1;
        let numbers = &mut state.numbers;
        state
            .optimizer
            .step(run.options, step, rate, numbers, &gradients);
        state.record.step = step;
        state.record.losses.push((step, loss.to_bits()));
        let seconds = begin.elapsed().as_secs_f64();
        tokens += step_tokens;
        train_seconds += seconds;
        left = left.saturating_sub(step_tokens);
        let mean_speed = tokens as f64 / train_seconds;
        let looks_left = f64::from((of - step).div_ceil(run.plan.eval_every()));
        stopped |= on(TrainEvent::Step(Step {
            step,
            of,
            epoch: f64::from(step) / f64::from(run.plan.steps_per_epoch),
            loss,
            lr: rate,
            grad_norm: norm,
            tokens: step_tokens,
            tokens_per_s: step_tokens as f64 / seconds,
            seconds_left: left as f64 / mean_speed + looks_left * look_seconds,
        }))
        .is_break();
        if step.min(TIMED_STEPS) == TIMED_STEPS.min(of) && step <= TIMED_STEPS {
            stopped |= on(TrainEvent::Forecast(Forecast {
                seconds: total_tokens as f64 / mean_speed
                    + f64::from(run.plan.looks()) * look_seconds,
                peak_bytes: peak_bytes(engine, gradients.len()),
                steps: of,
                trainable_params: gradients.len() as u64,
                share: gradients.len() as f64 / run.model_params.max(1) as f64,
                tokens: total_tokens,
                tokens_per_s: mean_speed,
                recompute: engine.recomputes(),
            }))
            .is_break();
        }
        if step == of || step.is_multiple_of(run.plan.eval_every()) {
            let begin = Instant::now();
            stopped |= look(run, engine, &mut state, on)?;
            look_seconds = begin.elapsed().as_secs_f64();
            let patience = run.options.patience;
            if patience.is_some_and(|patience| state.record.worse >= patience) {
                ending = Ending::NoImprovement;
                stopped = true;
            }
        }
        if stopped || step == of || step.is_multiple_of(run.plan.checkpoint_every()) {
            state.write(run.folder)?;
            stopped |= on(TrainEvent::Checkpoint { step }).is_break();
        }
    }
    if ending == Ending::Finished && state.record.step < of {
        ending = Ending::Stopped;
    }
    let (numbers, kept_step) = kept(run.options, &ending, &state, good);
    Ok(Left {
        numbers,
        ending,
        kept_step,
        record: state.record,
        tokens,
        train_seconds,
    })
}

/// The numbers kept and their step.
fn kept(
    options: &TrainOptions,
    ending: &Ending,
    state: &State,
    good: (Vec<f32>, u32),
) -> (Vec<f32>, u32) {
    let best = options.keep_best.unwrap_or(options.patience.is_some());
    match (&state.best, ending) {
        (Some(numbers), _) if best => (numbers.clone(), state.record.best_step),
        (_, Ending::Diverged { .. }) => good,
        _ => (state.numbers.clone(), state.record.step),
    }
}

/// Most bytes that training holds: what the engine counts, what the loop has, and the process around them.
pub(super) fn peak_bytes(engine: &dyn Engine, numbers: usize) -> u64 {
    engine.peak_bytes() + state_bytes(numbers) + PROCESS_BYTES
}

/// Bytes of the numbers, their gradients, two moments, the best, and the last good ones.
pub(super) const fn state_bytes(numbers: usize) -> u64 {
    (numbers * 6 * size_of::<f32>()) as u64
}

fn tokens_before(plan: &mut Plan<'_>, step: u32) -> u64 {
    (1..=step)
        .map(|step| {
            let rows = plan.step(step);
            rows.iter()
                .map(|(row, _)| row.tokens.len() as u64)
                .sum::<u64>()
        })
        .sum()
}

/// Looks at the held-out rows; true if whoever listens wants to stop.
fn look(
    run: &Run<'_>,
    engine: &mut dyn Engine,
    state: &mut State,
    on: &mut Listener<'_>,
) -> Result<bool, Error> {
    if run.held_out.is_empty() {
        return Ok(false);
    }
    let loss = mean_loss(engine, &state.numbers, run.held_out)?;
    let record = &mut state.record;
    let best = loss.is_finite() && record.best_loss().is_none_or(|best| loss < best);
    record.held_out.push((record.step, loss.to_bits()));
    if best {
        (record.best_step, record.worse) = (record.step, 0);
        state.best = Some(state.numbers.clone());
    } else {
        record.worse += 1;
    }
    let event = TrainEvent::Evaluated {
        step: record.step,
        loss,
        best,
    };
    Ok(on(event).is_break())
}

/// Mean loss of rows in nats a scored token.
pub(super) fn mean_loss(
    engine: &mut dyn Engine,
    numbers: &[f32],
    rows: &[Example],
) -> Result<f64, Error> {
    let rows: Vec<(&Example, u64)> = rows.iter().map(|row| (row, 0)).collect();
    let count = scored(&rows);
    let sum = engine.loss(&Work {
        numbers,
        examples: &rows,
        scale: 0.0,
        dropout: 0.0,
    })?;
    Ok(sum / count as f64)
}

fn diverged(step: u32, of: u32, loss: f64, norm: f64, rate: f64, good: u32) -> String {
    format!(
        "at step {step} of {of} the loss was {loss} and the norm of the gradients {norm} (learning rate {rate:.1e}). Most \
         often the learning rate is too high: try a tenth of it, or more warm-up. The adapter kept is that of step {good}"
    )
}

/// The first state of a run.
pub(super) fn first_state(numbers: Vec<f32>, record: Record) -> State {
    State {
        optimizer: AdamW::new(numbers.len()),
        record,
        numbers,
        best: None,
    }
}

/// What a run leaves, as it is told outside.
pub(super) fn outcome(left: Left, adapter: Adapter, seconds: f64) -> super::options::TrainOutcome {
    super::options::TrainOutcome {
        adapter,
        ending: left.ending,
        steps: left.record.step,
        best_step: left.kept_step,
        losses: from_bits(&left.record.losses),
        held_out: from_bits(&left.record.held_out),
        trainable_params: left.numbers.len() as u64,
        tokens: left.tokens,
        train_seconds: left.train_seconds,
        seconds,
        tokens_per_s: if left.train_seconds > 0.0 {
            left.tokens as f64 / left.train_seconds
        } else {
            0.0
        },
    }
}
