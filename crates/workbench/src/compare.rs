//! Two stored runs of the same task beside each other: figures with their change, facts that differ, and where both
//! answered the same questions, McNemar's test, the flips and a verdict in words.

use std::collections::BTreeMap;

use billion_eval::stats::compare_paired;

use crate::api::{AnsweredQuestion, ApiError, ComparedRow, Flip, JudgedCompletion, RunComparison};
use crate::facade::Workbench;
use crate::figures::{Measure, RunFigure, facts, figures};
use crate::machine::bytes_words;
use crate::results::summary;
use crate::scorecards::Answers;
use crate::store::RunRow;
use crate::words::{counted, grouped, significant, subject_words, task_words};

/// Facts that say which run it is, not how it was made.
const NOT_COMPARED: [&str; 1] = ["File"];

/// What one side answered to a question.
struct Answer {
    /// For people: "abstract algebra, question 7".
    name: String,
    question: Option<String>,
    gold: String,
    chosen: String,
    right: bool,
}

/// Everything a side answered, by a key that both sides share.
type Sheet = BTreeMap<String, Answer>;

impl Workbench {
    /// Compares two finished runs of the same task.
    pub fn compare_runs(&self, a: u32, b: u32) -> Result<RunComparison, ApiError> {
        if a == b {
            return Err(ApiError::failed(format!(
                "run {a} cannot be compared with itself; choose two runs of `billion results list`"
            )));
        }
        let (first, second) = (self.store.run(a)?, self.store.run(b)?);
        for run in [&first, &second] {
            if run.report.is_none() {
                return Err(ApiError::failed(format!(
                    "run {} is not finished; resume its job first, then compare",
                    run.id
                )));
            }
        }
        if first.run.task != second.run.task {
            return Err(ApiError::failed(format!(
                "run {a} is of {} and run {b} of {}: only runs of the same task can be compared",
                task_words(&first.run.task),
                task_words(&second.run.task)
            )));
        }
        let mut comparison = RunComparison {
            rows: rows(&first, &second)?,
            notes: notes(&first, &second),
            a: summary(&first),
            b: summary(&second),
            verdict: None,
            p_value: None,
            shared: 0,
            both_right: 0,
            only_a: 0,
            only_b: 0,
            both_wrong: 0,
            flips: Vec::new(),
        };
        let sheets = match first.run.task.as_str() {
            "mmlu" => Some((
                mmlu_sheet(self.questions(&first)?),
                mmlu_sheet(self.questions(&second)?),
            )),
            "humaneval" => Some((
                humaneval_sheet(self.completions(&first)?),
                humaneval_sheet(self.completions(&second)?),
            )),
            _ => None,
        };
        if let Some((mut left, right)) = sheets {
            if let Some(note) = keep_same_questions(&first, &second, &mut left, &right) {
                comparison.notes.push(note);
            }
            pair(&mut comparison, &first, &second, &left, &right);
        }
        Ok(comparison)
    }
}

fn mmlu_sheet(questions: Vec<AnsweredQuestion>) -> Sheet {
    questions
        .into_iter()
        .map(|q| {
            let answer = Answer {
                name: format!(
                    "{}, question {}",
                    subject_words(&q.subject),
                    u64::from(q.index) + 1
                ),
                right: q.pred == q.gold,
                question: q.question,
                gold: q.gold,
                chosen: q.pred,
            };
            (format!("{}/{:05}", q.subject, q.index), answer)
        })
        .collect()
}

/// The first sample of each problem: a test of pairs needs one answer a problem.
fn humaneval_sheet(completions: Vec<JudgedCompletion>) -> Sheet {
    completions
        .into_iter()
        .filter(|c| c.sample == 0)
        .map(|c| {
            let answer = Answer {
                name: c.task_id.clone(),
                question: c.prompt,
                gold: "passes every test".to_owned(),
                chosen: c.words,
                right: c.passed,
            };
            (c.task_id, answer)
        })
        .collect()
}

