//! The arguments of every command (cli.md). Commands of later versions are not here.

mod finetune;
mod speculate;

use std::path::PathBuf;

use billion_workbench::api::{Drafter, ExportFormat, ReplyOptions, ScorecardSize};
use billion_workbench::{EngineOptions, Executor};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use finetune::Finetune;
pub use speculate::Speculate;

/// Get, measure and talk to one-billion-parameter language models on your own machine.
#[derive(Debug, Parser)]
#[command(
    name = "billion",
    version,
    arg_required_else_help = true,
    infer_subcommands = false
)]
pub struct Cli {
    /// Print one JSON document on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Models on this machine.
    #[command(subcommand)]
    Models(Models),
    /// Talk to a model.
    Chat(Chat),
    /// Perplexity of a text.
    Perplexity(Perplexity),
    /// Write a model in another format.
    Convert(Convert),
    /// Train a LoRA adapter on a dataset.
    Finetune(Box<Finetune>),
    /// Measure what a small model brings a large one by drafting for it.
    Speculate(Box<Speculate>),
    /// Measure one thing.
    #[command(subcommand)]
    Bench(Bench),
    /// Measure everything at once, for one model or several.
    Scorecard(Scorecard),
    /// Stored runs.
    #[command(subcommand)]
    Results(Results),
}

#[derive(Debug, Subcommand)]
pub enum Models {
    /// All known models.
    List,
    /// Everything known of a model.
    Info {
        /// An id, a .gguf file or a model folder.
        model: String,
        /// Context in tokens to hold against memory [default: 2048].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        ctx: Option<u32>,
    },
    /// Download models from the Hugging Face Hub; a download that broke off goes on where it stopped.
    Pull {
        /// Ids of the catalogue, with @REVISION or :QUANT, or hf:OWNER/NAME, with @REVISION and /FILE.gguf where they say more.
        #[arg(value_name = "MODEL", required_unless_present = "contenders")]
        models: Vec<String>,
        /// The article's four models.
        #[arg(long, conflicts_with = "models")]
        contenders: bool,
    },
    /// Add a .gguf file or a model folder to the library.
    Import {
        /// File or folder.
        path: PathBuf,
    },
    /// Remove models: imported ones, quantizations made here, and those of the Hugging Face cache.
    Rm {
        /// Ids.
        #[arg(required = true)]
        models: Vec<String>,
    },
    /// Find models on the Hugging Face Hub.
    Search {
        /// A keyword, OWNER/NAME, or the address of a page.
        word: String,
    },
    /// Look at a model over its training: each checkpoint is fetched, measured, and removed again. The same command goes on
    /// where one stopped.
    TimeLapse {
        /// A model with public checkpoints: one of Pythia's.
        #[arg(long)]
        model: String,
        /// Training steps, with commas between them.
        #[arg(long, value_name = "A,B", value_delimiter = ',', required = true)]
        steps: Vec<u32>,
        /// What each checkpoint continues.
        #[arg(long, value_name = "TEXT", default_value = "The capital of France is")]
        prompt: String,
    },
}

/// How the engine is set up.
#[derive(Debug, Args)]
pub struct Engine {
    /// Where the model runs.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Threads [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Which executor on the processor: our own kernels, or candle tensors (slower; an independent check).
    #[arg(long, value_enum, default_value_t = ExecutorArg::Cpu)]
    executor: ExecutorArg,
    /// Folder of a PEFT adapter that is applied to the model; results count as another model's.
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Device {
    Cpu,
    Cuda,
    Metal,
}

impl Device {
    fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Metal => "metal",
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ExecutorArg {
    Cpu,
    Candle,
}

impl Engine {
    /// The options as the workbench takes them.
    pub fn options(&self, context_len: Option<u32>) -> EngineOptions {
        EngineOptions {
            device: self.device.name().to_owned(),
            threads: self.threads,
            context_len,
            executor: match self.executor {
                ExecutorArg::Cpu => Executor::Cpu,
                ExecutorArg::Candle => Executor::Candle,
            },
            // A job may go on from another folder.
            adapter: self
                .adapter
                .as_ref()
                .map(|folder| std::path::absolute(folder).unwrap_or_else(|_| folder.clone())),
        }
    }
}

/// MODEL is an id of `billion models list`, hf:OWNER/NAME, a .gguf file or a model folder.
#[derive(Debug, Args)]
pub struct Chat {
    /// Model.
    #[arg(long)]
    pub model: String,
    /// Ask once and end; without it, a conversation.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// System message [default: the template's own].
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Most tokens of a reply.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// 0 always takes the likeliest token.
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = at_least_zero, allow_negative_numbers = true)]
    temperature: f32,
    /// Seed of the sampler.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// A small model of the same tokenizer that drafts for it (speculative decoding); greedy replies stay the same.
    #[arg(long, value_name = "MODEL", conflicts_with = "lookup")]
    draft: Option<String>,
    /// Draft by what followed the same words earlier, without a second model.
    #[arg(long)]
    lookup: bool,
    /// More models to answer the same.
    #[arg(long, value_name = "MODEL", num_args = 1..)]
    pub compare: Vec<String>,
    /// Longest context in tokens [default: the model's own].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub ctx: Option<u32>,
    #[command(flatten)]
    pub engine: Engine,
}

