//! Jobs: recorded in the store before they start, run here or by another process of Billion, watched by the shells,
//! cancelled, and resumed from the last stored answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::api::{
    ApiError, BenchRequest, ErrorCode, Job, JobState, ScorecardRequest, ScorecardSize,
    SpeculationReport, TimeLapseRequest,
};
use crate::cancel::Cancel;
use crate::convert::Conversion;
use crate::facade::Workbench;
use crate::machine::{self, Awake};
use crate::measure::Lapse;
use crate::reports::{
    ConvertReport, EnergyReport, HumanEvalReport, MemoryReport, MmluReport, PerplexityReport,
    SpeedReport,
};
use crate::requests::{
    EnergyRequest, EngineOptions, HumanEvalRequest, JobProgress, MemoryRequest, MmluRequest,
    PerplexityRequest, SpeculateRequest, SpeedRequest,
};
use crate::store::{NewJob, Stop, Store};

/// Least time between two calls of a watcher: 20 a second.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// How often a watcher looks for changes by other processes.
const WATCH_POLL: Duration = Duration::from_millis(250);
/// How often a watcher looks whether the processes of open jobs still live.
const WATCH_OWNERS: Duration = Duration::from_secs(1);
/// Least time between two writes of a job's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What a job does, enough to resume it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Work {
    Scorecard {
        request: ScorecardRequest,
        engine: EngineOptions,
        scorecard: u32,
        /// MMLU's questions; none are the starter pack's.
        #[serde(default)]
        mmlu: Option<PathBuf>,
    },
    Mmlu(MmluRequest),
    HumanEval(HumanEvalRequest),
    Speed(SpeedRequest),
    Memory(MemoryRequest),
    Energy(EnergyRequest),
    Perplexity(PerplexityRequest),
    Speculate(SpeculateRequest),
    FetchMmlu,
    Convert(Conversion),
    /// Brings a model here (`downloads`).
    Download {
        /// As `ModelReference::id` writes it.
        reference: String,
    },
    /// Trains an adapter and looks at what came of it (`finetune`).
    Finetune {
        /// What is asked for stands in the store, under this number.
        finetune: u32,
        engine: EngineOptions,
    },
    /// Looks at a model over its training (`time_lapses`).
    TimeLapse {
        request: TimeLapseRequest,
        engine: EngineOptions,
        time_lapse: u32,
        /// MMLU's questions; none are the starter pack's.
        mmlu: Option<PathBuf>,
    },
}

impl Work {
    /// It computes all the time, so that it waits for the job before it. A time-lapse takes its turn at each checkpoint.
    fn takes_the_machine(&self) -> bool {
        !matches!(
            self,
            Self::FetchMmlu | Self::Download { .. } | Self::TimeLapse { .. }
        )
    }

    /// What it has done is kept when it stops, so that it may be paused and goes on where it stopped.
    fn keeps_what_it_has(&self) -> bool {
        matches!(
            self,
            Self::Scorecard { .. }
                | Self::Mmlu(_)
                | Self::HumanEval(_)
                | Self::FetchMmlu
                | Self::Download { .. }
                | Self::Finetune { .. }
                | Self::TimeLapse { .. }
        )
    }

    /// The model that it brings or makes.
    fn model(&self) -> Option<&str> {
        match self {
            Self::Download { reference } => Some(reference),
            Self::Convert(conversion) => conversion.reference.as_deref(),
            _ => None,
        }
    }

    /// Says how it ended, and what is left.
    pub(crate) fn ended(&self, state: JobState) -> &'static str {
        let fetches = matches!(self, Self::Download { .. } | Self::FetchMmlu);
        if let Self::Convert(_) = self {
            return match state {
                JobState::Done => "done",
                JobState::Interrupted => "interrupted",
                JobState::Cancelled => "cancelled; nothing was written",
                _ => "failed; nothing was written",
            };
        }
        if let Self::Finetune { .. } = self {
            return match state {
                JobState::Done => "done",
                JobState::Interrupted => "interrupted; it goes on from its last checkpoint",
                JobState::Paused => "paused; it goes on from its last checkpoint",
                JobState::Cancelled => "cancelled; its last checkpoint and best adapter are kept",
                _ => "failed; its last checkpoint is kept",
            };
        }
        match (state, fetches) {
            (JobState::Done, _) => "done",
            (JobState::Interrupted, _) => "interrupted",
            (JobState::Cancelled, true) => "cancelled; no half files are left",
            (JobState::Cancelled, false) => "cancelled; what was measured is kept",
            (JobState::Paused, true) => "paused; what came is kept",
            (JobState::Paused, false) => "paused; what was measured is kept",
            (_, true) => "failed; what came is kept",
            (_, false) => "failed; what was measured is kept",
        }
    }
}

