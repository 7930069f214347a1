//! Stored runs as people see them: the list, one run with all it holds, deletion.

use std::path::Path;

use billion_eval::tasks::humaneval::read_problems;
use billion_eval::tasks::mmlu::MmluData;

use crate::api::{AnsweredQuestion, ApiError, Fact, JudgedCompletion, RunDetails, RunSummary};
use crate::facade::Workbench;
use crate::machine::bytes_words;
use crate::reports::{
    EnergyReport, MemoryReport, MmluPart, MmluReport, PerplexityReport, SpeedReport, Spread,
};
use crate::scorecards::report_of;
use crate::store::{Judged, RunFilter, RunRow};
use crate::worker::{MmluSample, read_mmlu};

impl Workbench {
    /// All finished runs, the latest first.
    pub fn runs(&self) -> Result<Vec<RunSummary>, ApiError> {
        let runs = self.store.runs(RunFilter {
            finished: true,
            ..RunFilter::default()
        })?;
        Ok(runs.iter().map(summary).collect())
    }

    /// A run with all it holds.
    pub fn run_details(&self, id: u32) -> Result<RunDetails, ApiError> {
        let run = self.store.run(id)?;
        let samples = self.store.samples(id)?;
        let data = run.run.settings["data"]
            .as_str()
            .filter(|_| !samples.is_empty());
        // Without its source a question shows its row only.
        let data = data.and_then(|path| read_mmlu(Path::new(path)).ok());
        Ok(RunDetails {
            summary: summary(&run),
            facts: facts(&run),
            figures: figures(&run)?,
            questions: samples
                .iter()
                .map(|sample| question(sample, data.as_ref()))
                .collect(),
            completions: self.judged_completions(&run)?,
            charts: Vec::new(),
            command: run.run.command.clone(),
        })
    }

    /// The completions of a HumanEval run with their problems.
    fn judged_completions(&self, run: &RunRow) -> Result<Vec<JudgedCompletion>, ApiError> {
        let made = self.store.completions(run.id)?;
        let source = run.run.settings["problems"]
            .as_str()
            .filter(|_| !made.is_empty());
        // Without its source a completion shows its number only.
        let problems = source.and_then(|path| read_problems(Path::new(path)).ok());
        Ok(made
            .into_iter()
            .map(|made| {
                let problem = problems
                    .as_ref()
                    .and_then(|all| all.iter().find(|known| known.task_id == made.task_id));
                let judged = made.judged.unwrap_or(Judged {
                    verdict: String::new(),
                    detail: String::new(),
                    seconds: 0.0,
                });
                JudgedCompletion {
                    task_id: made.task_id,
                    sample: made.sample,
                    prompt: problem.map(|problem| problem.prompt.clone()),
                    completion: made.completion,
                    passed: judged.verdict == "passed",
                    words: verdict_words(&judged.verdict),
                    verdict: judged.verdict,
                    detail: judged.detail,
                    seconds: judged.seconds,
                    tokens: made.tokens,
                }
            })
            .collect())
    }

    /// Deletes a run; a scorecard that showed it becomes incomplete.
    pub fn delete_run(&self, id: u32) -> Result<(), ApiError> {
        if self.store.delete_run(id)? {
            Ok(())
        } else {
            Err(ApiError::failed(format!(
                "there is no run {id}; `billion results list` shows all"
            )))
        }
    }
}

fn summary(run: &RunRow) -> RunSummary {
    RunSummary {
        id: run.id,
        task: run.run.task.clone(),
        model: run.run.model.clone(),
        quant: run.run.quant.clone(),
        headline: headline(run).unwrap_or_else(|error| error.message),
        created_at: run.created_at,
        scorecard: run.run.scorecard,
    }
}

