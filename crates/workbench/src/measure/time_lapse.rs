//! A checkpoint after the other: fetched, measured, stored, and its weights removed again if they came for this. What is
//! done stays done, so that a time-lapse that was stopped goes on with the checkpoint it stopped at.

use std::path::{Path, PathBuf};
use std::time::Instant;

use billion_hub::{Error as HubError, ModelReference};

use super::scorecard::scorecard_mmlu;
use super::{Bench, Place};
use crate::api::{
    ApiError, ErrorCode, Message, ReplyOptions, Role, ScorecardSize, TimeLapseRequest,
};
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::models::failed;
use crate::progress::Meter;
use crate::requests::{EngineOptions, JobProgress, MmluRequest};
use crate::store::{PointRow, Stop};
use crate::worker::{Ask, Outcome};

/// The text whose perplexity is measured; written for this, so that no training has seen it before it was published.
const TEXT: &str = include_str!("../../texts/varied.txt");
/// Its name, which changes with it.
const TEXT_FILE: &str = "varied-1.txt";
/// Tokens of a continuation.
const CONTINUATION_TOKENS: u32 = 48;

/// Units of a checkpoint, and where its parts begin.
const UNITS: u32 = 100;
const MMLU_FROM: u32 = 40;
const PERPLEXITY_FROM: u32 = 80;
const CONTINUATION_FROM: u32 = 95;

/// What a time-lapse's job holds.
#[derive(Clone, Copy)]
pub(crate) struct Lapse<'a> {
    pub(crate) id: u32,
    pub(crate) request: &'a TimeLapseRequest,
    pub(crate) engine: &'a EngineOptions,
    /// MMLU's questions; none are the starter pack's.
    pub(crate) mmlu: Option<&'a Path>,
}

