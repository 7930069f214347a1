//! The figures and facts of a single run, by task: label, value in words, and the number behind it, so that two runs can
//! be compared.

use billion_eval::tasks::mmlu::group_of;
use serde_json::Value;

use crate::api::{ApiError, Fact, SpeculationReport};
use crate::finetune::FinetuneReport;
use crate::machine::bytes_words;
use crate::reports::{
    EnergyReport, HumanEvalReport, MemoryReport, MmluPart, MmluReport, PerplexityReport,
    SpeedReport, Spread,
};
use crate::results::verdict_words;
use crate::scorecards::report_of;
use crate::speculate::{draft_name, kind_name, times};
use crate::store::RunRow;
use crate::words::{counted, duration, grouped, percent, significant, subject_words};

/// What a number counts, which decides how its change reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// A share; changes are in points.
    Share,
    /// A size in bytes.
    Bytes,
    /// Anything else whose ratio says most: speeds, times, joules, perplexity.
    Ratio,
    /// A count of questions or tokens.
    Count,
}

/// A figure of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RunFigure {
    pub(crate) label: String,
    pub(crate) text: String,
    /// None of notes and intervals.
    pub(crate) number: Option<(f64, Measure)>,
}

impl RunFigure {
    fn new(label: &str, text: impl Into<String>, number: f64, measure: Measure) -> Self {
        Self {
            label: label.to_owned(),
            text: text.into(),
            number: Some((number, measure)),
        }
    }

    fn words(label: &str, text: impl Into<String>) -> Self {
        Self {
            label: label.to_owned(),
            text: text.into(),
            number: None,
        }
    }

    fn share(label: &str, share: f64) -> Self {
        Self::new(
            label,
            format!("{:.2} %", share * 100.0),
            share,
            Measure::Share,
        )
    }

    fn bytes(label: &str, bytes: u64) -> Self {
        Self::new(label, bytes_words(bytes), bytes as f64, Measure::Bytes)
    }

    fn count(label: &str, count: u64) -> Self {
        Self::new(label, grouped(count), count as f64, Measure::Count)
    }

    fn time(label: &str, seconds: f64) -> Self {
        Self::new(label, duration(seconds), seconds, Measure::Ratio)
    }

    fn spread(label: &str, spread: &Spread) -> Self {
        let text = format!(
            "{} tokens/s ({} to {})",
            significant(spread.median),
            significant(spread.min),
            significant(spread.max)
        );
        Self::new(label, text, spread.median, Measure::Ratio)
    }

    fn part(name: &str, part: &MmluPart) -> Self {
        let label = if matches!(name, "stem" | "humanities" | "social_sciences" | "other") {
            format!("Group: {}", subject_words(name))
        } else if group_of(name).is_some() {
            format!("Subject: {}", subject_words(name))
        } else {
            format!("Subject of none of the groups: {}", subject_words(name))
        };
        let text = format!(
            "{} ({} of {})",
            percent(part.accuracy),
            grouped(u64::from(part.correct)),
            grouped(u64::from(part.total))
        );
        Self::new(&label, text, part.accuracy, Measure::Share)
    }

    pub(crate) fn fact(self) -> Fact {
        Fact {
            label: self.label,
            value: self.text,
        }
    }
}

