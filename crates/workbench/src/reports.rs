//! What measurements report: serialised, these are the `--json` documents of cli.md, and what the store keeps of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Right answers of a part of MMLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MmluPart {
    /// Share of right answers.
    pub accuracy: f64,
    /// Right answers.
    pub correct: u32,
    /// Questions.
    pub total: u32,
    /// Standard error as lm-evaluation-harness gives it; none below two questions.
    #[serde(default)]
    pub stderr: Option<f64>,
    /// Examples used; fewer than asked for where the subject's dev split is short. None for groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shots: Option<u32>,
}

/// That a run ended before it had asked everything, by the width of its interval alone and after whole rounds of all subjects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoppedEarly {
    /// Questions asked.
    pub after: u32,
    /// Questions there were to ask.
    pub of: u32,
    /// The half width that was asked for and reached, as a share (0.02 is two points).
    pub stop_at_half_width: f64,
    /// Drew the order of the questions.
    pub seed: u64,
}

/// `bench mmlu`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MmluReport {
    /// Number of the stored run.
    pub run: u32,
    /// Model id.
    pub model: String,
    /// Share of right answers of all questions.
    pub accuracy: f64,
    /// Right answers.
    pub correct: u32,
    /// Questions.
    pub total: u32,
    /// Standard error of `accuracy` as lm-evaluation-harness gives it for the group `mmlu`.
    #[serde(default)]
    pub stderr: Option<f64>,
    /// 95 % interval of `accuracy`: Wilson's, stratified by subject.
    pub ci95: [f64; 2],
    /// By subject.
    pub by_subject: BTreeMap<String, MmluPart>,
    /// By group: stem, humanities, social_sciences, other.
    pub by_group: BTreeMap<String, MmluPart>,
    /// Examples before each question.
    pub shots: u32,
    /// Prompt tokens that were run; a shared prefix counts once.
    pub prompt_tokens_computed: u64,
    /// Questions whose prompt was cut at its left to fit the context.
    pub truncated: u32,
    /// Time over all sessions of the run, loading excluded.
    pub seconds: f64,
    /// The interval was as narrow as asked for before everything was asked.
    #[serde(default)]
    pub stopped_early: Option<StoppedEarly>,
    /// Why there are fewer examples than usual, and whatever else a reader must know, in words.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// `bench humaneval`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HumanEvalReport {
    /// Number of the stored run; none for completions of other tools, which are not stored.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<u32>,
    /// Model id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Chance that one sample of a problem passes, the mean over the problems.
    pub pass_at_1: f64,
    /// 95 % interval of `pass_at_1`.
    pub ci95: [f64; 2],
    /// Completions that pass every test.
    pub passed: u32,
    /// Completions.
    pub total: u32,
    /// Completions by verdict.
    pub verdicts: BTreeMap<String, u32>,
    /// Chance that one of k samples passes, by k, where each problem has at least k.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub pass_at_k: BTreeMap<u32, f64>,
    /// Of the self-test: programs that pass with `return None` in place of the solution, which must be none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub passed_nothing: Option<u32>,
    /// Problems.
    pub problems: u32,
    /// Samples of each.
    pub n: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// How the model was asked: "base" (it goes on from the prompt) or "instruct" (through its chat template); none for
    /// completions of other tools.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub form: Option<String>,
    /// Time of writing, over all sessions of the run, and of running what was written.
    pub seconds: f64,
    /// Tokens written a second, all sequences together; none where nothing was written.
    pub tokens_per_s: Option<f64>,
}

/// Repeats of one figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Median of the repeats.
    pub median: f64,
    /// Least repeat.
    pub min: f64,
    /// Greatest repeat.
    pub max: f64,
    /// Every repeat in the order made.
    pub runs: Vec<f64>,
    /// Which of them (from 0) lie far from the rest; they are kept, a median does not mind them.
    #[serde(default)]
    pub outliers: Vec<u32>,
}

impl From<billion_eval::stats::Summary> for Spread {
    fn from(summary: billion_eval::stats::Summary) -> Self {
        Self {
            median: summary.median,
            min: summary.min,
            max: summary.max,
            runs: summary.runs,
            outliers: summary.outliers.into_iter().map(|i| i as u32).collect(),
        }
    }
}

