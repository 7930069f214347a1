//! What a scorecard will cost and how sure it will be, told before it starts: from this machine's own measured speed
//! where there is one, or else from the model's size, and it says which.

use billion_eval::sizes::{Size, half_width_of, questions_until};
use billion_eval::tasks::mmlu::{MmluData, Question, prompt};

use crate::api::{ApiError, ScorecardForecast, ScorecardSize};
use crate::facade::Workbench;
use crate::machine;
use crate::measure::eval_size;
use crate::mmlu_sources::MmluInUse;
use crate::models::Model;
use crate::reports::{HumanEvalReport, MmluReport, SpeedReport};
use crate::scorecards::report_of;
use crate::store::{RunFilter, RunRow};

/// Characters of English text a token covers, for vocabularies of 32,000 to 128,000 entries.
const CHARS_PER_TOKEN: f64 = 4.0;
/// Operations a second of one core on quantized weights, where nothing was measured yet: half of what llama.cpp
/// reaches on the machine of facts.md (140 tokens/s of a 1.17 billion parameter Q4_0 model on one core).
const OPS_PER_CORE: f64 = 1.6e11;
/// Reading a prompt is about so many times as fast as generating, where only one is known.
const PREFILL_OVER_DECODE: f64 = 4.0;
/// Tokens that the memory and the speed run read and generate: a full cache of 2,048, and a warm-up and five repeats
/// of 512 read twice (once for the time to first token) and 64 generated.
const FIXED_READ: f64 = 2048.0 + 6.0 * 1024.0;
const FIXED_GENERATED: f64 = 6.0 * 64.0;
/// A HumanEval completion, where this model's were not timed yet: tokens of its prompt and of what is written, how many
/// times as fast many are written together, and the time to run the program on one core.
const PROBLEM_READ: f64 = 170.0;
const PROBLEM_WRITTEN: f64 = 100.0;
const TOGETHER: f64 = 2.0;
const PROGRAM_S: f64 = 0.1;
/// Starting a process and loading.
const START_S: f64 = 2.0;

/// What a question's prompt has besides its texts.
const FRAME_CHARS: f64 = "\nA. \nB. \nC. \nD. \nAnswer:".len() as f64;

/// How fast a model is here.
struct Pace {
    /// Characters of questions a second.
    question_chars_per_s: f64,
    prefill_tokens_per_s: f64,
    decode_tokens_per_s: f64,
    /// Time to write a HumanEval completion and to run it.
    completion_s: f64,
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
    /// With `stop_at_half_width` it stops MMLU when its 95 % interval is at most so much to each side.
    pub fn forecast_scorecards(
        &self,
        models: &[String],
        stop_at_half_width: Option<f64>,
    ) -> Result<Vec<ScorecardForecast>, ApiError> {
        let models = models
            .iter()
            .map(|model| self.resolve(model))
            .collect::<Result<Vec<_>, _>>()?;
        let MmluInUse { source, data, .. } = self.mmlu_in_use()?;
        let runs = self.store.runs(RunFilter {
            finished: true,
            ..RunFilter::default()
        })?;
        let paces = models
            .iter()
            .map(|model| pace(model, &runs, &data, source.shots))
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
            let asked = Asked::of(&data, eval_size(size), source.shots, stop_at_half_width);
            let seconds = paces
                .iter()
                .map(|pace| {
                    START_S
                        + asked.chars / pace.question_chars_per_s
                        + FIXED_READ / pace.prefill_tokens_per_s
                        + FIXED_GENERATED / pace.decode_tokens_per_s
                        + eval_size(size).humaneval_problems() as f64 * pace.completion_s
                })
                .sum();
            ScorecardForecast {
                size,
                questions: asked.questions as u32,
                shots: source.shots,
                problems: eval_size(size).humaneval_problems() as u32,
                seconds,
                half_width: half_width_of(asked.questions),
                basis: basis.to_owned(),
            }
        })
        .collect())
    }

    /// Expected time of MMLU Standard alone.
    pub(crate) fn forecast_mmlu_standard(&self, model: &str) -> Result<f64, ApiError> {
        let model = self.resolve(model)?;
        let MmluInUse { source, data, .. } = self.mmlu_in_use()?;
        let runs = self.store.runs(RunFilter {
            finished: true,
            ..RunFilter::default()
        })?;
        let asked = Asked::of(
            &data,
            eval_size(ScorecardSize::Standard),
            source.shots,
            None,
        );
        let pace = pace(&model, &runs, &data, source.shots)?;
        Ok(START_S + asked.chars / pace.question_chars_per_s)
    }
}

/// What a scorecard's MMLU run is expected to read.
struct Asked {
    questions: usize,
    /// Characters of the prompts; what a subject's prompts begin with counts once.
    chars: f64,
}

