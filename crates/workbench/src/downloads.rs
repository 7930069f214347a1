//! Downloads of models as jobs: planned, started once a model, paused, gone on with after a quit, cancelled to nothing.
//!
//! It owns what a download is to the shells; transfer, verification and the cache are `billion-hub`'s.

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use billion_hub::{Control, Error, Event, HubModel, ModelReference, STARTER_ID};

use crate::api::{
    ApiError, DownloadPlan, ErrorCode, Job, JobState, ModelEntry, PlannedDownload, Rate,
};
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::jobs::{Product, Work};
use crate::machine::bytes_words;
use crate::measure::Lapse;
use crate::models::{ARTICLE, failed};
use crate::requests::JobProgress;
use crate::store::{JobRow, Stop};
use crate::worker::{Ask, Event as WorkerEvent, Outcome, Worker};

/// How often a download asks whether it should stop.
const STOP_POLL: Duration = Duration::from_millis(100);
/// How often someone who waits for another process's download looks at it.
const FOLLOW_POLL: Duration = Duration::from_millis(200);
/// A unit of a download's progress in bytes: `Job::done` holds up to 4.3 TB of them.
const UNIT_BYTES: u64 = 1000;

impl Workbench {
    /// What downloads of these models would take: sizes by the hub, or estimated where it cannot be asked.
    pub fn plan_downloads(&self, references: &[String]) -> Result<DownloadPlan, ApiError> {
        let hub = self.hub();
        let mut plan = DownloadPlan {
            models: Vec::with_capacity(references.len()),
            bytes: 0,
            estimated: false,
            free_disk_bytes: hub.free_cache_bytes().unwrap_or(0),
            folder: hub.settings().cache.display().to_string(),
        };
        for reference in references {
            let planned = self.planned(reference, &mut plan.estimated)?;
            if plan.models.iter().all(|other| other.id != planned.id) {
                plan.bytes += planned.bytes;
                plan.models.push(planned);
            }
        }
        Ok(plan)
    }

    fn planned(&self, reference: &str, estimated: &mut bool) -> Result<PlannedDownload, ApiError> {
        if let Ok(model) = self.library.resolve(reference) {
            let name = ModelReference::parse(&model.id)
                .map_or_else(|_| model.id.clone(), |asked| asked.name());
            return Ok(PlannedDownload {
                id: model.id,
                name,
                bytes: 0,
                installed: true,
                gated: false,
            });
        }
        let asked = ModelReference::parse(reference).map_err(failed)?;
        let published = asked.published();
        let planned = PlannedDownload {
            id: asked.id(),
            name: asked.name(),
            bytes: 0,
            installed: false,
            gated: asked.known().is_some_and(|known| known.gated),
        };
        if asked.quant.is_some() && self.library.resolve(&published.id()).is_ok() {
            return Ok(planned);
        }
        match self.hub().plan(&published.repo, &Control::new()) {
            Ok(plan) => Ok(PlannedDownload {
                // The one GGUF file of a repository is part of the model's id.
                id: match asked.quant {
                    Some(_) => planned.id,
                    None => plan.id,
                },
                bytes: plan.bytes_to_fetch,
                gated: plan.gated,
                ..planned
            }),
            Err(error) => match asked.known() {
                Some(known) => {
                    *estimated = true;
                    Ok(PlannedDownload {
                        bytes: known.about_bytes(),
                        ..planned
                    })
                }
                None => Err(failed(error)),
            },
        }
    }

    /// Starts the download of a model, or goes on with the one that there is: the same model twice is one job. `M:QUANT`
    /// fetches the publisher's weights and quantizes them.
    pub fn start_download(self: &Arc<Self>, reference: &str) -> Result<Job, ApiError> {
        let asked = downloadable(reference)?;
        let _one = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = self.store.open_download(&asked.id())? {
            let state = self.store.job::<Work>(id)?.job.state;
            if !matches!(state, JobState::Queued | JobState::Running) {
                self.resume_job(id)?;
            }
            return Ok(self.store.job::<Work>(id)?.job);
        }
        self.start_in_background(|| Ok(download_work(&asked)))
    }

