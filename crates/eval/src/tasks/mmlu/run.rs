//! The MMLU driver: runs every question once, the shared prefix of a subject once, and several questions a pass.
//!
//! Prompts and continuations come from `plan`, the order from `order`, figures from `outcome`. What a pass holds follows from
//! the data and the options alone, never from what an earlier session answered: a resumed run gives the same numbers.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use billion_llm::decoder::{Decoder, Logits, Run, SeqId, TextCodec};

use super::MmluData;
use super::order::{Part, in_file_order, in_rounds};
use super::outcome::{Outcome, Sample, StoppedEarly, Tally};
use super::plan::{Encoded, Reading, SubjectPlan, asked_shots, encode, plan};
use crate::likelihood::log_softmax;
use crate::{Error, Event, UnderTest};

/// Tokens of a shared prefix that one pass takes, so that a cancel need not wait for all of it.
const PREFIX_CHUNK: usize = 512;
/// Questions of a subject that tell what all of them begin with. Two would do; more keep what only two share out of it.
const PROBES: usize = 8;

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
    /// Stop after a round in which the 95 % interval has become at most this much to each side. Questions are then asked
    /// in rounds of all subjects.
    pub stop_at_half_width: Option<f64>,
    /// Draws the questions of the rounds.
    pub seed: u64,
    /// Keys and values of prefixes that stay between rounds take at most so many bytes; the others are run again.
    pub kept_prefix_bytes: usize,
}

impl Default for MmluOptions {
    fn default() -> Self {
        Self {
            shots: None,
            limit: None,
            subjects: Vec::new(),
            batch_rows: 8,
            batch_tokens: 512,
            stop_at_half_width: None,
            seed: 0,
            // Beside weights of a gigabyte this still fits a small machine.
            kept_prefix_bytes: 512 << 20,
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
    let rounds = match options.stop_at_half_width {
        Some(width) => {
            if !(width > 0.0 && width < 0.5) {
                return Err(Error::Options(format!(
                    "an interval of {:.1} points to each side cannot be asked for: choose more than 0 and less than 50",
                    100.0 * width
                )));
            }
            in_rounds(&subjects, width, options.seed)
        }
        None => in_file_order(&subjects),
    };
    let total = subjects.iter().map(|s| s.questions.len()).sum();
    let mut session = Session {
        decoder: model.decoder,
        codec: model.codec,
        options,
        known: answered
            .iter()
            .map(|s| ((s.subject.as_str(), s.index), s))
            .collect(),
        open: Vec::new(),
        bases: BTreeMap::new(),
        on_event,
        tally: Tally::new(),
        tokens: 0,
        truncated: 0,
        done: 0,
        total,
    };
    session.done = session.known_of(&subjects);
    let mut stopped_early = None;
    let mut failure = None;
    'run: for (number, round) in rounds.iter().enumerate() {
        for part in round {
            let result = session.part(&subjects[part.subject], part);
            session.close_part();
            if let Err(error) = result {
                failure = Some(error);
                break 'run;
            }
            let returns = |later: &Part| later.subject == part.subject;
            if !rounds[number + 1..].iter().flatten().any(returns) {
                session.forget(part.subject);
            }
        }
        let [lo, hi] = session.tally.ci95();
        if let Some(width) = options.stop_at_half_width
            && number + 1 < rounds.len()
            && (hi - lo) / 2.0 <= width
        {
            stopped_early = Some(StoppedEarly {
                after: session.tally.total(),
                of: total,
                stop_at_half_width: width,
                seed: options.seed,
            });
            break;
        }
    }
    session.close_all();
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
        stopped_early,
        ..session.tally.finish()
    })
}

