//! Scorecards: memory, speed, energy, MMLU and HumanEval of several models, each with what it lacks only, so that one can be resumed.

use std::path::Path;

use billion_eval::meters::energy;

use super::{Bench, Place};
use crate::api::{ApiError, ErrorCode, ScorecardRequest, ScorecardSize};
use crate::cancel::Cancel;
use crate::facade::Workbench;
use crate::progress::Meter;
use crate::reports::EnergyReport;
use crate::requests::{
    EnergyRequest, EngineOptions, HumanEvalRequest, JobProgress, MmluRequest, SpeedRequest,
};

/// Units of a scorecard besides MMLU's questions: loading and memory, speed.
const MEMORY_UNITS: u32 = 5;
const SPEED_UNITS: u32 = 10;
/// Units of a scorecard's energy run, and its repeats.
const ENERGY_UNITS: u32 = ENERGY_REPEATS + 2;
const ENERGY_REPEATS: u32 = 3;
/// Units of a HumanEval problem: it takes about as long as so many MMLU questions.
const PROBLEM_UNITS: u32 = 5;
/// Repeats of a scorecard's speed run.
const SCORECARD_REPEATS: u32 = 5;
/// Tokens of a scorecard's speed run.
const SCORECARD_PROMPT: u32 = 512;
const SCORECARD_GENERATE: u32 = 64;

impl Workbench {
    /// Measures every model of a scorecard. A model that fails leaves a note, and the others go on; the first failure is
    /// the job's, so that it can be resumed.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a scorecard's job holds, and how to report it"
    )]
    pub(crate) fn measure_scorecard(
        &self,
        job: u32,
        scorecard: u32,
        request: &ScorecardRequest,
        mmlu: Option<&Path>,
        engine: &EngineOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(), ApiError> {
        let place = Place {
            job,
            scorecard: Some(scorecard),
        };
        let questions = eval_size(request.size).mmlu_questions() as u32;
        let per_model =
            MEMORY_UNITS + SPEED_UNITS + ENERGY_UNITS + questions + problem_units(request.size);
        let mut meter = Meter::new(per_model * request.models.len() as u32, on_progress);
        let mut first_failure = None;
        for model in &request.models {
            meter.of(model);
            let mut row = Row {
                workbench: self,
                place,
                model,
                size: request.size,
                mmlu_data: mmlu,
                stop_at_half_width: request.stop_at_half_width,
                engine,
                cancel,
                meter: &mut meter,
                done: self.finished_tasks(scorecard, model)?,
                failures: Vec::new(),
                bench: None,
                energy: None,
            };
            row.measure()?;
            for (task, error) in row.failures {
                self.store
                    .note(scorecard, model, task, Some(&error.message))?;
                first_failure.get_or_insert(ApiError {
                    code: error.code,
                    message: format!("{model}: {}", error.message),
                    link: None,
                });
            }
        }
        first_failure.map_or(Ok(()), Err)
    }
}

/// One model of a scorecard while it is measured.
struct Row<'a, 'm> {
    workbench: &'a Workbench,
    place: Place,
    model: &'a str,
    size: ScorecardSize,
    /// MMLU's questions; none are the starter pack's.
    mmlu_data: Option<&'a Path>,
    stop_at_half_width: Option<f64>,
    engine: &'a EngineOptions,
    cancel: &'a Cancel,
    meter: &'a mut Meter<'m>,
    /// Tasks that earlier sessions have finished.
    done: Vec<String>,
    /// What could not be measured, and why.
    failures: Vec<(&'static str, ApiError)>,
    bench: Option<Bench>,
    /// The energy run of this session, whose idle power MMLU's energy is measured against.
    energy: Option<EnergyReport>,
}

impl Row<'_, '_> {
    /// Everything that the scorecard lacks. An error only if it was cancelled; `failures` gets the rest.
    fn measure(&mut self) -> Result<(), ApiError> {
        self.alone()?;
        let parts = [
            ("mmlu", eval_size(self.size).mmlu_questions() as u32),
            ("humaneval", problem_units(self.size)),
        ];
        for (task, units) in parts {
            if !self.lacks(task) {
                self.meter.skip(units);
                continue;
            }
            let wait = &mut |why: &str| self.meter.tell(why, 0);
            // Joules of the questions are only the model's own while nothing else runs.
            let counts_joules = task == "mmlu" && self.energy.is_some();
            let lease = if counts_joules {
                let what = format!("the energy of {}", self.model);
                self.workbench.lease.alone(&what, self.cancel, wait)?
            } else {
                self.workbench.lease.shared(self.cancel, wait)?
            };
            if self.ready()? {
                let got = match task {
                    "mmlu" => self.mmlu(),
                    _ => self.humaneval(),
                };
                self.settle(task, got)?;
            }
            self.meter.finish(units);
            drop(lease);
        }
        Ok(())
    }

    /// Memory, speed and energy, with the machine to itself, in one fresh process.
    fn alone(&mut self) -> Result<(), ApiError> {
        const UNITS: u32 = MEMORY_UNITS + SPEED_UNITS + ENERGY_UNITS;
        if !self.lacks("memory") && !self.lacks("speed") {
            self.meter.skip(UNITS);
            return Ok(());
        }
        let what = format!("the scorecard of {}", self.model);
        let wait = &mut |why: &str| self.meter.tell(why, 0);
        let _lease = self.workbench.lease.alone(&what, self.cancel, wait)?;
        if !self.ready()? {
            self.meter.skip(UNITS);
            return Ok(());
        }
        if self.lacks("memory")
            && let Some(bench) = &mut self.bench
        {
            let got = self.workbench.memory(
                bench,
                self.place,
                None,
                MEMORY_UNITS,
                self.cancel,
                self.meter,
            );
            self.settle("memory", got.map(drop))?;
        }
        self.meter.finish(MEMORY_UNITS);
        if self.lacks("speed")
            && self.ready()?
            && let Some(bench) = &mut self.bench
        {
            let request = scorecard_speed(bench, self.engine);
            let got = self
                .workbench
                .speed(bench, self.place, &request, self.cancel, self.meter);
            self.settle("speed", got.map(drop))?;
        }
        self.meter.finish(SPEED_UNITS);
        if self.lacks("energy") && self.ready()? {
            let got = self.energy();
            self.settle("energy", got)?;
        }
        self.meter.finish(ENERGY_UNITS);
        Ok(())
    }

