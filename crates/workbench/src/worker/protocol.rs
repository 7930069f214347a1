//! What parent and worker say to each other: one JSON document a line, requests on stdin and messages on stdout.
//!
//! The worker's first line is `Body::Hello`. It handles one request after the other; `Ask::Cancel` acts at once, and a
//! cancelled request still ends with exactly one terminal message, as every request does. Progress and text are
//! coalesced; text keeps its order, samples and terminal messages are never dropped.

use std::path::PathBuf;

use billion_eval::meters::{energy, memory, speculation, speed};
use billion_eval::tasks::{humaneval, mmlu, perplexity};
use billion_lora::dataset::DatasetSample;
use billion_lora::train::{Ending, Forecast, TrainOptions};
use serde::{Deserialize, Serialize};

use super::MmluSample;
use crate::api::{
    ApiError, DatasetLook, DatasetOptions, LossPoint, Message, ReplyOptions, ReplySpeculation,
    TracedText,
};
use crate::reports::MergeReport;
use crate::requests::EngineOptions;

/// Raised with every change that an older partner would misread.
pub const PROTOCOL: u32 = 5;

/// A request, from parent to worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the parent; messages about the request carry it.
    pub id: u64,
    /// What to do.
    pub ask: Ask,
}

/// What a worker can do. `Generate`, `Mmlu`, `Complete`, `Answer` and the meters need a loaded model, the others none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Ask {
    /// Loads a model; one that was loaded before is dropped first.
    Load {
        /// A `.gguf` file or a model folder.
        path: PathBuf,
        /// How.
        engine: EngineOptions,
    },
    /// Loads a draft beside the model, in place of one that was there, once their vocabularies are found to agree.
    LoadDraft {
        /// A `.gguf` file or a model folder.
        path: PathBuf,
        /// How.
        engine: EngineOptions,
    },
    /// Compares the vocabularies of a target and a draft. Needs no loaded model.
    CheckPair {
        /// A `.gguf` file or a model folder.
        target: PathBuf,
        /// The same.
        draft: PathBuf,
    },
    /// Drops model and draft.
    Unload,
    /// Generates a reply.
    Generate {
        /// Whose KV cache to go on with; a prompt that begins as the last one did only pays for the rest.
        session: u64,
        /// The conversation; a model without a chat template completes the contents in a row.
        messages: Vec<Message>,
        /// How.
        options: ReplyOptions,
    },
    /// Answers MMLU questions.
    Mmlu(MmluAsk),
    /// Writes completions of HumanEval problems.
    Complete(CompleteAsk),
    /// Runs completions in the sandbox. Needs no model.
    Judge(JudgeAsk),
    /// Scores a text.
    Perplexity {
        /// UTF-8 file.
        text: PathBuf,
        /// Window in tokens; none is the model's context.
        ctx: Option<u32>,
    },
    /// Times reading and generating.
    Speed {
        /// Prompt tokens.
        prompt: u32,
        /// Generated tokens.
        generate: u32,
        /// Repeats.
        repeat: u32,
        /// Sequences that decode together.
        batch: u32,
        /// Tokens in the cache before decoding.
        depth: u32,
    },
    /// Fills the cache to `ctx` tokens and reads the process's memory.
    Memory {
        /// Tokens; none is 2,048, or the model's context where that is shorter.
        ctx: Option<u32>,
    },
    /// Counts the joules of generating, with the idle machine subtracted.
    Energy {
        /// Tokens of each text.
        generate: u32,
        /// Repeats.
        repeat: u32,
    },
    /// Times speculative decoding against plain decoding, with the loaded draft, or by prompt lookup without one.
    Speculate(SpeculateAsk),
    /// Writes a model to a GGUF file. Needs no loaded model.
    Convert(ConvertAsk),
    /// Writes `model.safetensors` beside a checkpoint that is PyTorch's pickle, of which only the data is read. Needs no
    /// loaded model.
    ConvertCheckpoint {
        /// The folder of `pytorch_model.bin`.
        folder: PathBuf,
    },
    /// Reads a dataset as a model would see it.
    LookAtDataset(DatasetAsk),
    /// Measures what training would take.
    ForecastTuning(TuneAsk),
    /// Trains an adapter, or goes on with it.
    Tune(TuneAsk),
    /// Answers prompts greedily, several at a time.
    Answer {
        /// Tokens that each answer follows.
        prompts: Vec<Vec<u32>>,
        /// Most tokens of an answer.
        max_tokens: u32,
    },
    /// Ends the named request as soon as possible. Has no messages of its own.
    Cancel {
        /// The request to end.
        request: u64,
    },
}

/// Which MMLU questions, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MmluAsk {
    /// The starter pack's `mmlu.jsonl`, an official folder or archive, or parquet files.
    pub data: PathBuf,
    /// Solved examples; none is 5 where a dev split exists, else 0.
    pub shots: Option<u32>,
    /// The first so many rows of each subject.
    pub limit: Option<u32>,
    /// Subjects; empty is all.
    pub subjects: Vec<String>,
    /// Stop when the 95 % interval is at most this much to each side.
    pub stop_at_half_width: Option<f64>,
    /// Answers of earlier sessions, which are not asked again.
    pub answered: Vec<MmluSample>,
}

