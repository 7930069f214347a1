//! The arguments of `finetune`.

use std::path::PathBuf;

use anyhow::bail;
use billion_workbench::api::{
    ColumnMapping, DatasetOptions, FinetuneRequest, LossOn, OverLong, RowLayout, Schedule,
    TrainOptions,
};
use billion_workbench::{EngineOptions, Executor, Workbench};
use clap::{Args, ValueEnum};

use super::Device;

/// Trains a LoRA adapter of MODEL on the rows of FILE and writes it to DIR as PEFT does.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of the command line, one a flag"
)]
pub struct Finetune {
    /// Model to start from; it stays as it is.
    #[arg(long)]
    pub model: String,
    /// Dataset: .jsonl, .json, .csv, .tsv, .parquet or .txt.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Folder that gets adapter_config.json and adapter_model.safetensors.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Times that each row is seen [default: 3, and up to 10 for fewer than 300 rows].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Stop after so many optimizer steps.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_steps: Option<u32>,
    /// Rank of the adapter [default: 8].
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..=1024))]
    rank: Option<u32>,
    /// Strength: the product is scaled by alpha / rank [default: twice the rank].
    #[arg(long, value_name = "A", value_parser = above_zero, allow_negative_numbers = true)]
    alpha: Option<f32>,
    /// Linear maps by PEFT's names, with commas between them, or all [default: all].
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    targets: Vec<String>,
    /// Highest learning rate [default: 0.0005].
    #[arg(long, value_name = "X", value_parser = above_zero, allow_negative_numbers = true)]
    lr: Option<f32>,
    /// How the learning rate falls.
    #[arg(long, value_enum)]
    schedule: Option<ScheduleArg>,
    /// Share of the steps over which it rises first.
    #[arg(long, value_name = "X", value_parser = share, allow_negative_numbers = true)]
    warmup: Option<f32>,
    /// Weight decay.
    #[arg(long, value_name = "X", value_parser = super::at_least_zero, allow_negative_numbers = true)]
    weight_decay: Option<f32>,
    /// Share of the adapter's inputs that is dropped in training.
    #[arg(long, value_name = "X", value_parser = share, allow_negative_numbers = true)]
    dropout: Option<f32>,
    /// Rows of a batch.
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Batches of an optimizer step.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    accumulate: Option<u32>,
    /// Longest row in tokens; longer ones are cut.
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u32).range(2..))]
    max_len: Option<u32>,
    /// Share of the rows that is held out of training, to measure with.
    #[arg(long, value_name = "F", default_value_t = 0.1, value_parser = fraction, allow_negative_numbers = true)]
    eval_fraction: f64,
    /// Seed of the split, the order of rows, the adapter and dropout.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u32,
    /// Stop early after so many looks at the held-out rows without a better loss.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    patience: Option<u32>,
    /// Steps between two looks at the held-out rows [default: about ten looks in a run].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    eval_every: Option<u32>,
    /// Steps between two checkpoints [default: ten in a run].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    checkpoint_every: Option<u32>,
    /// Scale by alpha / sqrt(rank), for large ranks.
    #[arg(long)]
    rslora: bool,
    /// How a row spells what is learnt [default: as detected].
    #[arg(long, value_enum)]
    layout: Option<LayoutArg>,
    /// Which column plays which part, as PART=COLUMN: prompt, input, answer, system, turns, text.
    #[arg(long = "map", value_name = "PART=COLUMN", value_delimiter = ',', value_parser = part)]
    mapping: Vec<(String, String)>,
    /// Learn every token, not the answers only.
    #[arg(long)]
    learn_all: bool,
    /// Leave out rows that are too long, in place of cutting their ends off.
    #[arg(long)]
    skip_long_rows: bool,
    /// Leave out rows with problems; without, the first of them ends the command.
    #[arg(long)]
    skip_bad_rows: bool,
    /// Go on with a training to the same DIR that stopped, from its last checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// Add what was forgotten to the report: MMLU Standard before and after.
    #[arg(long)]
    report: bool,
    /// Name of the result [default: the dataset's].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where the model is trained.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Threads [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ScheduleArg {
    /// In a straight line to zero.
    Linear,
    /// Along half a cosine to zero.
    Cosine,
    /// Not at all.
    Constant,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutArg {
    /// instruction, input, output.
    Alpaca,
    /// conversations: a list of from and value.
    #[value(name = "sharegpt")]
    ShareGpt,
    /// messages: a list of role and content.
    Messages,
    /// prompt, completion.
    PromptCompletion,
    /// question, answer.
    QuestionAnswer,
    /// Plain text.
    Text,
}

impl Finetune {
    /// How the engine is set up.
    pub fn engine(&self) -> EngineOptions {
        EngineOptions {
            device: self.device.name().to_owned(),
            threads: self.threads,
            executor: Executor::Cpu,
            ..EngineOptions::default()
        }
    }