    /// Starts the downloads of the article's four models that are not on this machine.
    pub fn start_contenders(self: &Arc<Self>) -> Result<Vec<Job>, ApiError> {
        ARTICLE
            .iter()
            .filter(|id| self.library.resolve(id).is_err())
            .map(|id| self.start_download(id))
            .collect()
    }

    /// Goes on with the downloads whose program ended in the middle. Those that the person paused stay paused.
    pub fn continue_downloads(self: &Arc<Self>) -> Result<(), ApiError> {
        for job in self.store.jobs()? {
            let interrupted = job.state == JobState::Interrupted;
            if interrupted && matches!(self.store.job(job.id)?.work, Work::Download { .. }) {
                self.resume_job(job.id)?;
            }
        }
        Ok(())
    }

    /// Fetches a model now, in this thread, and gives it; a download of it that another program is at is waited for.
    pub fn pull_model(
        &self,
        reference: &str,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<ModelEntry, ApiError> {
        if self.library.resolve(reference).is_ok() {
            return self.model_entry(reference);
        }
        let asked = downloadable(reference)?;
        let mut last = JobProgress::default();
        let mut tell = |progress: &JobProgress| {
            if progress.total > 0 {
                last = progress.clone();
            }
            on_progress(progress);
        };
        let pulled = self.pull(&asked, &mut tell);
        match pulled {
            Ok(id) => self.model_entry(&id),
            Err(error) if error.code == ErrorCode::Cancelled => {
                let kept = match last.total {
                    0 => "what came".to_owned(),
                    _ => units_words(&last),
                };
                Err(ApiError::new(
                    ErrorCode::Cancelled,
                    format!(
                        "stopped; {kept} is kept, and this goes on from there: billion models pull {}",
                        asked.id()
                    ),
                ))
            }
            Err(error) => Err(error),
        }
    }

    fn pull(
        &self,
        asked: &ModelReference,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<String, ApiError> {
        loop {
            let done = if let Some(id) = self.store.open_download(&asked.id())? {
                let Some((work, cancel)) = self.claim(id)? else {
                    self.follow(id, on_progress)?;
                    if let Ok(model) = self.library.resolve(&asked.id()) {
                        return Ok(model.id);
                    }
                    // Whoever was at it has stopped or failed: it is this program's now.
                    continue;
                };
                self.run_claimed_in_foreground(id, &work, &cancel, on_progress)?
            } else {
                self.run_in_foreground(|| Ok(download_work(asked)), on_progress)?
            };
            return match done.1 {
                Product::Model(id) => Ok(id),
                _ => Err(ApiError::failed(
                    "the job gave another result than was asked for; please report this",
                )),
            };
        }
    }

    /// Watches a job of another program until it ends.
    fn follow(&self, id: u32, on_progress: &mut dyn FnMut(&JobProgress)) -> Result<(), ApiError> {
        let (_guard, stop) = self.foreground();
        loop {
            let job = self.store.job::<Work>(id)?.job;
            if !matches!(job.state, JobState::Queued | JobState::Running) {
                return Ok(());
            }
            on_progress(&JobProgress {
                step: format!("{} (another program is at it)", job.step),
                done: job.done,
                total: job.total,
                eta_s: job.eta_s,
                rate: job.rate,
            });
            stop.check()?;
            std::thread::sleep(FOLLOW_POLL);
            // A program that was killed says nothing: its jobs become interrupted when they are listed.
            self.store.jobs()?;
        }
    }

    /// Does the work of a download: gives the model's id once it can be used.
    pub(crate) fn download(
        &self,
        job: u32,
        reference: &str,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<String, ApiError> {
        let asked = downloadable(reference)?;
        let published = asked.published();
        let id = match self.library.resolve(&published.id()) {
            Ok(here) => here.id,
            Err(_) => self.fetch_model(job, &published, cancel, on_progress)?.id,
        };
        on_progress(&JobProgress {
            step: "opens the model".to_owned(),
            ..JobProgress::default()
        });
        let model = self.resolve(&id).map_err(|error| ApiError {
            message: format!(
                "{} was fetched whole, but cannot be used: {}; remove it with: billion models rm {id}",
                published.name(),
                error.message
            ),
            ..error
        })?;
        match asked.quant {
            None => Ok(model.id),
            Some(quant) => {
                let _turn = self.job_turn(cancel, on_progress)?;
                self.quantize_into_library(&model.id, quant, cancel, on_progress)
            }
        }
    }

    /// Fetches a model as its publisher gives it. A pause, and the end of the program, keep what came; a cancel removes it.
    pub(crate) fn fetch_model(
        &self,
        job: u32,
        asked: &ModelReference,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<HubModel, ApiError> {
        cancel.check()?;
        let fetched = self.transfer(job, asked, cancel, on_progress);
        let model = fetched.map_err(|error| {
            if cancel.is_set() && matches!(error, Error::Cancelled | Error::Stopped { .. }) {
                ApiError::cancelled()
            } else {
                failed(error)
            }
        })?;
        self.converted(model, cancel, on_progress)
    }

    /// The model as it can be opened: a worker writes safetensors for a checkpoint that came as PyTorch's pickle, which is
    /// removed then.
    pub(crate) fn converted(
        &self,
        model: HubModel,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<HubModel, ApiError> {
        if !model.needs_conversion {
            return Ok(model);
        }
        let mut worker = Worker::spawn(&self.engine)?;
        let ask = Ask::ConvertCheckpoint {
            folder: model.path.clone(),
        };
        let outcome = worker.request(ask, cancel, &mut |event| {
            if let WorkerEvent::Progress { step, done, total } = event {
                on_progress(&JobProgress {
                    step,
                    done,
                    total,
                    ..JobProgress::default()
                });
            }
        })?;
        match outcome {
            Outcome::CheckpointConverted => self.hub().converted(&model).map_err(failed),
            other => Err(unexpected(&other)),
        }
    }

    /// The same with the hub's own error.
    pub(crate) fn transfer(
        &self,
        job: u32,
        asked: &ModelReference,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<HubModel, Error> {
        let hub = self.hub();
        let mut progress = JobProgress {
            step: "asks the hub".to_owned(),
            ..JobProgress::default()
        };
        on_progress(&progress);
        self.steered(job, cancel, |control| {
            let plan = hub.plan(&asked.repo, control)?;
            hub.download(&plan, control, &mut |event| {
                tell(&mut progress, event);
                on_progress(&progress);
            })
        })
    }

    /// Runs a transfer that `cancel` stops: for good if the person cancelled the job, else keeping what came.
    fn steered<T>(&self, job: u32, cancel: &Cancel, work: impl FnOnce(&Control) -> T) -> T {
        let control = Control::new();
        let (done, ended) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let steer = control.clone();
            scope.spawn(move || {
                // Ends when the other end is dropped.
                while ended.recv_timeout(STOP_POLL) == Err(RecvTimeoutError::Timeout) {
                    if !cancel.is_set() {
                        continue;
                    }
                    if self.store.asked_to_stop(job).ok().flatten() == Some(Stop::Cancel) {
                        steer.cancel();
                    } else {
                        steer.stop();
                    }
                }
            });
            let outcome = work(&control);
            drop(done);
            outcome
        })
    }

    /// Removes what a cancelled job that nobody is at has left: parts of a download, and weights that came for a time-lapse.
    pub(crate) fn discard_left(&self, id: u32) -> Result<(), ApiError> {
        let JobRow { job, work } = self.store.job::<Work>(id)?;
        let at_work = matches!(job.state, JobState::Queued | JobState::Running);
        if at_work || job.state == JobState::Done {
            return Ok(());
        }
        match &work {
            Work::Download { reference } => {
                let asked = ModelReference::parse(reference).map_err(failed)?;
                self.hub().discard(&asked.repo).map_err(failed)?;
            }
            Work::TimeLapse {
                request,
                engine,
                time_lapse,
                mmlu,
            } => self.forget_unfinished(Lapse {
                id: *time_lapse,
                request,
                engine,
                mmlu: mmlu.as_deref(),
            })?,
            _ => return Ok(()),
        }
        let words = work.ended(JobState::Cancelled);
        self.store
            .finish_job(id, JobState::Cancelled, words, None)?;
        self.changes.tell();
        Ok(())
    }
}

/// A reference to something that can be fetched.
fn downloadable(reference: &str) -> Result<ModelReference, ApiError> {
    if reference == STARTER_ID {
        return Err(ApiError::failed(
            "the starter model ships with Billion; where it is missing, run ./run --setup in the checkout",
        ));
    }
    ModelReference::parse(reference).map_err(failed)
}

fn download_work(asked: &ModelReference) -> (String, Work) {
    let title = match asked.quant {
        None => format!("Download of {}", asked.name()),
        Some(quant) => format!(
            "Download of {}, quantized to {}",
            asked.published().name(),
            quant.name()
        ),
    };
    let work = Work::Download {
        reference: asked.id(),
    };
    (title, work)
}

/// "512 MB of 2.2 GB".
fn units_words(progress: &JobProgress) -> String {
    let bytes = |units: u32| bytes_words(u64::from(units) * UNIT_BYTES);
    format!("{} of {}", bytes(progress.done), bytes(progress.total))
}

/// What an event of a download changes about its progress; units are thousands of bytes, and the step says them in words.
pub(crate) fn tell(progress: &mut JobProgress, event: Event) {
    progress.rate = None;
    let units = |bytes: u64| u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
    match event {
        Event::Progress(now) => {
            progress.step = format!(
                "{} of {}",
                bytes_words(now.done_bytes),
                bytes_words(now.total_bytes)
            );
            progress.done = units(now.done_bytes);
            progress.total = units(now.total_bytes);
            progress.eta_s = now.left.map(|left| left.as_secs_f64());
            progress.rate = (now.bytes_per_s > 0.0).then(|| Rate {
                per_s: now.bytes_per_s,
                unit: "bytes".to_owned(),
            });
        }
        Event::Waiting { reason } => progress.step = format!("waits: {reason}"),
        Event::Verifying { file } => progress.step = format!("checks {file}"),
        Event::Verified { file } => progress.step = format!("{file} is whole"),
        Event::Paused | Event::Resumed => {}
    }
}

#[cfg(test)]
mod tests {
    use billion_hub::Progress;

    use super::*;

    #[test]
    fn progress_says_bytes_in_words_and_fits_terabytes() {
        let mut progress = JobProgress::default();
        let at = |done_bytes, total_bytes| {
            Event::Progress(Progress {
                file: "model.safetensors".to_owned(),
                file_number: 3,
                files: 4,
                file_done_bytes: 0,
                file_bytes: 0,
                done_bytes,
                total_bytes,
                bytes_per_s: 12.5e6,
                left: Some(Duration::from_secs(90)),
            })
        };
        tell(&mut progress, at(512_000_000, 2_200_000_000));
        assert_eq!(progress.step, "512 MB of 2.2 GB");
        assert_eq!((progress.done, progress.total), (512_000, 2_200_000));
        assert_eq!(progress.rate.as_ref().unwrap().per_s, 12.5e6);
        assert_eq!(units_words(&progress), "512 MB of 2.2 GB");
        tell(&mut progress, at(10, 4_000_000_000_000));
        assert_eq!((progress.done, progress.total), (1, 4_000_000_000));
    }

    #[test]
    fn the_starter_is_not_downloaded() {
        assert!(downloadable("starter").is_err());
        let asked = downloadable("tinyllama:q4_0").unwrap();
        let (title, work) = download_work(&asked);
        assert_eq!(
            title,
            "Download of TinyLlama 1.1B Chat v1.0, quantized to Q4_0"
        );
        let Work::Download { reference } = work else {
            panic!("{work:?}")
        };
        assert_eq!(reference, "tinyllama-1.1b-chat:q4_0");
    }
}
