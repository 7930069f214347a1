//! The pair lab: which draft fits which target, and what speculative decoding brings on this machine.

use serde::{Deserialize, Serialize};

/// Where drafts come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Drafter {
    /// A smaller model with the target's vocabulary.
    Model {
        /// MODEL of cli.md.
        model: String,
    },
    /// What followed the same words earlier in the text; needs no second model.
    Lookup,
}

/// Whether a target and a draft can work together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct PairCheck {
    /// They can.
    pub works: bool,
    /// Why they cannot, with the first difference, and what to do.
    pub problem: Option<String>,
    /// What is worth knowing of a pair that works: tokens compared, rows of padding, parameters of both.
    pub notes: Vec<String>,
}

/// A pair of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct KnownPair {
    /// The large model.
    pub target: String,
    /// For people.
    pub target_name: String,
    /// It is on this machine.
    pub target_installed: bool,
    /// The small one.
    pub draft: String,
    /// For people.
    pub draft_name: String,
    /// It is on this machine.
    pub draft_installed: bool,
    /// What to know of the pair, in words.
    pub words: String,
}

/// Kinds of prompts: how often a draft is right depends on them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// A question.
    #[default]
    Chat,
    /// A program.
    Code,
    /// A given text in fewer words.
    Summary,
    /// A given text in another language.
    Translation,
    /// A story.
    Story,
    /// The person's own prompt.
    Own,
}

/// A prompt of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct LabPrompt {
    /// Its kind.
    pub kind: PromptKind,
    /// The kind for people.
    pub name: String,
    /// What is asked.
    pub text: String,
}

/// How many tokens are drafted at a time: a number, or "auto".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(untagged)]
pub enum DraftLength {
    /// So many, 1 to 15.
    Fixed(u32),
    /// As many as pay, by acceptance and cost; none where none pay.
    Auto(AutoWord),
}

/// The word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum AutoWord {
    /// "auto".
    Auto,
}

impl DraftLength {
    /// By acceptance and cost.
    pub const AUTO: Self = Self::Auto(AutoWord::Auto);
}

impl Default for DraftLength {
    fn default() -> Self {
        Self::AUTO
    }
}

impl std::fmt::Display for DraftLength {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(k) => write!(f, "{k}"),
            Self::Auto(_) => f.write_str("auto"),
        }
    }
}

/// What to measure of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct SpeculationRequest {
    /// MODEL of cli.md: the large model, whose text it is.
    pub target: String,
    /// Who drafts.
    pub drafter: Drafter,
    /// How many tokens at a time.
    pub k: DraftLength,
    /// Kinds of prompts of the lab; `Own` is not one of them.
    pub kinds: Vec<PromptKind>,
    /// Own prompts, besides.
    pub prompts: Vec<String>,
    /// Prompts are completed as they stand, without the target's chat template.
    pub raw: bool,
    /// 0 is greedy.
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u32,
    /// Most tokens of a text.
    pub max_tokens: u32,
    /// How often each text is written each way, in turns.
    pub repeat: u32,
    /// Each number of drafted tokens is tried as well, once, to see which is the best.
    pub sweep: bool,
}

/// Repeats of a figure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Repeats {
    /// Median of the repeats.
    pub median: f64,
    /// Least repeat.
    pub min: f64,
    /// Greatest repeat.
    pub max: f64,
    /// All of them in order.
    pub runs: Vec<f64>,
}

/// What was measured of a pair: `speculate --json`, what the store keeps, and what the window shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct SpeculationReport {
    /// Number of the stored run.
    pub run: u32,
    /// Id of the target.
    pub target: String,
    /// Id of the draft; none with prompt lookup.
    pub draft: Option<String>,
    /// How many tokens were drafted at a time, as asked for.
    pub k: DraftLength,
    /// Time of plain decoding over that of speculative decoding, all prompts together: median of the repeats. The draft's
    /// reading of the prompt counts, the target's, which both do, does not.
    pub speedup: f64,
    /// The repeats of it.
    pub speedup_repeats: Repeats,
    /// Plain decoding, tokens a second after the first token.
    pub baseline_tokens_per_s: f64,
    /// Speculative decoding, tokens a second after the first token.
    pub speculative_tokens_per_s: f64,
    /// Accepted of drafted tokens; none when nothing was drafted.
    pub acceptance_rate: Option<f64>,
    /// Probability that a drafted token is accepted when those before it were; none when nothing was drafted.
    pub alpha: Option<f64>,
    /// Tokens of a pass of the target.
    pub tokens_per_step: f64,
    /// What theory predicts from acceptance and the costs that were measured apart; none when nothing was drafted.
    pub predicted_speedup: Option<f64>,
    /// Greedy output is the same to the token both ways; none of drawn text, which only has the same distribution.
    pub identical: Option<bool>,
    /// Tokens of the speculative output, all prompts in order.
    pub tokens: Vec<u32>,
    /// SHA-256 of the tokens (little-endian u32) of plain decoding, all prompts in order.
    pub baseline_sha256: String,
    /// The same of speculative decoding.
    pub speculative_sha256: String,
    /// Prompt by prompt.
    pub by_prompt: Vec<PromptSpeculation>,
    /// Speed by number of drafted tokens, where it was asked for.
    pub by_k: Vec<LengthSpeed>,
    /// Whether to use it.
    pub advice: SpeculationAdvice,
    /// Threads used.
    pub threads: u32,
    /// Instruction set of the kernels.
    pub isa: String,
    /// Where it ran.
    pub device: String,
    /// 0 is greedy.
    pub temperature: f32,
    /// Most tokens of a text.
    pub max_tokens: u32,
    /// Time of everything.
    pub seconds: f64,
    /// Cores that other programs kept busy meanwhile; none where the system does not say.
    pub other_cores_busy: Option<f64>,
    /// Why the figures may be disturbed, in words.
    pub notes: Vec<String>,
}

