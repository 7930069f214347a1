//! Scorecards as people see them: assembled from the stored runs, with verdicts in words.

use std::collections::BTreeMap;

use billion_eval::stats::compare_paired;

use crate::api::{ApiError, Figure, Scorecard, ScorecardHead, ScorecardRow};
use crate::charts::{CHANCE, scorecard_charts};
use crate::facade::Workbench;
use crate::jobs::size_word;
use crate::reports::{MemoryReport, MmluReport, SpeedReport, Spread};
use crate::store::{RunFilter, RunRow};

/// Tasks of a scorecard.
const TASKS: [&str; 3] = ["memory", "speed", "mmlu"];

impl Workbench {
    /// All scorecards, the latest first.
    pub fn scorecards(&self) -> Result<Vec<ScorecardHead>, ApiError> {
        self.store
            .scorecards()?
            .into_iter()
            .map(|stored| {
                let mut complete = true;
                for model in &stored.models {
                    let done = self.finished_tasks(stored.id, model)?;
                    complete &= TASKS
                        .iter()
                        .all(|task| done.iter().any(|have| have == task));
                }
                Ok(ScorecardHead {
                    id: stored.id,
                    created_at: stored.created_at,
                    size: stored.size,
                    models: stored.models,
                    complete,
                })
            })
            .collect()
    }

    /// A scorecard, drawn from the store.
    pub fn scorecard(&self, id: u32) -> Result<Scorecard, ApiError> {
        let stored = self.store.scorecard(id)?;
        let runs = self.store.runs(RunFilter {
            scorecard: Some(id),
            finished: true,
            ..RunFilter::default()
        })?;
        let notes = self.store.notes(id)?;
        let mut rows = Vec::with_capacity(stored.models.len());
        let mut answers: Vec<(String, BTreeMap<String, bool>)> = Vec::new();
        let mut verdicts = Vec::new();
        let mut complete = true;
        for model in &stored.models {
            let of = |task: &str| {
                runs.iter()
                    .find(|run| run.run.model == *model && run.run.task == task)
            };
            let mut row = self.empty_row(model, runs.iter().find(|run| run.run.model == *model));
            for note in notes.iter().filter(|note| note.model == *model) {
                row.notes.push(match note.task.as_str() {
                    "load" => format!("could not be loaded: {}", note.text),
                    task => format!("{}: {}", task_words(task), note.text),
                });
            }
            if let Some(run) = of("memory") {
                memory_figures(&mut row, run)?;
            }
            if let Some(run) = of("speed") {
                speed_figures(&mut row, run)?;
            }
            if let Some(run) = of("mmlu") {
                let report: MmluReport = report_of(run)?;
                if let Some(words) = against_chance(&row.name, &report) {
                    verdicts.push(words);
                }
                row.mmlu = Some(mmlu_figure(run, &report));
                let samples = self.store.samples(run.id)?;
                let right = samples
                    .into_iter()
                    .map(|s| (format!("{}/{}", s.subject, s.index), s.correct))
                    .collect();
                answers.push((row.name.clone(), right));
            }
            for task in TASKS {
                if of(task).is_none() {
                    complete = false;
                    if row.notes.is_empty() {
                        row.notes
                            .push(format!("{}: not measured yet", task_words(task)));
                    }
                }
            }
            if let Some(run) = of("mmlu") {
                let report: MmluReport = report_of(run)?;
                let notes = report.notes.iter().map(|note| format!("MMLU: {note}"));
                row.notes.extend(notes);
            }
            rows.push(row);
        }
        for (i, (first, right)) in answers.iter().enumerate() {
            for (second, other) in &answers[i + 1..] {
                if let Some(comparison) = compare_paired([first, second], right, other) {
                    verdicts.push(comparison.text);
                }
            }
        }
        Ok(Scorecard {
            id,
            created_at: stored.created_at,
            size: stored.size,
            complete,
            charts: scorecard_charts(&rows),
            rows,
            verdicts,
            hardware: hardware_words(&stored.hardware, &runs),
            command: format!(
                "billion scorecard --models {} --{}{}",
                stored.models.join(","),
                size_word(stored.size).to_lowercase(),
                stored
                    .engine
                    .threads
                    .map_or_else(String::new, |n| format!(" --threads {n}"))
            ),
        })
    }

    /// Tasks of a scorecard that are finished for a model.
    pub(crate) fn finished_tasks(
        &self,
        scorecard: u32,
        model: &str,
    ) -> Result<Vec<String>, ApiError> {
        let runs = self.store.runs(RunFilter {
            scorecard: Some(scorecard),
            finished: true,
            ..RunFilter::default()
        })?;
        Ok(runs
            .into_iter()
            .filter(|run| run.run.model == model)
            .map(|run| run.run.task)
            .collect())
    }