/// `bench speed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeedReport {
    /// Number of the stored run.
    pub run: u32,
    /// Model id.
    pub model: String,
    /// Reading a prompt, tokens a second.
    pub prefill_tokens_per_s: Spread,
    /// Generating, tokens a second of all sequences together.
    pub decode_tokens_per_s: Spread,
    /// Median time from an empty cache to the first token of the prompt's reply.
    pub ttft_s: f64,
    /// Time to load the model into a fresh process.
    pub load_s: f64,
    /// Where the model ran.
    #[serde(default = "cpu")]
    pub device: String,
    /// Threads used.
    pub threads: u32,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens generated.
    pub generate: u32,
    /// Sequences that decoded together.
    pub batch: u32,
    /// Tokens in the cache before decoding.
    pub depth: u32,
    /// Cores that other programs kept busy meanwhile; none where the system does not say.
    pub other_cores_busy: Option<f64>,
    /// Why the figures may be disturbed, in words.
    pub notes: Vec<String>,
}

/// Runs stored before there was another device.
fn cpu() -> String {
    "cpu".to_owned()
}

/// `bench memory`: of the engine process alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Number of the stored run.
    pub run: u32,
    /// Model id.
    pub model: String,
    /// Bytes of the weights as held.
    pub weights_bytes: u64,
    /// Bytes of the KV cache of `ctx` tokens.
    pub kv_bytes: u64,
    /// Bytes that each token takes in the KV cache.
    #[serde(default)]
    pub kv_bytes_per_token: u64,
    /// Most resident memory since the process began, loading and a full cache included.
    pub peak_rss_bytes: u64,
    /// Resident memory after loading, before any token; none where the system does not say.
    pub idle_rss_bytes: Option<u64>,
    /// Tokens the cache was filled to.
    pub ctx: u32,
    /// Why a figure should not be trusted, in words.
    pub notes: Vec<String>,
}

/// `bench energy`. Either all figures are there, or `reason` says why they are not; then nothing is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EnergyReport {
    /// Number of the stored run; none without figures.
    pub run: Option<u32>,
    /// Model id.
    pub model: String,
    /// Who counted: "rapl", "nvml", "ioreport" or "battery"; none where nobody does.
    pub source: Option<String>,
    /// What was counted, in words: the processor, the graphics board, the whole machine.
    pub covers: Option<String>,
    /// Joules by generated token, the idle machine subtracted: median of the repeats.
    pub joules_per_token: Option<f64>,
    /// The repeats of `joules_per_token`.
    pub spread: Option<Spread>,
    /// Joules by generated token with the idle machine included: median of the repeats.
    pub gross_joules_per_token: Option<f64>,
    /// Mean power of the idle machine with the model loaded, before and after.
    pub idle_watts: Option<f64>,
    /// Mean power while generating.
    pub load_watts: Option<f64>,
    /// Joules that the MMLU questions of the same scorecard took, idle subtracted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mmlu_joules: Option<f64>,
    /// Right MMLU answers per watt-hour of `mmlu_joules`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub correct_per_wh: Option<f64>,
    /// Tokens generated in all repeats.
    pub tokens: u32,
    /// Time of all repeats.
    pub seconds: f64,
    /// Tokens of each text.
    pub generate: u32,
    /// Where the model ran.
    pub device: String,
    /// Threads used.
    pub threads: u32,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Cores that other programs kept busy meanwhile; none where the system does not say.
    pub other_cores_busy: Option<f64>,
    /// Why the figures may be disturbed, in words.
    pub notes: Vec<String>,
    /// Why there are no figures, and what to do.
    pub reason: Option<String>,
}

/// `convert`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvertReport {
    /// The model that was converted.
    pub model: String,
    /// "q4_k_m".
    pub quant: String,
    /// The file.
    pub out: String,
    /// Its size.
    pub bytes: u64,
    /// How long it took, the check at the end included.
    pub seconds: f64,
    /// The adapter that was merged, and how near the file comes to model and adapter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeReport>,
}

/// A merged adapter. Differences are root mean squares of logits, as parts of the logits' own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MergeReport {
    /// Folder of the adapter.
    pub adapter: String,
    /// Positions of a text over which it was compared.
    pub tokens: u32,
    /// File against model and adapter.
    pub difference: f64,
    /// Largest difference that rounding to the format explains.
    pub bound: f64,
    /// Model against model and adapter: how far the adapter moves it.
    pub moved: f64,
}

/// `perplexity`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PerplexityReport {
    /// Number of the stored run.
    pub run: u32,
    /// Model id.
    pub model: String,
    /// Tokens scored.
    pub tokens: u64,
    /// Mean negative log-likelihood, nats a token.
    pub nll_mean: f64,
    /// exp(`nll_mean`).
    pub perplexity: f64,
    /// Window in tokens.
    pub ctx: u32,
    /// Time of the run.
    pub seconds: f64,
}