/// The main figure in words: "31.0 % (24.0–38.9), 100 questions".
pub(crate) fn headline(run: &RunRow) -> Result<String, ApiError> {
    if run.report.is_none() {
        return Ok("not finished".to_owned());
    }
    Ok(match run.run.task.as_str() {
        "mmlu" => {
            let report: MmluReport = report_of(run)?;
            format!(
                "{} ({:.1}–{:.1}), {}",
                percent(report.accuracy),
                report.ci95[0] * 100.0,
                report.ci95[1] * 100.0,
                counted(u64::from(report.total), "question")
            )
        }
        "humaneval" => {
            let report: HumanEvalReport = report_of(run)?;
            format!(
                "{} ({:.1}–{:.1}), {} of {} pass",
                percent(report.pass_at_1),
                report.ci95[0] * 100.0,
                report.ci95[1] * 100.0,
                report.passed,
                counted(u64::from(report.total), "completion")
            )
        }
        "speed" => {
            let report: SpeedReport = report_of(run)?;
            format!(
                "generates {}, reads {} tokens/s",
                significant(report.decode_tokens_per_s.median),
                significant(report.prefill_tokens_per_s.median)
            )
        }
        "memory" => {
            let report: MemoryReport = report_of(run)?;
            format!(
                "{} at peak with {} tokens",
                bytes_words(report.peak_rss_bytes),
                grouped(u64::from(report.ctx))
            )
        }
        "energy" => {
            let report: EnergyReport = report_of(run)?;
            report.spread.map_or_else(
                || "not measured".to_owned(),
                |spread| format!("{} a token, idle subtracted", joules(&spread)),
            )
        }
        "perplexity" => {
            let report: PerplexityReport = report_of(run)?;
            format!(
                "perplexity {:.3} over {} tokens",
                report.perplexity,
                grouped(report.tokens)
            )
        }
        "finetune" => crate::finetune::headline(&report_of(run)?),
        "speculate" => {
            let report: SpeculationReport = report_of(run)?;
            let name = draft_name(&run.run.settings);
            let accepted = report.acceptance_rate.map_or_else(
                || "nothing drafted".to_owned(),
                |rate| format!("{} accepted", percent(rate)),
            );
            format!("{} as fast with {name}, {accepted}", times(report.speedup))
        }
        other => format!("a task that this version does not know: {other}"),
    })
}

/// The figures of a run; none until it is finished.
pub(crate) fn figures(run: &RunRow) -> Result<Vec<RunFigure>, ApiError> {
    if run.report.is_none() {
        return Ok(Vec::new());
    }
    Ok(match run.run.task.as_str() {
        "mmlu" => mmlu(&report_of(run)?),
        "humaneval" => humaneval(&report_of(run)?),
        "speed" => speed(&report_of(run)?),
        "memory" => memory(&report_of(run)?),
        "energy" => energy(&report_of(run)?),
        "perplexity" => perplexity(&report_of(run)?),
        "finetune" => finetune_figures(&report_of(run)?),
        "speculate" => speculation_figures(&report_of(run)?),
        _ => Vec::new(),
    })
}

fn mmlu(report: &MmluReport) -> Vec<RunFigure> {
    let mut figures = vec![
        RunFigure::share("Accuracy", report.accuracy),
        interval(report.ci95),
        right(report.correct, report.total),
        RunFigure::count("Prompt tokens computed", report.prompt_tokens_computed),
        RunFigure::time("Time", report.seconds),
    ];
    if report.truncated > 0 {
        figures.push(RunFigure::count(
            "Questions cut to fit the context",
            u64::from(report.truncated),
        ));
    }
    if let Some(stopped) = &report.stopped_early {
        figures.push(RunFigure::words(
            "Stopped early",
            format!(
                "after {} of {} questions, when the interval was at most {:.1} points to each side",
                grouped(u64::from(stopped.after)),
                grouped(u64::from(stopped.of)),
                stopped.stop_at_half_width * 100.0
            ),
        ));
    }
    figures.extend(notes(&report.notes));
    let parts = report.by_group.iter().chain(&report.by_subject);
    figures.extend(parts.map(|(name, part)| RunFigure::part(name, part)));
    figures
}

fn humaneval(report: &HumanEvalReport) -> Vec<RunFigure> {
    let mut figures = vec![
        RunFigure::share("pass@1", report.pass_at_1),
        interval(report.ci95),
    ];
    let several = report.pass_at_k.iter().filter(|(k, _)| **k > 1);
    figures.extend(several.map(|(k, share)| RunFigure::share(&format!("pass@{k}"), *share)));
    figures.extend([
        RunFigure::new(
            "Completions that pass",
            format!("{} of {}", report.passed, grouped(u64::from(report.total))),
            f64::from(report.passed),
            Measure::Count,
        ),
        RunFigure::count("Problems", u64::from(report.problems)),
    ]);
    if let Some(speed) = report.tokens_per_s {
        figures.push(RunFigure::new(
            "Writing",
            format!("{} tokens/s", significant(speed)),
            speed,
            Measure::Ratio,
        ));
    }
    figures.push(RunFigure::time("Time", report.seconds));
    figures.extend(report.verdicts.iter().map(|(verdict, count)| {
        RunFigure::count(
            &format!("Verdict: {}", verdict_words(verdict)),
            u64::from(*count),
        )
    }));
    figures
}

