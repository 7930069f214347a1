//! What every shell exchanges with the workbench: plain data, the same for the window and for the command line.
//!
//! With the feature `specta` the TypeScript types of the window are generated from these. Times are seconds since the
//! Unix epoch where named `_at`, durations are seconds where named `_s`, sizes are bytes where named `bytes`.

mod bench;
mod charts;
mod finetune;
mod models;
mod speculate;

use serde::{Deserialize, Serialize};

pub use bench::*;
pub use charts::*;
pub use finetune::*;
pub use models::*;
pub use speculate::*;

use crate::words::task_words;

/// An error as a person reads it: what happened, why with figures, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[error("{message}")]
pub struct ApiError {
    /// What the shell may do about it.
    pub code: ErrorCode,
    /// One or two sentences.
    pub message: String,
    /// The page that mends it, where one does.
    #[serde(default)]
    pub link: Option<String>,
}

/// The errors that a shell treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The engine process ended in the middle of the work; trying again starts a new one.
    WorkerDied,
    /// The person cancelled.
    Cancelled,
    /// Another job holds the machine; try again when it is done.
    Busy,
    /// A gated repository, and no token: make one, and give it to Billion.
    NeedsToken,
    /// A gated repository whose licence this account has not accepted.
    LicenceNotAccepted,
    /// A gated repository that refuses this account.
    AccessDenied,
    /// Anything else.
    Failed,
}

impl ApiError {
    /// An error that a shell only shows.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Failed, message)
    }

    /// An error that a shell treats in its own way.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            link: None,
        }
    }

    /// The person cancelled.
    pub fn cancelled() -> Self {
        Self::new(ErrorCode::Cancelled, "cancelled")
    }
}

impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(own) => own,
            Err(other) => Self::failed(format!("{other:#}")),
        }
    }
}

// ---------------------------------------------------------------- common

/// A label and its value, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Fact {
    /// What it is.
    pub label: String,
    /// Its value with unit.
    pub value: String,
}

// ---------------------------------------------------------------- chat

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions to the model.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One message, as a chat template takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// How a reply is generated. The default is greedy, without penalties, and without a system message of our own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(default)]
pub struct ReplyOptions {
    /// System message; none leaves the template its own.
    pub system: Option<String>,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// 0 is off.
    pub top_k: u32,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// 1 is off.
    pub repetition_penalty: f32,
    /// Seed of the sampler.
    pub seed: u32,
    /// Texts that end the reply.
    pub stop: Vec<String>,
    /// Speculative decoding; none is plain decoding.
    pub draft: Option<Drafter>,
}

impl Default for ReplyOptions {
    fn default() -> Self {
        Self {
            system: None,
            max_tokens: 512,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            draft: None,
        }
    }
}

/// A finished reply and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Reply {
    /// Model id.
    pub model: String,
    /// Its text.
    pub text: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub tokens: u32,
    /// Time to the first token; none if there was none.
    pub ttft_s: Option<f64>,
    /// Decode speed after the first token; none with fewer than two tokens.
    pub tokens_per_s: Option<f64>,
    /// "stop", "length", "cancelled" or "context".
    pub finish_reason: String,
    /// How drafts fared, where it was asked for.
    #[serde(default)]
    pub speculation: Option<ReplySpeculation>,
    /// Why the reply broke off, if it failed.
    pub error: Option<ApiError>,
}

/// A turn of a stored chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChatTurn {
    /// What the person wrote.
    User {
        /// The text.
        text: String,
    },
    /// One reply for each model of the chat, in their order.
    Replies {
        /// The replies.
        replies: Vec<Reply>,
    },
}

/// A stored chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Chat {
    /// Number in the store.
    pub id: u32,
    /// First words of the first message.
    pub title: String,
    /// Models, one column each.
    pub models: Vec<String>,
    /// Options of the next reply.
    pub options: ReplyOptions,
    /// Turns in order.
    pub turns: Vec<ChatTurn>,
    /// Last changed.
    pub updated_at: f64,
}

/// A chat in the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ChatSummary {
    /// Number in the store.
    pub id: u32,
    /// First words of the first message.
    pub title: String,
    /// Models, one column each.
    pub models: Vec<String>,
    /// Last changed.
    pub updated_at: f64,
}

/// What a person sends in a chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ChatSend {
    /// The chat to go on with; none starts one.
    pub chat: Option<u32>,
    /// Models to answer, one column each; at least one.
    pub models: Vec<String>,
    /// Turns to keep; what follows is replaced (edit, regenerate). None keeps all.
    pub keep_turns: Option<u32>,
    /// What to send; none answers the last user turn again.
    pub text: Option<String>,
    /// How to answer.
    pub options: ReplyOptions,
}

