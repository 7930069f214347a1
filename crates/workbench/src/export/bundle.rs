//! What is exported: a scorecard or single runs, with the rows, charts and verdicts that follow from them.

use crate::api::{
    AnsweredQuestion, ApiError, ChartData, ExportRequest, JudgedCompletion, ModelIdentity,
    Scorecard, ScorecardRow,
};
use crate::charts::run_charts;
use crate::facade::Workbench;
use crate::scorecards::{Line, charts_of, hardware_words};
use crate::store::RunRow;
use crate::words::{plain, task_words};

/// Everything but the answers.
pub(super) struct Bundle {
    pub(super) heading: String,
    pub(super) scorecard: Option<Scorecard>,
    pub(super) rows: Vec<ScorecardRow>,
    pub(super) verdicts: Vec<String>,
    pub(super) charts: Vec<ChartData>,
    pub(super) runs: Vec<RunRow>,
    pub(super) hardware: String,
    /// Commands that make it again.
    pub(super) commands: Vec<String>,
    pub(super) identities: Vec<ModelIdentity>,
    /// Answers and completions behind the figures.
    pub(super) answers: u64,
}

/// A run with its answers.
pub(super) struct RunContents {
    pub(super) row: RunRow,
    pub(super) questions: Vec<AnsweredQuestion>,
    pub(super) completions: Vec<JudgedCompletion>,
}

impl Workbench {
    /// Gathers what a request names.
    pub(super) fn bundle(&self, request: &ExportRequest) -> Result<Bundle, ApiError> {
        let scorecard = request.scorecard.map(|id| self.scorecard(id)).transpose()?;
        let mut runs = match request.scorecard {
            Some(id) => self.scorecard_runs(id)?,
            None => Vec::new(),
        };
        runs.reverse();
        for &id in &request.runs {
            if runs.iter().any(|run| run.id == id) {
                continue;
            }
            let run = self.store.run(id)?;
            if run.report.is_none() {
                return Err(ApiError::failed(format!(
                    "run {id} is not finished; resume its job first, then export it"
                )));
            }
            runs.push(run);
        }
        if scorecard.is_none() && runs.is_empty() {
            return Err(ApiError::failed(
                "nothing to export: name a run of `billion results list`, or a scorecard",
            ));
        }
        let seen: Vec<String> = runs.iter().map(|run| run.run.model.clone()).collect();
        let identities = self.identities_with(&seen)?;
        let answers = runs
            .iter()
            .map(|run| self.store.count_answers(run.id))
            .sum::<Result<u64, _>>()?;
        // Runs beside a scorecard come along as data; its figures are its own.
        if let Some(card) = scorecard {
            return Ok(Bundle {
                heading: format!(
                    "Scorecard {} ({})",
                    card.id,
                    crate::jobs::size_word(card.size)
                ),
                rows: card.rows.clone(),
                verdicts: card.verdicts.clone(),
                charts: card.charts.clone(),
                hardware: card.hardware.clone(),
                commands: vec![card.command.clone()],
                scorecard: Some(card),
                runs,
                identities,
                answers,
            });
        }
        let lines = self.lines_of(&runs)?;
        let charts = match &runs[..] {
            [run] => run_charts(run)?,
            _ => charts_of(&lines),
        };
        Ok(Bundle {
            heading: heading(&runs),
            scorecard: None,
            verdicts: self.verdicts(&lines)?,
            rows: lines.into_iter().map(|line| line.row).collect(),
            charts,
            hardware: hardware(&runs),
            commands: runs.iter().map(|run| run.run.command.clone()).collect(),
            runs,
            identities,
            answers,
        })
    }

    /// A line for each model and quantization, in the order of the runs; of several runs of a task the last counts.
    fn lines_of(&self, runs: &[RunRow]) -> Result<Vec<Line>, ApiError> {
        let mut models: Vec<(&str, &str)> = Vec::new();
        for run in runs {
            let model = (run.run.model.as_str(), run.run.quant.as_str());
            if !models.contains(&model) {
                models.push(model);
            }
        }
        models
            .into_iter()
            .map(|(model, quant)| {
                let own: Vec<&RunRow> = runs
                    .iter()
                    .rev()
                    .filter(|run| run.run.model == model && run.run.quant == quant)
                    .collect();
                self.line(model, &own)
            })
            .collect()
    }

    /// The runs with their answers.
    pub(super) fn contents(&self, runs: &[RunRow]) -> Result<Vec<RunContents>, ApiError> {
        runs.iter()
            .map(|row| {
                Ok(RunContents {
                    questions: self.questions(row)?,
                    completions: self.completions(row)?,
                    row: row.clone(),
                })
            })
            .collect()
    }
}

fn heading(runs: &[RunRow]) -> String {
    if let [run] = runs {
        return format!(
            "Run {}: {} of {}",
            run.id,
            task_words(&run.run.task),
            plain(&run.run.name)
        );
    }
    let ids: Vec<String> = runs.iter().map(|run| run.id.to_string()).collect();
    format!("Runs {}", ids.join(", "))
}

/// The machine, or all of them.
fn hardware(runs: &[RunRow]) -> String {
    let mut machines: Vec<&str> = Vec::new();
    for run in runs {
        if !machines.contains(&run.run.hardware.as_str()) {
            machines.push(&run.run.hardware);
        }
    }
    match machines[..] {
        [machine] => hardware_words(machine, runs),
        _ => machines.join("; and "),
    }
}
