//! Models as the shells see them: listed, described, looked up on the hub, fetched, held against memory, quantized, and
//! the checkpoints of a training.

use serde::{Deserialize, Serialize};

use super::{ChartData, Fact, Figure};

/// Where a model in the list comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum ModelSource {
    /// Ships with the app.
    Starter,
    /// A file or folder of the person's own.
    Imported,
    /// Found in the Hugging Face cache.
    HubCache,
    /// Quantized here from another model.
    Quantized,
    /// A model with an adapter that was trained here.
    Tuned,
    /// Known, but not on this machine.
    Catalogue,
}

/// How well a model fits into this machine's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Fit {
    /// For colour and order.
    pub level: FitLevel,
    /// In words: "runs well", "tight: …", "too big: needs 3.1 GB, 2.4 GB free".
    pub words: String,
    /// What the need is the sum of; none while its parts are unknown.
    pub sum: Option<String>,
}

/// How well a model fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum FitLevel {
    /// With room to spare.
    Well,
    /// It fits, barely.
    Tight,
    /// It does not fit into what is free now.
    TooBig,
    /// Its size or the free memory is unknown.
    Unknown,
}

/// A model as listed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ModelEntry {
    /// What commands take as MODEL.
    pub id: String,
    /// For people.
    pub name: String,
    /// Number of parameters.
    pub params: Option<u64>,
    /// "llama", "stablelm", "gpt_neox".
    pub architecture: String,
    /// "Q4_1", "BF16".
    pub quant: Option<String>,
    /// Size on disk, or of the download of a model that is not here.
    pub bytes: Option<u64>,
    /// SPDX or the licence's own name.
    pub license: Option<String>,
    /// Who published it.
    pub publisher: Option<String>,
    /// Longest context in tokens.
    pub context_len: Option<u32>,
    /// On this machine and usable.
    pub installed: bool,
    /// Where it comes from.
    pub source: ModelSource,
    /// Will it run here?
    pub fit: Fit,
    /// What it is good at, in a sentence.
    pub good_at: Option<String>,
    /// It has a chat template; without one it is a base model that completes text.
    pub chat: bool,
    /// File or folder, where installed.
    pub path: Option<String>,
    /// Why an installed file cannot be used, if it cannot.
    pub problem: Option<String>,
    /// What Billion's catalogue says of it, if it is one of the catalogue's.
    pub known: Option<Catalogued>,
}

/// Everything known of an installed model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ModelDetails {
    /// As listed.
    pub entry: ModelEntry,
    /// SHA-256 of the weights.
    pub sha256: String,
    /// Label and value pairs in order: layers, width, heads, vocabulary, tokenizer, rope, tensors by format.
    pub facts: Vec<Fact>,
    /// Source of the chat template.
    pub chat_template: Option<String>,
}

/// What the catalogue says of a model, whether it is on this machine or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a card, as the shells show them"
)]
pub struct Catalogued {
    /// `OWNER/NAME` on the hub.
    pub repository: String,
    /// Its page.
    pub page: String,
    /// Bytes to fetch.
    pub download_bytes: u64,
    /// `download_bytes` is computed from the number of parameters; the hub is asked before a download starts.
    pub estimated: bool,
    /// Its publisher gives it to accounts that accepted the licence.
    pub gated: bool,
    /// One of the article's models, base or chat.
    pub contender: bool,
    /// One of the four that "Download all contenders" fetches.
    pub article: bool,
    /// Ids of larger models that it can draft for.
    pub drafts_for: Vec<String>,
    /// Tokens that it was trained on, repeats included.
    pub training_tokens: u64,
    /// `training_tokens` for each parameter; Chinchilla's advice is 20.
    pub tokens_per_param: f64,
    /// Checkpoints of its training can be had (`checkpoints`).
    pub checkpoints: bool,
}

/// What models take on the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct DiskUsage {
    /// Everything in Billion's own folder.
    pub own_bytes: u64,
    /// Models in the hub's cache, whoever put them there.
    pub hub_bytes: u64,
    /// The hub's cache, which Python tools share.
    pub hub_folder: String,
    /// Free on its disk; none where the system does not say.
    pub free_bytes: Option<u64>,
    /// All of it in a line.
    pub words: String,
}

// ---------------------------------------------------------------- hub

/// What downloads would take, told before they start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct DownloadPlan {
    /// One a model, in the order asked.
    pub models: Vec<PlannedDownload>,
    /// Of all of them, less what is on this machine.
    pub bytes: u64,
    /// Some sizes are computed from the number of parameters, because the hub did not say.
    pub estimated: bool,
    /// Free on the disk that takes them.
    pub free_disk_bytes: u64,
    /// The folder that takes them.
    pub folder: String,
}

/// One model of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct PlannedDownload {
    /// As a MODEL reference.
    pub id: String,
    /// For people.
    pub name: String,
    /// Bytes to fetch, less what is on this machine.
    pub bytes: u64,
    /// It is on this machine, whole.
    pub installed: bool,
    /// Its publisher gives it to accounts that accepted the licence.
    pub gated: bool,
}