impl Chat {
    /// How to reply.
    pub fn options(&self) -> ReplyOptions {
        ReplyOptions {
            system: self.system.clone(),
            max_tokens: self.max_tokens,
            temperature: self.temperature,
            seed: self.seed,
            draft: match &self.draft {
                Some(model) => Some(Drafter::Model {
                    model: model.clone(),
                }),
                None => self.lookup.then_some(Drafter::Lookup),
            },
            ..ReplyOptions::default()
        }
    }
}

fn at_least_zero(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("must be a number from 0".to_owned()),
    }
}

/// Percentage points as a share.
fn points(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(points) if points > 0.0 && points < 50.0 => Ok(points / 100.0),
        _ => Err("must be above 0 and below 50 percentage points".to_owned()),
    }
}

#[derive(Debug, Args)]
pub struct Perplexity {
    /// Model.
    #[arg(long)]
    pub model: String,
    /// UTF-8 text file.
    #[arg(long, value_name = "FILE")]
    pub text: PathBuf,
    /// Window in tokens [default: the model's context].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub ctx: Option<u32>,
    #[command(flatten)]
    pub engine: Engine,
}

#[derive(Debug, Args)]
pub struct Convert {
    /// Model of 16 or 32 bits a weight: safetensors, or a .gguf file of F16, BF16 or F32. With --adapter also a quantized one.
    #[arg(long)]
    pub model: String,
    /// Format to write.
    #[arg(long, value_enum, ignore_case = true)]
    pub quant: Quant,
    /// File to write; an existing one is replaced when the new one is whole.
    #[arg(long, value_name = "FILE.gguf")]
    pub out: PathBuf,
    /// PEFT adapter to merge into the weights first.
    #[arg(long, value_name = "FOLDER")]
    pub adapter: Option<PathBuf>,
    /// Threads [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Quant {
    /// 4 bits, the fastest.
    #[value(name = "q4_0")]
    Q4_0,
    /// 4 bits with scales and minima, the usual choice.
    #[value(name = "q4_k_m")]
    Q4KM,
    /// 5 bits with scales and minima.
    #[value(name = "q5_k_m")]
    Q5KM,
    /// 6 bits.
    #[value(name = "q6_k")]
    Q6K,
    /// 8 bits.
    #[value(name = "q8_0")]
    Q8_0,
    /// Half floats.
    #[value(name = "f16")]
    F16,
}

impl Quant {
    /// As the workbench spells it.
    pub fn id(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Knowledge: multiple-choice questions of 57 subjects.
    Mmlu(Mmlu),
    /// Code: Python functions that the model writes, run in a sandbox.
    Humaneval(HumanEval),
    /// Speed of reading and generating.
    Speed(Speed),
    /// Memory of the engine process.
    Memory(Memory),
    /// Joules a token, where this machine tells them.
    Energy(Energy),
}

#[derive(Debug, Args)]
pub struct Mmlu {
    /// Model.
    #[arg(long)]
    pub model: String,
    /// Solved examples before each question [default: 5 where there is a dev split, else 0].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=5))]
    pub shots: Option<u32>,
    /// The first N questions of each subject.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Subjects, with commas between them [default: all].
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub subjects: Vec<String>,
    /// Official folder (test/SUBJECT_test.csv, dev/SUBJECT_dev.csv), its .tar, .tar.gz or .zip, or parquet files of
    /// cais/mmlu [default: the questions chosen in the window, or else the starter pack].
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Stop as soon as the 95 % interval is at most so many percentage points to each side.
    #[arg(long, value_name = "POINTS", value_parser = points, allow_negative_numbers = true)]
    pub stop_at: Option<f64>,
    /// Write a JSON line for each question here.
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,
    #[command(flatten)]
    pub engine: Engine,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "completions", "self_test"]))]
pub struct HumanEval {
    /// Model.
    #[arg(long)]
    pub model: Option<String>,
    /// Score another tool's completions: JSON lines with task_id and completion.
    #[arg(long, value_name = "FILE")]
    pub completions: Option<PathBuf>,
    /// Score the canonical solutions, and `return None` in their place: all must pass, and none.
    #[arg(long)]
    pub self_test: bool,
    /// The first N problems.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "model")]
    pub limit: Option<u32>,
    /// Samples of each problem.
    #[arg(long, value_name = "SAMPLES", value_parser = clap::value_parser!(u32).range(1..), requires = "model")]
    pub n: Option<u32>,
    /// 0 always takes the likeliest token [default: 0 for one sample, 0.2 for several].
    #[arg(long, value_name = "X", value_parser = at_least_zero, allow_negative_numbers = true, requires = "model")]
    pub temperature: Option<f32>,
    /// Most tokens of a completion [default: 1024].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), requires = "model")]
    pub max_tokens: Option<u32>,
    /// Seed of the sampler.
    #[arg(long, value_name = "N", requires = "model")]
    pub seed: Option<u32>,
    /// Write a JSON line for each completion here.
    #[arg(long, value_name = "FILE")]
    pub samples: Option<PathBuf>,
    #[command(flatten)]
    pub engine: Engine,
}