/// What happens while models answer, in order. A column is an index into the chat's models.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ChatEvent {
    /// The question is stored; this is its chat.
    Saved {
        /// Number of the chat.
        chat: u32,
        /// Its title.
        title: String,
    },
    /// A model waits for its turn or for the machine; models answer one after the other so that speeds are honest.
    Waiting {
        /// Column.
        column: u32,
        /// Why.
        reason: String,
    },
    /// Its weights are being loaded.
    Loading {
        /// Column.
        column: u32,
    },
    /// The prompt is being read.
    Reading {
        /// Column.
        column: u32,
        /// Prompt tokens in the cache.
        done: u32,
        /// Prompt tokens.
        total: u32,
    },
    /// More text.
    Text {
        /// Column.
        column: u32,
        /// Whole characters.
        text: String,
        /// Tokens generated so far.
        tokens: u32,
        /// How drafts fare so far.
        speculation: Option<ReplySpeculation>,
    },
    /// The reply is complete and stored; a failed one carries its error and the text so far.
    Finished {
        /// Column.
        column: u32,
        /// The reply.
        reply: Reply,
    },
    /// Every model has answered.
    Done,
}

// ---------------------------------------------------------------- jobs

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for the machine.
    Queued,
    /// At work.
    Running,
    /// Finished.
    Done,
    /// Ended by an error.
    Failed,
    /// Ended by the person.
    Cancelled,
    /// Stopped by the person to go on later; what it has is kept.
    Paused,
    /// Its process is gone; it can be resumed.
    Interrupted,
}

/// How fast a job works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Rate {
    /// Units a second.
    pub per_s: f64,
    /// "questions", "tokens", "bytes".
    pub unit: String,
}

/// A long piece of work, as the job tray shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Job {
    /// Number in the store.
    pub id: u32,
    /// "Quick scorecard of SmolLM2 135M Instruct".
    pub title: String,
    /// State.
    pub state: JobState,
    /// What it does now.
    pub step: String,
    /// Units done.
    pub done: u32,
    /// Units in all; 0 while unknown.
    pub total: u32,
    /// Expected time left.
    pub eta_s: Option<f64>,
    /// How fast the step at work goes, where it consists of countable units.
    pub rate: Option<Rate>,
    /// It can be paused: what it has done so far need not be done again.
    pub pausable: bool,
    /// Why it failed.
    pub error: Option<ApiError>,
    /// When it was started.
    pub started_at: f64,
    /// The scorecard it makes.
    pub scorecard: Option<u32>,
    /// The finished run it made, for a job that makes a single one.
    pub run: Option<u32>,
    /// The model that it brings or makes, as a MODEL reference: a download, a quantization.
    pub model: Option<String>,
    /// The fine-tuning that it does.
    #[serde(default)]
    pub finetune: Option<u32>,
}

/// Size of a scorecard, as cli.md defines them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum ScorecardSize {
    /// Ten MMLU subjects, ten questions each; twenty HumanEval problems.
    Quick,
    /// 57 subjects, 20 questions each; all 164 problems.
    Standard,
    /// All 14,042 questions and 164 problems.
    Full,
}

/// What to measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ScorecardRequest {
    /// Models, at least one.
    pub models: Vec<String>,
    /// How much.
    pub size: ScorecardSize,
    /// Stop MMLU as soon as its 95 % interval is at most this much to each side (0.02 is two points).
    #[serde(default)]
    pub stop_at_half_width: Option<f64>,
    /// MMLU's questions: the official folder, an archive or parquet files; none takes those in use (`mmlu_source`).
    #[serde(default)]
    pub mmlu: Option<String>,
}

/// What a scorecard will cost and how sure it will be, told before it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ScorecardForecast {
    /// Size.
    pub size: ScorecardSize,
    /// MMLU questions per model.
    pub questions: u32,
    /// Solved examples before each question.
    pub shots: u32,
    /// HumanEval problems per model.
    pub problems: u32,
    /// Expected time for all models.
    pub seconds: f64,
    /// Expected half width of the 95 % interval, in accuracy points (0.09 is nine points).
    pub half_width: f64,
    /// Where the time comes from: this machine's own measured speed, or an estimate from the model's size.
    pub basis: String,
}

// ---------------------------------------------------------------- results

/// A figure with its uncertainty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Figure {
    /// The value.
    pub value: f64,
    /// Lower end: of the 95 % interval, or the smallest of the repeats.
    pub lo: Option<f64>,
    /// Upper end.
    pub hi: Option<f64>,
    /// "accuracy", "tokens/s", "s", "bytes".
    pub unit: String,
    /// What lo and hi are, and how it was measured, in words.
    pub how: String,
    /// The run it comes from.
    pub run: Option<u32>,
}

/// One model's line of a scorecard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ScorecardRow {
    /// Model id.
    pub model: String,
    /// For people.
    pub name: String,
    /// "Q4_1".
    pub quant: String,
    /// Number of parameters.
    pub params: u64,
    /// MMLU accuracy.
    pub mmlu: Option<Figure>,
    /// Prefill speed.
    pub prefill: Option<Figure>,
    /// Decode speed.
    pub decode: Option<Figure>,
    /// Time to first token.
    pub ttft: Option<Figure>,
    /// Load time.
    pub load: Option<Figure>,
    /// HumanEval pass@1.
    pub humaneval: Option<Figure>,
    /// Energy of generating, idle subtracted: joules a token.
    pub energy: Option<Figure>,
    /// Right MMLU answers per watt-hour, idle subtracted.
    pub correct_per_wh: Option<Figure>,
    /// Peak resident memory of the engine process.
    pub peak_memory: Option<Figure>,
    /// Bytes of the weights in memory.
    pub weights_memory: Option<Figure>,
    /// What others say of the model.
    pub references: Vec<ReferenceScore>,
    /// Whether that agrees with what was measured.
    pub badges: Vec<Badge>,
    /// Which figures are missing, and why.
    pub gaps: Vec<Gap>,
    /// Remarks on the figures that are there.
    pub notes: Vec<String>,
}