/// What came of a job.
pub(crate) enum Product {
    Scorecard,
    Mmlu(Box<MmluReport>),
    HumanEval(Box<HumanEvalReport>),
    Speed(Box<SpeedReport>),
    Memory(MemoryReport),
    Energy(Box<EnergyReport>),
    Perplexity(PerplexityReport),
    Speculation(Box<SpeculationReport>),
    /// Questions are on this machine and in use.
    Questions,
    /// A model was written to a file.
    Converted(ConvertReport),
    /// A model can be used, under this id.
    Model(String),
    /// A time-lapse has every checkpoint.
    TimeLapse(u32),
    /// A fine-tuning has its adapter and its report card.
    Finetuned(u32),
}

/// Tells watchers that something changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    generation: AtomicU64,
    closed: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Changes {
    /// Something changed.
    pub(crate) fn tell(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_all();
    }

    /// Ends the watching threads.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_all();
    }
}

impl Workbench {
    /// All jobs that were not dismissed, the latest first.
    pub fn jobs(&self) -> Result<Vec<Job>, ApiError> {
        self.store.jobs()
    }

    /// Starts a scorecard in the background.
    pub fn start_scorecard(self: &Arc<Self>, request: &ScorecardRequest) -> Result<Job, ApiError> {
        let engine = self.engine_options()?;
        self.start_in_background(|| self.scorecard_work(request, &engine))
    }

    /// Starts one benchmark in the background.
    pub fn start_bench(self: &Arc<Self>, request: &BenchRequest) -> Result<Job, ApiError> {
        let engine = self.engine_options()?;
        self.start_in_background(|| self.bench_work(request, engine))
    }

    /// Fetches `cais/mmlu` from the Hugging Face Hub in the background, to use it from then on.
    pub fn fetch_mmlu(self: &Arc<Self>) -> Result<Job, ApiError> {
        self.start_in_background(|| {
            Ok(("MMLU from the Hugging Face Hub".to_owned(), Work::FetchMmlu))
        })
    }

    /// Records a job and does it in the background.
    pub(crate) fn start_in_background(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<(String, Work), ApiError>,
    ) -> Result<Job, ApiError> {
        let (id, work, cancel) = self.record(work)?;
        self.run_in_background(id, work, cancel);
        Ok(self.store.job::<Work>(id)?.job)
    }

    /// Cancels a job, here or in another process; what it has measured is kept, and of a download nothing is.
    pub fn cancel_job(&self, id: u32) -> Result<(), ApiError> {
        self.stop_job(id, Stop::Cancel)?;
        self.discard_left(id)
    }

    /// Pauses a job, here or in another process, until `resume_job`.
    pub fn pause_job(&self, id: u32) -> Result<(), ApiError> {
        let job = self.store.job::<serde_json::Value>(id)?.job;
        if !job.pausable {
            return Err(ApiError::failed(format!(
                "the job {:?} cannot be paused: a measurement of speed or memory that stops must begin anew; cancel it, or let it end",
                job.title
            )));
        }
        self.stop_job(id, Stop::Pause)
    }

    fn stop_job(&self, id: u32, stop: Stop) -> Result<(), ApiError> {
        self.store.request_stop(id, stop)?;
        if let Some(cancel) = self
            .running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
        {
            cancel.set();
        }
        self.changes.tell();
        Ok(())
    }

