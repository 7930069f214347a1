//! `scorecard`: every measurement of one model or several.

use std::fmt::Write as _;

use billion_workbench::Workbench;
use billion_workbench::api::{
    ExportFormat, ExportRequest, Figure, Scorecard as Card, ScorecardRequest,
};

use crate::args::Scorecard;
use crate::output;
use crate::progress::Bar;

pub fn run(workbench: &Workbench, args: &Scorecard, json: bool) -> anyhow::Result<()> {
    let engine = args.engine.options(None);
    if let Some(adapter) = engine.adapter.as_ref().filter(|_| args.models.len() > 1) {
        anyhow::bail!(
            "--adapter {} belongs to one model, and {} are named; make a scorecard of each, results compare sets them side by \
             side",
            adapter.display(),
            args.models.len()
        );
    }
    let request = ScorecardRequest {
        models: args.models.clone(),
        size: args.size(),
        stop_at_half_width: args.stop_at,
        mmlu: args.data.as_ref().map(|path| path.display().to_string()),
    };
    if let Some(file) = &args.html {
        workbench.check_export(file)?;
    }
    let bar = Bar::new();
    let card = workbench.run_scorecard(&request, &engine, &mut |progress| bar.show(progress))?;
    drop(bar);
    if let Some(file) = &args.html {
        let report = workbench.export_results(&ExportRequest {
            scorecard: Some(card.id),
            runs: Vec::new(),
            format: ExportFormat::Html,
            out: file.display().to_string(),
        })?;
        output::say(&format!(
            "wrote the report {} ({})",
            report.path,
            output::size(report.bytes)
        ));
    }
    if json {
        return output::json(&card);
    }
    show(&card);
    Ok(())
}

fn show(card: &Card) {
    let rows: Vec<Vec<String>> = card
        .rows
        .iter()
        .map(|row| {
            let mut cells = vec![
                row.model.clone(),
                output::params(row.params),
                row.quant.clone(),
            ];
            cells.extend(
                [
                    &row.mmlu,
                    &row.humaneval,
                    &row.prefill,
                    &row.decode,
                    &row.ttft,
                    &row.load,
                    &row.peak_memory,
                    &row.energy,
                ]
                .map(|figure| figure.as_ref().map_or_else(|| "-".to_owned(), text)),
            );
            cells
        })
        .collect();
    output::table(
        &[
            "MODEL",
            "PARAMS",
            "QUANT",
            "MMLU",
            "HUMANEVAL",
            "READ",
            "GENERATE",
            "FIRST TOKEN",
            "LOAD",
            "MEMORY",
            "ENERGY",
        ],
        &[1, 3, 4, 5, 6, 7, 8, 9, 10],
        &rows,
    );
    let mut text = String::new();
    for row in &card.rows {
        for note in row.remarks() {
            let _ = writeln!(text, "{}: {note}", row.model);
        }
    }
    for verdict in &card.verdicts {
        text += verdict;
        text.push('\n');
    }
    output::print(&format!(
        "\n{text}Measured on {}; stored as scorecard {}. Again: {}\n",
        card.hardware, card.id, card.command
    ));
}

/// A figure with its interval, by unit.
fn text(figure: &Figure) -> String {
    let of = |value: f64| match figure.unit.as_str() {
        "accuracy" => format!("{:.1}", 100.0 * value),
        "bytes" => output::size(value as u64),
        "s" => format!("{value:.2}"),
        "J/token" => format!("{value:.3}"),
        _ => format!("{value:.1}"),
    };
    let unit = match figure.unit.as_str() {
        "accuracy" => " %",
        "bytes" => "",
        other => &format!(" {other}"),
    };
    match (figure.lo, figure.hi) {
        (Some(lo), Some(hi)) => format!("{}{unit} ({} to {})", of(figure.value), of(lo), of(hi)),
        _ => format!("{}{unit}", of(figure.value)),
    }
}