fn interval([lo, hi]: [f64; 2]) -> RunFigure {
    RunFigure::words(
        "95 % interval",
        format!("{:.2} to {:.2} %", lo * 100.0, hi * 100.0),
    )
}

fn right(correct: u32, total: u32) -> RunFigure {
    RunFigure::new(
        "Right answers",
        format!(
            "{} of {}",
            grouped(u64::from(correct)),
            grouped(u64::from(total))
        ),
        f64::from(correct),
        Measure::Count,
    )
}

fn notes(notes: &[String]) -> impl Iterator<Item = RunFigure> + '_ {
    notes
        .iter()
        .map(|note| RunFigure::words("Note", note.as_str()))
}

fn speed(report: &SpeedReport) -> Vec<RunFigure> {
    let mut figures = vec![
        RunFigure::spread("Generating", &report.decode_tokens_per_s),
        RunFigure::spread("Reading a prompt", &report.prefill_tokens_per_s),
        RunFigure::time("Time to first token", report.ttft_s),
        RunFigure::time("Time to load", report.load_s),
    ];
    if let Some(busy) = report.other_cores_busy {
        figures.push(RunFigure::words(
            "Other programs meanwhile",
            format!("{busy:.2} cores busy"),
        ));
    }
    figures.extend(notes(&report.notes));
    figures
}

fn memory(report: &MemoryReport) -> Vec<RunFigure> {
    let mut figures = vec![
        RunFigure::bytes("Peak", report.peak_rss_bytes),
        report.idle_rss_bytes.map_or_else(
            || RunFigure::words("After loading", "unknown"),
            |bytes| RunFigure::bytes("After loading", bytes),
        ),
        RunFigure::bytes("Weights", report.weights_bytes),
        RunFigure::bytes("KV cache", report.kv_bytes),
        RunFigure::bytes("KV cache a token", report.kv_bytes_per_token),
    ];
    figures.extend(notes(&report.notes));
    figures
}

/// "0.312 J (0.301 to 0.330)".
fn joules(spread: &Spread) -> String {
    format!(
        "{:.3} J ({:.3} to {:.3})",
        spread.median, spread.min, spread.max
    )
}

/// A stored run has them all.
fn energy(report: &EnergyReport) -> Vec<RunFigure> {
    let ratio =
        |label: &str, text: String, value| RunFigure::new(label, text, value, Measure::Ratio);
    let watts = |label: &str, watts: f64| ratio(label, format!("{watts:.2} W"), watts);
    let mut figures = Vec::new();
    if let Some(spread) = &report.spread {
        figures.push(ratio(
            "Energy a token, idle subtracted",
            joules(spread),
            spread.median,
        ));
    }
    if let Some(gross) = report.gross_joules_per_token {
        figures.push(ratio(
            "Energy a token, idle included",
            format!("{gross:.3} J"),
            gross,
        ));
    }
    figures.extend(report.idle_watts.map(|value| watts("Idle", value)));
    figures.extend(report.load_watts.map(|value| watts("Generating", value)));
    figures.extend(report.correct_per_wh.map(|value| {
        ratio(
            "Right MMLU answers a watt-hour",
            format!("{value:.1}"),
            value,
        )
    }));
    for (label, value) in [
        ("Measured at", &report.source),
        ("It counts", &report.covers),
    ] {
        figures.extend(
            value
                .iter()
                .map(|value| RunFigure::words(label, value.as_str())),
        );
    }
    figures.push(RunFigure::words(
        "Measured over",
        format!(
            "{} tokens in {}",
            grouped(u64::from(report.tokens)),
            duration(report.seconds)
        ),
    ));
    figures.extend(notes(&report.notes));
    figures
}

fn perplexity(report: &PerplexityReport) -> Vec<RunFigure> {
    vec![
        RunFigure::new(
            "Perplexity",
            format!("{:.4}", report.perplexity),
            report.perplexity,
            Measure::Ratio,
        ),
        RunFigure::words(
            "Mean negative log-likelihood",
            format!("{:.5} nats a token", report.nll_mean),
        ),
        RunFigure::count("Tokens scored", report.tokens),
        RunFigure::time("Time", report.seconds),
    ]
}

