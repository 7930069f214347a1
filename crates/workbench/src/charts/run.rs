//! The charts of a single run.

use billion_eval::tasks::mmlu::GROUPS;

use super::{
    accuracy, bare, by_group, categories, chance_points, measured, part_point, shown, subject_label,
};
use crate::api::{Axis, ChartData, ChartForm, ChartPoint, ChartSeries};
use crate::finetune::FinetuneReport;
use crate::reports::{
    EnergyReport, HumanEvalReport, MemoryReport, MmluReport, SpeedReport, Spread,
};
use crate::results::verdict_words;
use crate::store::RunRow;
use crate::words::subject_words;

/// The charts of a finished run, by its task.
pub(crate) fn run_charts(run: &RunRow) -> Result<Vec<ChartData>, crate::api::ApiError> {
    use crate::scorecards::report_of;
    Ok(match run.run.task.as_str() {
        _ if run.report.is_none() => Vec::new(),
        "mmlu" => mmlu(run, &report_of(run)?),
        "humaneval" => humaneval(run, &report_of(run)?),
        "speed" => speed(run, &report_of(run)?),
        "memory" => memory(run, &report_of(run)?),
        "energy" => energy(run, &report_of(run)?),
        "finetune" => {
            let report: FinetuneReport = report_of(run)?;
            super::loss_charts(&run.run.model, &report.loss, &report.held_out_loss)
        }
        "speculate" => super::speculation_charts(&report_of(run)?, &run.run.name),
        _ => Vec::new(),
    })
}

fn mmlu(run: &RunRow, report: &MmluReport) -> Vec<ChartData> {
    let groups: Vec<(&str, _)> = GROUPS
        .iter()
        .filter_map(|group| Some((*group, report.by_group.get(*group)?)))
        .collect();
    let subjects = by_group(report.by_subject.keys());
    let few = match chance_points(std::iter::once(&report.by_subject)) {
        Some(points) if points > 5.0 => {
            format!(": few questions each, ±{points:.0} points can be chance")
        }
        _ => String::new(),
    };
    shown([
        dots(
            run,
            "MMLU accuracy by group, with 95 % intervals".to_owned(),
            categories(
                "Group",
                groups.iter().map(|(name, _)| subject_words(name)).collect(),
            ),
            accuracy("MMLU accuracy"),
            groups
                .iter()
                .enumerate()
                .map(|(place, (_, part))| part_point(place as f64, part))
                .collect(),
        ),
        dots(
            run,
            format!("MMLU accuracy by subject, with 95 % intervals{few}"),
            categories(
                "Subject",
                subjects.iter().map(|name| subject_label(name)).collect(),
            ),
            accuracy("MMLU accuracy"),
            subjects
                .iter()
                .enumerate()
                .filter_map(|(place, name)| {
                    Some(part_point(place as f64, report.by_subject.get(*name)?))
                })
                .collect(),
        ),
    ])
}

fn humaneval(run: &RunRow, report: &HumanEvalReport) -> Vec<ChartData> {
    let counts: Vec<(&String, &u32)> = report.verdicts.iter().collect();
    shown([dots(
        run,
        "What came of running each completion".to_owned(),
        categories(
            "Verdict",
            counts.iter().map(|(name, _)| verdict_words(name)).collect(),
        ),
        measured("Completions", ""),
        counts
            .iter()
            .enumerate()
            .map(|(place, (_, count))| bare(place as f64, f64::from(**count)))
            .collect(),
    )])
}

fn speed(run: &RunRow, report: &SpeedReport) -> Vec<ChartData> {
    shown([
        repeats(
            run,
            "Generation speed of each repeat",
            measured("Generation", "tokens/s"),
            &report.decode_tokens_per_s,
        ),
        repeats(
            run,
            "Reading speed of each repeat",
            measured("Reading a prompt", "tokens/s"),
            &report.prefill_tokens_per_s,
        ),
    ])
}

fn energy(run: &RunRow, report: &EnergyReport) -> Vec<ChartData> {
    shown(report.spread.as_ref().map(|spread| {
        repeats(
            run,
            "Energy a token of each repeat, idle subtracted",
            measured("Energy of generating", "J/token"),
            spread,
        )
    }))
}

/// A dot for each repeat; one that lies far from the rest says so.
fn repeats(run: &RunRow, title: &str, y: Axis, spread: &Spread) -> ChartData {
    let names = (0..spread.runs.len()).map(|place| {
        let apart = spread.outliers.contains(&(place as u32));
        format!("repeat {}{}", place + 1, if apart { ", apart" } else { "" })
    });
    dots(
        run,
        title.to_owned(),
        categories("Repeat", names.collect()),
        y,
        spread
            .runs
            .iter()
            .enumerate()
            .map(|(place, &value)| bare(place as f64, value))
            .collect(),
    )
}

fn memory(run: &RunRow, report: &MemoryReport) -> Vec<ChartData> {
    let mut parts = vec![
        ("weights", report.weights_bytes),
        ("KV cache, full", report.kv_bytes),
    ];
    parts.extend(
        report
            .idle_rss_bytes
            .map(|bytes| ("engine after loading", bytes)),
    );
    parts.push(("peak of the engine", report.peak_rss_bytes));
    shown([dots(
        run,
        "Memory: the weights, a full cache, and what the engine took".to_owned(),
        categories(
            "Part",
            parts.iter().map(|(name, _)| (*name).to_owned()).collect(),
        ),
        measured("Memory", "GB"),
        parts
            .iter()
            .enumerate()
            .map(|(place, &(_, bytes))| bare(place as f64, bytes as f64 / 1e9))
            .collect(),
    )])
}

fn dots(run: &RunRow, title: String, x: Axis, y: Axis, points: Vec<ChartPoint>) -> ChartData {
    ChartData {
        title,
        form: ChartForm::Dots,
        x,
        y,
        value: None,
        series: vec![ChartSeries {
            model: run.run.model.clone(),
            name: run.run.name.clone(),
            points,
            marks: Vec::new(),
            dashed: false,
        }],
    }
}