impl ScorecardRow {
    /// Everything there is to say of the row, in sentences: what is missing and why, then remarks on what is there.
    pub fn remarks(&self) -> Vec<String> {
        let (pending, tried): (Vec<&Gap>, Vec<&Gap>) =
            self.gaps.iter().partition(|gap| gap.pending);
        let mut lines: Vec<String> = tried.iter().map(|gap| gap.words.clone()).collect();
        if !pending.is_empty() {
            let tasks: Vec<&str> = pending.iter().map(|gap| task_words(&gap.task)).collect();
            lines.push(format!("not measured yet: {}", tasks.join(", ")));
        }
        lines.extend(self.notes.iter().cloned());
        lines
    }
}

/// Figures that a scorecard lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Gap {
    /// The task that gives them: "mmlu", "humaneval", "speed", "memory", "energy"; "load" is all of them.
    pub task: String,
    /// Nobody has tried yet.
    pub pending: bool,
    /// Why, in a sentence that names the task.
    pub words: String,
}

/// A scorecard: table, charts and verdicts, all drawn from the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Scorecard {
    /// Number in the store.
    pub id: u32,
    /// When it was begun.
    pub created_at: f64,
    /// Size.
    pub size: ScorecardSize,
    /// It has every figure it was asked for.
    pub complete: bool,
    /// One row a model.
    pub rows: Vec<ScorecardRow>,
    /// In words: better, worse, or no real difference, with p-values.
    pub verdicts: Vec<String>,
    /// The charts.
    pub charts: Vec<ChartData>,
    /// Machine it ran on, in words.
    pub hardware: String,
    /// Command that makes it again.
    pub command: String,
}

/// A scorecard in the list of scorecards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ScorecardHead {
    /// Number in the store.
    pub id: u32,
    /// When it was begun.
    pub created_at: f64,
    /// Size.
    pub size: ScorecardSize,
    /// Model ids.
    pub models: Vec<String>,
    /// It has every figure it was asked for.
    pub complete: bool,
}

/// A stored run, as listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct RunSummary {
    /// Number in the store.
    pub id: u32,
    /// "mmlu", "humaneval", "speed", "memory", "energy", "perplexity", "finetune".
    pub task: String,
    /// Model id.
    pub model: String,
    /// "Q4_1".
    pub quant: String,
    /// The main figure in words: "31.0 % (24–39), 100 questions".
    pub headline: String,
    /// When it ended.
    pub created_at: f64,
    /// The scorecard it belongs to.
    pub scorecard: Option<u32>,
}

/// A stored run with all it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct RunDetails {
    /// As listed.
    pub summary: RunSummary,
    /// Model hash, quantization, task version, shots, seed, hardware, versions, settings: label and value.
    pub facts: Vec<Fact>,
    /// The figures: label and value.
    pub figures: Vec<Fact>,
    /// The questions of an MMLU run, in order.
    pub questions: Vec<AnsweredQuestion>,
    /// The completions of a HumanEval run, in order.
    pub completions: Vec<JudgedCompletion>,
    /// The charts of the run.
    pub charts: Vec<ChartData>,
    /// Command that makes it again.
    pub command: String,
}

/// An answered multiple-choice question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct AnsweredQuestion {
    /// Subject.
    pub subject: String,
    /// Row in the subject's file, from 0.
    pub index: u32,
    /// The question; none if its source is no longer there.
    pub question: Option<String>,
    /// The four choices.
    pub choices: Vec<String>,
    /// Log-likelihood of " A" to " D".
    pub ll: Vec<f64>,
    /// Letter chosen.
    pub pred: String,
    /// Right letter.
    pub gold: String,
}

// ---------------------------------------------------------------- settings

/// Colours of the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the desktop has it.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// What a person may set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(default)]
pub struct Settings {
    /// Colours.
    pub theme: Theme,
    /// Threads of the engine; none takes one a core.
    pub threads: Option<u32>,
}

/// The machine and the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct About {
    /// Version of Billion.
    pub version: String,
    /// Processor, in its own words.
    pub cpu: String,
    /// Cores the process may use.
    pub cores: u32,
    /// Instruction set of the kernels in use.
    pub isa: String,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Memory that is free now.
    pub free_memory_bytes: u64,
    /// Operating system.
    pub os: String,
    /// Where everything is stored.
    pub data_dir: String,
    /// Where the starter pack was found.
    pub starter_dir: Option<String>,
    /// Bytes that Billion's own files take.
    pub disk_bytes: u64,
}