    /// Names from a run, or else from the library, or else from the id alone.
    fn empty_row(&self, model: &str, run: Option<&RunRow>) -> ScorecardRow {
        let (name, quant, params) = match run {
            Some(run) => (run.run.name.clone(), run.run.quant.clone(), run.run.params),
            None => match self.resolve(model) {
                Ok(model) => (model.name, model.facts.quant, model.facts.params),
                Err(_) => (model.to_owned(), "unknown".to_owned(), 0),
            },
        };
        ScorecardRow {
            model: model.to_owned(),
            name,
            quant,
            params,
            mmlu: None,
            prefill: None,
            decode: None,
            ttft: None,
            load: None,
            humaneval: None,
            energy: None,
            correct_per_wh: None,
            references: Vec::new(),
            badges: Vec::new(),
            peak_memory: None,
            weights_memory: None,
            notes: Vec::new(),
        }
    }
}

/// Reads the report of a finished run.
pub(crate) fn report_of<T: serde::de::DeserializeOwned>(run: &RunRow) -> Result<T, ApiError> {
    let report = run.report.clone().unwrap_or_default();
    serde_json::from_value(report).map_err(|error| {
        ApiError::failed(format!(
            "the report of run {} cannot be read ({error}); delete the run and make it again",
            run.id
        ))
    })
}

fn task_words(task: &str) -> &'static str {
    match task {
        "mmlu" => "MMLU",
        "speed" => "speed",
        "memory" => "memory",
        _ => "measurement",
    }
}

fn mmlu_figure(run: &RunRow, report: &MmluReport) -> Figure {
    Figure {
        value: report.accuracy,
        lo: Some(report.ci95[0]),
        hi: Some(report.ci95[1]),
        unit: "accuracy".to_owned(),
        how: format!(
            "95 % interval (Wilson, stratified by subject); {} of {} questions right, {} examples, raw prompt",
            report.correct, report.total, report.shots
        ),
        run: Some(run.id),
    }
}

fn speed_figures(row: &mut ScorecardRow, run: &RunRow) -> Result<(), ApiError> {
    let report: SpeedReport = report_of(run)?;
    let set = format!("{} threads, {}", report.threads, report.isa);
    let spread = |spread: &Spread, what: String| Figure {
        value: spread.median,
        lo: Some(spread.min),
        hi: Some(spread.max),
        unit: "tokens/s".to_owned(),
        how: format!(
            "median, slowest and fastest of {} repeats; {what}; {set}",
            spread.runs.len()
        ),
        run: Some(run.id),
    };
    let single = |value: f64, how: &str| Figure {
        value,
        lo: None,
        hi: None,
        unit: "s".to_owned(),
        how: format!("{how}; {set}"),
        run: Some(run.id),
    };
    row.prefill = Some(spread(
        &report.prefill_tokens_per_s,
        format!("reading a prompt of {} tokens", report.prompt),
    ));
    row.decode = Some(spread(
        &report.decode_tokens_per_s,
        format!(
            "generating {} tokens from a cache of {}",
            report.generate, report.depth
        ),
    ));
    row.ttft = Some(single(
        report.ttft_s,
        &format!(
            "median time to the first token after {} prompt tokens",
            report.prompt
        ),
    ));
    row.load = Some(single(report.load_s, "loading into a fresh process, once"));
    row.notes
        .extend(report.notes.iter().map(|note| format!("speed: {note}")));
    Ok(())
}

fn memory_figures(row: &mut ScorecardRow, run: &RunRow) -> Result<(), ApiError> {
    let report: MemoryReport = report_of(run)?;
    let bytes = |value: u64, how: String| Figure {
        value: value as f64,
        lo: None,
        hi: None,
        unit: "bytes".to_owned(),
        how,
        run: Some(run.id),
    };
    row.peak_memory = Some(bytes(
        report.peak_rss_bytes,
        format!(
            "most resident memory of the engine process, with {} tokens in the cache",
            report.ctx
        ),
    ));
    row.weights_memory = Some(bytes(
        report.weights_bytes,
        "bytes of the weights as the engine holds them".to_owned(),
    ));
    row.notes
        .extend(report.notes.iter().map(|note| format!("memory: {note}")));
    Ok(())
}

/// Whether a model knows anything at all.
fn against_chance(name: &str, report: &MmluReport) -> Option<String> {
    let [lo, hi] = report.ci95;
    let range = format!(
        "{:.1} % ({:.1} to {:.1} %)",
        report.accuracy * 100.0,
        lo * 100.0,
        hi * 100.0
    );
    (report.total > 0).then(|| match (lo > CHANCE, hi < CHANCE) {
        (true, _) => format!("{name} is better than guessing on MMLU: {range} against 25 %"),
        (_, true) => format!("{name} is worse than guessing on MMLU: {range} against 25 %"),
        _ => format!(
            "{name} cannot be told from guessing on MMLU with {} questions: {range} contains 25 %",
            report.total
        ),
    })
}

/// The machine, with the instruction set and threads of the runs where they agree.
fn hardware_words(stored: &str, runs: &[RunRow]) -> String {
    match runs.first() {
        Some(first)
            if runs.iter().all(|run| {
                (&run.run.isa, run.run.threads) == (&first.run.isa, first.run.threads)
            }) =>
        {
            format!(
                "{stored}; {} kernels, {} threads",
                first.run.isa, first.run.threads
            )
        }
        _ => stored.to_owned(),
    }
}
