//! Fine-tuning as the shells exchange it: what is trained on what, what it will cost, how it goes, and what came of it.

use serde::{Deserialize, Serialize};

use super::{ApiError, ChartData, Fact, JobState};

pub use billion_lora::dataset::{
    ColumnMapping, DatasetColumn, DatasetOptions, DatasetPreview, DetectedDataset, EncodedRow,
    FileKind, LengthBucket, LossOn, OverLong, RowLayout, RowProblem, ShownToken,
};
pub use billion_lora::train::{Recompute, Schedule, TrainOptions};

/// A dataset as a model would see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct DatasetLook {
    /// What was found in the file.
    pub detected: DetectedDataset,
    /// Rows as tokens, counts and problems; none where there is an error.
    pub preview: Option<DatasetPreview>,
    /// Why it cannot be read so: no layout is known, a column is missing.
    pub error: Option<ApiError>,
}

/// What to train, on what, and what to look at afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct FinetuneRequest {
    /// The model to start from.
    pub model: String,
    /// File of the dataset.
    pub data: String,
    /// How it is read.
    pub dataset: DatasetOptions,
    /// How it is trained.
    pub options: TrainOptions,
    /// Name of the result; none takes the file's.
    pub name: Option<String>,
    /// Folder that gets the adapter as well; none keeps it with Billion's data only.
    pub out: Option<String>,
    /// MMLU Standard before and after: what was forgotten.
    pub forgetting: bool,
}

/// What the window and the command line begin with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct FinetuneDefaults {
    /// How a dataset is read.
    pub dataset: DatasetOptions,
    /// How an adapter is trained.
    pub options: TrainOptions,
}

/// What training will take, told before it starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct FinetuneForecast {
    /// Time of the training.
    pub seconds: f64,
    /// Time of MMLU before and after; none where it is not asked for.
    pub forgetting_seconds: Option<f64>,
    /// Memory of the training process at its peak.
    pub peak_bytes: u64,
    /// Memory that is free now.
    pub free_bytes: u64,
    /// Optimizer steps.
    pub steps: u32,
    /// Tokens that go through the model in all.
    pub tokens: u64,
    /// Parameters that are trained.
    pub trainable_params: u64,
    /// Their share of all parameters.
    pub trainable_share: f64,
    /// Where the time comes from.
    pub basis: String,
    /// What a person should know before the start.
    pub warnings: Vec<String>,
}

/// A loss at a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct LossPoint {
    /// Optimizer step, from 1; 0 is the model before training.
    pub step: u32,
    /// Mean negative log-likelihood of the tokens that count, nats a token.
    pub loss: f64,
}

/// A fine-tuning in the list of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct FinetuneHead {
    /// Number in the store.
    pub id: u32,
    /// What people call the result.
    pub name: String,
    /// What commands take as MODEL for model and adapter together, once there is an adapter.
    pub tuned: String,
    /// The model it starts from.
    pub model: String,
    /// The model's name.
    pub model_name: String,
    /// File name of the dataset.
    pub data: String,
    /// State of its job; done where the job was dismissed.
    pub state: JobState,
    /// There is an adapter that can be used.
    pub usable: bool,
    /// When it was begun.
    pub created_at: f64,
    /// Its job.
    pub job: u32,
    /// The finished run in Results.
    pub run: Option<u32>,
    /// The main figure in words: "held-out loss 2.41 → 1.73".
    pub headline: String,
}

/// Where training is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct TuneProgress {
    /// Optimizer steps done.
    pub step: u32,
    /// Steps in all.
    pub of: u32,
    /// Times that the rows were seen, in part.
    pub epoch: f64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Loss on the held-out rows, the last that was measured.
    pub held_out: Option<f64>,
    /// Learning rate now.
    pub lr: f64,
    /// Tokens a second, padding not counted.
    pub tokens_per_s: f64,
    /// Time left of the training.
    pub seconds_left: Option<f64>,
    /// Steps that the last checkpoint holds.
    pub checkpoint: u32,
    /// Time of the steps of all sessions.
    pub spent_s: f64,
    /// Tokens of the steps of all sessions.
    pub spent_tokens: u64,
}

/// A fine-tuning with all that is known of it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Finetune {
    /// As listed.
    pub head: FinetuneHead,
    /// What was asked for.
    pub request: FinetuneRequest,
    /// Where training is.
    pub progress: TuneProgress,
    /// What it does now, in words.
    pub step: String,
    /// Why it stopped, if it failed.
    pub error: Option<ApiError>,
    /// Parameters that are trained, and their share; none before it began.
    pub trainable: Option<Trainable>,
    /// Loss over the steps.
    pub charts: Vec<ChartData>,
    /// What came of it; none until training is done.
    pub report: Option<ReportCard>,
    /// Folder that holds the adapter, once there is one.
    pub folder: Option<String>,
    /// Command that makes it again.
    pub command: String,
}

/// What is trained of a model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Trainable {
    /// Parameters that are trained.
    pub params: u64,
    /// Their share of all parameters.
    pub share: f64,
}

/// Whether training helped, and what it cost.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ReportCard {
    /// In sentences: did it help?
    pub verdicts: Vec<String>,
    /// On rows that training did not see.
    pub held_out: Option<HeldOut>,
    /// Exact answers on rows of the training.
    pub recall: Option<Recall>,
    /// Answers to held-out rows, before and after.
    pub answers: Vec<ComparedAnswer>,
    /// MMLU before and after.
    pub forgetting: Option<Forgetting>,
    /// Time, speed, memory, energy, data: label and value.
    pub figures: Vec<Fact>,
    /// Every part that was asked for is there.
    pub complete: bool,
}

/// Loss and perplexity on rows that training did not see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct HeldOut {
    /// Rows.
    pub rows: u32,
    /// Mean loss before training, nats a token.
    pub loss_before: f64,
    /// Of the adapter that was kept.
    pub loss_after: f64,
    /// exp of the loss before.
    pub perplexity_before: f64,
    /// exp of the loss after.
    pub perplexity_after: f64,
}

/// Rows of the training that are answered word for word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Recall {
    /// Rows asked, drawn by the seed among those with short answers.
    pub rows: u32,
    /// Of them right before.
    pub before: u32,
    /// Right after.
    pub after: u32,
}

/// A held-out row, answered greedily before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct ComparedAnswer {
    /// Number of the row in the file, from 1.
    pub row: u32,
    /// It is a row of the training: there were no held-out ones.
    pub trained: bool,
    /// What is asked.
    pub prompt: String,
    /// The answer in the file.
    pub wanted: String,
    /// The model's.
    pub base: String,
    /// That of model and adapter.
    pub tuned: String,
}

/// MMLU Standard before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Forgetting {
    /// Run of the model.
    pub before: u32,
    /// Run of model and adapter.
    pub after: u32,
    /// Accuracy before.
    pub accuracy_before: f64,
    /// Accuracy after.
    pub accuracy_after: f64,
    /// Questions that both answered.
    pub questions: u32,
    /// Right before and wrong after.
    pub lost: u32,
    /// Wrong before and right after.
    pub gained: u32,
    /// McNemar's exact p-value.
    pub p_value: f64,
    /// In words: forgot, learnt, or no real difference.
    pub verdict: String,
}
