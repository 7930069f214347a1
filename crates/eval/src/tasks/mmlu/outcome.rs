//! What an MMLU run found: samples as they come, and the accuracy with its interval, by subject and by group.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LETTERS, group_of};
use crate::stats::{Stratum, stratified_wilson95};

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
}

impl From<Stratum> for Score {
    fn from(stratum: Stratum) -> Self {
        Self {
            accuracy: stratum.correct as f64 / stratum.total.max(1) as f64,
            correct: stratum.correct,
            total: stratum.total,
        }
    }
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

    pub(super) fn finish(self) -> Outcome {
        let strata: Vec<Stratum> = self.by_subject.values().copied().collect();
        let mut groups: BTreeMap<String, Stratum> = BTreeMap::new();
        for (subject, stratum) in &self.by_subject {
            let Some(group) = group_of(subject) else {
                continue;
            };
            let sum = groups.entry(group.to_owned()).or_insert(Stratum {
                correct: 0,
                total: 0,
            });
            sum.correct += stratum.correct;
            sum.total += stratum.total;
        }
        let all = Score::from(Stratum {
            correct: strata.iter().map(|s| s.correct).sum(),
            total: strata.iter().map(|s| s.total).sum(),
        });
        Outcome {
            accuracy: all.accuracy,
            correct: all.correct,
            total: all.total,
            ci95: stratified_wilson95(&strata),
            by_subject: scores(self.by_subject),
            by_group: scores(groups),
            shots: 0,
            fewer_shots: BTreeMap::new(),
            prompt_tokens_computed: 0,
            truncated: 0,
            seconds: 0.0,
        }
    }
}

fn scores(strata: BTreeMap<String, Stratum>) -> BTreeMap<String, Score> {
    strata
        .into_iter()
        .map(|(name, stratum)| (name, Score::from(stratum)))
        .collect()
}