    /// What to train; the dataset is looked at where the number of its rows decides.
    pub fn request(&self, workbench: &Workbench) -> anyhow::Result<FinetuneRequest> {
        let (Some(data), Some(out)) = (self.data.to_str(), self.out.to_str()) else {
            bail!(
                "{} or {} is not a name in UTF-8; choose another",
                self.data.display(),
                self.out.display()
            );
        };
        let d = Workbench::finetune_defaults(None);
        let rank = self.rank.unwrap_or(d.options.rank);
        let dataset = DatasetOptions {
            layout: self.layout.map(LayoutArg::layout),
            mapping: self.mapping(),
            loss_on: if self.learn_all {
                LossOn::Everything
            } else {
                LossOn::Answers
            },
            max_len: self.max_len.unwrap_or(d.dataset.max_len),
            over_long: if self.skip_long_rows {
                OverLong::Skip
            } else {
                OverLong::Truncate
            },
            eval_fraction: self.eval_fraction,
            seed: self.seed,
            skip_problems: self.skip_bad_rows,
        };
        let epochs = if let Some(epochs) = self.epochs {
            epochs
        } else {
            let look = workbench.look_at_dataset(&self.model, data, &dataset)?;
            let Some(preview) = look.preview else {
                match look.error {
                    Some(error) => return Err(error.into()),
                    None => bail!("{data} cannot be read"),
                }
            };
            let rows = Some(preview.rows_train);
            Workbench::finetune_defaults(rows).options.epochs
        };
        Ok(FinetuneRequest {
            model: self.model.clone(),
            data: data.to_owned(),
            dataset,
            options: TrainOptions {
                epochs,
                max_steps: self.max_steps,
                rank,
                alpha: self.alpha.unwrap_or(2.0 * rank as f32),
                rslora: self.rslora,
                dropout: self.dropout.unwrap_or(d.options.dropout),
                targets: self.targets().unwrap_or(d.options.targets),
                learning_rate: self.lr.unwrap_or(d.options.learning_rate),
                schedule: self.schedule.map_or(d.options.schedule, |one| match one {
                    ScheduleArg::Linear => Schedule::Linear,
                    ScheduleArg::Cosine => Schedule::Cosine,
                    ScheduleArg::Constant => Schedule::Constant,
                }),
                warmup: self.warmup.unwrap_or(d.options.warmup),
                weight_decay: self.weight_decay.unwrap_or(d.options.weight_decay),
                batch: self.batch.unwrap_or(d.options.batch),
                accumulate: self.accumulate.unwrap_or(d.options.accumulate),
                seed: u64::from(self.seed),
                checkpoint_every: self.checkpoint_every,
                eval_every: self.eval_every,
                patience: self.patience,
                ..d.options
            },
            name: self.name.clone(),
            out: Some(out.to_owned()),
            forgetting: self.report,
        })
    }

    fn targets(&self) -> Option<Vec<String>> {
        let names = self.targets.iter().map(|name| match name.trim() {
            "all" => "all-linear".to_owned(),
            name => name.to_owned(),
        });
        (!self.targets.is_empty()).then(|| names.collect())
    }

    fn mapping(&self) -> Option<ColumnMapping> {
        if self.mapping.is_empty() {
            return None;
        }
        let mut mapping = ColumnMapping::default();
        for (part, column) in &self.mapping {
            let place = match part.as_str() {
                "prompt" => &mut mapping.prompt,
                "input" => &mut mapping.input,
                "answer" => &mut mapping.answer,
                "system" => &mut mapping.system,
                "turns" => &mut mapping.turns,
                _ => &mut mapping.text,
            };
            *place = Some(column.clone());
        }
        Some(mapping)
    }
}

impl LayoutArg {
    fn layout(self) -> RowLayout {
        match self {
            Self::Alpaca => RowLayout::Alpaca,
            Self::ShareGpt => RowLayout::ShareGpt,
            Self::Messages => RowLayout::Messages,
            Self::PromptCompletion => RowLayout::PromptCompletion,
            Self::QuestionAnswer => RowLayout::QuestionAnswer,
            Self::Text => RowLayout::Text,
        }
    }
}

const PARTS: [&str; 6] = ["prompt", "input", "answer", "system", "turns", "text"];

fn part(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((part, column)) if PARTS.contains(&part) && !column.is_empty() => {
            Ok((part.to_owned(), column.to_owned()))
        }
        _ => Err(format!(
            "must be PART=COLUMN, with a part of {}",
            PARTS.join(", ")
        )),
    }
}

fn above_zero(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("must be a number above 0".to_owned()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("must be a share of 0 to below 1".to_owned()),
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..1.0).contains(&value) => Ok(value),
        _ => Err("must be a share of 0 to below 1".to_owned()),
    }
}
