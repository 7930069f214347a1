//! "Which should I choose?": a short guide that ends in one model for each wish, resting on what was measured on this
//! machine as soon as there is anything.

use billion_hub::Known;

use crate::api::{Advice, ApiError};
use crate::facade::Workbench;
use crate::machine::bytes_words;
use crate::models::known_of;
use crate::reports::{MmluReport, SpeedReport};
use crate::scorecards::report_of;
use crate::store::{RunFilter, RunRow};
use crate::words::{percent, significant};

/// Accuracy of guessing among four choices.
const GUESSING: f64 = 0.25;

/// A wish, the model for it, and why.
struct Wish {
    want: &'static str,
    model: &'static str,
    answer: &'static str,
}

const META: Wish = Wish {
    want: "Meta's ecosystem",
    model: "llama-3.2-1b-instruct",
    answer: "Llama 3.2 1B Instruct: what is written for Llama 3 works with it, and it drafts for Llama 3.1 8B and Llama 3.2 3B. Its publisher reports 49.3 % on MMLU. Meta gives it to accounts that accepted the licence.",
};
const LANGUAGES: Wish = Wish {
    want: "Several languages",
    model: "stablelm-2-1.6b-chat",
    answer: "StableLM 2 1.6B Chat: its publisher trained it on English, Spanish, German, Italian, French, Portuguese and Dutch. The licence asks larger companies to pay.",
};
const RESEARCH: Wish = Wish {
    want: "Reproducible research",
    model: "pythia-1b",
    answer: "Pythia 1B: data, code and 154 checkpoints of the training are public under Apache 2.0, in sizes from 70M to 12B that saw the same data in the same order.",
};
const BYTES: Wish = Wish {
    want: "Most per byte",
    model: "llama-3.2-1b-instruct",
    answer: "Llama 3.2 1B Instruct quantized to four bits: about 0.8 GB, and by published figures the only one of the billion-parameter models here that is far above guessing on MMLU.",
};
const START: Wish = Wish {
    want: "Starting out",
    model: "starter",
    answer: "SmolLM2 135M Instruct: it is here already, answers at once without a network, and shows what a very small model can and cannot do.",
};

/// A model with its best run of MMLU.
struct Measured {
    id: String,
    name: String,
    quant: String,
    weight_bytes: f64,
    report: MmluReport,
}

impl Measured {
    /// Points above guessing for each gigabyte of weights.
    fn points_per_gb(&self) -> f64 {
        100.0 * (self.report.accuracy - GUESSING) / (self.weight_bytes / 1e9)
    }

    /// Its interval says that it does not guess.
    fn knows(&self) -> bool {
        self.report.ci95[0] > GUESSING
    }

    fn words(&self) -> String {
        format!(
            "{} ({}) {} of {} MMLU questions ({:.1}–{:.1})",
            self.name,
            self.quant,
            percent(self.report.accuracy),
            self.report.total,
            100.0 * self.report.ci95[0],
            100.0 * self.report.ci95[1]
        )
    }
}

impl Workbench {
    /// The guide, one piece for each wish.
    pub fn advice(&self) -> Result<Vec<Advice>, ApiError> {
        let runs = self.store.runs(RunFilter {
            finished: true,
            ..RunFilter::default()
        })?;
        let measured = self.measured(&runs);
        let of = |wish: &Wish| -> Option<String> {
            let own: Vec<String> = measured
                .iter()
                .filter(|model| is_about(model, wish.model))
                .map(Measured::words)
                .collect();
            (!own.is_empty()).then(|| format!("Measured on this machine: {}.", own.join("; ")))
        };
        let speed = runs
            .iter()
            .find(|run| run.run.task == "speed" && run.run.model == START.model)
            .and_then(|run| report_of::<SpeedReport>(run).ok())
            .map(|report| {
                format!(
                    "Measured on this machine: it writes {} tokens a second.",
                    significant(report.decode_tokens_per_s.median)
                )
            });
        Ok(vec![
            self.advise(&START, speed.or_else(|| of(&START))),
            self.advise(&META, of(&META)),
            self.advise(&LANGUAGES, of(&LANGUAGES)),
            self.advise(&RESEARCH, of(&RESEARCH)),
            self.most_per_byte(&measured),
        ])
    }

    fn advise(&self, wish: &Wish, rests_on: Option<String>) -> Advice {
        Advice {
            want: wish.want.to_owned(),
            answer: wish.answer.to_owned(),
            model: wish.model.to_owned(),
            name: Known::find(wish.model)
                .map_or(wish.model, |known| known.name)
                .to_owned(),
            installed: self.library.resolve(wish.model).is_ok(),
            rests_on,
        }
    }

    /// By what was measured, as soon as two models can be compared; by published figures before.
    fn most_per_byte(&self, measured: &[Measured]) -> Advice {
        if measured.len() < 2 {
            return self.advise(&BYTES, None);
        }
        let all = measured
            .iter()
            .map(Measured::words)
            .collect::<Vec<_>>()
            .join("; ");
        let best = measured
            .iter()
            .filter(|model| model.knows())
            .max_by(|a, b| a.points_per_gb().total_cmp(&b.points_per_gb()));
        let Some(best) = best else {
            return self.advise(
                &BYTES,
                Some(format!(
                    "Measured on this machine, none is surely above guessing (25 %) yet: {all}. A larger run tells more."
                )),
            );
        };
        Advice {
            want: BYTES.want.to_owned(),
            answer: format!(
                "{} ({}): of what was measured here it knows most for its size, {} points above guessing on MMLU for each gigabyte of its {}.",
                best.name,
                best.quant,
                significant(best.points_per_gb()),
                bytes_words(best.weight_bytes as u64)
            ),
            model: best.id.clone(),
            name: best.name.clone(),
            installed: self.library.resolve(&best.id).is_ok(),
            rests_on: Some(format!("Measured on this machine: {all}.")),
        }
    }

    /// Of every model and quantization that is still here, the MMLU run with most questions.
    fn measured(&self, runs: &[RunRow]) -> Vec<Measured> {
        let mut found: Vec<Measured> = Vec::new();
        for run in runs.iter().filter(|run| run.run.task == "mmlu") {
            let Ok(report) = report_of::<MmluReport>(run) else {
                continue;
            };
            let Ok(resolved) = self.library.resolve(&run.run.model) else {
                continue;
            };
            let Ok((sha256, facts)) = self.library.facts(&resolved.path) else {
                continue;
            };
            if sha256 != run.run.sha256 {
                continue;
            }
            let measured = Measured {
                id: run.run.model.clone(),
                name: run.run.name.clone(),
                quant: run.run.quant.clone(),
                weight_bytes: facts.weight_bytes as f64,
                report,
            };
            match found
                .iter_mut()
                .find(|other| other.id == measured.id && other.quant == measured.quant)
            {
                Some(other) if other.report.total >= measured.report.total => {}
                Some(other) => *other = measured,
                None => found.push(measured),
            }
        }
        found
    }
}

/// Whether it is the catalogue's model, or a quantization of it.
fn is_about(measured: &Measured, id: &str) -> bool {
    measured.id == id
        || known_of(&measured.id, billion_hub::Source::HubCache)
            .is_some_and(|known| known.id == id && !measured.id.contains('@'))
}