/// Where questions come from different files, the same place may hold another question: those are left out.
fn keep_same_questions(
    first: &RunRow,
    second: &RunRow,
    left: &mut Sheet,
    right: &Sheet,
) -> Option<String> {
    let hash = |run: &RunRow| {
        let settings = &run.run.settings;
        let hash = settings
            .get("data_sha256")
            .or(settings.get("problems_sha256"));
        hash.cloned()
    };
    if hash(first) == hash(second) {
        return None;
    }
    let before = left.len();
    let (mut other, mut unknown) = (0u64, 0u64);
    left.retain(|key, answer| {
        let Some(theirs) = right.get(key) else {
            return true;
        };
        match (&answer.question, &theirs.question) {
            (Some(a), Some(b)) if a == b && answer.gold == theirs.gold => true,
            (Some(_), Some(_)) => {
                other += 1;
                false
            }
            _ => {
                unknown += 1;
                answer.gold == theirs.gold
            }
        }
    });
    debug_assert!(left.len() <= before);
    Some(match (other, unknown) {
        (0, 0) => "The questions come from different files; every shared one has the same text in both.".to_owned(),
        (_, 0) => format!(
            "The questions come from different files; {} with the same place but another text {} left out.",
            counted(other, "question"),
            if other == 1 { "was" } else { "were" }
        ),
        _ => "The questions come from different files, and not all texts are on this machine any more: questions are matched by subject and row, and may differ.".to_owned(),
    })
}

fn pair(
    comparison: &mut RunComparison,
    first: &RunRow,
    second: &RunRow,
    left: &Sheet,
    right: &Sheet,
) {
    let verdicts = |sheet: &Sheet| -> Answers {
        sheet
            .iter()
            .map(|(key, answer)| (key.clone(), answer.right))
            .collect()
    };
    let [name_a, name_b] = names(first, second);
    let Some(found) = compare_paired([&name_a, &name_b], &verdicts(left), &verdicts(right)) else {
        comparison.notes.push(
            "The two runs share no question, so there is no test of their difference.".to_owned(),
        );
        return;
    };
    let both_right = left
        .iter()
        .filter(|(key, answer)| answer.right && right.get(*key).is_some_and(|b| b.right))
        .count();
    comparison.shared = found.total as u32;
    comparison.both_right = both_right as u32;
    comparison.only_a = found.only_first.len() as u32;
    comparison.only_b = found.only_second.len() as u32;
    comparison.both_wrong =
        comparison.shared - comparison.both_right - comparison.only_a - comparison.only_b;
    comparison.p_value = Some(found.p_exact);
    comparison.verdict = Some(found.text);
    let flips = found.only_first.iter().chain(&found.only_second);
    let mut flips: Vec<&String> = flips.collect();
    flips.sort_unstable();
    comparison.flips = flips
        .into_iter()
        .filter_map(|key| {
            let (a, b) = (left.get(key)?, right.get(key)?);
            Some(Flip {
                name: a.name.clone(),
                question: a.question.clone().or_else(|| b.question.clone()),
                gold: a.gold.clone(),
                a: a.chosen.clone(),
                b: b.chosen.clone(),
                a_right: a.right,
            })
        })
        .collect();
    let largest = left.len().max(right.len());
    if found.total < largest {
        comparison.notes.push(format!(
            "The test uses the {} that both answered; the longer run has {}.",
            counted(found.total as u64, "question"),
            grouped(largest as u64)
        ));
    }
}

/// What tells the two models apart in a sentence.
fn names(first: &RunRow, second: &RunRow) -> [String; 2] {
    let (a, b) = (&first.run, &second.run);
    if a.name != b.name {
        [a.name.clone(), b.name.clone()]
    } else if a.quant != b.quant {
        [
            format!("{} {}", a.name, a.quant),
            format!("{} {}", b.name, b.quant),
        ]
    } else {
        [
            format!("{} (run {})", a.name, first.id),
            format!("{} (run {})", b.name, second.id),
        ]
    }
}

/// Figures side by side, then the facts that differ.
fn rows(first: &RunRow, second: &RunRow) -> Result<Vec<ComparedRow>, ApiError> {
    let (left, right) = (figures(first)?, figures(second)?);
    let absent = "-";
    let mut rows: Vec<ComparedRow> = left
        .iter()
        .map(|figure| {
            let other = right.iter().find(|other| other.label == figure.label);
            ComparedRow {
                label: figure.label.clone(),
                a: figure.text.clone(),
                b: other.map_or_else(|| absent.to_owned(), |other| other.text.clone()),
                change: other.and_then(|other| change(figure, other)),
            }
        })
        .collect();
    let only_right = right
        .iter()
        .filter(|figure| left.iter().all(|other| other.label != figure.label));
    rows.extend(only_right.map(|figure| ComparedRow {
        label: figure.label.clone(),
        a: absent.to_owned(),
        b: figure.text.clone(),
        change: None,
    }));
    let (left, right) = (facts(first), facts(second));
    let value = |facts: &[crate::api::Fact], label: &str| {
        facts
            .iter()
            .find(|fact| fact.label == label)
            .map_or_else(|| absent.to_owned(), |fact| fact.value.clone())
    };
    let mut labels: Vec<&str> = Vec::new();
    for fact in left.iter().chain(&right) {
        if !labels.contains(&fact.label.as_str()) && !NOT_COMPARED.contains(&fact.label.as_str()) {
            labels.push(&fact.label);
        }
    }
    rows.extend(labels.into_iter().filter_map(|label| {
        let (a, b) = (value(&left, label), value(&right, label));
        (a != b).then(|| ComparedRow {
            label: label.to_owned(),
            a,
            b,
            change: None,
        })
    }));
    Ok(rows)
}

