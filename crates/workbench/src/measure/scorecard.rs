//! Scorecards: memory, speed and MMLU of several models, each with what it lacks only, so that one can be resumed.

use super::{Bench, Place};
use crate::api::{ApiError, ErrorCode, ScorecardRequest, ScorecardSize};
use crate::cancel::Cancel;
use crate::facade::Workbench;
use crate::progress::Meter;
use crate::requests::{EngineOptions, JobProgress, MmluRequest, SpeedRequest};

/// Units of a scorecard besides MMLU's questions: loading and memory, speed.
const MEMORY_UNITS: u32 = 5;
const SPEED_UNITS: u32 = 10;
/// Repeats of a scorecard's speed run.
const SCORECARD_REPEATS: u32 = 3;
/// Tokens of a scorecard's speed run.
const SCORECARD_PROMPT: u32 = 512;
const SCORECARD_GENERATE: u32 = 64;

impl Workbench {
    /// Measures every model of a scorecard. A model that fails leaves a note, and the others go on; the first failure is
    /// the job's, so that it can be resumed.
    pub(crate) fn measure_scorecard(
        &self,
        job: u32,
        scorecard: u32,
        request: &ScorecardRequest,
        engine: &EngineOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(), ApiError> {
        let place = Place {
            job,
            scorecard: Some(scorecard),
        };
        let questions = eval_size(request.size).mmlu_questions() as u32;
        let per_model = MEMORY_UNITS + SPEED_UNITS + questions;
        let mut meter = Meter::new(per_model * request.models.len() as u32, on_progress);
        let mut first_failure = None;
        for model in &request.models {
            meter.of(model);
            let mut failures = Vec::new();
            self.measure_row(
                place,
                model,
                request.size,
                engine,
                cancel,
                &mut meter,
                &mut failures,
            )?;
            for (task, error) in failures {
                self.store
                    .note(scorecard, model, task, Some(&error.message))?;
                first_failure.get_or_insert(ApiError {
                    code: error.code,
                    message: format!("{model}: {}", error.message),
                });
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// The figures of one model that the scorecard lacks. An error only if it was cancelled; `failures` gets the rest.
    #[expect(
        clippy::too_many_arguments,
        reason = "a private step of measure_scorecard, cut out for its length"
    )]
    fn measure_row(
        &self,
        place: Place,
        model: &str,
        size: ScorecardSize,
        engine: &EngineOptions,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
        failures: &mut Vec<(&'static str, ApiError)>,
    ) -> Result<(), ApiError> {
        let scorecard = place.scorecard.unwrap_or_default();
        let done: Vec<String> = self.finished_tasks(scorecard, model)?;
        let lacks = |task: &str| !done.iter().any(|have| have == task);
        let questions = eval_size(size).mmlu_questions() as u32;
        let mut bench: Option<Bench> = None;
        let mut settle = |task, result: Result<(), ApiError>| match result {
            Err(error) if error.code == ErrorCode::Cancelled => Err(error),
            Err(error) => {
                failures.push((task, error));
                Ok(false)
            }
            Ok(()) => {
                self.store.note(scorecard, model, task, None)?;
                Ok(true)
            }
        };
        if lacks("memory") || lacks("speed") {
            let what = format!("the scorecard of {model}");
            let lease = self
                .lease
                .alone(&what, cancel, &mut |why| meter.tell(why, 0))?;
            let loaded = self.bench(model, engine, cancel, meter);
            let ready = settle("load", loaded.map(|loaded| bench = Some(loaded)))?;
            if !ready {
                meter.skip(MEMORY_UNITS + SPEED_UNITS + questions);
                return Ok(());
            }
            if lacks("memory")
                && let Some(bench) = &mut bench
            {
                let got = self.memory(bench, place, None, MEMORY_UNITS, cancel, meter);
                settle("memory", got.map(|_| ()))?;
            }
            meter.finish(MEMORY_UNITS);
            if lacks("speed")
                && bench_lives(&mut bench)
                && let Some(bench) = &mut bench
            {
                let request = scorecard_speed(bench, engine);
                let got = self.speed(bench, place, &request, cancel, meter);
                settle("speed", got.map(|_| ()))?;
            }
            meter.finish(SPEED_UNITS);
            drop(lease);
        } else {
            meter.skip(MEMORY_UNITS + SPEED_UNITS);
        }
        if !lacks("mmlu") {
            meter.skip(questions);
            return Ok(());
        }
        let _lease = self.lease.shared(cancel, &mut |why| meter.tell(why, 0))?;
        if !bench_lives(&mut bench) {
            let loaded = self.bench(model, engine, cancel, meter);
            if !settle("load", loaded.map(|loaded| bench = Some(loaded)))? {
                meter.skip(questions);
                return Ok(());
            }
        }
        if let Some(bench) = &mut bench {
            let got = self.mmlu(
                bench,
                place,
                &scorecard_mmlu(model, size, engine),
                cancel,
                meter,
            );
            settle("mmlu", got.map(|_| ()))?;
        }
        meter.finish(questions);
        Ok(())
    }
}

fn bench_lives(bench: &mut Option<Bench>) -> bool {
    bench.as_mut().is_some_and(|bench| bench.worker.is_alive())
}

/// The size as evaluation knows it.
pub(crate) fn eval_size(size: ScorecardSize) -> billion_eval::sizes::Size {
    use billion_eval::sizes::Size;
    match size {
        ScorecardSize::Quick => Size::Quick,
        ScorecardSize::Standard => Size::Standard,
        ScorecardSize::Full => Size::Full,
    }
}

fn scorecard_mmlu(model: &str, size: ScorecardSize, engine: &EngineOptions) -> MmluRequest {
    let options = eval_size(size).mmlu_options();
    MmluRequest {
        model: model.to_owned(),
        shots: options.shots.map(|n| n as u32),
        limit: options.limit.map(|n| n as u32),
        subjects: options.subjects,
        data: None,
        samples: None,
        engine: engine.clone(),
    }
}

/// A model with a short context is measured with what fits.
fn scorecard_speed(bench: &Bench, engine: &EngineOptions) -> SpeedRequest {
    SpeedRequest {
        model: bench.model.id.clone(),
        prompt: SCORECARD_PROMPT.min(bench.loaded.context_len),
        generate: SCORECARD_GENERATE.min(bench.loaded.context_len),
        repeat: SCORECARD_REPEATS,
        engine: engine.clone(),
        ..SpeedRequest::default()
    }
}
