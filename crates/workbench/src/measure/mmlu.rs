//! MMLU: answers are stored as they come, so that an interrupted run goes on where it stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use billion_eval::tasks::mmlu;
use serde::Serialize;
use serde_json::json;

use super::samples::{check_writable, write_samples};
use super::scorecard::scorecard_mmlu;
use super::{Bench, Details, Place, absolute, shell};
use crate::api::{ApiError, ScorecardSize};
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::mmlu_sources::thousands;
use crate::progress::Meter;
use crate::reports::{MmluPart, MmluReport, StoppedEarly};
use crate::requests::{EngineOptions, JobProgress, MmluRequest};
use crate::store::NewRun;
use crate::worker::{Ask, Event, MmluAsk, Outcome};

/// Version of the task; raised when a change makes results incomparable.
const MMLU_VERSION: &str = "mmlu 1 (prompts of lm-evaluation-harness 0.4.13)";

impl Workbench {
    /// The questions of a run that is recorded now: those given, or else those in use; none are the starter pack's.
    pub(super) fn mmlu_pin(&self, given: Option<&Path>) -> Result<Option<PathBuf>, ApiError> {
        match given {
            Some(path) => Ok(Some(absolute(path))),
            None => Ok(self.mmlu_in_use()?.pin),
        }
    }

    pub(crate) fn measure_mmlu(
        &self,
        job: u32,
        request: &MmluRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MmluReport, ApiError> {
        if let Some(path) = &request.samples {
            check_writable(path)?;
        }
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
        .map(|asked| asked.report)
    }

    /// The run that a request makes, and where its questions are.
    fn mmlu_run(
        &self,
        bench: &Bench,
        place: Place,
        request: &MmluRequest,
    ) -> Result<(NewRun, PathBuf), ApiError> {
        let data = match &request.data {
            Some(folder) => folder.clone(),
            None => self.starter_mmlu()?,
        };
        let location =
            mmlu::Location::find(&data).map_err(|error| ApiError::failed(error.to_string()))?;
        let mut settings = json!({
            "data": data,
            "data_sha256": self.hash_of(location.files())?,
            "shots": request.shots,
            "limit": request.limit,
            "subjects": request.subjects,
        });
        if let (Some(width), Some(map)) = (request.stop_at_half_width, settings.as_object_mut()) {
            map.insert("stop_at_half_width".to_owned(), json!(width));
        }
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
        Ok((run, data))
    }

    /// MMLU Standard for the report card of a fine-tuning; gives its run. With `reuse`, a finished run of the same counts.
    pub(crate) fn mmlu_standard(
        &self,
        job: u32,
        model: &str,
        reuse: bool,
        engine: &EngineOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<u32, ApiError> {
        let mut meter = Meter::new(0, on_progress);
        let mut bench = self.bench(model, engine, cancel, &mut meter)?;
        let place = Place {
            job,
            scorecard: None,
        };
        let request = MmluRequest {
            data: self.mmlu_pin(None)?,
            ..scorecard_mmlu(model, ScorecardSize::Standard, engine)
        };
        if reuse {
            let (run, _) = self.mmlu_run(&bench, place, &request)?;
            if let Some(done) = self.store.finished_run(&run)? {
                return Ok(done);
            }
        }
        self.mmlu(&mut bench, place, &request, cancel, &mut meter)
            .map(|asked| asked.report.run)
    }

    pub(super) fn mmlu(
        &self,
        bench: &mut Bench,
        place: Place,
        request: &MmluRequest,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<Asked, ApiError> {
        let (run, data) = self.mmlu_run(bench, place, request)?;
        // An interrupted run of this job goes on if nothing that fixes its result has changed.
        let open = self.store.open_run(place.job, &run)?;
        let id = match open {
            Some(id) => id,
            None => self.store.begin_run(&run)?,
        };
        let answered = self.store.samples(id)?;
        let earlier = answered.len();
        meter.inherit(earlier as u32);
        meter.count("questions");
        let ask = MmluAsk {
            data,
            shots: request.shots,
            limit: request.limit,
            subjects: request.subjects.clone(),
            stop_at_half_width: request.stop_at_half_width,
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
                _ => return,
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
            request,
            (spent.spent_s, spent.spent_tokens),
        );
        self.store.finish_run(id, report.shots, &report)?;
        if let Some(path) = &request.samples {
            let samples = self.store.samples(id)?;
            write_samples(path, samples.iter().map(SampleLine::of))?;
        }
        Ok(Asked { report, earlier })
    }
}

/// A finished run, and how many of its answers an earlier session had given.
pub(super) struct Asked {
    pub(super) report: MmluReport,
    pub(super) earlier: usize,
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
    if let Some(width) = request.stop_at_half_width {
        add(format!("--stop-at {}", 100.0 * width));
    }
    if let Some(data) = &request.data {
        add(format!("--data {}", shell(data)));
    }
    options.trim_start().to_owned()
}

fn mmlu_report(
    run: u32,
    model: &str,
    found: &mmlu::Outcome,
    request: &MmluRequest,
    (seconds, tokens): (f64, u64),
) -> MmluReport {
    let shots = found.shots as u32;
    let part = |score: &mmlu::Score, shots| MmluPart {
        accuracy: score.accuracy,
        correct: score.correct as u32,
        total: score.total as u32,
        stderr: score.stderr,
        shots,
    };
    MmluReport {
        run,
        model: model.to_owned(),
        accuracy: found.accuracy,
        correct: found.correct as u32,
        total: found.total as u32,
        stderr: found.stderr,
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
        stopped_early: found.stopped_early.map(|stopped| StoppedEarly {
            after: stopped.after as u32,
            of: stopped.of as u32,
            stop_at_half_width: stopped.stop_at_half_width,
            seed: stopped.seed,
        }),
        notes: notes(found, request),
    }
}

/// What a reader must know to compare the figure with another.
fn notes(found: &mmlu::Outcome, request: &MmluRequest) -> Vec<String> {
    let mut notes = Vec::new();
    if found.shots == 0 && request.shots != Some(0) {
        notes.push(
            "asked without solved examples (0-shot): these questions have no dev split".to_owned(),
        );
    } else {
        let few = found
            .fewer_shots
            .iter()
            .map(|(subject, shots)| format!("{} ({shots})", subject.replace('_', " ")))
            .collect::<Vec<_>>();
        if !few.is_empty() {
            notes.push(format!(
                "fewer than {} solved examples, as the dev split has no more: {}",
                found.shots,
                few.join(", ")
            ));
        }
    }
    if found.truncated > 0 {
        notes.push(format!(
            "{} prompts did not fit the context and were cut at their left",
            thousands(found.truncated)
        ));
    }
    if let Some(stopped) = &found.stopped_early {
        notes.push(format!(
            "stopped early after {} of {} questions, drawn from all subjects by seed {}: the 95 % interval was within {:.1} points to each side as asked",
            thousands(stopped.after),
            thousands(stopped.of),
            stopped.seed,
            100.0 * stopped.stop_at_half_width
        ));
    }
    notes
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

impl<'a> SampleLine<'a> {
    fn of(sample: &'a mmlu::Sample) -> Self {
        Self {
            subject: &sample.subject,
            index: sample.index,
            ll: sample.ll,
            pred: sample.pred,
            gold: sample.gold,
        }
    }
}