/// A repository that the hub found for a keyword, a name or an address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct FoundModel {
    /// `OWNER/NAME`.
    pub repository: String,
    /// Its page.
    pub page: String,
    /// Its revision, where one was named.
    pub revision: Option<String>,
    /// "llama"; none while the hub was not asked for it.
    pub architecture: Option<String>,
    /// Why Billion cannot run it, if that is known.
    pub problem: Option<String>,
    /// SPDX or the licence's own name.
    pub license: Option<String>,
    /// Its publisher gives it to accounts that accepted the licence.
    pub gated: bool,
    /// Downloads of the last month.
    pub downloads: Option<u64>,
    /// What can be fetched of it; empty while the hub was not asked for it (`look_up_model`).
    pub choices: Vec<FileChoice>,
}

/// Something to fetch of a repository: its safetensors, or one GGUF file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct FileChoice {
    /// The MODEL reference that fetches it.
    pub id: String,
    /// "safetensors, BF16" or the file's name.
    pub name: String,
    /// Bytes to fetch.
    pub bytes: u64,
    /// It is on this machine.
    pub installed: bool,
    /// Will it run here? Estimated from its size.
    pub fit: Fit,
}

/// The person's account on the hub, as far as this machine knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct HubAccount {
    /// Address of the hub.
    pub endpoint: String,
    /// Its folder of models, shared with Python tools.
    pub cache: String,
    /// Where the token comes from.
    pub token: TokenPlace,
    /// Its last characters, to tell one from another: "…x3Qf".
    pub token_end: Option<String>,
    /// Whose it is; none until the hub was asked.
    pub user: Option<String>,
    /// What a person should know: no keychain here, so the token lies in a file; the environment's token wins.
    pub note: Option<String>,
    /// Page where tokens are made.
    pub tokens_page: String,
}

/// Where a token is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum TokenPlace {
    /// There is none.
    Nowhere,
    /// `HF_TOKEN`.
    Environment,
    /// The system's keychain.
    Keychain,
    /// The token file that Python tools use as well.
    File,
}

// ---------------------------------------------------------------- fit

/// "What runs here?": models by kinds of machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct RunsHere {
    /// Kinds of machine.
    pub columns: Vec<MachineKind>,
    /// One a contender.
    pub rows: Vec<RunsRow>,
    /// What the figures rest on.
    pub basis: String,
}

/// A kind of machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct MachineKind {
    /// "CPU, INT4".
    pub name: String,
    /// Memory that a model may take there.
    pub budget_bytes: u64,
    /// It is this machine.
    pub here: bool,
    /// What is unproven there, for example a device that Billion was not tested on.
    pub note: Option<String>,
}

/// A contender in the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct RunsRow {
    /// Model id.
    pub model: String,
    /// For people.
    pub name: String,
    /// One a column, in order.
    pub cells: Vec<Fit>,
}

/// A piece of the guide "Which should I choose?".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Advice {
    /// What a person wants: "Most per byte".
    pub want: String,
    /// The answer, in a sentence or two.
    pub answer: String,
    /// The model to take.
    pub model: String,
    /// Its name.
    pub name: String,
    /// It is on this machine.
    pub installed: bool,
    /// The measured results that it rests on, in words; none while there are none.
    pub rests_on: Option<String>,
}

// ---------------------------------------------------------------- quantize

/// What to quantize.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ConvertRequest {
    /// A model of 16 or 32 bits a weight.
    pub model: String,
    /// "q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0" or "f16".
    pub quant: String,
    /// The file to write; none keeps it in the library as `MODEL:QUANT`.
    pub out: Option<String>,
    /// Folder of a PEFT adapter that is merged into the weights first; the model may be quantized already then.
    #[serde(default)]
    pub adapter: Option<String>,
}

/// A format that a model can be written in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct QuantChoice {
    /// "q4_k_m".
    pub quant: String,
    /// For people: "Q4_K_M: 4.9 bits a weight, the usual choice".
    pub words: String,
    /// Bytes of the file, by its recipe.
    pub bytes: u64,
    /// Will it run here?
    pub fit: Fit,
}

// ---------------------------------------------------------------- checkpoints

/// What to look at over a model's training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct TimeLapseRequest {
    /// A model with checkpoints.
    pub model: String,
    /// Training steps, of those that `checkpoints` lists.
    pub steps: Vec<u32>,
    /// What each checkpoint continues.
    pub prompt: String,
}

/// A time-lapse in the list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct TimeLapseHead {
    /// Number in the store.
    pub id: u32,
    /// Model id.
    pub model: String,
    /// Checkpoints asked for.
    pub steps: u32,
    /// Checkpoints evaluated.
    pub done: u32,
    /// When it was begun.
    pub created_at: f64,
}

/// A model over its training, drawn from the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct TimeLapse {
    /// As listed.
    pub head: TimeLapseHead,
    /// What each checkpoint continued.
    pub prompt: String,
    /// The checkpoints evaluated so far, by step.
    pub points: Vec<TimeLapsePoint>,
    /// MMLU, then perplexity, over training steps.
    pub charts: Vec<ChartData>,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct TimeLapsePoint {
    /// Training step.
    pub step: u32,
    /// Tokens that it had seen.
    pub training_tokens: u64,
    /// MMLU accuracy.
    pub mmlu: Option<Figure>,
    /// Perplexity on Billion's own text.
    pub perplexity: Option<Figure>,
    /// Its greedy continuation of the prompt.
    pub continuation: Option<String>,
    /// Why it is missing, if it is.
    pub problem: Option<String>,
}
