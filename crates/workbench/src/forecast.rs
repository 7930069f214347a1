//! What a scorecard will cost and how sure it will be, told before it starts: from this machine's own measured speed
//! where there is one, or else from the model's size, and it says which.

use billion_eval::sizes::Size;
use billion_eval::tasks::mmlu::{MmluData, prompt};

use crate::api::{ApiError, ScorecardForecast, ScorecardSize};
use crate::facade::Workbench;
use crate::machine;
use crate::measure::eval_size;
use crate::models::Model;
use crate::reports::{MmluReport, SpeedReport};
use crate::scorecards::report_of;
use crate::store::{RunFilter, RunRow};
use crate::worker::read_mmlu;

/// Characters of English text a token covers, for vocabularies of 32,000 to 128,000 entries.
const CHARS_PER_TOKEN: f64 = 4.0;
/// Operations a second of one core on quantized weights, where nothing was measured yet: half of what llama.cpp
/// reaches on the machine of facts.md (140 tokens/s of a 1.17 billion parameter Q4_0 model on one core).
const OPS_PER_CORE: f64 = 1.6e11;
/// Reading a prompt is about so many times as fast as generating, where only one is known.
const PREFILL_OVER_DECODE: f64 = 4.0;
/// Tokens that the memory and the speed run read and generate: a full cache of 2,048, and a warm-up and three repeats
/// of 512 read twice (once for the time to first token) and 64 generated.
const FIXED_READ: f64 = 2048.0 + 4.0 * 1024.0;
const FIXED_GENERATED: f64 = 4.0 * 64.0;
/// Starting a process and loading.
const START_S: f64 = 2.0;

/// How fast a model is here.
struct Pace {
    /// Characters of questions a second.
    question_chars_per_s: f64,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    basis: Basis,
}

/// Where a pace comes from, the surest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Basis {
    Measured,
    OtherModel,
    Size,
}

impl Workbench {
    /// What each size of scorecard would cost and how sure it would be.
    pub fn forecast_scorecards(
        &self,
        models: &[String],
    ) -> Result<Vec<ScorecardForecast>, ApiError> {
        let models = models
            .iter()
            .map(|model| self.resolve(model))
            .collect::<Result<Vec<_>, _>>()?;
        let data = read_mmlu(&self.starter_mmlu()?)?;
        let runs = self.store.runs(RunFilter {
            finished: true,
            ..RunFilter::default()
        })?;
        let paces = models
            .iter()
            .map(|model| pace(model, &runs, &data))
            .collect::<Result<Vec<_>, _>>()?;
        let worst = paces
            .iter()
            .map(|pace| pace.basis)
            .max()
            .unwrap_or(Basis::Size);
        let basis = match worst {
            Basis::Measured => "from the speed measured on this machine",
            Basis::OtherModel => "from another model's speed on this machine, by size",
            Basis::Size => {
                "an estimate from the model's size; nothing was measured on this machine yet"
            }
        };
        Ok([
            ScorecardSize::Quick,
            ScorecardSize::Standard,
            ScorecardSize::Full,
        ]
        .into_iter()
        .map(|size| {
            let asked = eval_size(size);
            let chars = question_chars(&data, asked);
            let seconds = paces
                .iter()
                .map(|pace| {
                    START_S
                        + chars / pace.question_chars_per_s
                        + FIXED_READ / pace.prefill_tokens_per_s
                        + FIXED_GENERATED / pace.decode_tokens_per_s
                })
                .sum();
            ScorecardForecast {
                size,
                questions: asked.mmlu_questions() as u32,
                shots: 0,
                problems: 0,
                seconds,
                half_width: asked.mmlu_half_width(),
                basis: basis.to_owned(),
            }
        })
        .collect())
    }
}

/// The pace of a model from its own latest runs, or from other models' by size, or from its size alone.
fn pace(model: &Model, runs: &[RunRow], data: &MmluData) -> Result<Pace, ApiError> {
    let hardware = machine::hardware_words();
    let here = || {
        runs.iter()
            .filter(|run| run.run.hardware == hardware && run.run.params > 0)
    };
    let own = |task: &str| here().find(|run| run.run.task == task && run.run.model == model.id);
    let other = |task: &str| here().find(|run| run.run.task == task);
    let scale = |run: &RunRow| run.run.params as f64 / model.facts.params.max(1) as f64;
    let mut basis = Basis::Measured;
    let speed = match own("speed").or_else(|| {
        basis = Basis::OtherModel;
        other("speed")
    }) {
        Some(run) => {
            let report: SpeedReport = report_of(run)?;
            let scale = scale(run);
            Some((
                report.prefill_tokens_per_s.median * scale,
                report.decode_tokens_per_s.median * scale,
            ))
        }
        None => None,
    };
    let (prefill, decode) = speed.unwrap_or_else(|| {
        basis = Basis::Size;
        let prefill =
            OPS_PER_CORE * f64::from(machine::cores()) / (2.0 * model.facts.params.max(1) as f64);
        (prefill, prefill / PREFILL_OVER_DECODE)
    });
    let questions = match own("mmlu").filter(|run| run.run.shots == 0) {
        Some(run) => {
            let report: MmluReport = report_of(run)?;
            let chars: f64 = report
                .by_subject
                .iter()
                .map(|(subject, part)| subject_chars(data, subject, Some(part.total as usize)))
                .sum();
            (chars > 0.0 && report.seconds > 0.0).then(|| chars / report.seconds)
        }
        None => None,
    };
    Ok(Pace {
        question_chars_per_s: questions.unwrap_or(prefill * CHARS_PER_TOKEN),
        prefill_tokens_per_s: prefill,
        decode_tokens_per_s: decode,
        basis,
    })
}

fn question_chars(data: &MmluData, size: Size) -> f64 {
    let options = size.mmlu_options();
    let chosen = |subject: &str| {
        options.subjects.is_empty() || options.subjects.iter().any(|s| s == subject)
    };
    data.subjects
        .keys()
        .filter(|subject| chosen(subject))
        .map(|subject| subject_chars(data, subject, options.limit))
        .sum()
}

/// Characters of the prompts of a subject's first rows.
fn subject_chars(data: &MmluData, subject: &str, limit: Option<usize>) -> f64 {
    let Some(rows) = data.subjects.get(subject) else {
        return 0.0;
    };
    rows.test
        .iter()
        .take(limit.unwrap_or(usize::MAX))
        .map(|question| prompt(subject, &[], question).len() as f64)
        .sum()
}