/// Speed-up, acceptance, proof, by prompt and by number of drafted tokens.
fn speculation_figures(report: &SpeculationReport) -> Vec<RunFigure> {
    let ratio =
        |label: &str, text: String, value| RunFigure::new(label, text, value, Measure::Ratio);
    let speed =
        |label: &str, value: f64| ratio(label, format!("{} tokens/s", significant(value)), value);
    let repeats = &report.speedup_repeats;
    let mut figures = vec![
        ratio(
            "Speed-up",
            format!(
                "{} ({:.2} to {:.2})",
                times(report.speedup),
                repeats.min,
                repeats.max
            ),
            report.speedup,
        ),
        RunFigure::words("Advice", report.advice.words.as_str()),
        speed("Plain decoding", report.baseline_tokens_per_s),
        speed("Speculative decoding", report.speculative_tokens_per_s),
    ];
    figures.extend(
        report
            .predicted_speedup
            .map(|value| ratio("Speed-up that theory predicts", times(value), value)),
    );
    figures.extend(
        report
            .acceptance_rate
            .map(|rate| RunFigure::share("Drafted tokens accepted", rate)),
    );
    figures.extend(report.alpha.map(|alpha| {
        ratio(
            "Probability that a drafted token is accepted (alpha)",
            format!("{alpha:.3}"),
            alpha,
        )
    }));
    figures.push(ratio(
        "Tokens of a pass of the target",
        format!("{:.2}", report.tokens_per_step),
        report.tokens_per_step,
    ));
    figures.push(RunFigure::words(
        "Output against plain decoding",
        match report.identical {
            Some(true) => "identical to the token".to_owned(),
            Some(false) => "differs".to_owned(),
            None => "drawn from the same distribution; tokens are not compared".to_owned(),
        },
    ));
    figures.extend([
        RunFigure::words("SHA-256 of plain tokens", report.baseline_sha256.as_str()),
        RunFigure::words(
            "SHA-256 of speculative tokens",
            report.speculative_sha256.as_str(),
        ),
    ]);
    figures.extend(report.by_prompt.iter().enumerate().map(|(at, prompt)| {
        let label = format!("Speed-up, prompt {}: {}", at + 1, kind_name(prompt.kind));
        ratio(&label, times(prompt.speedup), prompt.speedup)
    }));
    figures.extend(report.by_k.iter().map(|tried| {
        let label = format!("Speed-up with {} drafted at a time", tried.k);
        ratio(&label, times(tried.speedup), tried.speedup)
    }));
    figures.push(RunFigure::time("Time", report.seconds));
    figures.extend(notes(&report.notes));
    figures
}

