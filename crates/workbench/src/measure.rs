//! Measurements: each loads the model into a fresh worker, begins a run in the store, fills it as answers come, and
//! finishes it with a report. Foreground runs, background jobs and scorecards share this code.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use billion_eval::tasks::mmlu;
use serde::Serialize;
use serde_json::json;

use crate::api::{ApiError, ErrorCode, Scorecard, ScorecardRequest, ScorecardSize};
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::jobs::{Product, Work};
use crate::machine;
use crate::models::Model;
use crate::progress::Meter;
use crate::reports::{MemoryReport, MmluPart, MmluReport, PerplexityReport, SpeedReport};
use crate::requests::{
    EngineOptions, JobProgress, MemoryRequest, MmluRequest, PerplexityRequest, SpeedRequest,
};
use crate::store::NewRun;
use crate::worker::{self, Ask, Event, LoadedModel, MmluAsk, Outcome, Worker};

/// Versions of the tasks; raised when a change makes results incomparable.
pub(crate) const MMLU_VERSION: &str = "mmlu 1 (prompts of lm-evaluation-harness 0.4.13)";
const SPEED_VERSION: &str = "speed 1 (prefill and decode apart, as llama-bench)";
const MEMORY_VERSION: &str = "memory 1 (fresh process, full cache)";
const PERPLEXITY_VERSION: &str = "perplexity 1 (windows without overlap, token 1 on scored)";

/// Units of a scorecard besides MMLU's questions: loading and memory, speed.
const MEMORY_UNITS: u32 = 5;
const SPEED_UNITS: u32 = 10;
/// Repeats of a scorecard's speed run.
const SCORECARD_REPEATS: u32 = 3;
/// Tokens of a scorecard's speed run.
const SCORECARD_PROMPT: u32 = 512;
const SCORECARD_GENERATE: u32 = 64;

/// A model loaded into a worker of its own.
struct Bench {
    worker: Worker,
    model: Model,
    loaded: LoadedModel,
    engine: EngineOptions,
}

/// Where a measurement belongs.
#[derive(Clone, Copy)]
struct Place {
    job: u32,
    scorecard: Option<u32>,
}

impl Workbench {
    /// Runs MMLU and stores the run.
    pub fn bench_mmlu(
        &self,
        request: &MmluRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MmluReport, ApiError> {
        let work = || {
            let (model, name) = self.named(&request.model)?;
            let request = MmluRequest {
                model,
                data: request.data.as_deref().map(absolute),
                samples: request.samples.as_deref().map(absolute),
                ..request.clone()
            };
            Ok((format!("MMLU of {name}"), Work::Mmlu(request)))
        };
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Mmlu(report) => Ok(*report),
            _ => Err(other_product()),
        }
    }

    /// Measures speed and stores the run.
    pub fn bench_speed(
        &self,
        request: &SpeedRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<SpeedReport, ApiError> {
        let work = || {
            let (model, name) = self.named(&request.model)?;
            Ok((
                format!("Speed of {name}"),
                Work::Speed(SpeedRequest {
                    model,
                    ..request.clone()
                }),
            ))
        };
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Speed(report) => Ok(*report),
            _ => Err(other_product()),
        }
    }

    /// Measures memory in a fresh process and stores the run.
    pub fn bench_memory(
        &self,
        request: &MemoryRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MemoryReport, ApiError> {
        let work = || {
            let (model, name) = self.named(&request.model)?;
            Ok((
                format!("Memory of {name}"),
                Work::Memory(MemoryRequest {
                    model,
                    ..request.clone()
                }),
            ))
        };
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Memory(report) => Ok(report),
            _ => Err(other_product()),
        }
    }

    /// Measures perplexity and stores the run.
    pub fn perplexity(
        &self,
        request: &PerplexityRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<PerplexityReport, ApiError> {
        let work = || {
            let (model, name) = self.named(&request.model)?;
            let request = PerplexityRequest {
                model,
                text: absolute(&request.text),
                ..request.clone()
            };
            Ok((format!("Perplexity of {name}"), Work::Perplexity(request)))
        };
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Perplexity(report) => Ok(report),
            _ => Err(other_product()),
        }
    }

