//! HumanEval: what the model writes is stored as it comes and run afterwards in a worker that holds no model, so that an
//! interrupted run goes on where it stopped, and so that what models wrote never shares a process with anything else.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Instant;

use billion_eval::stats::{Stratum, clustered_wilson95, pass_at_k};
use billion_eval::tasks::humaneval::{self, Problem, RETURN_NONE, read_problems};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::samples::{check_writable, write_samples};
use super::{Bench, Details, Place};
use crate::api::ApiError;
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::progress::Meter;
use crate::reports::HumanEvalReport;
use crate::requests::{HumanEvalRequest, JobProgress};
use crate::store::{CompletionRow, Judged};
use crate::worker::{Ask, CompleteAsk, Event, JudgeAsk, Outcome, ToJudge, Worker};

/// Version of the task; raised when a change makes results incomparable.
const HUMANEVAL_VERSION: &str =
    "humaneval 1 (prompts of lm-evaluation-harness 0.4.13, CPython 3.12.0 for WASI, 10 s)";

/// Which k of pass@k are told, where there are as many samples.
const KS: [u32; 3] = [1, 10, 100];

/// What is judged without a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completions {
    /// JSON lines `{task_id, completion}` of another tool.
    File(PathBuf),
    /// The self-test: the canonical solution of every problem, which must all pass, and `return None` in the place of
    /// each, of which none may.
    Canonical,
}

