//! What a training run is asked for, what it tells while it runs, and what it leaves. Plain values; no arithmetic.

use serde::{Deserialize, Serialize};

use crate::Error;

/// Largest rank: beyond the width of small models nothing is low about it.
const MAX_RANK: usize = 1024;

/// How a run trains. `Default` is what the window offers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(default)]
pub struct TrainOptions {
    /// Times that every row is seen.
    pub epochs: u32,
    /// Stops after so many optimizer steps, whatever the epochs say; none: all epochs.
    pub max_steps: Option<u32>,
    /// Rank of every adapted map.
    pub rank: u32,
    /// Strength: the product is scaled by `alpha / rank`, or `alpha / sqrt(rank)` with `rslora`.
    pub alpha: f32,
    /// Rank-stabilised scaling (D. Kalajdzievski 2023, arXiv 2312.03732).
    pub rslora: bool,
    /// Share of an adapter's inputs that is dropped while training, 0 to below 1.
    pub dropout: f32,
    /// Adapted maps by PEFT's names ("q_proj", "v_proj", "gate_proj", "query_key_value", ...). Empty: queries and values, or the
    /// fused query_key_value of GPT-NeoX.
    pub targets: Vec<String>,
    /// Highest learning rate.
    pub learning_rate: f32,
    /// How the learning rate falls after warm-up.
    pub schedule: Schedule,
    /// Share of all steps over which the learning rate rises, 0 to 1.
    pub warmup: f32,
    /// Decoupled weight decay (I. Loshchilov, F. Hutter 2019, arXiv 1711.05101).
    pub weight_decay: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Largest norm of all gradients together; none: they are not clipped.
    pub clip: Option<f32>,
    /// Rows of a batch.
    pub batch: u32,
    /// Batches that an optimizer step adds up.
    pub accumulate: u32,
    /// Longest row in tokens; longer ones are cut. None: the model's context.
    pub max_len: Option<u32>,
    /// Order of rows, start of A and dropout follow from it.
    pub seed: u64,
    /// Steps between checkpoints; none: ten in a run, and one at its end.
    pub checkpoint_every: Option<u32>,
    /// Steps between looks at the held-out rows; none: about ten in a run, at least one an epoch.
    pub eval_every: Option<u32>,
    /// Looks at the held-out rows without a better loss after which training stops; none: it does not stop early.
    pub patience: Option<u32>,
    /// Keep the adapter of the lowest held-out loss, not the last one. None: if `patience` is set. Facts to be learnt by heart
    /// do not carry over to held-out ones, so the last adapter is what most runs want.
    pub keep_best: Option<bool>,
    /// "cpu", "cuda" or "metal".
    pub device: String,
    /// Threads that compute; the cores of this machine if none.
    pub threads: Option<u32>,
    /// Whether a block's activations are kept for the backward pass or computed again.
    pub recompute: Recompute,
    /// Bytes that training may take; none: what the machine has free. Decides `Recompute::Auto`.
    pub memory_bytes: Option<u64>,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            epochs: 3,
            max_steps: None,
            rank: 8,
            alpha: 16.0,
            rslora: false,
            dropout: 0.0,
            targets: Vec::new(),
            learning_rate: 2e-4,
            schedule: Schedule::Cosine,
            warmup: 0.03,
            weight_decay: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip: Some(1.0),
            batch: 4,
            accumulate: 1,
            max_len: None,
            seed: 0,
            checkpoint_every: None,
            eval_every: None,
            patience: None,
            keep_best: None,
            device: "cpu".to_owned(),
            threads: None,
            recompute: Recompute::Auto,
            memory_bytes: None,
        }
    }
}

/// How the learning rate falls after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Not at all.
    Constant,
    /// In a straight line to 0.
    Linear,
    /// Along half a cosine to 0 (transformers' `get_cosine_schedule_with_warmup`).
    #[default]
    Cosine,
}

/// Whether a block's activations are kept for the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Kept if memory allows.
    #[default]
    Auto,
    /// Kept.
    None,
    /// Only a block's input is kept and the block is run again: about a third more time, the least memory.
    EveryBlock,
}

impl TrainOptions {
    /// What the product of an adapter is multiplied by.
    pub fn scale(&self) -> f32 {
        let rank = self.rank as f32;
        self.alpha / if self.rslora { rank.sqrt() } else { rank }
    }

