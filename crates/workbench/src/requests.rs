//! What the command line asks for beyond the window's types, and how its engine is set up: plain data.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::api::{ApiError, Message, Rate, ReplyOptions, SpeculationRequest};

/// Which executor runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Executor {
    /// Our own kernels: fastest on a CPU.
    #[default]
    Cpu,
    /// Candle tensors: the independent oracle.
    Candle,
}

/// How the engine is set up for a piece of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineOptions {
    /// "cpu", "cuda" (run by the `billion-cuda` beside `billion`) or "metal" (on macOS). On a GPU the executor is candle's.
    pub device: String,
    /// Threads; none takes the person's setting, or else one a core.
    pub threads: Option<u32>,
    /// Longest context in tokens; none takes the model's own.
    pub context_len: Option<u32>,
    /// Which executor.
    pub executor: Executor,
    /// Folder of a PEFT adapter that is applied to the model; none runs the model as it is.
    pub adapter: Option<PathBuf>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            device: "cpu".to_owned(),
            threads: None,
            context_len: None,
            executor: Executor::Cpu,
            adapter: None,
        }
    }
}

/// A reply that is not stored.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyRequest {
    /// MODEL of cli.md.
    pub model: String,
    /// Whose KV cache to go on with: one number a conversation.
    pub session: u32,
    /// The conversation; a base model takes one user message and completes it.
    pub messages: Vec<Message>,
    /// How to answer.
    pub options: ReplyOptions,
    /// Engine.
    pub engine: EngineOptions,
}

/// What is heard of a reply before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStep<'a> {
    /// It waits for other work, and why.
    Waiting(&'a str),
    /// More of its text.
    Text(&'a str),
}

/// An MMLU run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MmluRequest {
    /// MODEL of cli.md.
    pub model: String,
    /// Solved examples before each question; none is 5 where a dev split exists, else 0.
    pub shots: Option<u32>,
    /// The first so many rows of each subject.
    pub limit: Option<u32>,
    /// Subjects; empty is all.
    pub subjects: Vec<String>,
    /// An official folder, its archive, or parquet files of `cais/mmlu`; none are the questions in use (`mmlu_source`) when
    /// the run is recorded, and the starter pack's afterwards.
    pub data: Option<PathBuf>,
    /// Stop as soon as the 95 % interval is at most this much to each side (0.02 is two points); questions are then asked in
    /// rounds of all subjects, in an order drawn by seed 0.
    #[serde(default)]
    pub stop_at_half_width: Option<f64>,
    /// Where to write a JSON line a question.
    pub samples: Option<PathBuf>,
    /// Engine.
    pub engine: EngineOptions,
}

/// A HumanEval run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HumanEvalRequest {
    /// MODEL of cli.md.
    pub model: String,
    /// The first so many problems; none is all.
    pub limit: Option<u32>,
    /// Samples of each problem.
    pub n: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// Most tokens of a completion.
    pub max_tokens: u32,
    /// Seed of the sampler.
    pub seed: u32,
    /// Where to write a JSON line a completion.
    pub samples: Option<PathBuf>,
    /// Engine.
    pub engine: EngineOptions,
}

impl Default for HumanEvalRequest {
    /// All problems, one greedy completion each of at most 1,024 tokens, as lm-evaluation-harness.
    fn default() -> Self {
        Self {
            model: String::new(),
            limit: None,
            n: 1,
            temperature: 0.0,
            max_tokens: 1024,
            seed: 0,
            samples: None,
            engine: EngineOptions::default(),
        }
    }
}

impl HumanEvalRequest {
    /// Says what of it makes no sense.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        let problem = if self.n == 0 || self.limit == Some(0) || self.max_tokens == 0 {
            "HumanEval needs at least one problem, one sample and one token; raise what is 0"
                .to_owned()
        } else if self.n > 1 && self.temperature == 0.0 {
            format!(
                "{} greedy samples of a problem would all be the same; set a temperature above 0, for example 0.2 (pass@1) or 0.8 (pass@100)",
                self.n
            )
        } else if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            format!(
                "a temperature of {} is not possible; take 0 or more",
                self.temperature
            )
        } else {
            return Ok(());
        };
        Err(ApiError::failed(problem))
    }
}

/// A speed run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpeedRequest {
    /// MODEL of cli.md.
    pub model: String,
    /// Tokens of the prompt whose reading is timed.
    pub prompt: u32,
    /// Tokens whose generation is timed.
    pub generate: u32,
    /// Repeats of each.
    pub repeat: u32,
    /// Sequences that decode together.
    pub batch: u32,
    /// Tokens in the cache before decoding is timed.
    pub depth: u32,
    /// Engine.
    pub engine: EngineOptions,
}

impl Default for SpeedRequest {
    /// llama-bench's defaults: 512 prompt tokens, 128 generated, 5 repeats, one sequence, an empty cache.
    fn default() -> Self {
        Self {
            model: String::new(),
            prompt: 512,
            generate: 128,
            repeat: 5,
            batch: 1,
            depth: 0,
            engine: EngineOptions::default(),
        }
    }
}

/// A memory run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRequest {
    /// MODEL of cli.md.
    pub model: String,
    /// Tokens that the cache is filled to; none is 2,048, or the model's context where that is shorter.
    pub ctx: Option<u32>,
    /// Engine.
    pub engine: EngineOptions,
}

/// An energy run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnergyRequest {
    /// MODEL of cli.md.
    pub model: String,
    /// Tokens of each text; texts follow each other for as long as the source needs to tell their energy.
    pub generate: u32,
    /// Repeats.
    pub repeat: u32,
    /// Engine.
    pub engine: EngineOptions,
}

impl Default for EnergyRequest {
    /// As many tokens and repeats as `bench speed` generates.
    fn default() -> Self {
        Self {
            model: String::new(),
            generate: 128,
            repeat: 5,
            engine: EngineOptions::default(),
        }
    }
}

/// A perplexity run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerplexityRequest {
    /// MODEL of cli.md.
    pub model: String,
    /// UTF-8 text file.
    pub text: PathBuf,
    /// Window in tokens; none is the model's context.
    pub ctx: Option<u32>,
    /// Engine.
    pub engine: EngineOptions,
}

/// A measurement of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeculateRequest {
    /// What to measure.
    pub ask: SpeculationRequest,
    /// Engine of the target; the draft has the same, without its adapter.
    pub engine: EngineOptions,
    /// Another device for the draft.
    #[serde(default)]
    pub draft_device: Option<String>,
}

/// How far a piece of work is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JobProgress {
    /// What it does now.
    pub step: String,
    /// Units done.
    pub done: u32,
    /// Units in all; 0 while unknown.
    pub total: u32,
    /// Expected time left.
    pub eta_s: Option<f64>,
    /// How fast the step at work goes.
    pub rate: Option<Rate>,
}