impl Asked {
    fn of(data: &MmluData, size: Size, shots: u32, stop_at_half_width: Option<f64>) -> Self {
        let options = size.mmlu_options();
        let chosen = |subject: &str| {
            options.subjects.is_empty() || options.subjects.iter().any(|s| s == subject)
        };
        let mut all = Self {
            questions: 0,
            chars: 0.0,
        };
        let mut prefixes = 0.0;
        for subject in data.subjects.keys().filter(|subject| chosen(subject)) {
            let (prefix, questions) = subject_chars(data, subject, options.limit, shots);
            prefixes += prefix;
            all.chars += questions.iter().sum::<f64>();
            all.questions += questions.len();
        }
        if let Some(width) = stop_at_half_width {
            let enough = questions_until(all.questions, width);
            all.chars *= enough as f64 / all.questions.max(1) as f64;
            all.questions = enough;
        }
        all.chars += prefixes;
        all
    }
}

/// The pace of a model from its own latest runs, or from other models' by size, or from its size alone.
fn pace(model: &Model, runs: &[RunRow], data: &MmluData, shots: u32) -> Result<Pace, ApiError> {
    let hardware = machine::hardware_words();
    let here = || {
        runs.iter()
            .filter(|run| run.run.hardware == hardware && run.run.params > 0)
    };
    let of_own = |task: &str| {
        let task = task.to_owned();
        here().filter(move |run| run.run.task == task && run.run.model == model.id)
    };
    let own = |task: &str| of_own(task).next();
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
    // A question after solved examples attends to them, so only runs with as many tell its pace.
    let questions = match of_own("mmlu").find(|run| run.run.shots == shots) {
        Some(run) => {
            let report: MmluReport = report_of(run)?;
            let chars: f64 = report
                .by_subject
                .iter()
                .map(|(subject, part)| {
                    let limit = Some(part.total as usize);
                    let (prefix, questions) = subject_chars(data, subject, limit, shots);
                    prefix + questions.iter().sum::<f64>()
                })
                .sum();
            (chars > 0.0 && report.seconds > 0.0).then(|| chars / report.seconds)
        }
        None => None,
    };
    let completion_s = match own("humaneval") {
        Some(run) => {
            let report: HumanEvalReport = report_of(run)?;
            (report.total > 0).then(|| report.seconds / f64::from(report.total))
        }
        None => None,
    };
    let untimed = PROBLEM_READ / prefill
        + PROBLEM_WRITTEN / (TOGETHER * decode)
        + PROGRAM_S / f64::from(machine::cores());
    Ok(Pace {
        question_chars_per_s: questions.unwrap_or(prefill * CHARS_PER_TOKEN),
        prefill_tokens_per_s: prefill,
        decode_tokens_per_s: decode,
        completion_s: completion_s.unwrap_or(untimed),
        basis,
    })
}

/// Characters of what the prompts of a subject begin with, and of the rest of each of its first rows.
fn subject_chars(
    data: &MmluData,
    subject: &str,
    limit: Option<usize>,
    shots: u32,
) -> (f64, Vec<f64>) {
    let Some(rows) = data.subjects.get(subject) else {
        return (0.0, Vec::new());
    };
    let empty = Question {
        text: String::new(),
        choices: [const { String::new() }; 4],
        answer: 0,
    };
    let examples = &rows.dev[..rows.dev.len().min(shots as usize)];
    let prefix = prompt(subject, examples, &empty).len() as f64 - FRAME_CHARS;
    let body = |question: &Question| {
        let texts = [question.text.as_str()].into_iter();
        let texts = texts.chain(question.choices.iter().map(String::as_str));
        texts.map(|text| text.len() as f64).sum::<f64>() + FRAME_CHARS
    };
    let asked = rows.test.iter().take(limit.unwrap_or(usize::MAX));
    (prefix, asked.map(body).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_counts_once_a_subject_and_stopping_early_asks_less() {
        let question = |n: usize| Question {
            text: "q".repeat(n),
            choices: ["1", "2", "3", "4"].map(str::to_owned),
            answer: 0,
        };
        let mut data = MmluData::default();
        for subject in ["anatomy", "virology"] {
            let rows = data.subjects.entry(subject.to_owned()).or_default();
            rows.dev = vec![question(1000); 5];
            rows.test = vec![question(100); 30];
        }
        let standard = |shots, stop| Asked::of(&data, Size::Standard, shots, stop);
        let whole = standard(5, None);
        assert_eq!(whole.questions, 40, "20 of each subject");
        let examples = whole.chars - standard(0, None).chars;
        assert!((10_000.0..10_500.0).contains(&examples), "{examples}");
        let text = prompt("anatomy", &data.subjects["anatomy"].dev, &question(100));
        let (prefix, rest) = subject_chars(&data, "anatomy", Some(1), 5);
        assert_eq!(prefix + rest[0], text.len() as f64);
        let stopped = standard(5, Some(0.2));
        assert!(
            (15..25).contains(&stopped.questions),
            "{}",
            stopped.questions
        );
        assert!(stopped.chars < whole.chars && stopped.chars > examples);
        assert_eq!(standard(5, Some(0.001)).questions, 40);
        assert_eq!(Asked::of(&data, Size::Quick, 5, None).questions, 0);
    }
}
