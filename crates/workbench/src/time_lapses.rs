//! Time-lapses: a model looked at over its training, started, listed and drawn from the store. Each checkpoint's work is
//! `measure::time_lapse`.

use std::sync::Arc;

use billion_hub::{self as hub, ModelReference};

use crate::api::{
    ApiError, Figure, Job, TimeLapse, TimeLapseHead, TimeLapsePoint, TimeLapseRequest,
};
use crate::charts::time_lapse_charts;
use crate::facade::Workbench;
use crate::jobs::{Product, Work};
use crate::models::failed;
use crate::reports::{MmluReport, PerplexityReport};
use crate::requests::{EngineOptions, JobProgress};
use crate::scorecards::report_of;
use crate::store::{PointRow, RunRow};
use crate::words::{counted, grouped};

/// Tokens of a step of Pythia's training: 1,024 sequences of 2,048 (S. Biderman et al. 2023).
const TOKENS_A_STEP: u64 = 2_097_152;
/// Longest prompt in characters.
const PROMPT_CHARS: usize = 2000;

impl Workbench {
    /// Steps of a model's training whose checkpoints can be had, in order; none of other models.
    pub fn checkpoints(&self, model: &str) -> Result<Vec<u32>, ApiError> {
        let asked = ModelReference::parse(model).map_err(failed)?;
        let revisions = asked
            .known()
            .map(|known| hub::checkpoints(known.id))
            .unwrap_or_default();
        Ok(revisions
            .iter()
            .filter_map(|revision| hub::checkpoint_step(revision))
            .collect())
    }

    /// Starts a time-lapse in the background.
    pub fn start_time_lapse(self: &Arc<Self>, request: &TimeLapseRequest) -> Result<Job, ApiError> {
        let engine = self.engine_options()?;
        self.start_in_background(|| self.time_lapse_work(request, &engine))
    }

    /// Makes a time-lapse and returns when it is done; one that was asked for alike and stopped goes on.
    pub fn run_time_lapse(
        &self,
        request: &TimeLapseRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<TimeLapse, ApiError> {
        let engine = self.engine_options()?;
        let request = self.checked(request)?;
        for job in self.store.open_jobs("time_lapse")? {
            let work = self.store.job::<Work>(job)?.work;
            let same = matches!(&work, Work::TimeLapse { request: other, .. } if *other == request);
            if same && let Some((work, cancel)) = self.claim(job)? {
                let done = self.run_claimed_in_foreground(job, &work, &cancel, on_progress)?;
                return self.time_lapse_of(&done.1);
            }
        }
        let work = || self.time_lapse_work(&request, &engine);
        let done = self.run_in_foreground(work, on_progress)?;
        self.time_lapse_of(&done.1)
    }

    fn time_lapse_of(&self, product: &Product) -> Result<TimeLapse, ApiError> {
        match product {
            Product::TimeLapse(id) => self.time_lapse(*id),
            _ => Err(ApiError::failed(
                "the job gave another result than was asked for; please report this",
            )),
        }
    }

    /// All time-lapses, the latest first.
    pub fn time_lapses(&self) -> Result<Vec<TimeLapseHead>, ApiError> {
        let all = self.store.time_lapses()?;
        Ok(all.into_iter().map(|stored| stored.head).collect())
    }

    /// A time-lapse with what there is of it so far.
    pub fn time_lapse(&self, id: u32) -> Result<TimeLapse, ApiError> {
        let stored = self.store.time_lapse(id)?;
        let points = self
            .store
            .points(id)?
            .into_iter()
            .filter(|point| point.done || point.mmlu.is_some())
            .map(|point| self.point(point))
            .collect::<Result<Vec<_>, _>>()?;
        let name = ModelReference::parse(&stored.head.model)
            .map_or_else(|_| stored.head.model.clone(), |asked| asked.name());
        Ok(TimeLapse {
            charts: time_lapse_charts(&stored.head.model, &name, &points),
            prompt: stored.prompt,
            head: stored.head,
            points,
        })
    }

    fn point(&self, point: PointRow) -> Result<TimeLapsePoint, ApiError> {
        let run = |id: Option<u32>| id.map(|id| self.store.run(id)).transpose();
        Ok(TimeLapsePoint {
            step: point.step,
            training_tokens: u64::from(point.step) * TOKENS_A_STEP,
            mmlu: run(point.mmlu)?.map(|run| mmlu(&run)).transpose()?,
            perplexity: run(point.perplexity)?
                .map(|run| perplexity(&run))
                .transpose()?,
            continuation: point.continuation,
            problem: point.problem,
        })
    }

    /// Says what of a request makes no sense, and brings the rest into order.
    fn checked(&self, request: &TimeLapseRequest) -> Result<TimeLapseRequest, ApiError> {
        let asked = ModelReference::parse(&request.model).map_err(failed)?;
        let known = asked.known().filter(|known| known.checkpoints);
        let Some(known) = known else {
            return Err(ApiError::failed(format!(
                "{} has no public checkpoints of its training; Pythia's models have",
                asked.name()
            )));
        };
        let there = self.checkpoints(known.id)?;
        if let Some(step) = request.steps.iter().find(|step| !there.contains(step)) {
            return Err(ApiError::failed(format!(
                "{} has no checkpoint of step {step}: there are 0, 1, 2, 4, … 512, then every 1000 to 143000",
                known.name
            )));
        }
        let mut steps = request.steps.clone();
        steps.sort_unstable();
        steps.dedup();
        if steps.is_empty() {
            return Err(ApiError::failed("choose at least one step to look at"));
        }
        let prompt = request.prompt.trim_end().to_owned();
        if prompt.is_empty() || prompt.chars().count() > PROMPT_CHARS {
            return Err(ApiError::failed(format!(
                "the prompt that each checkpoint continues needs 1 to {} characters",
                grouped(PROMPT_CHARS as u64)
            )));
        }
        Ok(TimeLapseRequest {
            model: known.id.to_owned(),
            steps,
            prompt,
        })
    }

    fn time_lapse_work(
        &self,
        request: &TimeLapseRequest,
        engine: &EngineOptions,
    ) -> Result<(String, Work), ApiError> {
        let request = self.checked(request)?;
        let name = ModelReference::parse(&request.model)
            .map_or_else(|_| request.model.clone(), |asked| asked.name());
        let title = format!(
            "Time-lapse of {name}, {}",
            counted(request.steps.len() as u64, "checkpoint")
        );
        let mmlu = self.mmlu_in_use()?.pin;
        let time_lapse = self.store.new_time_lapse(&request)?;
        let work = Work::TimeLapse {
            request,
            engine: engine.clone(),
            time_lapse,
            mmlu,
        };
        Ok((title, work))
    }
}

fn mmlu(run: &RunRow) -> Result<Figure, ApiError> {
    let report: MmluReport = report_of(run)?;
    Ok(Figure {
        value: report.accuracy,
        lo: Some(report.ci95[0]),
        hi: Some(report.ci95[1]),
        unit: "accuracy".to_owned(),
        how: format!(
            "{} MMLU questions, {}-shot, with the 95 % interval",
            report.total, report.shots
        ),
        run: Some(run.id),
    })
}

fn perplexity(run: &RunRow) -> Result<Figure, ApiError> {
    let report: PerplexityReport = report_of(run)?;
    Ok(Figure {
        value: report.perplexity,
        lo: None,
        hi: None,
        unit: "perplexity".to_owned(),
        how: format!(
            "over {} tokens of Billion's own text, in windows of {}",
            grouped(report.tokens),
            grouped(u64::from(report.ctx))
        ),
        run: Some(run.id),
    })
}
