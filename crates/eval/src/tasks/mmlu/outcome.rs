//! What an MMLU run found: samples as they come, and the accuracy with its interval, by subject and by group.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LETTERS, group_of};
use crate::stats::{Stratum, mean_stderr, pooled_stderr, stratified_wilson95};

/// One answered question, as `--samples` writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Stem of the subject's file without `_test`.
    pub subject: String,
    /// Row in the subject's file, from 0.
    pub index: usize,
    /// Full-vocabulary log-likelihood of " A" to " D" after the raw prompt.
    pub ll: [f64; 4],
    /// Letter of the greatest of `ll`, the first where several are.
    pub pred: char,
    /// Right letter.
    pub gold: char,
    /// `pred` is `gold`.
    pub correct: bool,
}

impl Sample {
    /// The sample that follows from the four log-likelihoods.
    pub fn new(subject: &str, index: usize, ll: [f64; 4], gold: usize) -> Self {
        let mut best = 0;
        for letter in 1..ll.len() {
            if ll[letter] > ll[best] {
                best = letter;
            }
        }
        Self {
            subject: subject.to_owned(),
            index,
            ll,
            pred: LETTERS[best],
            gold: LETTERS[gold],
            correct: best == gold,
        }
    }
}

/// Right answers of a part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Share of right answers.
    pub accuracy: f64,
    /// Right answers.
    pub correct: usize,
    /// Questions.
    pub total: usize,
    /// Standard error as the harness gives it; none below two questions.
    pub stderr: Option<f64>,
}

impl Score {
    fn new(stratum: Stratum, stderr: Option<f64>) -> Self {
        Self {
            accuracy: stratum.correct as f64 / stratum.total.max(1) as f64,
            correct: stratum.correct,
            total: stratum.total,
            stderr,
        }
    }

    fn of_subject(stratum: Stratum) -> Self {
        Self::new(stratum, mean_stderr(stratum))
    }

    /// All questions of the subjects together, which weights them by size.
    fn of_group(subjects: &[Stratum]) -> Self {
        let all = Stratum {
            correct: subjects.iter().map(|s| s.correct).sum(),
            total: subjects.iter().map(|s| s.total).sum(),
        };
        Self::new(all, pooled_stderr(subjects))
    }
}

/// That and why a run ended before it had asked everything. It looked at the width of the interval alone, after whole
/// rounds of all subjects.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoppedEarly {
    /// Questions asked.
    pub after: usize,
    /// Questions there were to ask.
    pub of: usize,
    /// The half width that was asked for and reached.
    pub stop_at_half_width: f64,
    /// Drew the questions.
    pub seed: u64,
}

/// A finished run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Right answers by all questions (the harness's figure for the group `mmlu`, which weights by size).
    pub accuracy: f64,
    /// Right answers.
    pub correct: usize,
    /// Questions, those answered in earlier sessions included.
    pub total: usize,
    /// Standard error of `accuracy` as the harness gives it (`pooled_sample_stderr` over the subjects).
    pub stderr: Option<f64>,
    /// 95 % interval of `accuracy`, stratified by subject (`stats::stratified_wilson95`).
    pub ci95: [f64; 2],
    /// By subject.
    pub by_subject: BTreeMap<String, Score>,
    /// By group; subjects that belong to none of the four are left out.
    pub by_group: BTreeMap<String, Score>,
    /// Examples put before each question: as asked for, or as many as the subject with most had.
    pub shots: usize,
    /// Subjects that had fewer, and how many they had.
    pub fewer_shots: BTreeMap<String, usize>,
    /// Prompt and continuation tokens run in this session; a shared prefix counts once.
    pub prompt_tokens_computed: usize,
    /// Questions of this session whose prompt was cut at its left to fit the context.
    pub truncated: usize,
    /// Time of this session.
    pub seconds: f64,
    /// It had not asked everything when the interval was as narrow as asked for.
    pub stopped_early: Option<StoppedEarly>,
}

/// Scores by subject and by group, all questions together, and the interval.
pub(super) struct Tally {
    by_subject: BTreeMap<String, Stratum>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            by_subject: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, sample: &Sample) {
        let stratum = self
            .by_subject
            .entry(sample.subject.clone())
            .or_insert(Stratum {
                correct: 0,
                total: 0,
            });
        stratum.correct += usize::from(sample.correct);
        stratum.total += 1;
    }

    /// Questions so far.
    pub(super) fn total(&self) -> usize {
        self.by_subject.values().map(|stratum| stratum.total).sum()
    }

    /// The interval of the accuracy so far.
    pub(super) fn ci95(&self) -> [f64; 2] {
        stratified_wilson95(&self.strata())
    }

    fn strata(&self) -> Vec<Stratum> {
        self.by_subject.values().copied().collect()
    }

    pub(super) fn finish(self) -> Outcome {
        let mut groups: BTreeMap<String, Vec<Stratum>> = BTreeMap::new();
        for (subject, stratum) in &self.by_subject {
            if let Some(group) = group_of(subject) {
                groups.entry(group.to_owned()).or_default().push(*stratum);
            }
        }
        let all = Score::of_group(&self.strata());
        Outcome {
            accuracy: all.accuracy,
            correct: all.correct,
            total: all.total,
            stderr: all.stderr,
            ci95: self.ci95(),
            by_subject: self
                .by_subject
                .into_iter()
                .map(|(subject, stratum)| (subject, Score::of_subject(stratum)))
                .collect(),
            by_group: groups
                .into_iter()
                .map(|(group, subjects)| (group, Score::of_group(&subjects)))
                .collect(),
            shots: 0,
            fewer_shots: BTreeMap::new(),
            prompt_tokens_computed: 0,
            truncated: 0,
            seconds: 0.0,
            stopped_early: None,
        }
    }
}
