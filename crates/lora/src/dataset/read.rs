//! A whole file for one model: counts, problems, duplicates, the split, and the examples.
//!
//! Held out are the rows whose content, hashed with the seed, comes first. So the split does not depend on the order of the
//! rows, equal rows are never on both sides, and a row that is added moves few others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use super::encode::{Encoded, Encoder};
use super::rows::{self, Row, at_line};
use super::source::bad;
use super::{
    ColumnMapping, Dataset, DatasetOptions, DatasetPreview, DatasetSample, DetectedDataset,
    EncodedRow, Example, LengthBucket, OverLong, RowLayout, RowProblem, records,
};
use crate::Error;

/// Largest file that is trained on: some 60 million tokens, which a laptop's processor works on for weeks.
const MAX_BYTES: f64 = (256_u64 << 20) as f64;

/// Where a preview stops reading.
const PREVIEW_ROWS: u32 = 20_000;
const PREVIEW_BYTES: u64 = 8 << 20;

/// Of which a preview shows the tokens.
const SHOWN_ROWS: usize = 20;
const SHOWN_TOKENS: usize = 400;

/// Problems that are told one by one; all are counted.
const TOLD_PROBLEMS: usize = 100;

/// Rows that reports may ask the model.
const SAMPLES: usize = 5000;

/// Longest length that is asked for.
const MAX_LEN: u32 = 1 << 20;

/// What a file is for a model, read as far as it takes to know: everything, or the first rows of a large file.
pub fn preview(
    path: &Path,
    encoder: &Encoder,
    options: &DatasetOptions,
) -> Result<DatasetPreview, Error> {
    let work = Work::new(path, encoder, options)?;
    let mut reading = Reading::default();
    work.read(&mut reading, true, &mut || false)?;
    Ok(work.finish(reading).preview)
}

/// Whether a file is small enough to be trained on, by its size alone; a missing file is found where it is opened.
pub fn check_size(path: &Path) -> Result<(), Error> {
    let bytes = std::fs::metadata(path).map_or(0.0, |about| about.len() as f64);
    if bytes > MAX_BYTES {
        return Err(bad(
            path,
            format!(
                "{:.0} MB; at most {:.0} MB are trained on, about 60 million tokens, which take a processor weeks. Take a part \
                 of it, for example its first 10,000 rows",
                bytes / 1e6,
                MAX_BYTES / 1e6
            ),
        ));
    }
    Ok(())
}

/// All examples of a file. Rows with problems are an error unless the options agree to leave them out. `cancelled` is asked
/// after every row.
pub fn read(
    path: &Path,
    encoder: &Encoder,
    options: &DatasetOptions,
    cancelled: &mut dyn FnMut() -> bool,
) -> Result<Dataset, Error> {
    check_size(path)?;
    let work = Work::new(path, encoder, options)?;
    let mut reading = Reading::default();
    work.read(&mut reading, false, cancelled)?;
    if let Some(problem) = reading.problems.first()
        && !options.skip_problems
    {
        return Err(bad(
            path,
            format!(
                "{} of {} rows cannot be used, the first is row {}{}: {}; mend them, or agree to leave them out",
                reading.problem_count,
                reading.rows,
                problem.row,
                at_line(problem.line),
                problem.reason
            ),
        ));
    }
    let dataset = work.finish(reading);
    if dataset.train.is_empty() {
        let preview = &dataset.preview;
        return Err(bad(
            path,
            format!(
                "none of its {} rows can be trained on: {} have problems, {} were left out for their length, {} are held out",
                preview.rows_total,
                preview.rows_with_problems,
                preview.left_out,
                preview.rows_held_out
            ),
        ));
    }
    Ok(dataset)
}