fn headline(run: &RunRow) -> Result<String, ApiError> {
    if run.report.is_none() {
        return Ok("not finished".to_owned());
    }
    Ok(match run.run.task.as_str() {
        "mmlu" => {
            let report: MmluReport = report_of(run)?;
            format!(
                "{:.1} % ({:.1}–{:.1}), {} question{}",
                report.accuracy * 100.0,
                report.ci95[0] * 100.0,
                report.ci95[1] * 100.0,
                report.total,
                if report.total == 1 { "" } else { "s" }
            )
        }
        "speed" => {
            let report: SpeedReport = report_of(run)?;
            format!(
                "generates {}, reads {} tokens/s",
                rate(report.decode_tokens_per_s.median),
                rate(report.prefill_tokens_per_s.median)
            )
        }
        "memory" => {
            let report: MemoryReport = report_of(run)?;
            format!(
                "{} at peak with {} tokens",
                bytes_words(report.peak_rss_bytes),
                report.ctx
            )
        }
        "energy" => {
            let report: EnergyReport = report_of(run)?;
            report.spread.map_or_else(
                || "not measured".to_owned(),
                |spread| format!("{} a token, idle subtracted", joules(&spread)),
            )
        }
        _ => {
            let report: PerplexityReport = report_of(run)?;
            format!(
                "perplexity {:.3} over {} tokens",
                report.perplexity, report.tokens
            )
        }
    })
}

/// "0.312 J (0.301 to 0.330)".
fn joules(spread: &Spread) -> String {
    format!(
        "{:.3} J ({:.3} to {:.3})",
        spread.median, spread.min, spread.max
    )
}

/// The figures of an energy run. A stored one has them all.
fn energy_figures(report: &EnergyReport) -> Vec<Fact> {
    let watts = |watts: f64| format!("{watts:.2} W");
    let mut figures = Vec::new();
    if let Some(spread) = &report.spread {
        figures.push(fact("Energy a token, idle subtracted", joules(spread)));
    }
    let single = [
        (
            "Energy a token, idle included",
            report.gross_joules_per_token.map(|j| format!("{j:.3} J")),
        ),
        ("Idle", report.idle_watts.map(watts)),
        ("Generating", report.load_watts.map(watts)),
        ("Measured at", report.source.clone()),
        ("It counts", report.covers.clone()),
        (
            "Measured over",
            Some(format!(
                "{} tokens in {:.1} s",
                report.tokens, report.seconds
            )),
        ),
    ];
    figures.extend(
        single
            .into_iter()
            .filter_map(|(label, value)| value.map(|value| fact(label, value))),
    );
    figures.extend(report.notes.iter().map(|note| fact("Note", note)));
    figures
}

fn rate(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

fn facts(run: &RunRow) -> Vec<Fact> {
    let mut facts = vec![
        fact("Model", &run.run.name),
        fact("File", &run.run.path),
        fact("SHA-256 of the weights", &run.run.sha256),
        fact("Quantization", &run.run.quant),
        fact("Parameters", run.run.params),
        fact("Task version", &run.run.task_version),
    ];
    if run.run.task == "mmlu" {
        facts.push(fact("Examples before a question", run.run.shots));
    }
    facts.extend([
        fact("Seed", run.run.seed),
        fact("Hardware", &run.run.hardware),
        fact("Instruction set", &run.run.isa),
        fact("Threads", run.run.threads),
        fact("Version of Billion", &run.app_version),
    ]);
    if let Some(settings) = run.run.settings.as_object() {
        for (key, value) in settings {
            let value = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Array(items) if items.is_empty() => continue,
                serde_json::Value::Array(items) => items
                    .iter()
                    .map(|item| {
                        item.as_str()
                            .map_or_else(|| item.to_string(), str::to_owned)
                    })
                    .collect::<Vec<_>>()
                    .join(", "),
                other => other.to_string(),
            };
            facts.push(fact(setting_words(key), value));
        }
    }
    facts
}

fn setting_words(key: &str) -> &str {
    match key {
        "data" => "Questions from",
        "data_sha256" => "SHA-256 of the questions",
        "text" => "Text",
        "text_sha256" => "SHA-256 of the text",
        "shots" => "Examples asked for",
        "limit" => "Rows of each subject",
        "subjects" => "Subjects",
        "executor" => "Executor",
        "device" => "Device",
        "source" => "Energy measured at",
        "context_len" => "Context in tokens",
        "ctx" => "Tokens in the cache or window",
        "prompt" => "Prompt tokens",
        "gen" => "Generated tokens",
        "repeat" => "Repeats",
        "batch" => "Sequences together",
        "depth" => "Tokens in the cache before",
        other => other,
    }
}

