//! What a scorecard's figures say, in words: against guessing, and model against model on the same questions.

use std::collections::BTreeMap;

use billion_eval::stats::compare_paired;

use crate::api::ApiError;
use crate::charts::CHANCE;
use crate::facade::Workbench;
use crate::reports::MmluReport;
use crate::words::{counted, percent};

use super::Line;

/// Question key and whether it was answered right.
pub(crate) type Answers = BTreeMap<String, bool>;

impl Workbench {
    /// Every verdict that the lines allow.
    pub(crate) fn verdicts(&self, lines: &[Line]) -> Result<Vec<String>, ApiError> {
        let mut verdicts: Vec<String> = lines
            .iter()
            .filter_map(|line| against_chance(&line.row.name, line.mmlu.as_ref()?))
            .collect();
        let mut mmlu = Vec::new();
        for line in lines {
            if let Some(run) = line.row.mmlu.as_ref().and_then(|figure| figure.run) {
                mmlu.push((line.row.name.as_str(), self.mmlu_answers(run)?));
            }
        }
        verdicts.extend(pairs("MMLU", &mmlu));
        let mut humaneval = Vec::new();
        for line in lines {
            if let Some(run) = line.row.humaneval.as_ref().and_then(|figure| figure.run) {
                humaneval.push((line.row.name.as_str(), self.humaneval_answers(run)?));
            }
        }
        verdicts.extend(pairs("HumanEval", &humaneval));
        Ok(verdicts)
    }

    /// Which problems of a HumanEval run the first sample of each solved.
    fn humaneval_answers(&self, run: u32) -> Result<Answers, ApiError> {
        let made = self.store.completions(run)?;
        Ok(made
            .into_iter()
            .filter(|made| made.sample == 0)
            .map(|made| {
                let passed = made.judged.is_some_and(|judged| judged.verdict == "passed");
                (made.task_id, passed)
            })
            .collect())
    }

    /// Which questions of an MMLU run were answered right.
    pub(crate) fn mmlu_answers(&self, run: u32) -> Result<Answers, ApiError> {
        let samples = self.store.samples(run)?;
        Ok(samples
            .into_iter()
            .map(|s| (format!("{}/{}", s.subject, s.index), s.correct))
            .collect())
    }
}

fn pairs(task: &str, answers: &[(&str, Answers)]) -> Vec<String> {
    let mut verdicts = Vec::new();
    for (place, (first, right)) in answers.iter().enumerate() {
        for (second, other) in &answers[place + 1..] {
            if let Some(comparison) = compare_paired([first, second], right, other) {
                verdicts.push(format!("{task}: {}", comparison.text));
            }
        }
    }
    verdicts
}

/// Whether a model knows anything at all.
fn against_chance(name: &str, report: &MmluReport) -> Option<String> {
    let [lo, hi] = report.ci95;
    let range = format!(
        "{} ({:.1} to {:.1} %)",
        percent(report.accuracy),
        lo * 100.0,
        hi * 100.0
    );
    (report.total > 0).then(|| match (lo > CHANCE, hi < CHANCE) {
        (true, _) => format!("{name} is better than guessing on MMLU: {range} against 25 %"),
        (_, true) => format!("{name} is worse than guessing on MMLU: {range} against 25 %"),
        _ => format!(
            "{name} cannot be told from guessing on MMLU with {}: {range} contains 25 %",
            counted(u64::from(report.total), "question")
        ),
    })
}