/// What is read, and how.
struct Work<'a> {
    path: &'a Path,
    encoder: &'a Encoder,
    options: &'a DatasetOptions,
    detected: DetectedDataset,
    layout: RowLayout,
    mapping: ColumnMapping,
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    rows: u32,
    problems: Vec<RowProblem>,
    problem_count: u32,
    /// Rows that can be used, with the hash of what they say.
    examples: Vec<(u64, Example)>,
    samples: Vec<DatasetSample>,
    shown: Vec<EncodedRow>,
    seen: BTreeSet<u64>,
    duplicates: u32,
    over_long: u32,
    left_out: u32,
    lengths: BTreeMap<u32, u32>,
    longest: u32,
    /// Bytes read when it stopped early.
    stopped_at: Option<u64>,
}

impl<'a> Work<'a> {
    fn new(
        path: &'a Path,
        encoder: &'a Encoder,
        options: &'a DatasetOptions,
    ) -> Result<Self, Error> {
        if !(2..=MAX_LEN).contains(&options.max_len) {
            return Err(Error::Options(format!(
                "rows of at most {} tokens: choose 2 to {MAX_LEN}",
                options.max_len
            )));
        }
        if !(0.0..1.0).contains(&options.eval_fraction) {
            return Err(Error::Options(format!(
                "{} of the rows held out: choose 0 to below 1, 0.1 is usual",
                options.eval_fraction
            )));
        }
        let detected = rows::detect(path)?;
        let Some(layout) = options.layout.or(detected.layout) else {
            return Err(bad(path, detected.why));
        };
        let mapping = match &options.mapping {
            Some(mapping) => mapping.clone(),
            None if detected.layout == Some(layout) => detected.mapping.clone(),
            None => {
                return Err(bad(
                    path,
                    format!(
                        "its columns do not tell how they are {layout:?}; choose which column is which part"
                    ),
                ));
            }
        };
        rows::check(layout, &mapping, &detected).map_err(|problem| bad(path, problem))?;
        Ok(Self {
            path,
            encoder,
            options,
            detected,
            layout,
            mapping,
        })
    }

