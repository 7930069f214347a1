//! The MMLU driver: runs every question once, the shared prefix of a subject once, and several questions a pass.
//!
//! Prompts and continuations come from `plan`, figures from `outcome`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use billion_llm::decoder::{Decoder, Logits, Run, SeqId, TextCodec};

use super::MmluData;
use super::outcome::{Outcome, Sample, Tally};
use super::plan::{Encoded, Reading, SubjectPlan, asked_shots, encode, plan};
use crate::likelihood::log_softmax;
use crate::{Error, Event, UnderTest};

/// Tokens of a shared prefix that one pass takes, so that a cancel need not wait for all of it.
const PREFIX_CHUNK: usize = 512;

/// What to ask and how.
#[derive(Clone, Debug)]
pub struct MmluOptions {
    /// Solved examples before each question; none is 5 where a dev split exists, else 0.
    pub shots: Option<usize>,
    /// The first so many rows of each subject, in file order.
    pub limit: Option<usize>,
    /// Subjects; empty is all that the data has.
    pub subjects: Vec<String>,
    /// Most sequences in one pass.
    pub batch_rows: usize,
    /// No question joins a pass once it holds this many tokens: bounds memory and the wait after a cancel.
    pub batch_tokens: usize,
}

impl Default for MmluOptions {
    fn default() -> Self {
        Self {
            shots: None,
            limit: None,
            subjects: Vec::new(),
            batch_rows: 8,
            batch_tokens: 512,
        }
    }
}

/// Asks the questions that `options` choose from `data` and that `answered` (samples of an earlier, interrupted session)
/// does not hold yet. `on_event` gets every new sample as it is found and may break to cancel, which gives
/// `Error::Cancelled`; the decoder is left without open sequences either way.
pub fn run(
    model: &mut UnderTest<'_>,
    data: &MmluData,
    options: &MmluOptions,
    answered: &[Sample],
    on_event: &mut dyn FnMut(Event<Sample>) -> ControlFlow<()>,
) -> Result<Outcome, Error> {
    let start = model.clock.now();
    let subjects = plan(data, options)?;
    let known: BTreeMap<(&str, usize), &Sample> = answered
        .iter()
        .map(|s| ((s.subject.as_str(), s.index), s))
        .collect();
    let mut session = Session {
        decoder: model.decoder,
        open: Vec::new(),
        on_event,
        tally: Tally::new(),
        tokens: 0,
        truncated: 0,
        done: 0,
        total: subjects.iter().map(|s| s.questions.len()).sum(),
    };
    for subject in &subjects {
        for index in 0..subject.questions.len() {
            if let Some(sample) = known.get(&(subject.name, index)) {
                session.tally.add(sample);
                session.done += 1;
            }
        }
    }
    let mut failure = None;
    for subject in &subjects {
        let open: Vec<usize> = (0..subject.questions.len())
            .filter(|&index| !known.contains_key(&(subject.name, index)))
            .collect();
        let result = session.subject(model.codec, subject, &open, options);
        session.close_all();
        if let Err(error) = result {
            failure = Some(error);
            break;
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let (tokens, truncated) = (session.tokens, session.truncated);
    let shots = asked_shots(data, options).min(most_examples(&subjects));
    Ok(Outcome {
        shots,
        fewer_shots: subjects
            .iter()
            .filter(|s| s.examples.len() < shots.max(options.shots.unwrap_or(0)))
            .map(|s| (s.name.to_owned(), s.examples.len()))
            .collect(),
        prompt_tokens_computed: tokens,
        truncated,
        seconds: model.clock.now().saturating_sub(start).as_secs_f64(),
        ..session.tally.finish()
    })
}

fn most_examples(subjects: &[SubjectPlan<'_>]) -> usize {
    subjects.iter().map(|s| s.examples.len()).max().unwrap_or(0)
}

/// A run at work.
struct Session<'a> {
    decoder: &'a mut dyn Decoder,
    /// Sequences to close when a subject ends, however it ends.
    open: Vec<SeqId>,
    on_event: &'a mut dyn FnMut(Event<Sample>) -> ControlFlow<()>,
    tally: Tally,
    tokens: usize,
    truncated: usize,
    done: usize,
    total: usize,
}

/// A reading in a pass: which question of the batch, the sequence, and the tokens that the pass appends.
struct Row<'q> {
    question: usize,
    reading: &'q Reading,
    seq: SeqId,
    tokens: &'q [u32],
}

/// Letter index and tokens.
type Continuation<'q> = (usize, &'q [u32]);