    /// Goes on with a paused, interrupted, failed or cancelled job where it stopped.
    pub fn resume_job(self: &Arc<Self>, id: u32) -> Result<(), ApiError> {
        let Some((work, cancel)) = self.claim(id)? else {
            let title = self.store.job::<Work>(id)?.job.title;
            return Err(ApiError::new(
                ErrorCode::Busy,
                format!("the job {title:?} is done or at work already; there is nothing to resume"),
            ));
        };
        self.run_in_background(id, work, cancel);
        Ok(())
    }

    /// Makes a job that nobody is at this process's; none if someone is, or if it is done.
    pub(crate) fn claim(&self, id: u32) -> Result<Option<(Work, Cancel)>, ApiError> {
        let work = self.store.job::<Work>(id)?.work;
        let cancel = Cancel::default();
        {
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            if running.contains_key(&id) || !self.store.take_job(id)? {
                return Ok(None);
            }
            running.insert(id, cancel.clone());
        }
        self.changes.tell();
        Ok(Some((work, cancel)))
    }

    /// Takes an ended job off the list.
    pub fn dismiss_job(&self, id: u32) -> Result<(), ApiError> {
        if !self.store.dismiss_job(id)? {
            return Err(ApiError {
                code: ErrorCode::Busy,
                message: "the job is still at work; cancel it first".to_owned(),
                link: None,
            });
        }
        self.changes.tell();
        Ok(())
    }

    /// Calls `on_change` with all jobs now and at each change, also by other processes, at most 20 times a second, from
    /// a thread of its own that ends with this workbench.
    pub fn watch_jobs(&self, on_change: Box<dyn Fn(Vec<Job>) + Send + Sync>) {
        let (store, changes) = (Arc::clone(&self.store), Arc::clone(&self.changes));
        std::thread::spawn(move || watch(&store, &changes, on_change.as_ref()));
    }

