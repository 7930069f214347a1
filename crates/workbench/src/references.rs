//! What others say of a model's scores (a table with harness, shots, source and tolerance), and whether that agrees with
//! what was measured.
//!
//! A score is given to a model only if it is certain which model it is: by its catalogue id, by its publisher's
//! repository, or by the name and the exact number of parameters that a file gives. Claims are shown, never compared.

use billion_eval::tasks::mmlu::SUBJECTS;
use serde_json::Value;

use crate::api::{Badge, ReferenceKind, ReferenceScore};
use crate::words::{grouped, percent};

/// A figure of MMLU says something of the whole from so many questions on: what Standard asks.
const ENOUGH_QUESTIONS: u32 = 1_000;
/// Problems of HumanEval.
const ALL_PROBLEMS: u32 = 164;

const META_CARD: &str = "Meta's model card";
const TINY_EVAL: &str = "EVAL.md of jzhang38/TinyLlama (Instruct-Eval)";
const PYTHIA_EVALS: &str = "evals of EleutherAI/pythia (lm-evaluation-harness)";
const ARTICLE: &str =
    "the article this project started from, which names neither harness nor shots";

/// Points by which the same harness may differ between its versions and number formats.
const SAME_HARNESS: f64 = 1.0;
/// Points by which another harness may differ: other wording of prompts, averages by subject. Of Llama 3.2 1B, Meta says
/// 32.2 and lm-evaluation-harness finds 31.07.
const OTHER_HARNESS: f64 = 2.0;
/// HumanEval's: another harness cuts completions elsewhere, and one problem is 0.6 points.
const OTHER_CODE_HARNESS: f64 = 3.0;

/// A score that someone gives.
#[derive(Clone, Copy)]
struct Reference {
    /// Of which model (an id of `IDENTITIES`).
    model: &'static str,
    task: &'static str,
    value: f64,
    kind: ReferenceKind,
    shots: Option<u32>,
    source: &'static str,
    /// Points.
    tolerance: f64,
    /// Why it says nothing of what is measured here, where it does not.
    apart: Option<&'static str>,
}

const fn published(
    model: &'static str,
    task: &'static str,
    value: f64,
    shots: u32,
    (source, tolerance): (&'static str, f64),
) -> Reference {
    Reference {
        model,
        task,
        value,
        kind: ReferenceKind::Published,
        shots: Some(shots),
        source,
        tolerance,
        apart: None,
    }
}

const fn claimed(model: &'static str, task: &'static str, value: f64) -> Reference {
    Reference {
        model,
        task,
        value,
        kind: ReferenceKind::Claimed,
        shots: None,
        source: ARTICLE,
        tolerance: 0.0,
        apart: None,
    }
}

const fn apart(reference: Reference, why: &'static str) -> Reference {
    Reference {
        apart: Some(why),
        ..reference
    }
}

const EARLIER_CHECKPOINT: &str =
    "it is of the checkpoint at 2.5 trillion tokens, this model was trained on 3 trillion";
const BY_GENERATION: &str = "Meta lets an instruct model write its answer in a chat, here the letters' likelihoods after a raw prompt are compared";

/// Every score, the one nearest to how we measure first.
const REFERENCES: [Reference; 21] = [
    published(
        "tinyllama-1.1b-2.5t",
        "mmlu",
        0.2592,
        5,
        (TINY_EVAL, OTHER_HARNESS),
    ),
    published(
        "tinyllama-1.1b-2.5t",
        "humaneval",
        0.0915,
        0,
        (TINY_EVAL, OTHER_CODE_HARNESS),
    ),
    apart(
        published(
            "tinyllama-1.1b",
            "mmlu",
            0.2592,
            5,
            (TINY_EVAL, OTHER_HARNESS),
        ),
        EARLIER_CHECKPOINT,
    ),
    apart(
        published(
            "tinyllama-1.1b",
            "humaneval",
            0.0915,
            0,
            (TINY_EVAL, OTHER_CODE_HARNESS),
        ),
        EARLIER_CHECKPOINT,
    ),
    published(
        "llama-3.2-1b",
        "mmlu",
        0.3107,
        5,
        ("lm-evaluation-harness issue 2528", SAME_HARNESS),
    ),
    published("llama-3.2-1b", "mmlu", 0.322, 5, (META_CARD, OTHER_HARNESS)),
    apart(
        published(
            "llama-3.2-1b-instruct",
            "mmlu",
            0.493,
            5,
            (META_CARD, OTHER_HARNESS),
        ),
        BY_GENERATION,
    ),
    published("pythia-1b", "mmlu", 0.254, 5, (PYTHIA_EVALS, SAME_HARNESS)),
    published("pythia-1b", "mmlu", 0.259, 0, (PYTHIA_EVALS, SAME_HARNESS)),
    published("pythia-1b", "mmlu", 0.257, 5, (TINY_EVAL, OTHER_HARNESS)),
    published(
        "pythia-1b",
        "humaneval",
        0.0183,
        0,
        (TINY_EVAL, OTHER_CODE_HARNESS),
    ),
    // The article's short names stand for these ids (cli.md); of TinyLlama it does not say which of the two it means.
    claimed("tinyllama-1.1b-chat", "mmlu", 0.253),
    claimed("tinyllama-1.1b-chat", "humaneval", 0.122),
    claimed("tinyllama-1.1b", "mmlu", 0.253),
    claimed("tinyllama-1.1b", "humaneval", 0.122),
    claimed("llama-3.2-1b", "mmlu", 0.321),
    claimed("llama-3.2-1b", "humaneval", 0.185),
    claimed("stablelm-2-1.6b", "mmlu", 0.308),
    claimed("stablelm-2-1.6b", "humaneval", 0.151),
    claimed("pythia-1b", "mmlu", 0.264),
    claimed("pythia-1b", "humaneval", 0.103),
];

/// A model that scores are known of: how its files call it (letters and digits only), its exact number of parameters,
/// and its publisher's repository.
struct Identity {
    id: &'static str,
    names: &'static [&'static str],
    params: u64,
    repository: &'static str,
}