impl Workbench {
    pub(crate) fn measure_humaneval(
        &self,
        job: u32,
        request: &HumanEvalRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<HumanEvalReport, ApiError> {
        if let Some(path) = &request.samples {
            check_writable(path)?;
        }
        let mut meter = Meter::new(0, on_progress);
        let _lease = self.lease.shared(cancel, &mut |why| meter.tell(why, 0))?;
        let mut bench = self.bench(&request.model, &request.engine, cancel, &mut meter)?;
        let place = Place {
            job,
            scorecard: None,
        };
        self.humaneval(&mut bench, place, request, 1, cancel, &mut meter)
    }

    /// Each completion is worth `each` units of `meter`.
    pub(super) fn humaneval(
        &self,
        bench: &mut Bench,
        place: Place,
        request: &HumanEvalRequest,
        each: u32,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<HumanEvalReport, ApiError> {
        let (path, _) = self.starter_humaneval()?;
        let problems = problems(&path, request.limit)?;
        let total = problems.len() as u32 * request.n;
        if place.scorecard.is_none() {
            meter.total(total * each);
        }
        let form = if bench.loaded.chat {
            humaneval::Form::Instruct
        } else {
            humaneval::Form::Base
        };
        let mut run = bench.new_run(
            "humaneval",
            HUMANEVAL_VERSION,
            place,
            Details {
                settings: json!({
                    "problems": path,
                    "problems_sha256": self.hash_of(std::slice::from_ref(&path))?,
                    "limit": request.limit,
                    "n": request.n,
                    "temperature": request.temperature,
                    "max_tokens": request.max_tokens,
                    "seed": request.seed,
                    "form": form,
                }),
                options: options(request),
                ..Details::default()
            },
        );
        run.seed = request.seed;
        let id = match self.store.open_run(place.job, &run)? {
            Some(id) => id,
            None => self.store.begin_run(&run)?,
        };
        let rows: HashMap<&str, u32> = problems
            .iter()
            .enumerate()
            .map(|(row, problem)| (problem.task_id.as_str(), row as u32))
            .collect();
        let stored = self.store.completions(id)?;
        meter.inherit(stored.len() as u32 * each);
        meter.count_each("completions", each);
        if (stored.len() as u32) < total {
            let ask = CompleteAsk {
                problems: path.clone(),
                limit: request.limit,
                n: request.n,
                temperature: request.temperature,
                max_tokens: request.max_tokens,
                seed: request.seed,
                form,
                written: stored.iter().map(written).collect::<Result<_, _>>()?,
            };
            let written = self.write_completions(bench, id, ask, &rows, each, cancel, meter);
            written.inspect_err(|_| {
                // Without a single completion there is nothing to resume.
                if self.store.completions(id).is_ok_and(|all| all.is_empty()) {
                    let _ = self.store.delete_run(id);
                }
            })?;
        }
        let made = self.store.completions(id)?;
        let open: Vec<&CompletionRow> = made.iter().filter(|made| made.judged.is_none()).collect();
        let since = Instant::now();
        self.judge(
            open.iter().map(|made| to_judge(made)).collect(),
            bench.engine.threads,
            cancel,
            &mut |index, judged, done| {
                let place = (open[index].row, open[index].sample);
                self.store.judge_completion(id, place, judged)?;
                meter.tell(
                    &format!("HumanEval, ran {done} of {} programs", open.len()),
                    total * each,
                );
                Ok(())
            },
        )?;
        let judging_s = since.elapsed().as_secs_f64();
        let made = self.store.completions(id)?;
        let spent_s = self.store.run(id)?.spent_s;
        let tokens: f64 = made.iter().map(|made| f64::from(made.tokens)).sum();
        let report = HumanEvalReport {
            run: Some(id),
            model: Some(bench.model.id.clone()),
            n: request.n,
            temperature: request.temperature,
            form: Some(form_words(form).to_owned()),
            seconds: spent_s + judging_s,
            tokens_per_s: (spent_s > 0.0 && tokens > 0.0).then(|| tokens / spent_s),
            ..scored(made.iter().map(|made| {
                let verdict = made.judged.as_ref().map(|judged| judged.verdict.as_str());
                (made.task_id.as_str(), verdict.unwrap_or_default())
            }))
        };
        self.store.finish_run(id, 0, &report)?;
        if let Some(path) = &request.samples {
            write_samples(path, made.iter().map(SampleLine::of))?;
        }
        Ok(report)
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a private step of humaneval, cut out for its length"
    )]
    fn write_completions(
        &self,
        bench: &mut Bench,
        run: u32,
        ask: CompleteAsk,
        rows: &HashMap<&str, u32>,
        each: u32,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<(), ApiError> {
        let mut since = Instant::now();
        let mut broken = None;
        let stop = cancel.clone();
        let outcome = bench
            .worker
            .request(Ask::Complete(ask), cancel, &mut |event| {
                let (step, done) = match event {
                    Event::Completion {
                        completion,
                        done,
                        total,
                    } => {
                        let cost = since.elapsed().as_secs_f64();
                        since = Instant::now();
                        let kept = self
                            .store
                            .add_completion(run, &row_of(completion, rows))
                            .and_then(|()| self.store.add_cost(run, cost, 0));
                        if let Err(error) = kept {
                            // Completions that cannot be kept are not worth writing.
                            stop.set();
                            broken.get_or_insert(error);
                        }
                        (
                            format!("HumanEval, wrote {done} of {total} completions"),
                            done,
                        )
                    }
                    Event::Progress { step, done, .. } => (format!("HumanEval, {step}"), done),
                    _ => return,
                };
                meter.tell(&step, done * each);
            });
        if let Some(error) = broken {
            return Err(error);
        }
        match outcome? {
            Outcome::Completed => self.store.add_cost(run, since.elapsed().as_secs_f64(), 0),
            other => Err(unexpected(&other)),
        }
    }

    /// Scores completions that no model of ours writes now: another tool's, or the canonical ones. Nothing is stored.
    pub fn score_completions(
        &self,
        completions: &Completions,
        samples: Option<&Path>,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<HumanEvalReport, ApiError> {
        if let Some(path) = samples {
            check_writable(path)?;
        }
        let (_guard, cancel) = self.foreground();
        let (path, _) = self.starter_humaneval()?;
        let problems = problems(&path, None)?;
        let mut all = match completions {
            Completions::Canonical => problems
                .iter()
                .map(|problem| ToJudge {
                    task_id: problem.task_id.clone(),
                    completion: problem.canonical_solution.clone(),
                })
                .collect(),
            Completions::File(file) => read_completions(file, &problems)?,
        };
        let scored_of = all.len();
        if *completions == Completions::Canonical {
            all.extend(problems.iter().map(|problem| ToJudge {
                task_id: problem.task_id.clone(),
                completion: RETURN_NONE.to_owned(),
            }));
        }
        let mut meter = Meter::new(all.len() as u32, on_progress);
        let _lease = self.lease.shared(&cancel, &mut |why| meter.tell(why, 0))?;
        meter.count("programs");
        let since = Instant::now();
        let mut verdicts: Vec<Option<Judged>> = vec![None; all.len()];
        self.judge(all.clone(), None, &cancel, &mut |index, judged, done| {
            verdicts[index] = Some(judged.clone());
            meter.tell(&format!("ran {done} of {} programs", all.len()), done);
            Ok(())
        })?;
        let seconds = since.elapsed().as_secs_f64();
        let found = || {
            all.iter()
                .zip(&verdicts)
                .take(scored_of)
                .filter_map(|(asked, judged)| Some((asked, judged.as_ref()?)))
        };
        let passes = |judged: &&Option<Judged>| {
            judged
                .as_ref()
                .is_some_and(|judged| judged.verdict == PASSED)
        };
        let passed_nothing = (scored_of < all.len())
            .then(|| verdicts[scored_of..].iter().filter(passes).count() as u32);
        let scored = scored(
            found().map(|(asked, judged)| (asked.task_id.as_str(), judged.verdict.as_str())),
        );
        if let Some(path) = samples {
            let lines = found().map(|(asked, judged)| SampleLine {
                task_id: &asked.task_id,
                sample: None,
                completion: &asked.completion,
                passed: judged.verdict == PASSED,
                verdict: &judged.verdict,
                detail: &judged.detail,
                seconds: judged.seconds,
            });
            write_samples(path, lines)?;
        }
        Ok(HumanEvalReport {
            passed_nothing,
            seconds,
            ..scored
        })
    }

    /// Runs programs in a worker of its own. `on_judged` hears the index of each, what came of it and how many are done.
    fn judge(
        &self,
        completions: Vec<ToJudge>,
        threads: Option<u32>,
        cancel: &Cancel,
        on_judged: &mut dyn FnMut(usize, &Judged, u32) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        if completions.is_empty() {
            return Ok(());
        }
        let (problems, python) = self.starter_humaneval()?;
        let count = completions.len();
        let ask = JudgeAsk {
            problems,
            python,
            cache: self.cache_dir(),
            threads,
            completions,
        };
        let mut worker = Worker::spawn(&self.engine)?;
        let stop = cancel.clone();
        let mut broken = None;
        let outcome = worker.request(Ask::Judge(ask), cancel, &mut |event| {
            let Event::Judged {
                index,
                judgement,
                done,
            } = event
            else {
                return;
            };
            if index as usize >= count {
                return;
            }
            let judged = Judged {
                verdict: word(&judgement.verdict),
                detail: judgement.detail,
                seconds: judgement.seconds,
            };
            if let Err(error) = on_judged(index as usize, &judged, done) {
                stop.set();
                broken.get_or_insert(error);
            }
        });
        if let Some(error) = broken {
            return Err(error);
        }
        match outcome? {
            Outcome::Judged => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

const PASSED: &str = "passed";

/// The name of a unit variant, as the store and `--json` have it.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        other => format!("{other:?}"),
    }
}

fn problems(path: &Path, limit: Option<u32>) -> Result<Vec<Problem>, ApiError> {
    let mut problems = read_problems(path).map_err(|error| ApiError::failed(error.to_string()))?;
    problems.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
    Ok(problems)
}

/// Counts of verdicts and pass@k, from the task and the verdict of each completion.
fn scored<'a>(judged: impl Iterator<Item = (&'a str, &'a str)>) -> HumanEvalReport {
    let mut verdicts = BTreeMap::new();
    let mut by_problem: BTreeMap<&str, Stratum> = BTreeMap::new();
    for (task, verdict) in judged {
        *verdicts.entry(verdict.to_owned()).or_insert(0) += 1;
        let problem = by_problem.entry(task).or_insert(Stratum {
            correct: 0,
            total: 0,
        });
        problem.total += 1;
        problem.correct += usize::from(verdict == PASSED);
    }
    let problems: Vec<Stratum> = by_problem.into_values().collect();
    let fewest = problems
        .iter()
        .map(|problem| problem.total)
        .min()
        .unwrap_or(0);
    let mean = |k: u32| {
        let each: Option<Vec<f64>> = problems
            .iter()
            .map(|problem| pass_at_k(problem.total, problem.correct, k as usize))
            .collect();
        each.map(|each| each.iter().sum::<f64>() / each.len().max(1) as f64)
    };
    HumanEvalReport {
        run: None,
        model: None,
        pass_at_1: mean(1).unwrap_or(0.0),
        ci95: clustered_wilson95(&problems),
        passed: problems.iter().map(|problem| problem.correct as u32).sum(),
        total: problems.iter().map(|problem| problem.total as u32).sum(),
        verdicts,
        pass_at_k: KS
            .into_iter()
            .filter(|&k| fewest > 1 && k as usize <= fewest)
            .filter_map(|k| Some((k, mean(k)?)))
            .collect(),
        passed_nothing: None,
        problems: problems.len() as u32,
        n: fewest as u32,
        temperature: 0.0,
        form: None,
        seconds: 0.0,
        tokens_per_s: None,
    }
}

fn form_words(form: humaneval::Form) -> &'static str {
    match form {
        humaneval::Form::Base => "base",
        humaneval::Form::Auto | humaneval::Form::Instruct => "instruct",
    }
}

fn options(request: &HumanEvalRequest) -> String {
    let mut options = Vec::new();
    if let Some(limit) = request.limit {
        options.push(format!("--limit {limit}"));
    }
    if request.n != 1 {
        options.push(format!("--n {}", request.n));
    }
    if request.temperature != 0.0 {
        options.push(format!("--temperature {}", request.temperature));
        options.push(format!("--seed {}", request.seed));
    }
    if request.max_tokens != HumanEvalRequest::default().max_tokens {
        options.push(format!("--max-tokens {}", request.max_tokens));
    }
    options.join(" ")
}

fn row_of(made: humaneval::Completion, rows: &HashMap<&str, u32>) -> CompletionRow {
    CompletionRow {
        row: rows.get(made.task_id.as_str()).copied().unwrap_or_default(),
        sample: made.sample,
        task_id: made.task_id,
        completion: made.completion,
        tokens: made.tokens,
        prompt_tokens: made.prompt_tokens,
        finish_reason: word(&made.finish_reason),
        judged: None,
    }
}

fn written(row: &CompletionRow) -> Result<humaneval::Completion, ApiError> {
    let finish_reason = serde_json::from_value(json!(row.finish_reason)).map_err(|error| {
        ApiError::failed(format!(
            "the stored completion of {} cannot be read ({error}); cancel the job and start it again",
            row.task_id
        ))
    })?;
    Ok(humaneval::Completion {
        task_id: row.task_id.clone(),
        sample: row.sample,
        completion: row.completion.clone(),
        tokens: row.tokens,
        prompt_tokens: row.prompt_tokens,
        finish_reason,
    })
}

fn to_judge(row: &CompletionRow) -> ToJudge {
    ToJudge {
        task_id: row.task_id.clone(),
        completion: row.completion.clone(),
    }
}

/// A line of another tool's file; fields that are not ours are ignored.
#[derive(Deserialize)]
struct GivenLine {
    task_id: String,
    completion: String,
}

fn read_completions(path: &Path, problems: &[Problem]) -> Result<Vec<ToJudge>, ApiError> {
    let bad = |line: usize, problem: String| {
        ApiError::failed(format!(
            "{}, line {line}: {problem}; every line is a JSON object with task_id and completion",
            path.display()
        ))
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| ApiError::failed(format!("cannot read {}: {error}", path.display())))?;
    let mut all = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let given: GivenLine =
            serde_json::from_str(line).map_err(|error| bad(index + 1, error.to_string()))?;
        if !problems
            .iter()
            .any(|problem| problem.task_id == given.task_id)
        {
            return Err(bad(
                index + 1,
                format!(
                    "there is no problem {:?}, they are HumanEval/0 to HumanEval/163",
                    given.task_id
                ),
            ));
        }
        all.push(ToJudge {
            task_id: given.task_id,
            completion: given.completion,
        });
    }
    if all.is_empty() {
        return Err(bad(1, "the file holds no completion".to_owned()));
    }
    Ok(all)
}

/// A line of `--samples`.
#[derive(Serialize)]
struct SampleLine<'a> {
    task_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<u32>,
    completion: &'a str,
    passed: bool,
    verdict: &'a str,
    detail: &'a str,
    seconds: f64,
}

impl<'a> SampleLine<'a> {
    fn of(made: &'a CompletionRow) -> Self {
        let judged = made.judged.as_ref();
        let verdict = judged.map_or("", |judged| judged.verdict.as_str());
        Self {
            task_id: &made.task_id,
            sample: Some(made.sample),
            completion: &made.completion,
            passed: verdict == PASSED,
            verdict,
            detail: judged.map_or("", |judged| judged.detail.as_str()),
            seconds: judged.map_or(0.0, |judged| judged.seconds),
        }
    }
}
