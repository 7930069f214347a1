//! The order in which a run asks: subject by subject; or, where it may stop early, in rounds that each hold the same share
//! of every subject, rows drawn by a seed.
//!
//! A run stops only after whole rounds, so what was asked is always a sample of all questions in proportion to the subjects'
//! sizes, and the accuracy so far estimates the accuracy of all. The look after a round is at the interval's width alone.

use super::plan::SubjectPlan;
use crate::sizes::questions_until;

/// Parts of the questions that a width is expected to need: the first look comes after `FIRST_LOOK` of them, the others
/// after one more each. Each look may cost every subject's prefix again.
const PARTS: f64 = 8.0;
const FIRST_LOOK: f64 = 6.0;

/// Rows of one subject that are asked in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Index into the plan.
    pub(super) subject: usize,
    /// Rows of the subject.
    pub(super) rows: Vec<usize>,
}

/// Questions after which a run may stop.
pub(super) type Round = Vec<Part>;

/// Every question of `subjects` once, each subject in the order of its file.
pub(super) fn in_file_order(subjects: &[SubjectPlan<'_>]) -> Vec<Round> {
    let part = |(subject, plan): (usize, &SubjectPlan<'_>)| Part {
        subject,
        rows: (0..plan.questions.len()).collect(),
    };
    vec![subjects.iter().enumerate().map(part).collect()]
}

/// Every question of `subjects` once, in rounds for a run that stops at `half_width`. The order depends on the subjects,
/// their numbers of questions, the width and the seed alone, so that an interrupted run finds it again.
pub(super) fn in_rounds(subjects: &[SubjectPlan<'_>], half_width: f64, seed: u64) -> Vec<Round> {
    let drawn: Vec<(Vec<usize>, f64)> = subjects
        .iter()
        .map(|subject| draw(subject.name, subject.questions.len(), seed))
        .collect();
    let total: usize = drawn.iter().map(|(rows, _)| rows.len()).sum();
    let mut asked = vec![0; drawn.len()];
    let mut rounds = Vec::new();
    for share in looks(subjects, total, half_width) {
        let mut round = Round::new();
        for (subject, (rows, offset)) in drawn.iter().enumerate() {
            // The offset makes the rounded-off parts of all subjects add up to their share.
            let until = ((rows.len() as f64 * share + offset) as usize).min(rows.len());
            if until > asked[subject] {
                round.push(Part {
                    subject,
                    rows: rows[asked[subject]..until].to_vec(),
                });
                asked[subject] = until;
            }
        }
        if !round.is_empty() {
            rounds.push(round);
        }
    }
    rounds
}

/// The share of all questions asked when the interval is looked at, ascending, the last 1.
fn looks(subjects: &[SubjectPlan<'_>], total: usize, half_width: f64) -> Vec<f64> {
    let step = questions_until(total, half_width) as f64 / PARTS / total.max(1) as f64;
    // The spread within a subject can be told from two of its questions on.
    let smallest = subjects
        .iter()
        .map(|subject| subject.questions.len())
        .filter(|&questions| questions > 0)
        .min()
        .unwrap_or(1);
    let mut share = (FIRST_LOOK * step).max(2.0 / smallest as f64);
    let mut shares = Vec::new();
    while share < 1.0 {
        shares.push(share);
        share += step;
    }
    shares.push(1.0);
    shares
}

/// The rows of a subject in drawn order, and a number from 0 to below 1.
fn draw(subject: &str, count: usize, seed: u64) -> (Vec<usize>, f64) {
    // FNV-1a, so that no two subjects are drawn alike.
    let name = subject
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut state = seed ^ name;
    let mut rows: Vec<usize> = (0..count).collect();
    for last in (1..count).rev() {
        let chosen = (u128::from(next(&mut state)) * (last as u128 + 1)) >> 64;
        rows.swap(last, chosen as usize);
    }
    (rows, (next(&mut state) >> 11) as f64 / (1u64 << 53) as f64)
}

/// SplitMix64 (G. L. Steele, D. Lea and C. H. Flood 2014, OOPSLA).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::super::{Question, SUBJECTS};
    use super::*;
    use crate::stats::{Stratum, stratified_wilson95};

    /// Subjects of MMLU with between 100 and 500 questions.
    fn subjects(questions: &[Question]) -> Vec<SubjectPlan<'_>> {
        SUBJECTS
            .iter()
            .enumerate()
            .map(|(i, (name, _))| SubjectPlan {
                name,
                examples: &[],
                questions: &questions[..100 + (i * 7) % 401],
            })
            .collect()
    }

    fn blank() -> Vec<Question> {
        let blank = Question {
            text: String::new(),
            choices: [const { String::new() }; 4],
            answer: 0,
        };
        vec![blank; 600]
    }

    #[test]
    fn rounds_hold_every_question_once_in_proportion() {
        let blank = blank();
        let plan = subjects(&blank);
        let total: usize = plan.iter().map(|s| s.questions.len()).sum();
        for (width, seed) in [(0.02, 0), (0.005, 3), (0.2, 1)] {
            let rounds = in_rounds(&plan, width, seed);
            assert_eq!(rounds, in_rounds(&plan, width, seed));
            let mut seen: Vec<Vec<usize>> = vec![Vec::new(); plan.len()];
            for round in &rounds {
                for part in round {
                    seen[part.subject].extend(&part.rows);
                }
                let asked: usize = seen.iter().map(Vec::len).sum();
                for (subject, rows) in plan.iter().zip(&seen) {
                    let fair = asked as f64 * subject.questions.len() as f64 / total as f64;
                    assert!((rows.len() as f64 - fair).abs() < 1.5, "{}", subject.name);
                    assert!(rows.len() >= 2, "{}", subject.name);
                }
            }
            for (subject, mut rows) in plan.iter().zip(seen) {
                rows.sort_unstable();
                assert!(rows.into_iter().eq(0..subject.questions.len()));
            }
        }
        assert_ne!(in_rounds(&plan, 0.02, 0), in_rounds(&plan, 0.02, 1));
        assert_eq!(in_file_order(&plan).len(), 1);
    }

    /// Stopping by the width must not spoil the interval: 1,000 runs over models that know 15 % to 45 % of a subject.
    #[test]
    fn intervals_of_stopped_runs_cover_as_often_as_they_say() {
        let blank = blank();
        let plan = subjects(&blank);
        let mut state = 7;
        let (mut covered, mut stopped, mut lean) = (0, 0, 0.0);
        let runs = 1000;
        for seed in 0..runs {
            let right: Vec<Vec<bool>> = plan
                .iter()
                .enumerate()
                .map(|(i, subject)| {
                    let rate = 0.15 + 0.3 * (i % 10) as f64 / 9.0;
                    let draw = |_| (next(&mut state) >> 11) as f64 / (1u64 << 53) as f64 <= rate;
                    subject.questions.iter().map(draw).collect()
                })
                .collect();
            let all = right.iter().flatten().filter(|r| **r).count() as f64
                / right.iter().map(Vec::len).sum::<usize>() as f64;
            let mut strata = vec![
                Stratum {
                    correct: 0,
                    total: 0
                };
                plan.len()
            ];
            for round in in_rounds(&plan, 0.04, seed) {
                for part in &round {
                    for &row in &part.rows {
                        strata[part.subject].correct += usize::from(right[part.subject][row]);
                        strata[part.subject].total += 1;
                    }
                }
                let [lo, hi] = stratified_wilson95(&strata);
                if (hi - lo) / 2.0 <= 0.04 {
                    let asked: usize = strata.iter().map(|s| s.total).sum();
                    let correct: usize = strata.iter().map(|s| s.correct).sum();
                    stopped += 1;
                    covered += usize::from(lo <= all && all <= hi);
                    lean += (correct as f64 / asked as f64 - all) / runs as f64;
                    break;
                }
            }
        }
        assert_eq!(stopped, runs);
        println!("covered {covered} of {runs}, lean {lean:+.5}");
        // 95 % of 1,000 within three standard errors; the questions asked are some of all, so it covers more.
        assert!(covered >= 930, "covered {covered} of {runs}");
        // Accuracies below one half have narrower intervals, so a run stops sooner on them: a twentieth of the width.
        assert!(lean.abs() < 0.003, "the accuracy leans by {lean}");
    }
}