const IDENTITIES: [Identity; 6] = [
    Identity {
        id: "tinyllama-1.1b-chat",
        names: &["tinyllama11bchatv10", "tinyllamatinyllama11bchatv10"],
        params: 1_100_048_384,
        repository: "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    },
    Identity {
        id: "tinyllama-1.1b",
        names: &[
            "tinyllama11bintermediatestep1431k3t",
            "tinyllamatinyllama11bintermediatestep1431k3t",
        ],
        params: 1_100_048_384,
        repository: "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
    },
    Identity {
        id: "tinyllama-1.1b-2.5t",
        names: &[
            "tinyllama11bintermediatestep1195ktoken25t",
            "tinyllamatinyllama11bintermediatestep1195ktoken25t",
        ],
        params: 1_100_048_384,
        repository: "TinyLlama/TinyLlama-1.1B-intermediate-step-1195k-token-2.5T",
    },
    Identity {
        id: "llama-3.2-1b",
        names: &["llama321b", "metallamallama321b"],
        params: 1_235_814_400,
        repository: "meta-llama/Llama-3.2-1B",
    },
    Identity {
        id: "llama-3.2-1b-instruct",
        names: &["llama321binstruct", "metallamallama321binstruct"],
        params: 1_235_814_400,
        repository: "meta-llama/Llama-3.2-1B-Instruct",
    },
    Identity {
        id: "pythia-1b",
        names: &["pythia1b", "eleutheraipythia1b"],
        params: 1_011_781_632,
        repository: "EleutherAI/pythia-1b",
    },
];

/// StableLM 2 has claims only, which its catalogue id alone may carry.
const CLAIMED_ONLY: [&str; 1] = ["stablelm-2-1.6b"];

/// What a run says of its model.
#[derive(Clone, Copy)]
pub(crate) struct Described<'a> {
    /// What the run is stored under.
    pub(crate) id: &'a str,
    /// `general.name` of its file, or the library's name for it.
    pub(crate) name: &'a str,
    pub(crate) params: u64,
    /// Settings of the run; an adapter makes another model of it.
    pub(crate) settings: Option<&'a Value>,
}