    /// Makes a scorecard and returns when it is done. Models that could not be measured say why in their row.
    pub fn run_scorecard(
        &self,
        request: &ScorecardRequest,
        engine: &EngineOptions,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<Scorecard, ApiError> {
        let id = self.scorecard_in_foreground(request, engine, on_progress)?;
        self.scorecard(id)
    }

    /// Id, which holds from every folder, and name of a model.
    fn named(&self, reference: &str) -> Result<(String, String), ApiError> {
        self.resolve(reference).map(|model| (model.id, model.name))
    }

    pub(crate) fn measure_mmlu(
        &self,
        job: u32,
        request: &MmluRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MmluReport, ApiError> {
        let mut meter = Meter::new(0, on_progress);
        let _lease = self.lease.shared(cancel, &mut |why| meter.tell(why, 0))?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        self.mmlu(
            &mut bench,
            Place {
                job,
                scorecard: None,
            },
            request,
            cancel,
            &mut meter,
        )
    }

    pub(crate) fn measure_speed(
        &self,
        job: u32,
        request: &SpeedRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<SpeedReport, ApiError> {
        let mut meter = Meter::new(request.repeat + 1, on_progress);
        let _lease = self
            .lease
            .alone("a speed measurement", cancel, &mut |why| meter.tell(why, 0))?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        meter.finish(1);
        self.speed(
            &mut bench,
            Place {
                job,
                scorecard: None,
            },
            request,
            cancel,
            &mut meter,
        )
    }

    pub(crate) fn measure_memory(
        &self,
        job: u32,
        request: &MemoryRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MemoryReport, ApiError> {
        let mut meter = Meter::new(100, on_progress);
        let _lease = self
            .lease
            .alone("a memory measurement", cancel, &mut |why| {
                meter.tell(why, 0);
            })?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        self.memory(
            &mut bench,
            Place {
                job,
                scorecard: None,
            },
            request.ctx,
            100,
            cancel,
            &mut meter,
        )
    }

    pub(crate) fn measure_perplexity(
        &self,
        job: u32,
        request: &PerplexityRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<PerplexityReport, ApiError> {
        let mut meter = Meter::new(0, on_progress);
        let _lease = self.lease.shared(cancel, &mut |why| meter.tell(why, 0))?;
        let text_sha256 = self.hash_of(std::slice::from_ref(&request.text))?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        let window = request.ctx.unwrap_or(bench.loaded.context_len);
        let text = request.text.clone();
        let run = bench.new_run(
            "perplexity",
            PERPLEXITY_VERSION,
            Place {
                job,
                scorecard: None,
            },
            Details {
                settings: json!({ "text": text, "text_sha256": text_sha256, "ctx": window }),
                options: format!("--text {} --ctx {window}", shell(&text)),
                ..Details::default()
            },
        );
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            let ask = Ask::Perplexity {
                text,
                ctx: request.ctx,
            };
            let outcome = bench.worker.request(ask, cancel, &mut |event| {
                if let Event::Progress { step, done, total } = event {
                    meter.total(total);
                    meter.tell(&step, done);
                }
            })?;
            let Outcome::Perplexity(found) = outcome else {
                return Err(unexpected(&outcome));
            };
            let report = PerplexityReport {
                run: id,
                model: bench.model.id.clone(),
                tokens: found.tokens as u64,
                nll_mean: found.nll_mean,
                perplexity: found.perplexity,
                ctx: found.window as u32,
                seconds: found.seconds,
            };
            self.store.finish_run(id, 0, &report)?;
            Ok(report)
        })
    }

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

    /// Loads a model into a fresh worker.
    fn bench(
        &self,
        reference: &str,
        engine: &EngineOptions,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<Bench, ApiError> {
        cancel.check()?;
        meter.tell("checks the file", 0);
        let model = self.resolve(reference)?;
        meter.tell("loads the model", 0);
        let engine = self.with_settings(engine)?;
        let mut worker = Worker::spawn(&self.engine)?;
        let loaded = worker::load(
            &mut worker,
            &model.path,
            &engine,
            model.needs_bytes(),
            cancel,
        )?;
        Ok(Bench {
            worker,
            model,
            loaded,
            engine,
        })
    }

    fn memory(
        &self,
        bench: &mut Bench,
        place: Place,
        ctx: Option<u32>,
        units: u32,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<MemoryReport, ApiError> {
        let run = bench.new_run(
            "memory",
            MEMORY_VERSION,
            place,
            Details {
                settings: json!({ "ctx": ctx }),
                options: ctx.map_or_else(String::new, |ctx| format!("--ctx {ctx}")),
                ..Details::default()
            },
        );
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            let outcome = bench
                .worker
                .request(Ask::Memory { ctx }, cancel, &mut |event| {
                    if let Event::Progress { done, total, .. } = event {
                        let share = f64::from(done) / f64::from(total.max(1));
                        meter.tell(
                            &format!("memory, {done} of {total} tokens in the cache"),
                            (share * f64::from(units)) as u32,
                        );
                    }
                })?;
            let Outcome::Memory(found) = outcome else {
                return Err(unexpected(&outcome));
            };
            let report = MemoryReport {
                run: id,
                model: bench.model.id.clone(),
                weights_bytes: found.weights_bytes,
                kv_bytes: found.kv_bytes,
                peak_rss_bytes: found.peak_rss_bytes,
                idle_rss_bytes: found.idle_rss_bytes,
                ctx: found.ctx as u32,
                notes: found.notes,
            };
            self.store.finish_run(id, 0, &report)?;
            Ok(report)
        })
    }

    fn speed(
        &self,
        bench: &mut Bench,
        place: Place,
        request: &SpeedRequest,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<SpeedReport, ApiError> {
        let SpeedRequest {
            prompt,
            generate,
            repeat,
            batch,
            depth,
            ..
        } = *request;
        let run = bench.new_run("speed", SPEED_VERSION, place, Details {
            settings: json!({ "prompt": prompt, "gen": generate, "repeat": repeat, "batch": batch, "depth": depth }),
            options: format!("--prompt {prompt} --gen {generate} --repeat {repeat} --batch {batch} --depth {depth}"),
            ..Details::default()
        });
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            let ask = Ask::Speed {
                prompt,
                generate,
                repeat,
                batch,
                depth,
            };
            let outcome = bench.worker.request(ask, cancel, &mut |event| {
                if let Event::Progress { step, done, total } = event {
                    meter.tell(&format!("speed, {step} ({done} of {total})"), done);
                }
            })?;
            let Outcome::Speed(found) = outcome else {
                return Err(unexpected(&outcome));
            };
            let report = SpeedReport {
                run: id,
                model: bench.model.id.clone(),
                prefill_tokens_per_s: found.prefill_tokens_per_s.into(),
                decode_tokens_per_s: found.decode_tokens_per_s.into(),
                ttft_s: found.ttft_s.median,
                load_s: bench.loaded.load_s,
                threads: bench.loaded.threads,
                isa: bench.loaded.isa.clone(),
                prompt,
                generate,
                batch,
                depth,
                other_cores_busy: found.other_cores_busy,
                notes: found.notes,
            };
            self.store.finish_run(id, 0, &report)?;
            Ok(report)
        })
    }

    fn mmlu(
        &self,
        bench: &mut Bench,
        place: Place,
        request: &MmluRequest,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<MmluReport, ApiError> {
        let data = match &request.data {
            Some(folder) => folder.clone(),
            None => self.starter_mmlu()?,
        };
        let settings = json!({
            "data": data,
            "data_sha256": self.hash_of(&data_files(&data)?)?,
            "shots": request.shots,
            "limit": request.limit,
            "subjects": request.subjects,
        });
        let run = bench.new_run(
            "mmlu",
            MMLU_VERSION,
            place,
            Details {
                shots: request.shots.unwrap_or(0),
                settings,
                options: mmlu_options(request),
            },
        );
        // An interrupted run of this job goes on if nothing that fixes its result has changed.
        let open = self.store.open_run(place.job, &run)?;
        let id = match open {
            Some(id) => id,
            None => self.store.begin_run(&run)?,
        };
        let answered = self.store.samples(id)?;
        meter.inherit(answered.len() as u32);
        let ask = MmluAsk {
            data,
            shots: request.shots,
            limit: request.limit,
            subjects: request.subjects.clone(),
            answered,
        };
        let whole = place.scorecard.is_none();
        let mut since = Instant::now();
        let mut broken = None;
        let stop = cancel.clone();
        let outcome = bench.worker.request(Ask::Mmlu(ask), cancel, &mut |event| {
            let (step, done, total) = match event {
                Event::Sample {
                    sample,
                    done,
                    total,
                } => {
                    let cost = since.elapsed().as_secs_f64();
                    let kept = self.store.add_sample(id, &sample).and_then(|()| {
                        // Written now and then, so that time spent before a crash counts too.
                        if cost < 1.0 {
                            return Ok(());
                        }
                        since = Instant::now();
                        self.store.add_cost(id, cost, 0)
                    });
                    if let Err(error) = kept {
                        // Answers that cannot be kept are not worth finding.
                        stop.set();
                        broken.get_or_insert(error);
                    }
                    (format!("MMLU, {done} of {total} questions"), done, total)
                }
                Event::Progress { step, done, total } => (format!("MMLU, {step}"), done, total),
                Event::Text { .. } => return,
            };
            if whole {
                meter.total(total);
            }
            meter.tell(&step, done);
        });
        self.store.add_cost(id, since.elapsed().as_secs_f64(), 0)?;
        if let Some(error) = broken {
            return Err(error);
        }
        let outcome = outcome.inspect_err(|_| {
            // Without a single answer there is nothing to resume.
            if self
                .store
                .samples(id)
                .is_ok_and(|samples| samples.is_empty())
            {
                let _ = self.store.delete_run(id);
            }
        })?;
        let Outcome::Mmlu(found) = outcome else {
            return Err(unexpected(&outcome));
        };
        self.store
            .add_cost(id, 0.0, found.prompt_tokens_computed as u64)?;
        let spent = self.store.run(id)?;
        let report = mmlu_report(
            id,
            &bench.model.id,
            &found,
            spent.spent_s,
            spent.spent_tokens,
        );
        self.store.finish_run(id, report.shots, &report)?;
        if let Some(path) = &request.samples {
            write_samples(path, &self.store.samples(id)?)?;
        }
        Ok(report)
    }

    /// Deletes a run that did not come to a report.
    fn kept_if_done<T>(
        &self,
        run: u32,
        measure: impl FnOnce() -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        measure().inspect_err(|_| {
            // The first error is the one to tell; an unfinished run is not listed anyway.
            let _ = self.store.delete_run(run);
        })
    }
}

/// What differs from task to task.
#[derive(Default)]
struct Details {
    shots: u32,
    settings: serde_json::Value,
    /// Command-line options besides the model and the engine.
    options: String,
}

impl Bench {
    fn new_run(&self, task: &str, version: &str, place: Place, details: Details) -> NewRun {
        let mut settings = details.settings;
        if let Some(map) = settings.as_object_mut() {
            map.insert("executor".to_owned(), json!(self.engine.executor));
            map.insert("device".to_owned(), json!(self.engine.device));
            map.insert("context_len".to_owned(), json!(self.loaded.context_len));
        }
        let command = match task {
            "perplexity" => format!(
                "billion perplexity --model {} {}",
                shell(&self.model.id),
                details.options
            ),
            _ => format!(
                "billion bench {task} --model {} {}",
                shell(&self.model.id),
                details.options
            ),
        };
        NewRun {
            task: task.to_owned(),
            model: self.model.id.clone(),
            name: self.model.name.clone(),
            path: self.model.path.display().to_string(),
            sha256: self.model.sha256.clone(),
            quant: self.model.facts.quant.clone(),
            params: self.model.facts.params,
            task_version: version.to_owned(),
            shots: details.shots,
            seed: 0,
            hardware: machine::hardware_words(),
            isa: self.loaded.isa.clone(),
            threads: self.loaded.threads,
            settings,
            command: format!("{} --threads {}", command.trim_end(), self.loaded.threads),
            scorecard: place.scorecard,
            job: place.job,
        }
    }
}

/// The path as it is seen from every folder; a job may be resumed from another one.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn bench_lives(bench: &mut Option<Bench>) -> bool {
    bench.as_mut().is_some_and(|bench| bench.worker.is_alive())
}

fn other_product() -> ApiError {
    ApiError::failed("the job gave another result than was asked for; please report this")
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

fn mmlu_options(request: &MmluRequest) -> String {
    let mut options = String::new();
    let mut add = |text: String| {
        options.push(' ');
        options.push_str(&text);
    };
    if let Some(shots) = request.shots {
        add(format!("--shots {shots}"));
    }
    if let Some(limit) = request.limit {
        add(format!("--limit {limit}"));
    }
    if !request.subjects.is_empty() {
        add(format!("--subjects {}", request.subjects.join(",")));
    }
    if let Some(data) = &request.data {
        add(format!("--data {}", shell(data)));
    }
    options.trim_start().to_owned()
}

/// Text or a path as a shell takes it.
fn shell(text: impl AsRef<Path>) -> String {
    let text = text.as_ref().display().to_string();
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./:@+,=".contains(c));
    if plain && !text.is_empty() {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// The files whose bytes fix the questions.
fn data_files(data: &Path) -> Result<Vec<PathBuf>, ApiError> {
    if data.is_file() {
        return Ok(vec![data.to_owned()]);
    }
    let mut files = Vec::new();
    for split in ["dev", "test"] {
        let Ok(entries) = std::fs::read_dir(data.join(split)) else {
            continue;
        };
        files.extend(
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|ext| ext == "csv")),
        );
    }
    files.sort();
    if files.is_empty() {
        return Err(ApiError::failed(format!(
            "{} holds no MMLU questions: expected test/SUBJECT_test.csv and dev/SUBJECT_dev.csv in it",
            data.display()
        )));
    }
    Ok(files)
}

fn mmlu_report(
    run: u32,
    model: &str,
    found: &mmlu::Outcome,
    seconds: f64,
    tokens: u64,
) -> MmluReport {
    let shots = found.shots as u32;
    let part = |score: &mmlu::Score, shots| MmluPart {
        accuracy: score.accuracy,
        correct: score.correct as u32,
        total: score.total as u32,
        shots,
    };
    MmluReport {
        run,
        model: model.to_owned(),
        accuracy: found.accuracy,
        correct: found.correct as u32,
        total: found.total as u32,
        ci95: found.ci95,
        by_subject: found
            .by_subject
            .iter()
            .map(|(subject, score)| {
                let used = found.fewer_shots.get(subject).map_or(shots, |&n| n as u32);
                (subject.clone(), part(score, Some(used)))
            })
            .collect::<BTreeMap<_, _>>(),
        by_group: found
            .by_group
            .iter()
            .map(|(group, score)| (group.clone(), part(score, None)))
            .collect(),
        shots,
        prompt_tokens_computed: tokens,
        truncated: found.truncated as u32,
        seconds,
    }
}

/// A line of `--samples`.
#[derive(Serialize)]
struct SampleLine<'a> {
    subject: &'a str,
    index: usize,
    ll: [f64; 4],
    pred: char,
    gold: char,
}

/// Writes beside the place and moves it there, so that the file is whole or not there.
fn write_samples(path: &Path, samples: &[mmlu::Sample]) -> Result<(), ApiError> {
    let fail = |error: std::io::Error| {
        ApiError::failed(format!(
            "the samples cannot be written to {}: {error}; the run itself is stored",
            path.display()
        ))
    };
    let partial = path.with_extension("partial");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&partial).map_err(fail)?);
    for sample in samples {
        let line = SampleLine {
            subject: &sample.subject,
            index: sample.index,
            ll: sample.ll,
            pred: sample.pred,
            gold: sample.gold,
        };
        serde_json::to_writer(&mut file, &line).map_err(|error| fail(error.into()))?;
        file.write_all(b"\n").map_err(fail)?;
    }
    file.flush().map_err(fail)?;
    drop(file);
    std::fs::rename(&partial, path).map_err(fail)
}
