//! `results list` and `results show`.

use billion_workbench::Workbench;
use billion_workbench::api::{RunDetails, RunSummary};

use crate::args::Results;
use crate::output;

pub fn run(workbench: &Workbench, command: &Results, json: bool) -> anyhow::Result<()> {
    match *command {
        Results::List => {
            let runs = workbench.runs()?;
            if json {
                return output::json(&runs);
            }
            list(&runs);
        }
        Results::Show { id } => {
            let details = workbench.run_details(id)?;
            if json {
                return output::json(&details);
            }
            show(&details);
        }
    }
    Ok(())
}

fn list(runs: &[RunSummary]) {
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