    fn read(
        &self,
        reading: &mut Reading,
        preview: bool,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<(), Error> {
        let mut stop = false;
        let mut text_bytes = 0;
        records::each(self.path, self.detected.kind, &mut |record| {
            stop = cancelled();
            reading.rows = record.row;
            let row = record
                .columns
                .and_then(|columns| rows::row(&columns, self.layout, &self.mapping));
            let added = row.and_then(|row| {
                text_bytes += said(&row).map(str::len).sum::<usize>() as u64;
                self.add(reading, &row, record.row, record.line)
            });
            if let Err(reason) = added {
                reading.problem_count += 1;
                if reading.problems.len() < TOLD_PROBLEMS {
                    reading.problems.push(RowProblem {
                        row: record.row,
                        line: record.line,
                        reason,
                    });
                }
            }
            let bytes = record.bytes_read.max(text_bytes);
            let enough = preview && (record.row >= PREVIEW_ROWS || bytes >= PREVIEW_BYTES);
            if enough {
                reading.stopped_at = Some(bytes);
            }
            if stop || enough {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        if stop { Err(Error::Cancelled) } else { Ok(()) }
    }

    fn add(
        &self,
        reading: &mut Reading,
        row: &Row,
        number: u32,
        line: Option<u32>,
    ) -> Result<(), String> {
        let encoded = self.encoder.row(row, self.options.loss_on)?;
        let content = content(row);
        if !reading.seen.insert(content) {
            reading.duplicates += 1;
        }
        let len = encoded.tokens.len() as u32;
        reading.longest = reading.longest.max(len);
        *reading.lengths.entry(bucket(len)).or_default() += 1;
        if reading.shown.len() < SHOWN_ROWS {
            reading.shown.push(EncodedRow {
                row: number,
                line,
                held_out: false,
                tokens_total: len,
                tokens: self.encoder.shown(&encoded, SHOWN_TOKENS),
            });
        }
        if len > self.options.max_len {
            reading.over_long += 1;
        }
        let before = reading.examples.len();
        for (tokens, scored) in self.fitted(encoded) {
            let example = Example {
                tokens,
                scored,
                row: number,
            };
            reading.examples.push((content, example));
        }
        if reading.examples.len() == before {
            reading.left_out += 1;
        } else if reading.samples.len() < SAMPLES
            && let Some(turns) = row.turns()
            && let Some(prompt) = self.encoder.prompt(row)?
            && let Some((answer, before)) = turns.split_last()
        {
            reading.samples.push(DatasetSample {
                row: number,
                turns: before.to_vec(),
                prompt,
                answer: answer.text.clone(),
            });
        }
        Ok(())
    }

    /// What is left of a row within the longest length: its start, nothing, or, of plain text, all of it in pieces.
    fn fitted(&self, encoded: Encoded) -> Vec<(Vec<u32>, Vec<bool>)> {
        let max = self.options.max_len as usize;
        let Encoded { tokens, scored } = encoded;
        if tokens.len() <= max {
            return vec![(tokens, scored)];
        }
        if self.options.over_long == OverLong::Skip {
            return Vec::new();
        }
        let most = if self.layout == RowLayout::Text {
            usize::MAX
        } else {
            1
        };
        let pieces = tokens.chunks(max).zip(scored.chunks(max)).take(most);
        let pieces = pieces.map(|(tokens, scored)| {
            let mut scored = scored.to_vec();
            // Of a later piece the token before the first is not there either.
            scored[0] = false;
            (tokens.to_vec(), scored)
        });
        pieces
            .filter(|(_, scored)| scored.contains(&true))
            .collect()
    }

    fn finish(&self, reading: Reading) -> Dataset {
        let held_out = self.held_out(&reading);
        let preview = self.summary(&reading, &held_out);
        let (mut train, mut held) = (Vec::new(), Vec::new());
        let mut held_rows = BTreeSet::new();
        for (content, example) in reading.examples {
            if held_out.contains(&content) {
                held_rows.insert(example.row);
                held.push(example);
            } else {
                train.push(example);
            }
        }
        let samples = reading.samples.into_iter();
        let (held_out_samples, train_samples) =
            samples.partition(|sample| held_rows.contains(&sample.row));
        Dataset {
            train,
            held_out: held,
            train_samples,
            held_out_samples,
            preview,
        }
    }

    /// Contents of the rows that are held out.
    fn held_out(&self, reading: &Reading) -> BTreeSet<u64> {
        let contents: BTreeSet<u64> = reading
            .examples
            .iter()
            .map(|(content, _)| *content)
            .collect();
        let share = contents.len() as f64 * self.options.eval_fraction;
        // At least one if any are asked for, never all.
        let count = (share.round() as usize).max(usize::from(share > 0.0));
        let count = count.min(contents.len().saturating_sub(1));
        let seed = u64::from(self.options.seed);
        let mut drawn: Vec<(u64, u64)> = contents
            .into_iter()
            .map(|content| (mixed(content ^ mixed(seed)), content))
            .collect();
        drawn.sort_unstable();
        drawn
            .into_iter()
            .take(count)
            .map(|(_, content)| content)
            .collect()
    }

    fn summary(&self, reading: &Reading, held_out: &BTreeSet<u64>) -> DatasetPreview {
        let rows_of = |held: bool| {
            let side = reading.examples.iter();
            let side = side.filter(|(content, _)| held_out.contains(content) == held);
            let rows: BTreeSet<u32> = side.map(|(_, example)| example.row).collect();
            rows
        };
        let (held_rows, train_rows) = (rows_of(true), rows_of(false));
        let mut shown = reading.shown.clone();
        for row in &mut shown {
            row.held_out = held_rows.contains(&row.row);
        }
        let examples = || reading.examples.iter().map(|(_, example)| example);
        let scored = |example: &Example| example.scored.iter().filter(|scored| **scored).count();
        DatasetPreview {
            detected: self.detected.clone(),
            layout: self.layout,
            mapping: self.mapping.clone(),
            template: self
                .encoder
                .words(self.layout == RowLayout::Text)
                .to_owned(),
            complete: reading.stopped_at.is_none(),
            scope: self.scope(reading),
            rows: shown,
            rows_total: reading.rows,
            rows_train: train_rows.len() as u32,
            rows_held_out: held_rows.len() as u32,
            rows_with_problems: reading.problem_count,
            problems: reading.problems.clone(),
            duplicates: reading.duplicates,
            over_long: reading.over_long,
            left_out: reading.left_out,
            over_long_words: self.over_long_words(),
            tokens_total: examples().map(|example| example.tokens.len() as f64).sum(),
            tokens_scored: examples().map(|example| scored(example) as f64).sum(),
            longest: reading.longest,
            histogram: histogram(&reading.lengths),
        }
    }

    fn scope(&self, reading: &Reading) -> String {
        let size = self.detected.bytes;
        match reading.stopped_at {
            None => format!("all {} rows", reading.rows),
            Some(bytes) => {
                let refused = if size > MAX_BYTES {
                    format!(
                        "; it is larger than the {:.0} MB that are trained on, so take a part of it",
                        MAX_BYTES / 1e6
                    )
                } else {
                    String::new()
                };
                format!(
                    "the first {} rows ({:.1} MB of {:.1} MB){refused}",
                    reading.rows,
                    bytes as f64 / 1e6,
                    size / 1e6
                )
            }
        }
    }

    fn over_long_words(&self) -> String {
        let max = self.options.max_len;
        match (self.options.over_long, self.layout) {
            (OverLong::Skip, _) => format!("rows of more than {max} tokens are left out"),
            (OverLong::Truncate, RowLayout::Text) => {
                format!("texts of more than {max} tokens are cut into pieces of {max}")
            }
            (OverLong::Truncate, _) => format!(
                "of rows of more than {max} tokens the first {max} are used; where no answer is among them, the row is left out"
            ),
        }
    }
}

/// Upper end of the bucket of a length: powers of two and the middles between them.
fn bucket(len: u32) -> u32 {
    let power = len.max(1).next_power_of_two();
    let middle = power / 4 * 3;
    if len <= middle && power >= 4 {
        middle
    } else {
        power
    }
}

/// All buckets from the shortest to the longest that has rows, so that a chart has no gaps.
fn histogram(lengths: &BTreeMap<u32, u32>) -> Vec<LengthBucket> {
    let (Some(first), Some(last)) = (lengths.keys().next(), lengths.keys().next_back()) else {
        return Vec::new();
    };
    let mut buckets = Vec::new();
    let mut up_to = *first;
    while up_to <= *last {
        buckets.push(LengthBucket {
            up_to,
            rows: lengths.get(&up_to).copied().unwrap_or(0),
        });
        up_to = bucket(up_to + 1);
    }
    buckets
}

/// The texts of a row, in order.
fn said(row: &Row) -> Box<dyn Iterator<Item = &str> + '_> {
    match row {
        Row::Turns(turns) => Box::new(turns.iter().map(|turn| turn.text.as_str())),
        Row::Instruction {
            system,
            instruction,
            input,
            answer,
        } => Box::new(
            [
                system.as_deref().unwrap_or_default(),
                instruction,
                input,
                answer,
            ]
            .into_iter(),
        ),
        Row::Continued {
            system,
            prompt,
            answer,
        } => Box::new([system.as_deref().unwrap_or_default(), prompt, answer].into_iter()),
        Row::Text(text) => Box::new(std::iter::once(text.as_str())),
    }
}

/// FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo) of the texts, their ends marked: the same on every machine and in every version.
fn content(row: &Row) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in said(row) {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

/// The finalizer of SplitMix64 (G. L. Steele et al. 2014): spreads every bit over all.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
