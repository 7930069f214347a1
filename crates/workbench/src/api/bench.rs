//! Single benchmarks, their sources, comparisons and exports, as the shells exchange them.

use serde::{Deserialize, Serialize};

use super::RunSummary;

/// One task with all its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum BenchRequest {
    /// Multiple-choice questions of 57 subjects.
    Mmlu {
        /// Model id.
        model: String,
        /// Solved examples before each question; none is 5 where a dev split exists, else 0.
        shots: Option<u32>,
        /// The first so many questions of each subject.
        limit: Option<u32>,
        /// Subjects; empty is all.
        subjects: Vec<String>,
        /// Stop as soon as the 95 % interval is at most this much to each side (0.02 is two points).
        stop_at_half_width: Option<f64>,
    },
    /// Python functions written by the model, run in the sandbox.
    Humaneval {
        /// Model id.
        model: String,
        /// The first so many problems.
        limit: Option<u32>,
        /// Samples a problem.
        n: u32,
        /// 0 is greedy.
        temperature: f32,
        /// Most tokens of a completion.
        max_tokens: u32,
        /// Seed of the sampler.
        seed: u32,
    },
    /// Speed of reading and generating.
    Speed {
        /// Model id.
        model: String,
        /// Tokens of the prompt whose reading is timed.
        prompt: u32,
        /// Tokens whose generation is timed.
        generate: u32,
        /// Repeats of each.
        repeat: u32,
        /// Sequences that run together.
        batch: u32,
        /// Tokens in the cache before decoding is timed.
        depth: u32,
    },
    /// Memory of a fresh engine process.
    Memory {
        /// Model id.
        model: String,
        /// Tokens that the cache is filled to; none is 2,048, or the model's context where that is shorter.
        ctx: Option<u32>,
    },
    /// Joules a token.
    Energy {
        /// Model id.
        model: String,
    },
    /// Perplexity of a text file.
    Perplexity {
        /// Model id.
        model: String,
        /// UTF-8 file.
        text: String,
        /// Window in tokens; none is the model's context.
        ctx: Option<u32>,
    },
}

/// Where MMLU questions come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum MmluOrigin {
    /// The test split that ships with the app.
    Starter,
    /// The official folder or archive, or parquet files, that the person gave.
    Own,
    /// `cais/mmlu` of the Hugging Face Hub.
    Hub,
}

/// The MMLU questions that scorecards use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct MmluSource {
    /// Where they come from.
    pub origin: MmluOrigin,
    /// For people: "14,042 questions, 285 solved examples".
    pub words: String,
    /// Solved examples before each question that a scorecard uses: 5, or 0 without a dev split.
    pub shots: u32,
    /// Why it is not five, or what is missing.
    pub note: Option<String>,
    /// What a person can do about it.
    pub fix: Option<String>,
    /// File or folder.
    pub path: String,
}

/// A subject of MMLU and its group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct MmluSubject {
    /// "abstract_algebra".
    pub subject: String,
    /// "stem", "humanities", "social_sciences", "other".
    pub group: String,
}

/// What someone else says of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum ReferenceKind {
    /// By the model's publisher or a benchmark's keeper, with harness and shots.
    Published,
    /// By the article this project started from, without them.
    Claimed,
}

/// A score that someone else gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ReferenceScore {
    /// "mmlu" or "humaneval".
    pub task: String,
    /// Share of right answers.
    pub value: f64,
    /// How far it can be trusted.
    pub kind: ReferenceKind,
    /// Solved examples, where it says.
    pub shots: Option<u32>,
    /// Where it stands.
    pub source: String,
}

/// Whether a measured score agrees with a published one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Badge {
    /// "mmlu" or "humaneval".
    pub task: String,
    /// None where they cannot be compared (other shots, quick run).
    pub matches: Option<bool>,
    /// "matches published 31.1 % (5-shot, lm-eval): within ±2.7 points".
    pub words: String,
}

/// A completion of a HumanEval problem and what came of running it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct JudgedCompletion {
    /// "HumanEval/0".
    pub task_id: String,
    /// Which sample of the problem, from 0.
    pub sample: u32,
    /// The problem; none if its source is no longer there.
    pub prompt: Option<String>,
    /// What the model wrote.
    pub completion: String,
    /// It passes every test.
    pub passed: bool,
    /// "passed", "wrong_answer", "exception", "syntax_error", "timeout", "memory", …
    pub verdict: String,
    /// The verdict for people.
    pub words: String,
    /// First line of the error.
    pub detail: String,
    /// Time it ran.
    pub seconds: f64,
    /// Tokens generated.
    pub tokens: u32,
}

/// Two runs of the same task beside each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct RunComparison {
    /// First run.
    pub a: RunSummary,
    /// Second run.
    pub b: RunSummary,
    /// Their figures, and what they differ in (quantization, shots, hardware), label by label.
    pub rows: Vec<ComparedRow>,
    /// In words, with the p-value: better, worse, or no real difference.
    pub verdict: Option<String>,
    /// McNemar's exact p-value over the questions that both answered.
    pub p_value: Option<f64>,
    /// Questions that both answered.
    pub shared: u32,
    /// Both right.
    pub both_right: u32,
    /// Only the first right.
    pub only_a: u32,
    /// Only the second right.
    pub only_b: u32,
    /// Both wrong.
    pub both_wrong: u32,
    /// Questions that one answers right and the other does not.
    pub flips: Vec<Flip>,
    /// Why they should not be compared, or only with care.
    pub notes: Vec<String>,
}

/// A figure or fact of two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ComparedRow {
    /// What it is.
    pub label: String,
    /// Of the first run.
    pub a: String,
    /// Of the second run.
    pub b: String,
    /// Change from the first to the second, in words; none where it is no number or the same.
    pub change: Option<String>,
}

/// A question that two runs answer differently, one of them right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Flip {
    /// "abstract_algebra, question 7" or "HumanEval/12".
    pub name: String,
    /// The question; none if its source is no longer there.
    pub question: Option<String>,
    /// Right answer.
    pub gold: String,
    /// Answer or verdict of the first run.
    pub a: String,
    /// Answer or verdict of the second run.
    pub b: String,
    /// The first is the right one.
    pub a_right: bool,
}

/// The place of a model in the order of first use: it decides the model's colour and marker everywhere, and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ModelIdentity {
    /// Model id.
    pub model: String,
    /// From 0.
    pub index: u32,
}

/// Form of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// A row a question, completion or repeat.
    Csv,
    /// Everything the store holds.
    Json,
    /// The charts as a picture.
    Png,
    /// The charts as drawing.
    Svg,
    /// One self-contained report.
    Html,
}

/// What to export, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ExportRequest {
    /// A scorecard with all its runs.
    pub scorecard: Option<u32>,
    /// Single runs.
    pub runs: Vec<u32>,
    /// Form.
    pub format: ExportFormat,
    /// File to write; an existing one is replaced.
    pub out: String,
}

/// A written export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Exported {
    /// Where it lies.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}
