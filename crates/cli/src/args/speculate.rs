//! Arguments of `speculate`.

use std::path::{Path, PathBuf};

use billion_workbench::SpeculateRequest;
use billion_workbench::api::{DraftLength, Drafter, PromptKind, SpeculationRequest};
use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{Device, Engine, at_least_zero};

/// A drafts file of more than this is refused.
const MOST_BYTES: u64 = 16 << 20;

/// MODEL is an id of `billion models list`, hf:OWNER/NAME, a .gguf file or a model folder.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("drafter").required(true).args(["draft", "lookup"]))]
pub struct Speculate {
    /// The large model, whose text it is.
    #[arg(long, value_name = "MODEL")]
    target: String,
    /// The small model that drafts; it must have the target's tokenizer.
    #[arg(long, value_name = "MODEL")]
    draft: Option<String>,
    /// Draft what followed the same words earlier in the text, without a second model.
    #[arg(long)]
    lookup: bool,
    /// Tokens drafted at a time, 1 to 15, or auto: as many as pay, none where none pay.
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = length)]
    k: DraftLength,
    /// A prompt; may be given several times [default: one of each kind].
    #[arg(long, value_name = "TEXT")]
    prompt: Vec<String>,
    /// Prompts, one a line; in a .jsonl file each line is a string, or an object with "prompt".
    #[arg(long, value_name = "FILE")]
    prompts: Option<PathBuf>,
    /// Kinds of our own prompts, with commas between them [default: all, where no prompt is given].
    #[arg(long, value_enum, value_name = "A,B", value_delimiter = ',')]
    kinds: Vec<Kind>,
    /// Complete prompts as they stand, without the chat template.
    #[arg(long)]
    raw: bool,
    /// 0 always takes the likeliest token.
    #[arg(long, value_name = "X", default_value_t = 0.0, value_parser = at_least_zero, allow_negative_numbers = true)]
    temperature: f32,
    /// Seed of the sampler.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u32,
    /// Most tokens of a text.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..))]
    max_tokens: u32,
    /// How often each text is written each way, in turns.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Also try several numbers of drafted tokens, once each.
    #[arg(long)]
    sweep: bool,
    /// Where the draft runs [default: where the target does].
    #[arg(long, value_enum)]
    draft_device: Option<Device>,
    #[command(flatten)]
    engine: Engine,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Chat,
    Code,
    Summary,
    Translation,
    Story,
}

impl Kind {
    fn api(self) -> PromptKind {
        match self {
            Self::Chat => PromptKind::Chat,
            Self::Code => PromptKind::Code,
            Self::Summary => PromptKind::Summary,
            Self::Translation => PromptKind::Translation,
            Self::Story => PromptKind::Story,
        }
    }
}

fn length(text: &str) -> Result<DraftLength, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(DraftLength::AUTO);
    }
    match text.parse::<u32>() {
        Ok(k) if (1..=15).contains(&k) => Ok(DraftLength::Fixed(k)),
        _ => Err("must be 1 to 15, or auto".to_owned()),
    }
}

impl Speculate {
    /// What is to be measured.
    pub fn request(&self) -> anyhow::Result<SpeculateRequest> {
        let mut prompts = self.prompt.clone();
        if let Some(file) = &self.prompts {
            prompts.extend(read_prompts(file)?);
        }
        let mut kinds: Vec<PromptKind> = self.kinds.iter().map(|kind| kind.api()).collect();
        if kinds.is_empty() && prompts.is_empty() {
            kinds = Kind::value_variants().iter().map(|k| k.api()).collect();
        }
        Ok(SpeculateRequest {
            ask: SpeculationRequest {
                target: self.target.clone(),
                drafter: match &self.draft {
                    Some(model) => Drafter::Model {
                        model: model.clone(),
                    },
                    None => Drafter::Lookup,
                },
                k: self.k,
                kinds,
                prompts,
                raw: self.raw,
                temperature: self.temperature,
                seed: self.seed,
                max_tokens: self.max_tokens,
                repeat: self.repeat,
                sweep: self.sweep,
            },
            engine: self.engine.options(None),
            draft_device: self.draft_device.map(|device| device.name().to_owned()),
        })
    }
}

/// A line of a .jsonl file.
#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Text(String),
    Object { prompt: String },
}

/// The prompts of a file, empty lines left out.
fn read_prompts(file: &Path) -> anyhow::Result<Vec<String>> {
    let shown = file.display();
    let bytes = std::fs::metadata(file)
        .map_err(|error| anyhow::anyhow!("cannot read {shown}: {error}"))?
        .len();
    if bytes > MOST_BYTES {
        anyhow::bail!(
            "{shown} has {bytes} bytes; a file of prompts may have {MOST_BYTES}: give fewer prompts"
        );
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| anyhow::anyhow!("cannot read {shown} as UTF-8 text: {error}"))?;
    let json = file
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("jsonl"));
    let mut prompts = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        prompts.push(if json {
            match serde_json::from_str(line) {
                Ok(Line::Text(prompt) | Line::Object { prompt }) => prompt,
                Err(_) => anyhow::bail!(
                    "{shown}, line {}: expected a JSON string, or an object with a string \"prompt\"",
                    at + 1
                ),
            }
        } else {
            line.to_owned()
        });
    }
    if prompts.is_empty() {
        anyhow::bail!("{shown} holds no prompt; write one a line");
    }
    Ok(prompts)
}