    /// Records a job and does it now, in this thread.
    pub(crate) fn run_in_foreground(
        &self,
        work: impl FnOnce() -> Result<(String, Work), ApiError>,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(u32, Product), ApiError> {
        let (id, work, cancel) = self.record(work)?;
        self.run_claimed_in_foreground(id, &work, &cancel, on_progress)
    }

    /// Does a recorded job of this process now, in this thread.
    pub(crate) fn run_claimed_in_foreground(
        &self,
        id: u32,
        work: &Work,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(u32, Product), ApiError> {
        let (_guard, stop) = self.foreground();
        let cancel = cancel.or_when(move || stop.is_set());
        let resumable = work.keeps_what_it_has();
        let product = self.run_job(id, work, &cancel, on_progress);
        // Whoever waited has seen the result; only what can be resumed stays on the list.
        let cancelled = product
            .as_ref()
            .is_err_and(|error| error.code == ErrorCode::Cancelled);
        if !(cancelled && resumable) {
            self.store.dismiss_job(id)?;
            self.changes.tell();
        }
        product.map(|product| (id, product))
    }

    fn record(
        &self,
        work: impl FnOnce() -> Result<(String, Work), ApiError>,
    ) -> Result<(u32, Work, Cancel), ApiError> {
        let (title, work) = work()?;
        let scorecard = match &work {
            Work::Scorecard { scorecard, .. } => Some(*scorecard),
            _ => None,
        };
        let id = self.store.new_job(&NewJob {
            title: &title,
            work: &work,
            scorecard,
            model: work.model(),
            pausable: work.keeps_what_it_has(),
        })?;
        if let Work::Finetune { finetune, .. } = &work {
            self.store.set_finetune_work(*finetune, id, None)?;
        }
        let cancel = Cancel::default();
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, cancel.clone());
        self.changes.tell();
        Ok((id, work, cancel))
    }

    fn run_in_background(self: &Arc<Self>, id: u32, work: Work, cancel: Cancel) {
        let workbench = Arc::clone(self);
        std::thread::spawn(move || {
            // The error is in the store, where every shell reads it.
            let _ = workbench.run_job(id, &work, &cancel, &mut |_| {});
        });
    }

    /// Does a recorded job and records how it ended.
    fn run_job(
        &self,
        id: u32,
        work: &Work,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<Product, ApiError> {
        let store = Arc::clone(&self.store);
        let cancel = cancel.or_when({
            let first = cancel.clone();
            move || first.is_set() || store.asked_to_stop(id).is_ok_and(|asked| asked.is_some())
        });
        let mut written: Option<(Instant, String)> = None;
        let mut tell = |state: JobState, progress: &JobProgress| {
            on_progress(progress);
            let due = written.as_ref().is_none_or(|(at, step)| {
                at.elapsed() >= PROGRESS_INTERVAL || *step != progress.step
            });
            if due {
                written = Some((Instant::now(), progress.step.clone()));
                // A progress that cannot be written now is written the next time.
                if self
                    .store
                    .progress_job(id, state, progress)
                    .unwrap_or(false)
                {
                    cancel.set();
                }
                self.changes.tell();
            }
        };
        let done = catch_unwind(AssertUnwindSafe(|| {
            let _turn = if work.takes_the_machine() {
                let told = &mut |progress: &JobProgress| tell(JobState::Queued, progress);
                Some(self.job_turn(&cancel, told)?)
            } else {
                None
            };
            let _awake = Awake::while_working("a benchmark runs");
            self.do_work(id, work, &cancel, &mut |progress| {
                tell(JobState::Running, progress);
            })
        }));
        let done = done.unwrap_or_else(|_| {
            Err(ApiError::failed("the job ended by a mistake in Billion; what was measured is kept, please report this"))
        });
        let (state, error) = match &done {
            Ok(_) => (JobState::Done, None),
            Err(error) if error.code == ErrorCode::Cancelled => {
                let asked = self.store.asked_to_stop(id).ok().flatten();
                // Ctrl-C ends these for now: what came is kept, and the same command goes on.
                let paused = match work {
                    Work::Download { .. } | Work::TimeLapse { .. } | Work::Finetune { .. } => {
                        asked != Some(Stop::Cancel)
                    }
                    _ => asked == Some(Stop::Pause),
                };
                let state = if paused {
                    JobState::Paused
                } else {
                    JobState::Cancelled
                };
                (state, None)
            }
            Err(error) => (JobState::Failed, Some(error)),
        };
        let finished = self.store.finish_job(id, state, work.ended(state), error);
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        self.changes.tell();
        finished?;
        done
    }

    fn do_work(
        &self,
        id: u32,
        work: &Work,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<Product, ApiError> {
        match work {
            Work::Scorecard {
                request,
                engine,
                scorecard,
                mmlu,
            } => self
                .measure_scorecard(
                    id,
                    *scorecard,
                    request,
                    mmlu.as_deref(),
                    engine,
                    cancel,
                    on_progress,
                )
                .map(|()| Product::Scorecard),
            Work::Mmlu(request) => self
                .measure_mmlu(id, request, cancel, on_progress)
                .map(Box::new)
                .map(Product::Mmlu),
            Work::HumanEval(request) => self
                .measure_humaneval(id, request, cancel, on_progress)
                .map(Box::new)
                .map(Product::HumanEval),
            Work::Speed(request) => self
                .measure_speed(id, request, cancel, on_progress)
                .map(Box::new)
                .map(Product::Speed),
            Work::Memory(request) => self
                .measure_memory(id, request, cancel, on_progress)
                .map(Product::Memory),
            Work::Energy(request) => self
                .measure_energy(id, request, cancel, on_progress)
                .map(Box::new)
                .map(Product::Energy),
            Work::Perplexity(request) => self
                .measure_perplexity(id, request, cancel, on_progress)
                .map(Product::Perplexity),
            Work::Speculate(request) => self
                .measure_speculation(id, request, cancel, on_progress)
                .map(Box::new)
                .map(Product::Speculation),
            Work::FetchMmlu => self
                .fetch_and_use_mmlu(self.hub(), cancel, on_progress)
                .map(|_| Product::Questions),
            Work::Convert(conversion) => self
                .write_converted(conversion, cancel, on_progress)
                .map(Product::Converted),
            Work::Download { reference } => self
                .download(id, reference, cancel, on_progress)
                .map(Product::Model),
            Work::Finetune { finetune, engine } => self
                .do_finetune(id, *finetune, engine, cancel, on_progress)
                .map(|()| Product::Finetuned(*finetune)),
            Work::TimeLapse {
                request,
                engine,
                time_lapse,
                mmlu,
            } => {
                let lapse = Lapse {
                    id: *time_lapse,
                    request,
                    engine,
                    mmlu: mmlu.as_deref(),
                };
                self.measure_time_lapse(id, lapse, cancel, on_progress)
                    .map(|()| Product::TimeLapse(*time_lapse))
            }
        }
    }

    /// One job at a time in this process; the others wait and say so.
    pub(crate) fn job_turn(
        &self,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<std::sync::MutexGuard<'_, ()>, ApiError> {
        let mut told = false;
        loop {
            match self.job_turn.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {
                    if !told {
                        on_progress(&JobProgress {
                            step: "waits until the job before it is done".to_owned(),
                            ..JobProgress::default()
                        });
                        told = true;
                    }
                    cancel.check()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }

    fn scorecard_work(
        &self,
        request: &ScorecardRequest,
        engine: &EngineOptions,
    ) -> Result<(String, Work), ApiError> {
        if request.models.is_empty() {
            return Err(ApiError::failed("choose at least one model to measure"));
        }
        let mut names = Vec::new();
        let mut models: Vec<String> = Vec::new();
        for reference in &request.models {
            let model = self.resolve(reference)?;
            if !models.contains(&model.id) {
                models.push(model.id);
                names.push(model.name);
            }
        }
        let request = ScorecardRequest {
            models,
            size: request.size,
            stop_at_half_width: request.stop_at_half_width,
            mmlu: match &request.mmlu {
                Some(path) => {
                    let path = Path::new(path);
                    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
                    self.mmlu_at(&path)?;
                    Some(path)
                }
                None => self.mmlu_in_use()?.pin,
            }
            .map(|path| path.display().to_string()),
        };
        let mmlu = request.mmlu.clone().map(PathBuf::from);
        let scorecard = self
            .store
            .new_scorecard(&request, engine, &machine::hardware_words())?;
        let title = format!(
            "{} scorecard of {}",
            size_word(request.size),
            names.join(", ")
        );
        Ok((
            title,
            Work::Scorecard {
                request,
                engine: engine.clone(),
                scorecard,
                mmlu,
            },
        ))
    }

    /// As `scorecard_work`, for the foreground.
    pub(crate) fn scorecard_in_foreground(
        &self,
        request: &ScorecardRequest,
        engine: &EngineOptions,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<u32, ApiError> {
        let engine = self.with_settings(engine)?;
        let (id, _) =
            self.run_in_foreground(|| self.scorecard_work(request, &engine), on_progress)?;
        self.store
            .job::<Work>(id)?
            .job
            .scorecard
            .ok_or_else(|| ApiError::failed("the scorecard was deleted while it was made"))
    }
}

/// "Quick".
pub(crate) fn size_word(size: ScorecardSize) -> &'static str {
    match size {
        ScorecardSize::Quick => "Quick",
        ScorecardSize::Standard => "Standard",
        ScorecardSize::Full => "Full",
    }
}

fn watch(store: &Store, changes: &Changes, on_change: &dyn Fn(Vec<Job>)) {
    let mut told: Option<Vec<Job>> = None;
    let mut seen = (0, 0);
    let mut looked: Option<Instant> = None;
    while !changes.closed.load(Ordering::Acquire) {
        // A store that cannot be read now is read the next time.
        let now = (
            changes.generation.load(Ordering::Acquire),
            store.data_version().unwrap_or(seen.1),
        );
        if now != seen || looked.is_none_or(|at| at.elapsed() >= WATCH_OWNERS) {
            seen = now;
            looked = Some(Instant::now());
            if let Ok(jobs) = store.jobs()
                && told.as_ref() != Some(&jobs)
            {
                on_change(jobs.clone());
                told = Some(jobs);
                std::thread::sleep(WATCH_INTERVAL);
            }
        }
        let guard = changes.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.generation.load(Ordering::Acquire) == seen.0 {
            drop(changes.wake.wait_timeout(guard, WATCH_POLL));
        }
    }
}