    /// Refuses what cannot be trained with, saying what can.
    pub fn check(&self) -> Result<(), Error> {
        let refuse = |problem: String| Err(Error::Options(problem));
        let whole = [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("accumulate", self.accumulate),
            ("rank", self.rank),
        ];
        for (name, value) in whole {
            if value == 0 {
                return refuse(format!("{name} is 0; use at least 1"));
            }
        }
        if self.rank as usize > MAX_RANK {
            return refuse(format!("rank {}; use 1 to {MAX_RANK}", self.rank));
        }
        let optional = [
            ("max_steps", self.max_steps),
            ("checkpoint_every", self.checkpoint_every),
            ("eval_every", self.eval_every),
            ("patience", self.patience),
            ("threads", self.threads),
        ];
        for (name, value) in optional {
            if value == Some(0) {
                return refuse(format!("{name} is 0; use at least 1, or leave it out"));
            }
        }
        if self.max_len.is_some_and(|len| len < 2) {
            return refuse("max_len is below 2 tokens: nothing could be predicted".to_owned());
        }
        let below_one = [
            ("dropout", self.dropout),
            ("beta1", self.beta1),
            ("beta2", self.beta2),
        ];
        for (name, value) in below_one {
            if !(0.0..1.0).contains(&value) {
                return refuse(format!("{name} {value}; use 0 to below 1"));
            }
        }
        if !(0.0..=1.0).contains(&self.warmup) {
            return refuse(format!("warmup {}; use a share of 0 to 1", self.warmup));
        }
        let positive = [
            ("alpha", self.alpha),
            ("learning_rate", self.learning_rate),
            ("epsilon", self.epsilon),
            ("clip", self.clip.unwrap_or(1.0)),
        ];
        for (name, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return refuse(format!("{name} {value}; use a number above 0"));
            }
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return refuse(format!("weight_decay {}; use 0 or more", self.weight_decay));
        }
        Ok(())
    }
}

/// What a run tells while it goes on. Whoever listens may stop it by returning `ControlFlow::Break`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum TrainEvent {
    /// When the first steps have been timed.
    Forecast(Forecast),
    /// After each optimizer step.
    Step(Step),
    /// The held-out rows were looked at. `step` 0 is the model without the adapter (or with B = 0, which is the same).
    Evaluated {
        /// Optimizer steps taken.
        step: u32,
        /// Loss of the held-out rows, in nats a scored token.
        loss: f64,
        /// It is the lowest so far, and the adapter of this step is the one kept.
        best: bool,
    },
    /// Everything that resuming needs is on disk.
    Checkpoint {
        /// Optimizer steps taken.
        step: u32,
    },
    /// A run goes on from a checkpoint.
    Resumed {
        /// Optimizer steps that the checkpoint has behind it.
        step: u32,
        /// Steps so far: (step, loss).
        losses: Vec<(u32, f64)>,
    },
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Step {
    /// Number, from 1.
    pub step: u32,
    /// Steps of the whole run.
    pub of: u32,
    /// Share of all rows seen so far, in epochs.
    pub epoch: f64,
    /// Mean loss of the step's scored tokens before the step, in nats.
    pub loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Tokens of the step's rows; there is no padding.
    pub tokens: u64,
    /// Tokens a second of this step.
    pub tokens_per_s: f64,
    /// Seconds that the rest of the run is expected to take.
    pub seconds_left: f64,
}

/// What a run will take, from steps measured on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
pub struct Forecast {
    /// Seconds of the whole run, looks at the held-out rows included.
    pub seconds: f64,
    /// Most memory that training holds at a time: weights as mapped, activations, gradients, optimizer.
    pub peak_bytes: u64,
    /// Optimizer steps.
    pub steps: u32,
    /// Numbers that are trained.
    pub trainable_params: u64,
    /// Those as a share of the model's.
    pub share: f64,
    /// Tokens of all rows over all epochs.
    pub tokens: u64,
    /// Tokens a second that were measured.
    pub tokens_per_s: f64,
    /// Blocks are run again in the backward pass to save memory.
    pub recompute: bool,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "specta", derive(specta::Type))]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ending {
    /// All steps were taken.
    Finished,
    /// Whoever listened asked for it. The run can be resumed.
    Stopped,
    /// The held-out loss has not become lower for `patience` looks.
    NoImprovement,
    /// Loss or gradients are not numbers any more; the adapter is the last good one.
    Diverged {
        /// At which step, why it happens, and what to do.
        explanation: String,
    },
}

/// What a run leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainOutcome {
    /// The adapter kept: the last one, or that of the lowest held-out loss (`TrainOptions::keep_best`).
    pub adapter: billion_llm::adapter::Adapter,
    /// Why it ended.
    pub ending: Ending,
    /// Optimizer steps taken, those before a resume included.
    pub steps: u32,
    /// Step of the adapter kept.
    pub best_step: u32,
    /// (step, loss) of every optimizer step, those before a resume included.
    pub losses: Vec<(u32, f64)>,
    /// (step, held-out loss); step 0 is the model without the adapter.
    pub held_out: Vec<(u32, f64)>,
    /// Numbers that are trained.
    pub trainable_params: u64,
    /// Tokens trained on in this call.
    pub tokens: u64,
    /// Training alone, in this call: looks at the held-out rows and checkpoints not counted.
    pub train_seconds: f64,
    /// This call from beginning to end.
    pub seconds: f64,
    /// `tokens / train_seconds`.
    pub tokens_per_s: f64,
}
