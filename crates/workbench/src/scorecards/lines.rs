//! A line of a scorecard from the runs of one model: figures, what others say, and badges.

use crate::api::{ApiError, Figure, ScorecardRow};
use crate::facade::Workbench;
use crate::references::{Described, Measured, badge, references};
use crate::reports::{
    EnergyReport, HumanEvalReport, MemoryReport, MmluReport, SpeedReport, Spread,
};
use crate::store::RunRow;
use crate::words::grouped;

use super::report_of;

/// A row, and the reports that finer charts and verdicts are made from.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) row: ScorecardRow,
    pub(crate) mmlu: Option<MmluReport>,
    pub(crate) memory: Option<MemoryReport>,
}

/// A row without any figure.
pub(crate) fn empty_row(model: &str) -> ScorecardRow {
    ScorecardRow {
        model: model.to_owned(),
        name: model.to_owned(),
        quant: "unknown".to_owned(),
        params: 0,
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
        gaps: Vec::new(),
        notes: Vec::new(),
    }
}

impl Workbench {
    /// The line of a model from its finished runs; of each task the first counts.
    pub(crate) fn line(&self, model: &str, runs: &[&RunRow]) -> Result<Line, ApiError> {
        let of = |task: &str| runs.iter().find(|run| run.run.task == task);
        let mut row = self.named_row(model, runs.first().copied());
        if let Some(run) = of("memory") {
            memory_figures(&mut row, run)?;
        }
        if let Some(run) = of("speed") {
            speed_figures(&mut row, run)?;
        }
        let memory = of("memory").map(|run| report_of(run)).transpose()?;
        let mmlu: Option<MmluReport> = of("mmlu").map(|run| report_of(run)).transpose()?;
        let name = row.name.clone();
        let described = Described {
            id: model,
            name: &name,
            params: row.params,
            settings: runs.first().map(|run| &run.run.settings),
        };
        row.references = references(described);
        if let (Some(run), Some(report)) = (of("mmlu"), &mmlu) {
            row.mmlu = Some(mmlu_figure(run, report));
            let notes = report.notes.iter().map(|note| format!("MMLU: {note}"));
            row.notes.extend(notes);
            row.badges.extend(badge(
                described,
                Measured {
                    task: "mmlu",
                    value: report.accuracy,
                    ci95: report.ci95,
                    shots: report.shots,
                    total: report.total,
                    subjects: report.by_subject.len(),
                    quant: &run.run.quant,
                },
            ));
        }
        if let Some(run) = of("humaneval") {
            let report: HumanEvalReport = report_of(run)?;
            row.humaneval = Some(humaneval_figure(run, &report));
            row.badges.extend(badge(
                described,
                Measured {
                    task: "humaneval",
                    value: report.pass_at_1,
                    ci95: report.ci95,
                    shots: 0,
                    total: report.problems,
                    subjects: 0,
                    quant: &run.run.quant,
                },
            ));
        }
        if let Some(run) = of("energy") {
            energy_figure(&mut row, run)?;
        }
        Ok(Line { row, mmlu, memory })
    }

    /// Names from a run, or else from the library, or else from the id alone.
    fn named_row(&self, model: &str, run: Option<&RunRow>) -> ScorecardRow {
        let (name, quant, params) = match run {
            Some(run) => (run.run.name.clone(), run.run.quant.clone(), run.run.params),
            None => match self.resolve(model) {
                Ok(model) => (model.name, model.facts.quant, model.facts.params),
                Err(_) => return empty_row(model),
            },
        };
        ScorecardRow {
            name,
            quant,
            params,
            ..empty_row(model)
        }
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
            grouped(u64::from(report.correct)),
            grouped(u64::from(report.total)),
            report.shots
        ),
        run: Some(run.id),
    }
}

fn humaneval_figure(run: &RunRow, report: &HumanEvalReport) -> Figure {
    let form = match report.form.as_deref() {
        Some("instruct") => "asked through the chat template",
        _ => "continued from the prompt",
    };
    Figure {
        value: report.pass_at_1,
        lo: Some(report.ci95[0]),
        hi: Some(report.ci95[1]),
        unit: "accuracy".to_owned(),
        how: format!(
            "pass@1 with its 95 % interval (Wilson); {} of {} completions of {} problems pass every test, {}, {form}",
            report.passed,
            grouped(u64::from(report.total)),
            report.problems,
            if report.temperature == 0.0 {
                "greedy".to_owned()
            } else {
                format!("temperature {}", report.temperature)
            }
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
            grouped(u64::from(report.ctx))
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

fn energy_figure(row: &mut ScorecardRow, run: &RunRow) -> Result<(), ApiError> {
    let report: EnergyReport = report_of(run)?;
    row.energy = report.spread.as_ref().map(|spread| Figure {
        value: spread.median,
        lo: Some(spread.min),
        hi: Some(spread.max),
        unit: "J/token".to_owned(),
        how: format!(
            "median, least and most of {} repeats of generating {} tokens, idle machine subtracted; measured by {}{}",
            spread.runs.len(),
            report.generate,
            report.source.as_deref().unwrap_or("an unknown source"),
            report
                .covers
                .as_ref()
                .map_or_else(String::new, |covers| format!(", which counts {covers}"))
        ),
        run: Some(run.id),
    });
    if let (Some(right), Some(joules)) = (report.correct_per_wh, report.mmlu_joules) {
        row.correct_per_wh = Some(Figure {
            value: right,
            lo: None,
            hi: None,
            unit: "1/Wh".to_owned(),
            how: format!(
                "right MMLU answers by the energy of asking all questions, {:.3} Wh, idle subtracted; {}",
                joules / 3600.0,
                report.covers.as_deref().unwrap_or("source unknown")
            ),
            run: Some(run.id),
        });
    }
    row.notes
        .extend(report.notes.iter().map(|note| format!("energy: {note}")));
    if row.energy.is_some() && row.mmlu.is_some() && row.correct_per_wh.is_none() {
        row.notes.push(
            "energy: right answers per watt-hour are counted only where one session asks every MMLU question and measures the idle machine; measure again to have them"
                .to_owned(),
        );
    }
    Ok(())
}