/// One prompt of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct PromptSpeculation {
    /// Its kind.
    pub kind: PromptKind,
    /// What was asked.
    pub prompt: String,
    /// Tokens of the prompt, the template's included.
    pub prompt_tokens: u32,
    /// The speculative output of the first repeat.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
    /// "stop", "length" or "context".
    pub finish_reason: String,
    /// As of the whole.
    pub speedup: f64,
    /// The repeats of it.
    pub speedup_repeats: Repeats,
    /// Plain decoding, median of the repeats.
    pub baseline_tokens_per_s: f64,
    /// Speculative decoding, median of the repeats.
    pub speculative_tokens_per_s: f64,
    /// Tokens drafted, of the first repeat.
    pub drafted: u32,
    /// Of them accepted.
    pub accepted: u32,
    /// Passes of the target after the prompt.
    pub passes: u32,
    /// Of them without a draft.
    pub plain_passes: u32,
    /// Accepted of drafted tokens.
    pub acceptance_rate: Option<f64>,
    /// Probability that a drafted token is accepted when those before it were.
    pub alpha: Option<f64>,
    /// Tokens of a pass of the target.
    pub tokens_per_step: f64,
    /// What theory predicts.
    pub predicted_speedup: Option<f64>,
    /// What passes cost at the middle of this text, measured apart.
    pub costs: PassCosts,
    /// It no longer paid at the end, and speculation had switched itself off.
    pub switched_off: bool,
    /// As of the whole.
    pub identical: Option<bool>,
    /// First token that differs, from 0.
    pub first_difference: Option<u32>,
    /// SHA-256 of the tokens (little-endian u32) of plain decoding.
    pub baseline_sha256: String,
    /// The same of speculative decoding.
    pub speculative_sha256: String,
    /// The text piece by piece: what was drafted and kept, what was not.
    pub pieces: Vec<TracedText>,
}

/// What passes cost, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct PassCosts {
    /// A pass of the target over 1, 2, 3, … tokens.
    pub target_pass_s: Vec<f64>,
    /// A step of the draft; 0 of lookup.
    pub draft_step_s: f64,
    /// The draft's pass over the prompt, median of the repeats.
    pub draft_prompt_s: f64,
}

/// How a piece of the text came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum TextOrigin {
    /// Drafted and kept.
    Accepted,
    /// The target's own in place of a drafted one.
    Corrected,
    /// The target's own after a draft that was kept whole.
    Bonus,
    /// The target's own with nothing drafted.
    Plain,
}

/// Text of neighbouring tokens with one origin. A token that is part of a character joins the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct TracedText {
    /// What was written.
    pub text: String,
    /// How it came about.
    pub origin: TextOrigin,
    /// What was drafted here and not kept; empty but before a corrected token.
    pub rejected: String,
    /// Tokens of `text`.
    pub tokens: u32,
}

/// Speed with a number of drafted tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct LengthSpeed {
    /// How many are drafted.
    pub k: u32,
    /// All prompts together, once.
    pub speedup: f64,
    /// What theory predicts from the acceptance of this try and the costs.
    pub predicted_speedup: Option<f64>,
    /// Accepted of drafted tokens.
    pub acceptance_rate: Option<f64>,
    /// Tokens of a pass of the target.
    pub tokens_per_step: f64,
}

/// Whether to use a pair, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct SpeculationAdvice {
    /// It pays.
    pub on: bool,
    /// With so many tokens.
    pub k: DraftLength,
    /// Why, in a sentence with figures.
    pub words: String,
}

/// Speculation of a reply in Chat, while it is written and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ReplySpeculation {
    /// The draft's name; "prompt lookup" without one.
    pub draft: String,
    /// Tokens drafted.
    pub drafted: u32,
    /// Of them accepted.
    pub accepted: u32,
    /// Against the plain passes of this reply; none while there are too few to tell.
    pub speedup: Option<f64>,
    /// It does not pay at present, and has switched itself off.
    pub switched_off: bool,
    /// Why this reply was written without drafts, if it was.
    pub problem: Option<String>,
}

/// A measured pair as the window shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Speculation {
    /// What was measured.
    pub report: SpeculationReport,
    /// The target for people.
    pub target_name: String,
    /// The draft for people; "prompt lookup" without one.
    pub draft_name: String,
    /// Speed-up by kind of prompt and by number of drafted tokens, measured and predicted; acceptance by kind.
    pub charts: Vec<super::ChartData>,
    /// When.
    pub created_at: f64,
    /// Command that makes it again.
    pub command: String,
}
