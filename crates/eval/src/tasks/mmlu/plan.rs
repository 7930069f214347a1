//! What an MMLU run will ask: subjects, rows and shots chosen, and each question turned into token contexts and
//! continuations exactly as lm-evaluation-harness 0.4.13 does (`_encode_pair`, `_loglikelihood_tokens`).
//!
//! It runs no model.

use billion_llm::decoder::TextCodec;

use super::{LETTERS, MmluData, MmluOptions, Question, SubjectData, prompt};
use crate::Error;

/// Examples before a question where the data has a dev split and nothing else was asked.
pub const DEFAULT_SHOTS: usize = 5;

/// A subject of a run.
#[derive(Clone, Debug)]
pub struct SubjectPlan<'a> {
    /// Name.
    pub name: &'a str,
    /// Solved examples put before each question: the first of the dev split.
    pub examples: &'a [Question],
    /// Questions asked: the first of the test split.
    pub questions: &'a [Question],
}

/// Subjects in alphabetical order, with the questions and examples that `options` ask for.
pub fn plan<'a>(data: &'a MmluData, options: &MmluOptions) -> Result<Vec<SubjectPlan<'a>>, Error> {
    for name in &options.subjects {
        if !data.subjects.contains_key(name) {
            return Err(unknown_subject(data, name));
        }
    }
    let chosen = |name: &str| {
        options.subjects.is_empty() || options.subjects.iter().any(|asked| asked == name)
    };
    let shots = asked_shots(data, options);
    let subjects: Vec<SubjectPlan<'a>> = data
        .subjects
        .iter()
        .filter(|(name, _)| chosen(name))
        .map(|(name, subject)| SubjectPlan {
            name,
            examples: first(&subject.dev, Some(shots)),
            questions: first(&subject.test, options.limit),
        })
        .collect();
    if subjects.iter().all(|s| s.questions.is_empty()) {
        let problem = "no MMLU question is left to ask: raise the limit or choose other subjects";
        return Err(Error::Options(problem.to_owned()));
    }
    Ok(subjects)
}

/// The shots asked for: the option, or the default where any subject has a dev split.
pub fn asked_shots(data: &MmluData, options: &MmluOptions) -> usize {
    let has_dev = |s: &SubjectData| !s.dev.is_empty();
    options.shots.unwrap_or_else(|| {
        if data.subjects.values().any(has_dev) {
            DEFAULT_SHOTS
        } else {
            0
        }
    })
}

fn first(rows: &[Question], limit: Option<usize>) -> &[Question] {
    &rows[..rows.len().min(limit.unwrap_or(usize::MAX))]
}

fn unknown_subject(data: &MmluData, name: &str) -> Error {
    let near: Vec<&str> = data
        .subjects
        .keys()
        .map(String::as_str)
        .filter(|have| {
            name.split('_')
                .any(|word| word.len() > 3 && have.contains(word))
        })
        .take(5)
        .collect();
    Error::Options(if near.is_empty() {
        format!(
            "{name} is not among the {} subjects of this MMLU data; names look like abstract_algebra",
            data.subjects.len()
        )
    } else {
        format!(
            "{name} is not among the {} subjects of this MMLU data; did you mean {}?",
            data.subjects.len(),
            near.join(", ")
        )
    })
}

/// One forward context of a question and the letters read after it. A question has one, unless its continuations have
/// different lengths and the context had to be cut differently for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Tokens before the continuations, at least one.
    pub context: Vec<u32>,
    /// Letter index and the tokens of its continuation, at least one.
    pub continuations: Vec<(usize, Vec<u32>)>,
    /// The context lost tokens at its left to fit.
    pub truncated: bool,
}

/// A question ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Row in the subject's file, from 0.
    pub index: usize,
    /// Index of the right choice.
    pub gold: usize,
    /// What to run; together they hold every letter once.
    pub readings: Vec<Reading>,
}

/// Encodes question `index` of `subject` for a decoder that holds `context_len` tokens.
///
/// The text is encoded with the special tokens that the model wants at its start, and a continuation is what the
/// encoding of context and continuation together has beyond the length of the context's own encoding.
pub fn encode(
    codec: &dyn TextCodec,
    subject: &SubjectPlan<'_>,
    index: usize,
    context_len: usize,
) -> Result<Encoded, Error> {
    let question = &subject.questions[index];
    let text = prompt(subject.name, subject.examples, question);
    let fail = |problem: String| Error::Text {
        what: format!("question {index} of {}", subject.name),
        problem,
    };
    let (context_text, moved) = split_trailing_space(&text);
    let context = codec.encode(context_text, true, true).map_err(fail)?;
    let mut readings: Vec<Reading> = Vec::with_capacity(1);
    for (letter, name) in LETTERS.iter().enumerate() {
        let whole = codec
            .encode(&format!("{context_text}{moved} {name}"), true, true)
            .map_err(fail)?;
        let continuation = whole.get(context.len()..).unwrap_or_default().to_vec();
        if continuation.is_empty() {
            return Err(fail(format!(
                "\" {name}\" after the prompt adds no token of its own"
            )));
        }
        // The harness keeps the last `context_len + 1` tokens of both and drops the very last before it runs them.
        let room = (context_len + 1).saturating_sub(continuation.len());
        if room == 0 {
            return Err(Error::Options(format!(
                "the context holds {context_len} tokens, too few for an answer of {} tokens",
                continuation.len()
            )));
        }
        let kept = &context[context.len().saturating_sub(room)..];
        if kept.is_empty() {
            return Err(fail("the prompt has no tokens".to_owned()));
        }
        match readings.iter_mut().find(|r| r.context == kept) {
            Some(reading) => reading.continuations.push((letter, continuation)),
            None => readings.push(Reading {
                context: kept.to_vec(),
                continuations: vec![(letter, continuation)],
                truncated: kept.len() < context.len(),
            }),
        }
    }
    Ok(Encoded {
        index,
        gold: question.answer,
        readings,
    })
}

/// The text without its trailing white space, and that white space, which the harness moves to the continuation.
fn split_trailing_space(text: &str) -> (&str, &str) {
    text.split_at(text.trim_end().len())
}