#[derive(Debug, Args)]
pub struct Speed {
    /// Model.
    #[arg(long)]
    pub model: String,
    /// Tokens of the prompt.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: Option<u32>,
    /// Tokens to generate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub r#gen: Option<u32>,
    /// Repeats.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    /// Sequences that run together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: Option<u32>,
    /// Tokens in the cache before the clock starts.
    #[arg(long, value_name = "N")]
    pub depth: Option<u32>,
    #[command(flatten)]
    pub engine: Engine,
}

#[derive(Debug, Args)]
pub struct Memory {
    /// Model.
    #[arg(long)]
    pub model: String,
    /// Tokens to fill the cache with [default: 2048, or the model's context].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,
    #[command(flatten)]
    pub engine: Engine,
}

#[derive(Debug, Args)]
pub struct Energy {
    /// Model.
    #[arg(long)]
    pub model: String,
    /// Tokens of each text.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub r#gen: Option<u32>,
    /// Repeats.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: Option<u32>,
    #[command(flatten)]
    pub engine: Engine,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("size").multiple(false))]
pub struct Scorecard {
    /// Models, with commas between them.
    #[arg(long, value_name = "M1,M2", value_delimiter = ',', required = true)]
    pub models: Vec<String>,
    /// Ten MMLU subjects, ten questions each (the default).
    #[arg(long, group = "size")]
    quick: bool,
    /// All 57 subjects, 20 questions each.
    #[arg(long, group = "size")]
    standard: bool,
    /// All 14,042 questions.
    #[arg(long, group = "size")]
    full: bool,
    /// Stop MMLU as soon as its 95 % interval is at most so many percentage points to each side.
    #[arg(long, value_name = "POINTS", value_parser = points, allow_negative_numbers = true)]
    pub stop_at: Option<f64>,
    /// MMLU's questions: the official folder, a .tar, .tar.gz or .zip of it, or parquet files of cais/mmlu.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Write a self-contained report here when all is measured.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    #[command(flatten)]
    pub engine: Engine,
}

impl Scorecard {
    /// The size asked for.
    pub fn size(&self) -> ScorecardSize {
        if self.full {
            ScorecardSize::Full
        } else if self.standard {
            ScorecardSize::Standard
        } else {
            ScorecardSize::Quick
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Results {
    /// All runs, the latest first.
    List {
        /// Only runs of this task: mmlu, humaneval, speed, memory, energy, perplexity, finetune.
        #[arg(long)]
        task: Option<String>,
        /// Only runs of this model.
        #[arg(long)]
        model: Option<String>,
    },
    /// A run with all it holds.
    Show {
        /// Number of the run.
        id: u32,
    },
    /// Two runs of the same task beside each other.
    Compare {
        /// Number of the first run.
        a: u32,
        /// Number of the second run.
        b: u32,
    },
    /// Write runs, or a scorecard with its runs, to a file.
    Export(Export),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["ids", "scorecard"]))]
pub struct Export {
    /// Numbers of runs.
    #[arg(value_name = "ID")]
    pub ids: Vec<u32>,
    /// Number of a scorecard.
    #[arg(long, value_name = "ID")]
    pub scorecard: Option<u32>,
    /// Form [default: by the ending of FILE].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// File to write; an existing one is replaced.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Everything, with every answer.
    Json,
    /// A row an answer.
    Csv,
    /// A self-contained report.
    Html,
    /// The charts as a picture.
    Png,
    /// The charts as a drawing.
    Svg,
}

impl Export {
    /// The form asked for, or else the one that the file's name ends with.
    pub fn format(&self) -> anyhow::Result<ExportFormat> {
        let named = self.out.extension().and_then(|end| end.to_str());
        let by_name = named.and_then(|end| Format::from_str(end, true).ok());
        match self.format.or(by_name) {
            Some(Format::Json) => Ok(ExportFormat::Json),
            Some(Format::Csv) => Ok(ExportFormat::Csv),
            Some(Format::Html) => Ok(ExportFormat::Html),
            Some(Format::Png) => Ok(ExportFormat::Png),
            Some(Format::Svg) => Ok(ExportFormat::Svg),
            None => anyhow::bail!(
                "{} does not say its form; give --format json, csv, html, png or svg",
                self.out.display()
            ),
        }
    }
}
