//! Stored runs as people see them: the list, one run with all it holds, deletion, and the charts over all of them.

use std::path::Path;

use billion_eval::tasks::humaneval::{Verdict, read_problems};
use billion_eval::tasks::mmlu::MmluData;

use crate::api::{
    AnsweredQuestion, ApiError, ChartData, JudgedCompletion, ModelIdentity, RunDetails, RunSummary,
};
use crate::charts::{run_charts, stored_charts};
use crate::facade::Workbench;
use crate::figures::{RunFigure, facts, figures, headline};
use crate::reports::MmluReport;
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
        Ok(RunDetails {
            summary: summary(&run),
            facts: facts(&run),
            figures: figures(&run)?.into_iter().map(RunFigure::fact).collect(),
            questions: self.questions(&run)?,
            completions: self.completions(&run)?,
            charts: run_charts(&run)?,
            command: run.run.command.clone(),
        })
    }

    /// The chart that the project argues for, from the stored runs: quality, code and right answers a watt-hour against
    /// parameters. Of each model and quantization the MMLU run with most questions counts, and else the latest run.
    pub fn stored_charts(&self) -> Result<Vec<ChartData>, ApiError> {
        let runs = self.store.runs(RunFilter {
            finished: true,
            ..RunFilter::default()
        })?;
        // The oldest model first, so that a chart only grows at its end.
        let mut models: Vec<(&str, &str)> = Vec::new();
        for run in runs.iter().rev() {
            let model = (run.run.model.as_str(), run.run.quant.as_str());
            if !models.contains(&model) {
                models.push(model);
            }
        }
        let mut lines = Vec::with_capacity(models.len());
        for (model, quant) in models {
            let mut own: Vec<&RunRow> = runs
                .iter()
                .filter(|run| run.run.model == model && run.run.quant == quant)
                .collect();
            // A stable sort keeps the latest first among equals; a run that cannot be read counts for nothing.
            own.sort_by_key(|run| std::cmp::Reverse(questions_of(run)));
            own.retain(|run| run.run.task != "mmlu" || questions_of(run) > 0);
            lines.push(self.line(model, &own)?);
        }
        Ok(stored_charts(&lines))
    }

    /// The place of every model of this machine and of the stored runs in the order of first use. It decides the colour
    /// and the marker of a model in every chart, column and export, and never changes.
    pub fn identities(&self) -> Result<Vec<ModelIdentity>, ApiError> {
        let mut seen: Vec<String> = Vec::new();
        // A library that cannot be read costs no colours of stored runs.
        seen.extend(
            self.library
                .installed()
                .unwrap_or_default()
                .into_iter()
                .map(|model| model.id),
        );
        let tuned = self.store.finetunes()?.into_iter().rev();
        seen.extend(
            tuned
                .filter(|row| row.adapter.is_some())
                .map(|row| row.tuned),
        );
        let runs = self.store.runs(RunFilter::default())?;
        seen.extend(runs.into_iter().rev().map(|run| run.run.model));
        self.identities_with(&seen)
    }

    /// The places, after those of `models` that had none got theirs in this order.
    pub(crate) fn identities_with(
        &self,
        models: &[String],
    ) -> Result<Vec<ModelIdentity>, ApiError> {
        let order = self.store.know_models(models)?;
        Ok(order
            .into_iter()
            .zip(0..)
            .map(|(model, index)| ModelIdentity { model, index })
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

    /// The answered questions of an MMLU run, with their texts where their source is still there.
    pub(crate) fn questions(&self, run: &RunRow) -> Result<Vec<AnsweredQuestion>, ApiError> {
        let samples = self.store.samples(run.id)?;
        let data = run.run.settings["data"]
            .as_str()
            .filter(|_| !samples.is_empty());
        // Without its source a question shows its row only.
        let data = data.and_then(|path| read_mmlu(Path::new(path)).ok());
        Ok(samples
            .iter()
            .map(|sample| question(sample, data.as_ref()))
            .collect())
    }

    /// The completions of a HumanEval run with their problems.
    pub(crate) fn completions(&self, run: &RunRow) -> Result<Vec<JudgedCompletion>, ApiError> {
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
}

/// Questions that an MMLU run answered; 0 of any other.
fn questions_of(run: &RunRow) -> u32 {
    if run.run.task != "mmlu" {
        return 0;
    }
    report_of::<MmluReport>(run).map_or(0, |report| report.total)
}

/// A run as listed.
pub(crate) fn summary(run: &RunRow) -> RunSummary {
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

/// A stored verdict for people, in the sandbox's own words; one of another version as it stands.
pub(crate) fn verdict_words(verdict: &str) -> String {
    if verdict.is_empty() {
        return "not run".to_owned();
    }
    serde_json::from_value::<Verdict>(verdict.into()).map_or_else(
        |_| verdict.replace('_', " "),
        |verdict| verdict.words().to_owned(),
    )
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
