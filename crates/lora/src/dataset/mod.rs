//! Datasets: a file of instructions, conversations or text to token sequences with the parts that are learnt.
//!
//! It owns file kinds, layouts of rows, the mapping of columns, problems by line, chat templates with masks, and the split
//! into training and held-out rows. It owns no training.

mod encode;
mod read;
mod records;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod types;

pub use encode::Encoder;
pub use read::{check_size, preview, read};
pub use rows::detect;

pub use types::{
    ColumnMapping, DatasetColumn, DatasetOptions, DatasetPreview, DatasetSample, DetectedDataset,
    EncodedRow, FileKind, LengthBucket, LossOn, OverLong, RowLayout, RowProblem, ShownToken,
    Speaker, Turn,
};

/// A row as the trainer takes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Token ids, at least two.
    pub tokens: Vec<u32>,
    /// As many as tokens: the loss counts the prediction of token i. Never true for the first.
    pub scored: Vec<bool>,
    /// Number of the row in the file, from 1.
    pub row: u32,
}

/// A dataset ready for training.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Rows to train on, in the order of the file.
    pub train: Vec<Example>,
    /// Rows to measure with, in the order of the file.
    pub held_out: Vec<Example>,
    /// The same rows as questions with answers, for reports; none for plain text.
    pub train_samples: Vec<DatasetSample>,
    /// The same of the held-out rows.
    pub held_out_samples: Vec<DatasetSample>,
    /// Counts, problems and the first rows.
    pub preview: DatasetPreview,
}

/// The bundled dataset: 50 facts about a town that does not exist, each asked in two ways, so that no model knows the answers
/// and what is learnt shows at held-out wordings. Written for Billion; question and answer, JSON lines.
pub const SAMPLE: &str = include_str!("../../data/orrinsholt.jsonl");

/// What the file of [`SAMPLE`] is called.
pub const SAMPLE_NAME: &str = "orrinsholt.jsonl";
