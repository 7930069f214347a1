//! `results list`, `show`, `compare` and `export`.

use std::fmt::Write as _;

use billion_workbench::Workbench;
use billion_workbench::api::{ExportRequest, RunComparison, RunDetails, RunSummary};

use crate::args::Results;
use crate::output;

pub fn run(workbench: &Workbench, command: &Results, json: bool) -> anyhow::Result<()> {
    match command {
        Results::List { task, model } => {
            let mut runs = workbench.runs()?;
            runs.retain(|run| {
                task.as_ref().is_none_or(|task| run.task == *task)
                    && model.as_ref().is_none_or(|model| run.model == *model)
            });
            if json {
                return output::json(&runs);
            }
            list(&runs, task.is_some() || model.is_some());
        }
        Results::Show { id } => {
            let details = workbench.run_details(*id)?;
            if json {
                return output::json(&details);
            }
            show(&details);
        }
        Results::Compare { a, b } => {
            let comparison = workbench.compare_runs(*a, *b)?;
            if json {
                return output::json(&comparison);
            }
            compare(&comparison);
        }
        Results::Export(args) => {
            let exported = workbench.export_results(&ExportRequest {
                scorecard: args.scorecard,
                runs: args.ids.clone(),
                format: args.format()?,
                out: args.out.display().to_string(),
            })?;
            if json {
                return output::json(&exported);
            }
            output::print(&format!(
                "Wrote {} ({})\n",
                exported.path,
                output::size(exported.bytes)
            ));
        }
    }
    Ok(())
}

/// Flips that a table for people lists.
const FLIPS_SHOWN: usize = 20;

fn compare(comparison: &RunComparison) {
    let head = |run: &RunSummary| format!("RUN {}: {} {}", run.id, run.model, run.quant);
    let rows: Vec<Vec<String>> = comparison
        .rows
        .iter()
        .map(|row| {
            vec![
                row.label.clone(),
                row.a.clone(),
                row.b.clone(),
                row.change.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let (a, b) = (head(&comparison.a), head(&comparison.b));
    output::table(&["", &a, &b, "CHANGE"], &[3], &rows);
    let mut text = String::from("\n");
    if comparison.shared > 0 {
        let _ = writeln!(
            text,
            "Of {} questions that both answered: {} both right, {} only the first, {} only the second, {} both wrong",
            comparison.shared,
            comparison.both_right,
            comparison.only_a,
            comparison.only_b,
            comparison.both_wrong
        );
    }
    for flip in comparison.flips.iter().take(FLIPS_SHOWN) {
        let _ = writeln!(
            text,
            "  {}: {} against {}, right is {}",
            flip.name, flip.a, flip.b, flip.gold
        );
    }
    if comparison.flips.len() > FLIPS_SHOWN {
        let _ = writeln!(
            text,
            "  and {} more; --json lists them all with their questions",
            comparison.flips.len() - FLIPS_SHOWN
        );
    }
    for line in comparison.notes.iter().chain(&comparison.verdict) {
        text += line;
        text.push('\n');
    }
    output::print(&text);
}

fn list(runs: &[RunSummary], filtered: bool) {
    if runs.is_empty() && filtered {
        output::print("No stored run is of that task and model; leave --task or --model out\n");
        return;
    }
    if runs.is_empty() {
        output::print("No run is stored yet; try: billion scorecard --models starter --quick\n");
        return;
    }
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            vec![
                run.id.to_string(),
                output::date(run.created_at),
                run.task.clone(),
                run.model.clone(),
                run.quant.clone(),
                run.headline.clone(),
            ]
        })
        .collect();
    output::table(
        &["RUN", "ENDED (UTC)", "TASK", "MODEL", "QUANT", "RESULT"],
        &[0],
        &rows,
    );
}

fn show(details: &RunDetails) {
    let summary = &details.summary;
    let mut rows = vec![
        ("Run".to_owned(), summary.id.to_string()),
        ("Task".to_owned(), summary.task.clone()),
        ("Model".to_owned(), summary.model.clone()),
        ("Ended (UTC)".to_owned(), output::date(summary.created_at)),
    ];
    let facts = details.figures.iter().chain(&details.facts);
    rows.extend(facts.map(|fact| (fact.label.clone(), fact.value.clone())));
    rows.push(("Again".to_owned(), details.command.clone()));
    output::pairs(&rows);
    if !details.questions.is_empty() {
        let wrong = details
            .questions
            .iter()
            .filter(|q| q.pred != q.gold)
            .count();
        output::print(&format!(
            "\n{} questions, {wrong} answered wrong; --json lists them all\n",
            details.questions.len()
        ));
    }
}
