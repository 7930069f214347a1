//! What a dataset holds and how it is read, as the shells show it: plain data.

use serde::{Deserialize, Serialize};

/// How rows lie in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// One JSON array of objects, or an object with one such array in it.
    Json,
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// Apache Parquet.
    Parquet,
    /// Plain text; a row is a paragraph (empty lines lie between).
    Text,
}

/// How a row spells what is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum RowLayout {
    /// `instruction`, `input` (may be empty), `output` (R. Taori et al. 2023, Stanford Alpaca).
    Alpaca,
    /// `conversations`: a list of `{from, value}`.
    ShareGpt,
    /// `messages`: a list of `{role, content}`.
    Messages,
    /// `prompt`, `completion`.
    PromptCompletion,
    /// `question`, `answer`.
    QuestionAnswer,
    /// `text`: everything is learnt.
    Text,
}

/// Which column plays which part. A part that the layout does not have is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(default)]
pub struct ColumnMapping {
    /// Alpaca's instruction, the prompt, the question.
    pub prompt: Option<String>,
    /// Alpaca's input: what the instruction is about.
    pub input: Option<String>,
    /// Alpaca's output, the completion, the answer.
    pub answer: Option<String>,
    /// A system message of the row.
    pub system: Option<String>,
    /// The list of a conversation's messages.
    pub turns: Option<String>,
    /// Plain text.
    pub text: Option<String>,
}

/// A column of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct DatasetColumn {
    /// Its name.
    pub name: String,
    /// Rows among those looked at that have it.
    pub filled: u32,
    /// The beginning of its first value, for people.
    pub example: String,
}

/// What was found in a file before anything is encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct DetectedDataset {
    /// How rows lie in the file.
    pub kind: FileKind,
    /// How a row spells what is learnt; none if no column is known, then the mapping must be made by hand.
    pub layout: Option<RowLayout>,
    /// Which column plays which part.
    pub mapping: ColumnMapping,
    /// All columns, in the order of the file.
    pub columns: Vec<DatasetColumn>,
    /// Why that layout, in words.
    pub why: String,
    /// Rows looked at for this.
    pub rows_looked_at: u32,
    /// Size of the file.
    pub bytes: f64,
}

/// Which tokens the loss counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// The assistant's words and the token that ends its turn.
    #[default]
    Answers,
    /// All tokens but the first.
    Everything,
}

/// What happens to a row of more tokens than fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum OverLong {
    /// Its end is cut off; a row whose answer is cut off altogether is left out. Plain text is cut into pieces instead.
    #[default]
    Truncate,
    /// It is left out.
    Skip,
}

/// How a dataset is read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(default)]
pub struct DatasetOptions {
    /// None takes what is detected.
    pub layout: Option<RowLayout>,
    /// None takes what is detected.
    pub mapping: Option<ColumnMapping>,
    /// Which tokens the loss counts.
    pub loss_on: LossOn,
    /// Most tokens of a row.
    pub max_len: u32,
    /// What happens to a row of more.
    pub over_long: OverLong,
    /// Share of rows held out of training, 0 to below 1.
    pub eval_fraction: f64,
    /// Seed of the split.
    pub seed: u32,
    /// The person agrees to leave out rows with problems; without, the first of them ends the reading.
    pub skip_problems: bool,
}

impl Default for DatasetOptions {
    /// Loss on answers, rows of at most 512 tokens, a tenth held out.
    fn default() -> Self {
        Self {
            layout: None,
            mapping: None,
            loss_on: LossOn::Answers,
            max_len: 512,
            over_long: OverLong::Truncate,
            eval_fraction: 0.1,
            seed: 0,
            skip_problems: false,
        }
    }
}

/// A row that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct RowProblem {
    /// Number of the row, from 1.
    pub row: u32,
    /// Line of the file that it begins at, from 1; none where the file has no lines.
    pub line: Option<u32>,
    /// What was expected and what was found.
    pub reason: String,
}

/// A token as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ShownToken {
    /// Its id.
    pub id: u32,
    /// Its text; a special token's spelling; U+FFFD for parts of a character.
    pub text: String,
    /// The loss counts it.
    pub scored: bool,
}

/// A row as the model will see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct EncodedRow {
    /// Number of the row, from 1.
    pub row: u32,
    /// Line of the file that it begins at, from 1.
    pub line: Option<u32>,
    /// It is held out of training.
    pub held_out: bool,
    /// Tokens in all; the list may be shorter.
    pub tokens_total: u32,
    /// Its tokens, the first few hundred.
    pub tokens: Vec<ShownToken>,
}

/// Rows with at most so many tokens, and more than the bucket before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct LengthBucket {
    /// Most tokens of a row in it.
    pub up_to: u32,
    /// Rows.
    pub rows: u32,
}

/// What a dataset is for one model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct DatasetPreview {
    /// The file, before encoding.
    pub detected: DetectedDataset,
    /// RowLayout in use.
    pub layout: RowLayout,
    /// ColumnMapping in use.
    pub mapping: ColumnMapping,
    /// How a row becomes a prompt, in words: the model's own chat template, or Alpaca's text.
    pub template: String,
    /// The whole file was read; otherwise all counts are of its beginning.
    pub complete: bool,
    /// What was read, in words: "all 100 rows", "the first 20000 rows (8.1 MB of 1024.0 MB)".
    pub scope: String,
    /// The first rows as tokens.
    pub rows: Vec<EncodedRow>,
    /// Rows read.
    pub rows_total: u32,
    /// Rows that training uses.
    pub rows_train: u32,
    /// Rows held out.
    pub rows_held_out: u32,
    /// Rows with problems.
    pub rows_with_problems: u32,
    /// The first of them.
    pub problems: Vec<RowProblem>,
    /// Rows that repeat an earlier one word for word; they are used, but never on both sides of the split.
    pub duplicates: u32,
    /// Rows of more than the longest length.
    pub over_long: u32,
    /// Rows left out because they are too long, or because their answer was cut off.
    pub left_out: u32,
    /// What happens to them, in words.
    pub over_long_words: String,
    /// Tokens of all rows used.
    pub tokens_total: f64,
    /// Those that the loss counts.
    pub tokens_scored: f64,
    /// Tokens of the longest row in the file.
    pub longest: u32,
    /// Rows by their length before truncation.
    pub histogram: Vec<LengthBucket>,
}

/// Who says a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// Instructions to the model.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Turn {
    /// Who says it.
    pub role: Speaker,
    /// What is said.
    pub text: String,
}

/// A row as a question to ask the model and the answer that the file gives, for reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct DatasetSample {
    /// Number of the row, from 1.
    pub row: u32,
    /// What is said before the last answer.
    pub turns: Vec<Turn>,
    /// The tokens that the answer follows, special ones included.
    pub prompt: Vec<u32>,
    /// The answer in the file.
    pub answer: String,
}