impl Session<'_> {
    /// Asks the questions `open` of `subject`.
    fn subject(
        &mut self,
        codec: &dyn TextCodec,
        subject: &SubjectPlan<'_>,
        open: &[usize],
        options: &MmluOptions,
    ) -> Result<(), Error> {
        let context_len = self.decoder.context_len();
        let mut encoded = Vec::with_capacity(open.len());
        for &index in open {
            encoded.push(encode(codec, subject, index, context_len)?);
        }
        let shared = shared_prefix(&encoded);
        let base = if shared > 0 {
            let prefix = encoded
                .iter()
                .flat_map(|q| &q.readings)
                .find(|r| !r.truncated)
                .map_or(&[][..], |r| &r.context[..shared]);
            Some(self.prefix(subject.name, prefix)?)
        } else {
            None
        };
        let mut rest = &encoded[..];
        while !rest.is_empty() {
            let count = batch_len(rest, shared, options);
            self.batch(subject.name, &rest[..count], base, shared)?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Runs the prefix that all questions of a subject share.
    fn prefix(&mut self, subject: &str, tokens: &[u32]) -> Result<SeqId, Error> {
        let seq = self.open_seq()?;
        for chunk in tokens.chunks(PREFIX_CHUNK) {
            self.forward(&[Run {
                seq,
                tokens: chunk,
                want: &[],
            }])?;
            self.tell(Event::Step {
                what: format!("{} common tokens of {subject}", self.decoder.len(seq)),
                done: self.done,
                total: self.total,
            })?;
        }
        Ok(seq)
    }

    /// Asks several questions in one pass, plus one more where answers have several tokens.
    fn batch(
        &mut self,
        subject: &str,
        questions: &[Encoded],
        base: Option<SeqId>,
        shared: usize,
    ) -> Result<(), Error> {
        let mut rows = Vec::with_capacity(questions.len());
        for (question, encoded) in questions.iter().enumerate() {
            for reading in &encoded.readings {
                let (seq, tokens) = match base {
                    Some(base) if !reading.truncated => {
                        (self.fork_seq(base, shared)?, &reading.context[shared..])
                    }
                    _ => (self.open_seq()?, &reading.context[..]),
                };
                rows.push(Row {
                    question,
                    reading,
                    seq,
                    tokens,
                });
            }
        }
        let wants: Vec<[usize; 1]> = rows.iter().map(|row| [row.tokens.len() - 1]).collect();
        let runs: Vec<Run<'_>> = rows
            .iter()
            .zip(&wants)
            .map(|(row, want)| Run {
                seq: row.seq,
                tokens: row.tokens,
                want,
            })
            .collect();
        let logits = self.forward(&runs)?;
        let mut lls = vec![[0.0; 4]; questions.len()];
        for (i, row) in rows.iter().enumerate() {
            let firsts: Vec<u32> = row
                .reading
                .continuations
                .iter()
                .map(|(_, c)| c[0])
                .collect();
            let read = log_softmax(logits.row(i), &firsts)
                .ok_or_else(|| not_a_number(subject, &questions[row.question]))?;
            for ((letter, _), ll) in row.reading.continuations.iter().zip(read) {
                lls[row.question][*letter] = ll;
            }
        }
        self.later_tokens(subject, questions, &rows, &mut lls)?;
        for row in &rows {
            self.close_seq(row.seq);
        }
        for (encoded, ll) in questions.iter().zip(lls) {
            let sample = Sample::new(subject, encoded.index, ll, encoded.gold);
            self.tally.add(&sample);
            self.truncated += usize::from(encoded.readings.iter().any(|r| r.truncated));
            self.done += 1;
            self.tell(Event::Answered {
                sample,
                done: self.done,
                total: self.total,
            })?;
        }
        Ok(())
    }

    /// Adds the log-likelihoods of the second and later tokens of continuations that have several, in one more pass.
    /// Continuations of a reading that are alike up to their last token share one run.
    fn later_tokens(
        &mut self,
        subject: &str,
        questions: &[Encoded],
        rows: &[Row<'_>],
        lls: &mut [[f64; 4]],
    ) -> Result<(), Error> {
        // By row and tokens to be run: the letters that are read there, with their tokens.
        let mut feeds: BTreeMap<(usize, &[u32]), Vec<Continuation<'_>>> = BTreeMap::new();
        for (i, row) in rows.iter().enumerate() {
            for (letter, tokens) in &row.reading.continuations {
                let fed = &tokens[..tokens.len() - 1];
                if !fed.is_empty() {
                    feeds.entry((i, fed)).or_default().push((*letter, tokens));
                }
            }
        }
        if feeds.is_empty() {
            return Ok(());
        }
        let wants: Vec<Vec<usize>> = feeds
            .keys()
            .map(|(_, fed)| (0..fed.len()).collect())
            .collect();
        let mut runs = Vec::with_capacity(feeds.len());
        for ((i, fed), want) in feeds.keys().zip(&wants) {
            let seq = self.fork_seq(rows[*i].seq, rows[*i].reading.context.len())?;
            runs.push(Run {
                seq,
                tokens: fed,
                want,
            });
        }
        let logits = self.forward(&runs)?;
        let mut at = 0;
        for ((i, fed), letters) in &feeds {
            let question = rows[*i].question;
            for step in 0..fed.len() {
                let nexts: Vec<u32> = letters.iter().map(|(_, tokens)| tokens[step + 1]).collect();
                let read = log_softmax(logits.row(at + step), &nexts)
                    .ok_or_else(|| not_a_number(subject, &questions[question]))?;
                for ((letter, _), ll) in letters.iter().zip(read) {
                    lls[question][*letter] += ll;
                }
            }
            at += fed.len();
        }
        for run in runs {
            self.close_seq(run.seq);
        }
        Ok(())
    }

    fn forward(&mut self, runs: &[Run<'_>]) -> Result<Logits, Error> {
        let logits = self.decoder.forward(runs)?;
        self.tokens += runs.iter().map(|run| run.tokens.len()).sum::<usize>();
        Ok(logits)
    }

    fn tell(&mut self, event: Event<Sample>) -> Result<(), Error> {
        match (self.on_event)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled),
        }
    }

    fn open_seq(&mut self) -> Result<SeqId, Error> {
        let seq = self.decoder.open()?;
        self.open.push(seq);
        Ok(seq)
    }

    fn fork_seq(&mut self, seq: SeqId, len: usize) -> Result<SeqId, Error> {
        let fork = self.decoder.fork(seq, len)?;
        self.open.push(fork);
        Ok(fork)
    }

    fn close_seq(&mut self, seq: SeqId) {
        self.decoder.close(seq);
        self.open.retain(|&open| open != seq);
    }

    fn close_all(&mut self) {
        for seq in std::mem::take(&mut self.open) {
            self.decoder.close(seq);
        }
    }
}

fn not_a_number(subject: &str, question: &Encoded) -> Error {
    Error::NotANumber(format!("question {} of {subject}", question.index))
}

/// Length of the longest common token prefix of all uncut contexts, short of the last token of each; 0 if fewer than two
/// would share it.
fn shared_prefix(questions: &[Encoded]) -> usize {
    let mut contexts = questions
        .iter()
        .flat_map(|q| &q.readings)
        .filter(|r| !r.truncated)
        .map(|r| &r.context[..]);
    let Some(first) = contexts.next() else {
        return 0;
    };
    let mut shared = first.len() - 1;
    let mut others = 0;
    for context in contexts {
        others += 1;
        shared = first[..shared.min(context.len() - 1)]
            .iter()
            .zip(context)
            .take_while(|(a, b)| a == b)
            .count();
    }
    if others == 0 { 0 } else { shared }
}

/// How many of the next questions go into one pass.
fn batch_len(questions: &[Encoded], shared: usize, options: &MmluOptions) -> usize {
    let (mut rows, mut tokens, mut count) = (0, 0, 0);
    for question in questions {
        let more: usize = question
            .readings
            .iter()
            .map(|r| r.context.len() - if r.truncated { 0 } else { shared })
            .sum();
        let full = rows + question.readings.len() > options.batch_rows
            || tokens + more > options.batch_tokens;
        if count > 0 && full {
            break;
        }
        rows += question.readings.len();
        tokens += more;
        count += 1;
    }
    count
}