fn figures(run: &RunRow) -> Result<Vec<Fact>, ApiError> {
    if run.report.is_none() {
        return Ok(Vec::new());
    }
    let spread = |label: &str, spread: &Spread| {
        fact(
            label,
            format!(
                "{} tokens/s ({} to {})",
                rate(spread.median),
                rate(spread.min),
                rate(spread.max)
            ),
        )
    };
    Ok(match run.run.task.as_str() {
        "mmlu" => {
            let report: MmluReport = report_of(run)?;
            let mut figures = vec![
                fact("Accuracy", format!("{:.2} %", report.accuracy * 100.0)),
                fact(
                    "95 % interval",
                    format!(
                        "{:.2} to {:.2} %",
                        report.ci95[0] * 100.0,
                        report.ci95[1] * 100.0
                    ),
                ),
                fact(
                    "Right answers",
                    format!("{} of {}", report.correct, report.total),
                ),
                fact("Prompt tokens computed", report.prompt_tokens_computed),
                fact("Time", format!("{:.1} s", report.seconds)),
            ];
            let part = |(name, part): (&String, &MmluPart)| {
                let name = name.replace('_', " ");
                fact(
                    &name,
                    format!(
                        "{:.1} % ({} of {})",
                        part.accuracy * 100.0,
                        part.correct,
                        part.total
                    ),
                )
            };
            figures.extend(report.by_group.iter().map(part));
            figures.extend(report.by_subject.iter().map(part));
            figures
        }
        "speed" => {
            let report: SpeedReport = report_of(run)?;
            let mut figures = vec![
                spread("Generating", &report.decode_tokens_per_s),
                spread("Reading a prompt", &report.prefill_tokens_per_s),
                fact("Time to first token", format!("{:.3} s", report.ttft_s)),
                fact("Time to load", format!("{:.3} s", report.load_s)),
            ];
            figures.extend(report.notes.iter().map(|note| fact("Note", note)));
            figures
        }
        "memory" => {
            let report: MemoryReport = report_of(run)?;
            let mut figures = vec![
                fact("Peak", bytes_words(report.peak_rss_bytes)),
                fact(
                    "After loading",
                    report
                        .idle_rss_bytes
                        .map_or_else(|| "unknown".to_owned(), bytes_words),
                ),
                fact("Weights", bytes_words(report.weights_bytes)),
                fact("KV cache", bytes_words(report.kv_bytes)),
                fact("KV cache a token", bytes_words(report.kv_bytes_per_token)),
            ];
            figures.extend(report.notes.iter().map(|note| fact("Note", note)));
            figures
        }
        "energy" => energy_figures(&report_of(run)?),
        _ => {
            let report: PerplexityReport = report_of(run)?;
            vec![
                fact("Perplexity", format!("{:.4}", report.perplexity)),
                fact(
                    "Mean negative log-likelihood",
                    format!("{:.5} nats a token", report.nll_mean),
                ),
                fact("Tokens scored", report.tokens),
                fact("Time", format!("{:.1} s", report.seconds)),
            ]
        }
    })
}

/// A verdict of the sandbox for people.
pub(crate) fn verdict_words(verdict: &str) -> String {
    match verdict {
        "passed" => "passes every test",
        "wrong_answer" => "wrong answer",
        "exception" => "raises an exception",
        "syntax_error" => "is not valid Python",
        "timeout" => "takes too long",
        "memory" => "wants too much memory",
        "output" => "prints or returns too much",
        "host_calls" => "asks the system too often",
        "stack_overflow" => "recurses too deeply",
        "exit" => "ends the interpreter",
        "crash" => "breaks the interpreter",
        "tamper" => "answers with what is no plain value",
        "" => "was not run",
        other => return other.replace('_', " "),
    }
    .to_owned()
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers and texts alike, without a reference at each"
)]
fn fact(label: &str, value: impl ToString) -> Fact {
    Fact {
        label: label.to_owned(),
        value: value.to_string(),
    }
}

fn question(sample: &MmluSample, data: Option<&MmluData>) -> AnsweredQuestion {
    let source = data.and_then(|data| data.subjects.get(&sample.subject)?.test.get(sample.index));
    AnsweredQuestion {
        subject: sample.subject.clone(),
        index: sample.index as u32,
        question: source.map(|question| question.text.trim().to_owned()),
        choices: source.map_or_else(Vec::new, |question| question.choices.to_vec()),
        ll: sample.ll.to_vec(),
        pred: sample.pred.to_string(),
        gold: sample.gold.to_string(),
    }
}