/// Losses, recall, forgetting, and what the training took.
pub(crate) fn finetune_figures(report: &FinetuneReport) -> Vec<RunFigure> {
    let ratio =
        |label: &str, text: String, value| RunFigure::new(label, text, value, Measure::Ratio);
    let loss = |label: &str, loss: f64| {
        let text = format!("{loss:.4} nats a token (perplexity {:.2})", loss.exp());
        ratio(label, text, loss)
    };
    let mut figures = Vec::new();
    figures.extend(
        report
            .eval_loss_before
            .map(|l| loss("Held-out loss before", l)),
    );
    figures.extend(report.eval_loss.map(|l| loss("Held-out loss after", l)));
    figures.extend(
        report
            .loss
            .last()
            .map(|p| loss("Loss of the last step", p.loss)),
    );
    if let Some(recall) = report.recall {
        for (label, right) in [
            (
                "Training rows answered word for word, before",
                recall.before,
            ),
            ("Training rows answered word for word, after", recall.after),
        ] {
            figures.push(RunFigure::new(
                label,
                format!("{right} of {}", recall.rows),
                f64::from(right),
                Measure::Count,
            ));
        }
    }
    if let Some(forgetting) = &report.forgetting {
        figures.push(RunFigure::share("MMLU before", forgetting.accuracy_before));
        figures.push(RunFigure::share("MMLU after", forgetting.accuracy_after));
        figures.push(RunFigure::words(
            "MMLU, answers that changed",
            format!(
                "{} lost and {} gained of {}, p = {:.3}",
                forgetting.lost, forgetting.gained, forgetting.questions, forgetting.p_value
            ),
        ));
    }
    figures.extend([
        RunFigure::count("Steps", u64::from(report.steps)),
        RunFigure::count("Adapter kept of step", u64::from(report.best_step)),
        RunFigure::words("Ended", report.ending.as_str()),
        RunFigure::new(
            "Trainable parameters",
            format!(
                "{} ({:.3} %)",
                grouped(report.trainable_params),
                report.trainable_share * 100.0
            ),
            report.trainable_params as f64,
            Measure::Count,
        ),
        RunFigure::count("Rows trained on", u64::from(report.rows_train)),
        RunFigure::count("Rows held out", u64::from(report.rows_held_out)),
        RunFigure::count("Tokens", report.tokens),
        ratio(
            "Speed",
            format!("{} tokens/s", significant(report.tokens_per_s)),
            report.tokens_per_s,
        ),
        RunFigure::time("Time", report.seconds),
    ]);
    figures.extend(
        report
            .peak_rss_bytes
            .map(|bytes| RunFigure::bytes("Peak memory of the training process", bytes)),
    );
    match (report.joules, &report.energy_reason) {
        (Some(joules), _) => {
            let text = format!("{} J, idle included", significant(joules));
            figures.push(ratio("Energy", text, joules));
            figures.extend(
                report
                    .energy_covers
                    .iter()
                    .map(|covers| RunFigure::words("It counts", covers.as_str())),
            );
        }
        (None, Some(reason)) => {
            figures.push(RunFigure::words(
                "Energy",
                format!("not measured: {reason}"),
            ));
        }
        (None, None) => {}
    }
    figures.push(RunFigure::words("Prompt", report.template.as_str()));
    figures.push(RunFigure::words("Adapter", report.out.as_str()));
    figures.extend(
        report
            .adapter_sha256
            .iter()
            .map(|hash| RunFigure::words("SHA-256 of the adapter", hash.as_str())),
    );
    figures.extend(notes(&report.notes));
    figures
}

/// What fixes the result: model, hash, task, settings, machine.
pub(crate) fn facts(run: &RunRow) -> Vec<Fact> {
    let mut facts = vec![
        fact("Model", run.run.name.clone()),
        fact("File", run.run.path.clone()),
        fact("SHA-256 of the weights", run.run.sha256.clone()),
        fact("Quantization", run.run.quant.clone()),
        fact("Parameters", grouped(run.run.params)),
        fact("Task version", run.run.task_version.clone()),
    ];
    if run.run.task == "mmlu" {
        facts.push(fact(
            "Examples before a question",
            run.run.shots.to_string(),
        ));
    }
    facts.extend([
        fact("Seed", run.run.seed.to_string()),
        fact("Hardware", run.run.hardware.clone()),
        fact("Instruction set", run.run.isa.clone()),
        fact("Threads", run.run.threads.to_string()),
        fact("Version of Billion", run.app_version.clone()),
    ]);
    if let Some(settings) = run.run.settings.as_object() {
        facts.extend(
            settings
                .iter()
                .filter_map(|(key, value)| Some(fact(setting_words(key), setting_value(value)?))),
        );
    }
    facts
}

/// A setting for people; none where it was left open.
fn setting_value(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_u64().map_or_else(|| number.to_string(), grouped),
        Value::Bool(yes) => if *yes { "yes" } else { "no" }.to_owned(),
        Value::Array(items) if items.is_empty() => return None,
        Value::Array(items) => items
            .iter()
            .filter_map(setting_value)
            .collect::<Vec<_>>()
            .join(", "),
        Value::Object(_) => value.to_string(),
    })
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
        "problems" => "Problems from",
        "problems_sha256" => "SHA-256 of the problems",
        "context_len" => "Context in tokens",
        "ctx" => "Tokens in the cache or window",
        "prompt" => "Prompt tokens",
        "gen" => "Generated tokens",
        "repeat" => "Repeats",
        "batch" => "Sequences together",
        "depth" => "Tokens in the cache before",
        "n" => "Samples of each problem",
        "temperature" => "Temperature",
        "max_tokens" => "Most tokens of a completion",
        "form" => "Form of the prompt",
        "stop_at_half_width" => "Stops at a half width of",
        "adapter" => "Adapter",
        "adapter_sha256" => "SHA-256 of the adapter",
        other => other,
    }
}

fn fact(label: &str, value: String) -> Fact {
    Fact {
        label: label.to_owned(),
        value,
    }
}
