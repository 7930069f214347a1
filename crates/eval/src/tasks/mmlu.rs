//! MMLU (D. Hendrycks et al. 2021, arXiv 2009.03300): subjects, questions and prompts exactly as
//! lm-evaluation-harness 0.4.13 has them in its `mmlu` group.

mod archive;
mod columns;
mod data;
mod order;
mod outcome;
mod plan;
mod run;
mod sources;
mod subjects;
#[cfg(test)]
mod tests;

pub use data::{MmluData, Question, SubjectData};
pub use outcome::{Outcome, Sample, Score, StoppedEarly};
pub use plan::{DEFAULT_SHOTS, SubjectPlan, plan};
pub use run::{MmluOptions, run};
pub use sources::Location;
pub use subjects::{GROUPS, QUICK_SUBJECTS, SUBJECTS, group_of};

/// The letters of the choices, in order; a continuation is a space and a letter.
pub const LETTERS: [char; 4] = ['A', 'B', 'C', 'D'];

/// The raw prompt of `question`: description, solved examples, and the question up to "Answer:".
pub fn prompt(subject: &str, examples: &[Question], question: &Question) -> String {
    use std::fmt::Write as _;

    let mut text = format!(
        "The following are multiple choice questions (with answers) about {}.\n\n",
        subject.replace('_', " ")
    );
    for example in examples {
        let _ = write!(text, "{} {}\n\n", body(example), LETTERS[example.answer]);
    }
    text + &body(question)
}

/// Question, choices and "Answer:"; only the question is stripped, as in the harness's template.
fn body(question: &Question) -> String {
    let [a, b, c, d] = &question.choices;
    let stem = question.text.trim();
    format!("{stem}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:")
}