impl Workbench {
    /// Looks at every checkpoint that is not done. One that the hub does not have, or that cannot be run, leaves its
    /// problem, and the others go on.
    pub(crate) fn measure_time_lapse(
        &self,
        job: u32,
        lapse: Lapse<'_>,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(), ApiError> {
        let steps = &lapse.request.steps;
        let done: Vec<u32> = self
            .store
            .points(lapse.id)?
            .iter()
            .filter(|point| point.done)
            .map(|point| point.step)
            .collect();
        let mut stage = Stage {
            on_progress,
            count: steps.len() as u32,
            number: 0,
            step: 0,
            inherited: done.len() as u32 * UNITS,
            start: Instant::now(),
        };
        for (index, &step) in steps.iter().enumerate() {
            stage.number = index as u32;
            stage.step = step;
            if done.contains(&step) {
                continue;
            }
            let looked = self.look_at(job, lapse, step, cancel, &mut stage);
            if let Err(error) = looked {
                let cancelled = error.code == ErrorCode::Cancelled
                    && self.store.asked_to_stop(job)? == Some(Stop::Cancel);
                if cancelled {
                    self.forget_unfinished(lapse)?;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Removes the weights of checkpoints that were fetched for a time-lapse and not done.
    pub(crate) fn forget_unfinished(&self, lapse: Lapse<'_>) -> Result<(), ApiError> {
        for point in self.store.points(lapse.id)? {
            if point.fetched && !point.done {
                let asked = checkpoint(lapse.request, point.step)?;
                self.forget_weights(&asked)?;
                self.hub().discard(&asked.repo).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn forget_weights(&self, asked: &ModelReference) -> Result<(), ApiError> {
        if self.hub().model_on_this_machine(&asked.repo).is_some() {
            self.remove_model(&asked.id())?;
        }
        Ok(())
    }

    fn look_at(
        &self,
        job: u32,
        lapse: Lapse<'_>,
        step: u32,
        cancel: &Cancel,
        stage: &mut Stage<'_>,
    ) -> Result<(), ApiError> {
        let asked = checkpoint(lapse.request, step)?;
        let here = self.library.resolve(&asked.id()).is_ok();
        let mut point = self.store.begin_point(lapse.id, step, !here)?;
        if !here {
            let fetched = self.transfer(job, &asked, cancel, &mut |progress| {
                stage.tell(0, MMLU_FROM, progress);
            });
            match fetched {
                Ok(model) => {
                    self.converted(model, cancel, &mut |progress| {
                        stage.tell(MMLU_FROM, MMLU_FROM, progress);
                    })?;
                }
                Err(error) if is_missing(&error) => {
                    point.problem = Some(error.to_string());
                }
                Err(_) if cancel.is_set() => return Err(ApiError::cancelled()),
                Err(error) => return Err(failed(error)),
            }
        }
        if point.problem.is_none() {
            point.problem = self.resolve(&asked.id()).err().map(|error| error.message);
        }
        if point.problem.is_none() {
            self.measure_checkpoint(job, lapse, &asked, &mut point, cancel, stage)?;
        }
        if point.fetched {
            self.forget_weights(&asked)?;
        }
        point.done = true;
        self.store.save_point(lapse.id, &point)
    }

    /// What is still to be measured of a checkpoint, kept part by part.
    fn measure_checkpoint(
        &self,
        job: u32,
        lapse: Lapse<'_>,
        asked: &ModelReference,
        point: &mut PointRow,
        cancel: &Cancel,
        stage: &mut Stage<'_>,
    ) -> Result<(), ApiError> {
        let _turn = self.job_turn(cancel, &mut |progress| {
            stage.tell(MMLU_FROM, MMLU_FROM, progress);
        })?;
        let place = Place {
            job,
            scorecard: None,
        };
        let id = asked.id();
        let mut heard = |progress: &JobProgress| stage.tell(MMLU_FROM, PERPLEXITY_FROM, progress);
        let mut meter = Meter::new(0, &mut heard);
        let _lease = self.lease.shared(cancel, &mut |why| meter.tell(why, 0))?;
        let mut bench = self.bench(&id, lapse.engine, cancel, &mut meter)?;
        if point.mmlu.is_none() {
            let request = MmluRequest {
                data: lapse.mmlu.map(Path::to_owned),
                ..scorecard_mmlu(&id, ScorecardSize::Quick, lapse.engine)
            };
            let asked = self.mmlu(&mut bench, place, &request, cancel, &mut meter)?;
            point.mmlu = Some(asked.report.run);
            self.store.save_point(lapse.id, point)?;
        }
        if point.perplexity.is_none() {
            let mut heard =
                |progress: &JobProgress| stage.tell(PERPLEXITY_FROM, CONTINUATION_FROM, progress);
            let mut meter = Meter::new(0, &mut heard);
            let text = self.own_text()?;
            let report = self.perplexity_of(&mut bench, place, text, None, cancel, &mut meter)?;
            point.perplexity = Some(report.run);
            self.store.save_point(lapse.id, point)?;
        }
        stage.tell(
            CONTINUATION_FROM,
            UNITS,
            &JobProgress {
                step: "continues the prompt".to_owned(),
                ..JobProgress::default()
            },
        );
        point.continuation = Some(continuation(&mut bench, &lapse.request.prompt, cancel)?);
        self.store.save_point(lapse.id, point)
    }

    /// Billion's own text as a file.
    fn own_text(&self) -> Result<PathBuf, ApiError> {
        let folder = self.cache_dir().join("texts");
        let file = folder.join(TEXT_FILE);
        if std::fs::read_to_string(&file).is_ok_and(|text| text == TEXT) {
            return Ok(file);
        }
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&file, TEXT))
            .map_err(|error| {
                ApiError::failed(format!("cannot write {}: {error}", file.display()))
            })?;
        Ok(file)
    }
}

fn checkpoint(request: &TimeLapseRequest, step: u32) -> Result<ModelReference, ApiError> {
    ModelReference::parse(&format!("{}@step{step}", request.model)).map_err(failed)
}

/// The hub has no such checkpoint, or none that can be used: trying again changes nothing.
fn is_missing(error: &HubError) -> bool {
    matches!(
        error,
        HubError::NoRepository { .. }
            | HubError::NoRevision { .. }
            | HubError::NoFile { .. }
            | HubError::Unsuitable { .. }
            | HubError::Kind { .. }
            | HubError::WrongBytes { .. }
    )
}

/// The likeliest continuation of a prompt.
fn continuation(bench: &mut Bench, prompt: &str, cancel: &Cancel) -> Result<String, ApiError> {
    let ask = Ask::Generate {
        session: 0,
        messages: vec![Message {
            role: Role::User,
            content: prompt.to_owned(),
        }],
        options: ReplyOptions {
            max_tokens: CONTINUATION_TOKENS,
            ..ReplyOptions::default()
        },
    };
    let outcome = bench.worker.request(ask, cancel, &mut |_| {})?;
    // A cancelled reply is an outcome like any other.
    cancel.check()?;
    match outcome {
        Outcome::Generated(generated) => Ok(generated.text),
        other => Err(unexpected(&other)),
    }
}

/// The checkpoint at work, and how far the whole is.
struct Stage<'a> {
    on_progress: &'a mut dyn FnMut(&JobProgress),
    /// Checkpoints in all.
    count: u32,
    /// From 0.
    number: u32,
    /// Its step.
    step: u32,
    /// Units that earlier sessions did.
    inherited: u32,
    start: Instant,
}

impl Stage<'_> {
    /// A part of the checkpoint, between two of its units, is as far as `part` says.
    fn tell(&mut self, from: u32, to: u32, part: &JobProgress) {
        let share = match part.total {
            0 => 0.0,
            total => f64::from(part.done.min(total)) / f64::from(total),
        };
        let done = self.number * UNITS + from + (f64::from(to - from) * share) as u32;
        let total = self.count * UNITS;
        let own = f64::from(done.saturating_sub(self.inherited));
        // The first checkpoint says little about the others before it is nearly done.
        let eta_s = (own >= f64::from(UNITS / 2)).then(|| {
            self.start.elapsed().as_secs_f64() / own * f64::from(total.saturating_sub(done))
        });
        (self.on_progress)(&JobProgress {
            step: format!(
                "step {} ({} of {}): {}",
                self.step,
                self.number + 1,
                self.count,
                part.step
            ),
            done,
            total,
            eta_s,
            rate: part.rate.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_long_and_plain() {
        let words = TEXT.split_whitespace().count();
        assert!((2800..3600).contains(&words), "{words}");
        assert!(!TEXT.contains('\r') && TEXT.ends_with('\n'));
    }

    #[test]
    fn parts_of_checkpoints_add_up() {
        let mut heard = Vec::new();
        let mut record = |progress: &JobProgress| heard.push(progress.clone());
        let mut stage = Stage {
            on_progress: &mut record,
            count: 4,
            number: 1,
            step: 1000,
            inherited: UNITS,
            start: Instant::now(),
        };
        let part = |done, total| JobProgress {
            step: "MMLU".to_owned(),
            done,
            total,
            ..JobProgress::default()
        };
        stage.tell(MMLU_FROM, PERPLEXITY_FROM, &part(0, 0));
        stage.tell(MMLU_FROM, PERPLEXITY_FROM, &part(50, 100));
        stage.tell(PERPLEXITY_FROM, CONTINUATION_FROM, &part(9, 9));
        let done: Vec<u32> = heard.iter().map(|progress| progress.done).collect();
        assert_eq!(done, [140, 160, 195]);
        assert_eq!(heard[0].step, "step 1000 (2 of 4): MMLU");
        assert!(heard[0].eta_s.is_none() && heard[2].eta_s.is_some());
    }
}