fn most_examples(subjects: &[SubjectPlan<'_>]) -> usize {
    subjects.iter().map(|s| s.examples.len()).max().unwrap_or(0)
}

/// A run at work.
struct Session<'a> {
    decoder: &'a mut dyn Decoder,
    codec: &'a dyn TextCodec,
    options: &'a MmluOptions,
    /// Answers of earlier sessions.
    known: BTreeMap<(&'a str, usize), &'a Sample>,
    /// Sequences to close when a part ends, however it ends.
    open: Vec<SeqId>,
    /// By subject: what its questions begin with, as run.
    bases: BTreeMap<usize, Base>,
    on_event: &'a mut dyn FnMut(Event<Sample>) -> ControlFlow<()>,
    tally: Tally,
    tokens: usize,
    truncated: usize,
    done: usize,
    total: usize,
}

/// What the questions of a subject begin with, in a sequence that they fork.
#[derive(Clone, Default)]
struct Base {
    /// None if there is nothing to share.
    seq: Option<SeqId>,
    tokens: Vec<u32>,
}

impl Base {
    /// How much of `reading` it holds, short of its last token.
    fn shared(&self, reading: &Reading) -> usize {
        if reading.truncated {
            return 0;
        }
        common(&self.tokens, &reading.context[..reading.context.len() - 1])
    }
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
    /// Questions of `subjects` that earlier sessions answered.
    fn known_of(&self, subjects: &[SubjectPlan<'_>]) -> usize {
        subjects
            .iter()
            .map(|subject| {
                (0..subject.questions.len())
                    .filter(|&index| self.known.contains_key(&(subject.name, index)))
                    .count()
            })
            .sum()
    }

    /// Asks what is open of a part.
    fn part(&mut self, subject: &SubjectPlan<'_>, part: &Part) -> Result<(), Error> {
        let is_known = |session: &Self, index| session.known.contains_key(&(subject.name, index));
        if part.rows.iter().all(|&index| is_known(self, index)) {
            for &index in &part.rows {
                self.tally.add(self.known[&(subject.name, index)]);
            }
            return Ok(());
        }
        let context_len = self.decoder.context_len();
        let mut encoded = Vec::with_capacity(part.rows.len());
        for &index in &part.rows {
            encoded.push(encode(self.codec, subject, index, context_len)?);
        }
        let base = self.base(subject, part, &encoded)?;
        let mut rest = &encoded[..];
        while !rest.is_empty() {
            let count = batch_len(rest, &base, self.options);
            let (batch, later) = rest.split_at(count);
            // A pass that an earlier session broke off in is run as it was.
            if batch.iter().all(|q| is_known(self, q.index)) {
                for question in batch {
                    self.tally.add(self.known[&(subject.name, question.index)]);
                }
            } else {
                self.batch(subject.name, batch, &base)?;
            }
            rest = later;
        }
        Ok(())
    }

    /// What the questions of the part's subject begin with, as it was kept or run now.
    fn base(
        &mut self,
        subject: &SubjectPlan<'_>,
        part: &Part,
        encoded: &[Encoded],
    ) -> Result<Base, Error> {
        if let Some(base) = self.bases.get(&part.subject) {
            return Ok(base.clone());
        }
        // The first rows of the file, whichever of them are asked now.
        let context_len = self.decoder.context_len();
        let mut probes = Vec::with_capacity(PROBES);
        for index in 0..subject.questions.len().min(PROBES) {
            probes.push(match encoded.iter().find(|q| q.index == index) {
                Some(question) => question.clone(),
                None => encode(self.codec, subject, index, context_len)?,
            });
        }
        let tokens = shared_prefix(&probes).to_vec();
        let mut base = Base::default();
        if !tokens.is_empty() {
            base.seq = Some(self.prefix(subject.name, &tokens)?);
            base.tokens = tokens;
        }
        let held: usize = self.bases.values().map(|base| base.tokens.len()).sum();
        let bytes = (held + base.tokens.len()) * self.decoder.kv_bytes_per_token();
        if bytes <= self.options.kept_prefix_bytes {
            self.open.retain(|&open| Some(open) != base.seq);
            self.bases.insert(part.subject, base.clone());
        }
        Ok(base)
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
    fn batch(&mut self, subject: &str, questions: &[Encoded], base: &Base) -> Result<(), Error> {
        let mut rows = Vec::with_capacity(questions.len());
        for (question, encoded) in questions.iter().enumerate() {
            for reading in &encoded.readings {
                let shared = base.shared(reading);
                let seq = match base.seq {
                    Some(base) if shared > 0 => self.fork_seq(base, shared)?,
                    _ => self.open_seq()?,
                };
                let tokens = &reading.context[shared..];
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
        self.decoder.recycle(logits);
        self.later_tokens(subject, questions, &rows, &mut lls)?;
        for row in &rows {
            self.close_seq(row.seq);
        }
        for (encoded, ll) in questions.iter().zip(lls) {
            if let Some(sample) = self.known.get(&(subject, encoded.index)) {
                self.tally.add(sample);
                continue;
            }
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
        self.decoder.recycle(logits);
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

    /// Closes what a part left open; prefixes that stay are not among it.
    fn close_part(&mut self) {
        for seq in std::mem::take(&mut self.open) {
            self.decoder.close(seq);
        }
    }

    /// Closes the prefix of a subject that is not asked again.
    fn forget(&mut self, subject: usize) {
        if let Some(Base { seq: Some(seq), .. }) = self.bases.remove(&subject) {
            self.decoder.close(seq);
        }
    }

    fn close_all(&mut self) {
        self.close_part();
        for base in std::mem::take(&mut self.bases).into_values() {
            if let Some(seq) = base.seq {
                self.decoder.close(seq);
            }
        }
    }
}

fn not_a_number(subject: &str, question: &Encoded) -> Error {
    Error::NotANumber(format!("question {} of {subject}", question.index))
}

/// The longest common token prefix of all uncut contexts, short of the last token of each; empty if fewer than two would
/// share it.
fn shared_prefix(questions: &[Encoded]) -> &[u32] {
    let mut contexts = questions
        .iter()
        .flat_map(|q| &q.readings)
        .filter(|r| !r.truncated)
        .map(|r| &r.context[..r.context.len() - 1]);
    let Some(first) = contexts.next() else {
        return &[];
    };
    let mut shared = first;
    let mut others = 0;
    for context in contexts {
        others += 1;
        shared = &shared[..common(shared, context)];
    }
    if others == 0 { &[] } else { shared }
}

/// Length of the common prefix.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// How many of the next questions go into one pass.
fn batch_len(questions: &[Encoded], base: &Base, options: &MmluOptions) -> usize {
    let (mut rows, mut tokens, mut count) = (0, 0, 0);
    for question in questions {
        let more: usize = question
            .readings
            .iter()
            .map(|r| r.context.len() - base.shared(r))
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