/// The model that scores are listed under; none where that is not certain.
pub(crate) fn identify(model: Described<'_>) -> Option<&'static str> {
    let adapted = model
        .settings
        .and_then(|settings| settings.get("adapter"))
        .is_some_and(|adapter| !adapter.is_null());
    if adapted {
        return None;
    }
    if let Some(rest) = model.id.strip_prefix("hf:") {
        let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
        let mut parts = repository.split('/');
        let repository = format!("{}/{}", parts.next()?, parts.next()?);
        let known = IDENTITIES
            .iter()
            .find(|known| known.repository == repository)?;
        return is_final(known.id, revision.split('/').next()?).then_some(known.id);
    }
    // "pythia-1b@step1000:q4_0": a checkpoint is another model, a quantization is not.
    let (named, _quant) = model.id.split_once(':').unwrap_or((model.id, ""));
    let (base, revision) = named.split_once('@').unwrap_or((named, "main"));
    let ids = IDENTITIES.iter().map(|known| known.id).chain(CLAIMED_ONLY);
    if let Some(id) = ids.into_iter().find(|id| *id == base) {
        return is_final(id, revision).then_some(id);
    }
    let name: String = model
        .name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    IDENTITIES
        .iter()
        .find(|known| known.params == model.params && known.names.contains(&name.as_str()))
        .map(|known| known.id)
}

fn is_final(id: &str, revision: &str) -> bool {
    revision == "main" || (id.starts_with("pythia") && revision == "step143000")
}

/// What others say of a model, published scores first.
pub(crate) fn references(model: Described<'_>) -> Vec<ReferenceScore> {
    let Some(id) = identify(model) else {
        return Vec::new();
    };
    REFERENCES
        .iter()
        .filter(|reference| reference.model == id)
        .map(|reference| ReferenceScore {
            task: reference.task.to_owned(),
            value: reference.value,
            kind: reference.kind,
            shots: reference.shots,
            source: reference.source.to_owned(),
        })
        .collect()
}

/// A measured score that may be compared with published ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured<'a> {
    pub(crate) task: &'a str,
    pub(crate) value: f64,
    pub(crate) ci95: [f64; 2],
    pub(crate) shots: u32,
    /// Questions or problems.
    pub(crate) total: u32,
    /// Subjects asked, of MMLU.
    pub(crate) subjects: usize,
    pub(crate) quant: &'a str,
}

/// Whether a measured score agrees with the published one; none where nothing is published of the model.
pub(crate) fn badge(model: Described<'_>, measured: Measured<'_>) -> Option<Badge> {
    let id = identify(model)?;
    let all: Vec<&Reference> = REFERENCES
        .iter()
        .filter(|r| r.model == id && r.task == measured.task && r.kind == ReferenceKind::Published)
        .collect();
    let same_shots = all
        .iter()
        .find(|r| measured.task != "mmlu" || r.shots == Some(measured.shots));
    let reference = same_shots.or(all.first())?;
    let stated = format!(
        "published {} ({}{})",
        percent_of(reference.value),
        reference
            .shots
            .filter(|_| measured.task == "mmlu")
            .map_or_else(String::new, |shots| format!("{shots}-shot, ")),
        reference.source
    );
    let few = match measured.task {
        "mmlu" if measured.total < ENOUGH_QUESTIONS || measured.subjects < SUBJECTS.len() => {
            Some(format!(
                "{} questions of {} subjects are too few; Standard asks {} of all {}",
                grouped(u64::from(measured.total)),
                measured.subjects,
                grouped(57 * 20),
                SUBJECTS.len()
            ))
        }
        "humaneval" if measured.total < ALL_PROBLEMS => Some(format!(
            "{} problems are too few; Standard asks all {ALL_PROBLEMS}",
            measured.total
        )),
        _ => None,
    };
    let reason = if let Some(why) = reference.apart {
        Some(why.to_owned())
    } else if same_shots.is_none() {
        Some(format!("this run is {}-shot", measured.shots))
    } else {
        few
    };
    if let Some(reason) = reason {
        return Some(Badge {
            task: measured.task.to_owned(),
            matches: None,
            words: format!("not compared with {stated}: {reason}"),
        });
    }
    let half = (measured.ci95[1] - measured.ci95[0]) / 2.0 * 100.0;
    let allowed = reference.tolerance + half;
    let gap = (measured.value - reference.value) * 100.0;
    let matches = gap.abs() <= allowed;
    Some(Badge {
        task: measured.task.to_owned(),
        matches: Some(matches),
        words: format!(
            "{} {stated}: measured {} with {} weights, {:.1} points {}, {} ±{allowed:.1} points ({:.1} for harness and number formats, {half:.1} for chance)",
            if matches { "matches" } else { "differs from" },
            percent(measured.value),
            measured.quant,
            gap.abs(),
            if gap < 0.0 { "lower" } else { "higher" },
            if matches { "within" } else { "outside" },
            reference.tolerance,
        ),
    })
}

/// A published share with the digits it was given with.
fn percent_of(value: f64) -> String {
    let text = format!("{:.2}", value * 100.0);
    format!("{} %", text.strip_suffix('0').unwrap_or(&text))
}

/// What a mark in a chart says.
pub(crate) fn mark_words(reference: &ReferenceScore) -> String {
    let shots = reference
        .shots
        .filter(|_| reference.task == "mmlu")
        .map_or_else(String::new, |shots| format!(", {shots}-shot"));
    match reference.kind {
        ReferenceKind::Published => format!("published{shots}: {}", reference.source),
        ReferenceKind::Claimed => format!("claimed: {}", reference.source),
    }
}

#[cfg(test)]
mod tests;