/// Which HumanEval problems, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompleteAsk {
    /// `HumanEval.jsonl`, gzipped or not.
    pub problems: PathBuf,
    /// The first so many problems.
    pub limit: Option<u32>,
    /// Samples of each.
    pub n: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// Most tokens of a completion.
    pub max_tokens: u32,
    /// Seed of the sampler.
    pub seed: u32,
    /// How the model is asked.
    pub form: humaneval::Form,
    /// Completions of earlier sessions, which are not written again.
    pub written: Vec<humaneval::Completion>,
}

/// Which prompts, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpeculateAsk {
    /// Draft by prompt lookup, although there is a loaded draft.
    pub lookup: bool,
    /// What is asked.
    pub prompts: Vec<String>,
    /// Complete prompts as they stand, without the chat template.
    pub raw: bool,
    /// Tokens drafted at a time; none goes by what pays.
    pub k: Option<u32>,
    /// 0 is greedy.
    pub temperature: f32,
    /// Seed of the sampler.
    pub seed: u32,
    /// Most tokens of a text.
    pub max_tokens: u32,
    /// How often each text is written each way.
    pub repeat: u32,
    /// Also tries several k.
    pub sweep: bool,
}

/// Which model to write, how, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvertAsk {
    /// A `.gguf` file or a model folder.
    pub source: PathBuf,
    /// "q4_k_m".
    pub quant: String,
    /// Folder of a PEFT adapter to merge into the weights.
    #[serde(default)]
    pub adapter: Option<PathBuf>,
    /// The file to write.
    pub out: PathBuf,
    /// Threads; none is one a core.
    pub threads: Option<u32>,
    /// What people call the model.
    pub name: String,
    /// Its licence.
    pub license: Option<String>,
    /// Who made it.
    pub publisher: Option<String>,
}

/// A dataset and the model that would see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetAsk {
    /// A `.gguf` file or a model folder.
    pub model: PathBuf,
    /// File of the dataset.
    pub data: PathBuf,
    /// How it is read.
    pub options: DatasetOptions,
}

/// What to train on what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TuneAsk {
    /// The dataset for the model.
    pub dataset: DatasetAsk,
    /// How to train.
    pub options: TrainOptions,
    /// Name of the model as the adapter states it.
    pub base: String,
    /// Folder for checkpoints.
    pub folder: PathBuf,
    /// Goes on from the last checkpoint in it, if there is one.
    pub resume: bool,
    /// Folders that get the adapter.
    pub out: Vec<PathBuf>,
}

/// Completions to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JudgeAsk {
    /// `HumanEval.jsonl`, gzipped or not.
    pub problems: PathBuf,
    /// CPython as a WASI module.
    pub python: PathBuf,
    /// Folder for the compiled module.
    pub cache: PathBuf,
    /// Programs that run at once; none is one a core.
    pub threads: Option<u32>,
    /// What to run.
    pub completions: Vec<ToJudge>,
}

/// A completion to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToJudge {
    /// Its problem.
    pub task_id: String,
    /// What was written.
    pub completion: String,
}

/// A message, from worker to parent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The request it is about; 0 for `Hello`.
    pub id: u64,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Body {
    /// The worker is ready.
    Hello {
        /// `PROTOCOL` of the worker.
        protocol: u32,
        /// Its version of Billion.
        version: String,
    },
    /// Work goes on. Coalesced: only the latest is sent.
    Progress {
        /// What it does, for people.
        step: String,
        /// Units done.
        done: u32,
        /// Units in all.
        total: u32,
    },
    /// More text of a reply. Coalesced: pieces are joined.
    Text {
        /// Whole characters.
        text: String,
        /// Tokens generated so far.
        tokens: u32,
        /// How drafts fare so far; the last that was said counts.
        #[serde(default)]
        speculation: Option<ReplySpeculation>,
    },
    /// A question was answered. Never dropped.
    Sample {
        /// The answer.
        sample: MmluSample,
        /// Questions answered, earlier sessions included.
        done: u32,
        /// Questions planned.
        total: u32,
    },
    /// A completion was written. Never dropped.
    Completion {
        /// What was written.
        completion: humaneval::Completion,
        /// Completions written, earlier sessions included.
        done: u32,
        /// Completions planned.
        total: u32,
    },
    /// A completion was run. Never dropped.
    Judged {
        /// Its index among those asked for.
        index: u32,
        /// What came of it.
        judgement: humaneval::Judgement,
        /// Completions run so far.
        done: u32,
    },
    /// An answer is complete. Never dropped.
    Answer {
        /// Index of its prompt.
        index: u32,
        /// Its text.
        text: String,
        /// Answers so far.
        done: u32,
    },
    /// Training gets on. Sent at most ten times a second, never dropped.
    Tuning(Box<TuneNews>),
    /// Terminal: done.
    Done {
        /// What came of it.
        outcome: Box<Outcome>,
    },
    /// Terminal: it could not be done.
    Failed {
        /// Why.
        error: ApiError,
        /// The worker ends itself after this; the next request needs a new one.
        last: bool,
    },
}

