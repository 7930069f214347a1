//! Scorecards as people see them: assembled from the stored runs, with charts and verdicts in words.

mod lines;
mod verdicts;

use std::fmt::Write as _;

use crate::api::{ApiError, ChartData, Gap, Scorecard, ScorecardHead};
use crate::charts::{ChartRow, scorecard_charts};
use crate::facade::Workbench;
use crate::jobs::size_word;
use crate::measure::shell;
use crate::store::{RunFilter, RunRow, ScorecardRowStored};
use crate::words::task_words;

pub(crate) use lines::Line;
#[cfg(test)]
pub(crate) use lines::empty_row;
pub(crate) use verdicts::Answers;

/// Tasks of a scorecard.
const TASKS: [&str; 4] = ["memory", "speed", "mmlu", "humaneval"];

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
        let runs = self.scorecard_runs(id)?;
        let notes = self.store.notes(id)?;
        let mut lines = Vec::with_capacity(stored.models.len());
        let mut complete = true;
        for model in &stored.models {
            let own: Vec<&RunRow> = runs.iter().filter(|run| run.run.model == *model).collect();
            let mut line = self.line(model, &own)?;
            let reasons = notes.iter().filter(|note| note.model == *model);
            line.row.gaps = reasons
                .map(|note| Gap {
                    task: note.task.clone(),
                    pending: false,
                    words: match note.task.as_str() {
                        "load" => format!("could not be loaded: {}", note.text),
                        task => format!("{}: {}", task_words(task), note.text),
                    },
                })
                .collect();
            for task in TASKS {
                if own.iter().all(|run| run.run.task != task) {
                    complete = false;
                    if line.row.gaps.iter().all(|gap| gap.task != task) {
                        line.row.gaps.push(Gap {
                            task: task.to_owned(),
                            pending: true,
                            words: format!("{}: not measured yet", task_words(task)),
                        });
                    }
                }
            }
            lines.push(line);
        }
        Ok(Scorecard {
            id,
            created_at: stored.created_at,
            size: stored.size,
            complete,
            charts: charts_of(&lines),
            verdicts: self.verdicts(&lines)?,
            rows: lines.into_iter().map(|line| line.row).collect(),
            hardware: hardware_words(&stored.hardware, &runs),
            command: command(&stored),
        })
    }

    /// The finished runs of a scorecard, the latest first.
    pub(crate) fn scorecard_runs(&self, id: u32) -> Result<Vec<RunRow>, ApiError> {
        self.store.runs(RunFilter {
            scorecard: Some(id),
            finished: true,
            ..RunFilter::default()
        })
    }

    /// Tasks of a scorecard that are finished for a model.
    pub(crate) fn finished_tasks(
        &self,
        scorecard: u32,
        model: &str,
    ) -> Result<Vec<String>, ApiError> {
        Ok(self
            .scorecard_runs(scorecard)?
            .into_iter()
            .filter(|run| run.run.model == model)
            .map(|run| run.run.task)
            .collect())
    }
}

/// The command that makes a scorecard again.
fn command(stored: &ScorecardRowStored) -> String {
    let mut text = format!(
        "billion scorecard --models {} --{}",
        stored.models.join(","),
        size_word(stored.size).to_lowercase()
    );
    if let Some(threads) = stored.engine.threads {
        let _ = write!(text, " --threads {threads}");
    }
    if let Some(width) = stored.stop_at_half_width {
        let _ = write!(text, " --stop-at {}", 100.0 * width);
    }
    if let Some(path) = &stored.mmlu {
        let _ = write!(text, " --data {}", shell(path));
    }
    text
}

/// The charts of a scorecard's lines.
pub(crate) fn charts_of(lines: &[Line]) -> Vec<ChartData> {
    let rows: Vec<ChartRow<'_>> = lines
        .iter()
        .map(|line| ChartRow {
            row: &line.row,
            mmlu: line.mmlu.as_ref(),
            memory: line.memory.as_ref(),
        })
        .collect();
    scorecard_charts(&rows)
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

/// The machine, with the instruction set and threads of the runs where they agree.
pub(crate) fn hardware_words(stored: &str, runs: &[RunRow]) -> String {
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