    /// Joules a token; where nobody counts them the row says why, which is no failure.
    fn energy(&mut self) -> Result<(), ApiError> {
        let Some(bench) = &mut self.bench else {
            return Ok(());
        };
        let request = EnergyRequest {
            model: self.model.to_owned(),
            generate: SCORECARD_GENERATE.min(bench.loaded.context_len),
            repeat: ENERGY_REPEATS,
            engine: self.engine.clone(),
        };
        let report = self
            .workbench
            .energy(bench, self.place, &request, self.cancel, self.meter)?;
        if let Some(why) = &report.reason {
            return self.note("energy", Some(&format!("unavailable: {why}")));
        }
        self.energy = Some(report);
        self.note("energy", None)
    }

    fn mmlu(&mut self) -> Result<(), ApiError> {
        let Some(bench) = &mut self.bench else {
            return Ok(());
        };
        let request = MmluRequest {
            data: self.mmlu_data.map(Path::to_owned),
            stop_at_half_width: self.stop_at_half_width,
            ..scorecard_mmlu(self.model, self.size, self.engine)
        };
        let recorder = self.energy.is_some().then(|| {
            let wanted = energy::Wanted::of_device(&self.engine.device);
            energy::Recorder::start(move || energy::open(&wanted))
        });
        let asked = self
            .workbench
            .mmlu(bench, self.place, &request, self.cancel, self.meter)?;
        let (Some(recorder), Some(mut measured)) = (recorder, self.energy.take()) else {
            return Ok(());
        };
        let recording = recorder.stop();
        // These joules are not those of the answers that an earlier session gave.
        if asked.earlier > 0 {
            return Ok(());
        }
        let report = asked.report;
        let net = measured
            .idle_watts
            .and_then(|watts| recording.net_joules(watts));
        measured.mmlu_joules = net;
        measured.correct_per_wh =
            net.and_then(|joules| energy::correct_per_wh(u64::from(report.correct), joules));
        match measured.run {
            Some(run) => self.workbench.store.finish_run(run, 0, &measured),
            None => Ok(()),
        }
    }

    fn humaneval(&mut self) -> Result<(), ApiError> {
        let Some(bench) = &mut self.bench else {
            return Ok(());
        };
        let request = scorecard_humaneval(self.model, self.size, self.engine);
        self.workbench
            .humaneval(
                bench,
                self.place,
                &request,
                PROBLEM_UNITS,
                self.cancel,
                self.meter,
            )
            .map(drop)
    }

    fn lacks(&self, task: &str) -> bool {
        !self.done.iter().any(|have| have == task)
    }

    /// The model is loaded into a living process, a new one if need be. False if that failed.
    fn ready(&mut self) -> Result<bool, ApiError> {
        let alive = |bench: &mut Bench| bench.worker.is_alive();
        if self.bench.as_mut().is_some_and(alive) {
            return Ok(true);
        }
        let loaded = self
            .workbench
            .bench(self.model, self.engine, self.cancel, self.meter)
            .map(|bench| self.bench = Some(bench));
        self.settle("load", loaded)
    }

    /// Notes how a part ended. False if it failed, an error if it was cancelled.
    fn settle(
        &mut self,
        task: &'static str,
        result: Result<(), ApiError>,
    ) -> Result<bool, ApiError> {
        match result {
            Err(error) if error.code == ErrorCode::Cancelled => Err(error),
            Err(error) => {
                self.failures.push((task, error));
                Ok(false)
            }
            // Whether there is energy to measure is noted where it is found out.
            Ok(()) if task == "energy" => Ok(true),
            Ok(()) => self.note(task, None).map(|()| true),
        }
    }

    fn note(&self, task: &str, text: Option<&str>) -> Result<(), ApiError> {
        let scorecard = self.place.scorecard.unwrap_or_default();
        self.workbench.store.note(scorecard, self.model, task, text)
    }
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

pub(super) fn scorecard_mmlu(
    model: &str,
    size: ScorecardSize,
    engine: &EngineOptions,
) -> MmluRequest {
    let options = eval_size(size).mmlu_options();
    MmluRequest {
        model: model.to_owned(),
        shots: options.shots.map(|n| n as u32),
        limit: options.limit.map(|n| n as u32),
        subjects: options.subjects,
        engine: engine.clone(),
        ..MmluRequest::default()
    }
}

/// Units of a model's HumanEval run.
fn problem_units(size: ScorecardSize) -> u32 {
    eval_size(size).humaneval_problems() as u32 * PROBLEM_UNITS
}

fn scorecard_humaneval(
    model: &str,
    size: ScorecardSize,
    engine: &EngineOptions,
) -> HumanEvalRequest {
    let size = eval_size(size);
    HumanEvalRequest {
        model: model.to_owned(),
        limit: Some(size.humaneval_problems() as u32),
        max_tokens: size.humaneval_max_tokens() as u32,
        engine: engine.clone(),
        ..HumanEvalRequest::default()
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