/// From the first to the second, in words.
fn change(from: &RunFigure, to: &RunFigure) -> Option<String> {
    let ((a, measure), (b, same)) = (from.number?, to.number?);
    if a == b || measure != same || !(a.is_finite() && b.is_finite()) {
        return None;
    }
    let sign = if b > a { "+" } else { "−" };
    let gap = (b - a).abs();
    let ratio = if a > 0.0 {
        format!("{sign}{:.1} %", 100.0 * gap / a)
    } else {
        return Some(format!("{sign}{}", significant(gap)));
    };
    Some(match measure {
        Measure::Share => format!("{sign}{:.1} points", gap * 100.0),
        Measure::Bytes => format!("{sign}{} ({ratio})", bytes_words(gap as u64)),
        Measure::Ratio => ratio,
        Measure::Count => format!("{sign}{}", grouped(gap as u64)),
    })
}

/// Why the two should not be compared, or only with care.
fn notes(first: &RunRow, second: &RunRow) -> Vec<String> {
    let (a, b) = (&first.run, &second.run);
    let mut notes = Vec::new();
    let mut note = |differs: bool, text: String| {
        if differs {
            notes.push(text);
        }
    };
    note(
        a.task_version != b.task_version,
        format!(
            "The task changed between the runs ({} against {}): do not compare them.",
            a.task_version, b.task_version
        ),
    );
    let setting = |run: &RunRow, key: &str| {
        run.run
            .settings
            .get(key)
            .filter(|value| !value.is_null())
            .cloned()
    };
    let differs = |key: &str| setting(first, key) != setting(second, key);
    match a.task.as_str() {
        "mmlu" | "humaneval" => {
            note(
                a.shots != b.shots,
                format!(
                    "One run has {}-shot prompts, the other {}-shot: the difference is not the models' alone.",
                    a.shots, b.shots
                ),
            );
            note(
                differs("limit") || differs("subjects"),
                "The runs ask different sets of questions (quick against full, or other subjects): the overall scores are not of the same test, only the shared questions are.".to_owned(),
            );
            note(
                differs("form"),
                "The prompts have different forms (completion against chat): the difference is not the models' alone.".to_owned(),
            );
            note(
                differs("temperature") || differs("n") || differs("max_tokens"),
                "Temperature, samples or length of the completions differ.".to_owned(),
            );
        }
        "speed" => {
            note(
                ["prompt", "gen", "batch", "depth"].into_iter().any(differs),
                "Prompt, generated tokens, batch or depth differ: these are different measurements.".to_owned(),
            );
        }
        "speculate" => {
            note(
                ["prompts", "kinds", "raw", "max_tokens", "temperature"]
                    .into_iter()
                    .any(differs),
                "Prompts, lengths or temperature differ: these are different measurements."
                    .to_owned(),
            );
        }
        "memory" | "perplexity" => {
            note(
                differs("ctx"),
                "The contexts differ in length, which changes the figure by itself.".to_owned(),
            );
            note(
                differs("text_sha256"),
                "The texts differ: perplexities of different texts cannot be compared.".to_owned(),
            );
        }
        _ => {}
    }
    if matches!(a.task.as_str(), "speed" | "energy" | "memory" | "speculate") {
        note(
            a.hardware != b.hardware,
            format!(
                "The machines differ ({} against {}): the difference is not the models' alone.",
                a.hardware, b.hardware
            ),
        );
        note(
            a.threads != b.threads || a.isa != b.isa,
            format!(
                "{} threads with {} kernels against {} with {}.",
                a.threads, a.isa, b.threads, b.isa
            ),
        );
    } else {
        note(
            differs("executor") || a.isa != b.isa,
            "Another executor or instruction set adds in another order: single answers near a tie may flip for that reason.".to_owned(),
        );
    }
    note(
        differs("device"),
        "The runs used different devices.".to_owned(),
    );
    note(
        a.sha256 == b.sha256 && a.model != b.model && !differs("adapter_sha256"),
        "Both runs are of the same weights under two names.".to_owned(),
    );
    notes
}

#[cfg(test)]
mod tests;