/// What happened in training since the last message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TuneNews {
    /// Training begins anew after this step; what an earlier session said of later ones does not count.
    pub restart: Option<u32>,
    /// What it does, where it is no step.
    pub doing: Option<String>,
    /// Steps and their losses.
    pub train: Vec<LossPoint>,
    /// Losses of the rows that training does not see.
    pub held_out: Vec<LossPoint>,
    /// The last step.
    pub step: Option<billion_lora::train::Step>,
    /// The last checkpoint.
    pub checkpoint: Option<u32>,
    /// A better forecast.
    pub forecast: Option<Forecast>,
    /// Tokens of these steps.
    pub tokens: u64,
    /// Time of these steps.
    pub seconds: f64,
}

/// What training gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tuned {
    /// Why it ended.
    pub ending: Ending,
    /// Steps of all sessions.
    pub steps: u32,
    /// Step of the adapter that was kept.
    pub best_step: u32,
    /// Losses by step, of all sessions.
    pub train: Vec<LossPoint>,
    /// The same of the rows that training does not see.
    pub held_out: Vec<LossPoint>,
    /// Parameters that are trained.
    pub trainable_params: u64,
    /// Their share of all.
    pub trainable_share: f64,
    /// Time of this session with looks at held-out rows and checkpoints.
    pub seconds: f64,
    /// Most memory of this process; none where the system does not say.
    pub peak_rss_bytes: Option<u64>,
    /// Energy of this session.
    pub energy: energy::Recording,
    /// Rows that were trained on.
    pub rows_train: u32,
    /// Rows held out.
    pub rows_held_out: u32,
    /// How a row became a prompt.
    pub template: String,
    /// Rows that were left out, in words; empty for none.
    pub left_out: String,
    /// Rows held out, to be asked.
    pub held_out_samples: Vec<DatasetSample>,
    /// Rows of the training, to be asked.
    pub train_samples: Vec<DatasetSample>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Of `Load`.
    Loaded(LoadedModel),
    /// Of `LoadDraft`.
    DraftLoaded(LoadedModel),
    /// Of `CheckPair`.
    PairChecked(PairFound),
    /// Of `Speculate`.
    Speculated(Box<Speculated>),
    /// Of `Unload`.
    Unloaded,
    /// Of `Generate`, cancelled ones included.
    Generated(Generated),
    /// Of `Mmlu`; its answers were sent as samples.
    Mmlu(Box<mmlu::Outcome>),
    /// Of `Complete`; what was written was sent as it came.
    Completed,
    /// Of `Judge`; the judgements were sent as they came.
    Judged,
    /// Of `Perplexity`.
    Perplexity(perplexity::Outcome),
    /// Of `Speed`.
    Speed(Box<speed::Outcome>),
    /// Of `ConvertCheckpoint`.
    CheckpointConverted,
    /// Of `Memory`.
    Memory(memory::Outcome),
    /// Of `Convert`.
    Converted {
        /// Size of the file.
        bytes: u64,
        /// How long it took, the check at the end included.
        seconds: f64,
        /// How near it comes to model and adapter, where one was merged.
        #[serde(default)]
        merge: Option<MergeReport>,
    },
    /// Of `Energy`, also where no source tells it.
    Energy(Box<energy::Outcome>),
    /// Of `LookAtDataset`.
    Dataset(Box<DatasetLook>),
    /// Of `ForecastTuning`.
    TuneForecast(Forecast),
    /// Of `Tune`, stopped ones included.
    Tuned(Box<Tuned>),
    /// Of `Answer`; the answers were sent as they came.
    Answered,
}

/// A loaded model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadedModel {
    /// Instruction set of the kernels.
    pub isa: String,
    /// Threads.
    pub threads: u32,
    /// Time to load.
    pub load_s: f64,
    /// Longest sequence in tokens.
    pub context_len: u32,
    /// It has a chat template.
    pub chat: bool,
    /// Bytes of the weights as held.
    pub weights_bytes: u64,
    /// Bytes a token takes in the cache.
    pub kv_bytes_per_token: u64,
}

/// What comparing two vocabularies gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairFound {
    /// The first difference; none where they agree.
    pub problem: Option<String>,
    /// Tokens that both have.
    pub shared: u64,
    /// Behind the draft's last, of the target alone.
    pub only_target: u64,
    /// The reverse.
    pub only_draft: u64,
}

/// What was measured of a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speculated {
    /// The figures.
    pub outcome: speculation::Outcome,
    /// By prompt, the text in pieces.
    pub pieces: Vec<Vec<TracedText>>,
}

/// A generated reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// The whole text.
    pub text: String,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Prompt tokens that were in the cache already.
    pub reused_tokens: u32,
    /// Generated tokens.
    pub tokens: u32,
    /// Time to the first token.
    pub ttft_s: Option<f64>,
    /// From the first token to the last.
    pub decode_s: f64,
    /// "stop", "length", "cancelled" or "context".
    pub finish_reason: String,
    /// How drafts fared, where they were asked for.
    #[serde(default)]
    pub speculation: Option<ReplySpeculation>,
}
