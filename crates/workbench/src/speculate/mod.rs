//! The pair lab: pairs of the catalogue, whether two models fit, and what speculative decoding brings with them here.
//!
//! `prompts` are the lab's, `report` makes figures of what was measured; the measurement itself is `measure`'s.

mod prompts;
mod report;

use std::sync::Arc;

use billion_hub::{CATALOGUE, Known};

use crate::api::{
    ApiError, Drafter, Job, KnownPair, LabPrompt, PairCheck, Speculation, SpeculationReport,
    SpeculationRequest,
};
use crate::cancel::Cancel;
use crate::charts::run_charts;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::models::{self, known_of};
use crate::requests::SpeculateRequest;
use crate::scorecards::report_of;
use crate::words::{counted, grouped};
use crate::worker::{Ask, Outcome, PairFound, Worker};

pub(crate) use prompts::{kind_name, prompt_of};
pub(crate) use report::{Asked, report, times};

/// A draft with more than this share of the target's parameters rarely pays.
const LARGE_DRAFT: f64 = 0.4;

impl Workbench {
    /// The prompts of the lab.
    pub fn lab_prompts() -> Vec<LabPrompt> {
        prompts::lab_prompts()
    }

    /// Pairs of the catalogue, those on this machine first.
    pub fn known_pairs(&self) -> Result<Vec<KnownPair>, ApiError> {
        let installed = self.library.installed().map_err(models::failed)?;
        let here = |known: &Known| {
            installed
                .iter()
                .filter(|model| model.contents.is_ok())
                .find(|model| known_of(&model.id, model.source).is_some_and(|k| k.id == known.id))
                .map(|model| model.id.clone())
        };
        let mut pairs = Vec::new();
        for draft in &CATALOGUE {
            for target in draft.drafts_for.iter().filter_map(|id| Known::find(id)) {
                let (of_target, of_draft) = (here(target), here(draft));
                let share = draft.params as f64 / target.params as f64;
                pairs.push(KnownPair {
                    target_installed: of_target.is_some(),
                    target: of_target.unwrap_or_else(|| target.id.to_owned()),
                    target_name: target.name.to_owned(),
                    draft_installed: of_draft.is_some(),
                    draft: of_draft.unwrap_or_else(|| draft.id.to_owned()),
                    draft_name: draft.name.to_owned(),
                    words: format!(
                        "one tokenizer; the draft has {:.0} % of the target's parameters",
                        100.0 * share
                    ),
                });
            }
        }
        pairs.sort_by_key(|pair| {
            let missing = u8::from(!pair.target_installed) + u8::from(!pair.draft_installed);
            (missing, pair.target_installed)
        });
        Ok(pairs)
    }

    /// Whether a target and a draft can work together, token by token.
    pub fn check_pair(&self, target: &str, drafter: &Drafter) -> Result<PairCheck, ApiError> {
        let target = self.resolve(target)?;
        let Drafter::Model { model } = drafter else {
            return Ok(PairCheck {
                works: true,
                problem: None,
                notes: vec![
                    "Prompt lookup drafts what followed the same words earlier in the text: it needs no second model, and helps where a text repeats itself or its prompt.".to_owned(),
                ],
            });
        };
        let draft = self.resolve(model)?;
        let mut worker = Worker::spawn(&self.engine)?;
        let ask = Ask::CheckPair {
            target: target.path.clone(),
            draft: draft.path.clone(),
        };
        let found = match worker.request(ask, &Cancel::default(), &mut |_| {})? {
            Outcome::PairChecked(found) => found,
            other => return Err(unexpected(&other)),
        };
        if let Some(problem) = found.problem {
            return Ok(PairCheck {
                works: false,
                problem: Some(problem),
                notes: Vec::new(),
            });
        }
        let mut notes = notes(&found);
        let share = draft.facts.params as f64 / target.facts.params.max(1) as f64;
        if draft.path == target.path && draft.adapter == target.adapter {
            notes.push(
                "It is the same model: every draft is right, but costs as much as the target."
                    .to_owned(),
            );
        } else if share > LARGE_DRAFT {
            notes.push(format!(
                "The draft has {:.0} % of the target's parameters: its steps cost too much to gain from; a draft of a tenth is usual.",
                100.0 * share
            ));
        } else {
            notes.push(format!(
                "The draft has {:.0} % of the target's parameters.",
                100.0 * share
            ));
        }
        Ok(PairCheck {
            works: true,
            problem: None,
            notes,
        })
    }

    /// Measures a pair in the background.
    pub fn start_speculation(
        self: &Arc<Self>,
        request: &SpeculationRequest,
    ) -> Result<Job, ApiError> {
        let request = SpeculateRequest {
            ask: request.clone(),
            engine: self.engine_options()?,
            draft_device: None,
        };
        self.start_in_background(|| self.speculate_work(&request))
    }

    /// A measured pair, by its run.
    pub fn speculation(&self, run: u32) -> Result<Speculation, ApiError> {
        let row = self.store.run(run)?;
        if row.run.task != "speculate" {
            return Err(ApiError::failed(format!(
                "run {run} is no measurement of speculative decoding but {}",
                crate::words::task_words(&row.run.task)
            )));
        }
        let report: SpeculationReport = report_of(&row)?;
        Ok(Speculation {
            charts: run_charts(&row)?,
            target_name: row.run.name.clone(),
            draft_name: draft_name(&row.run.settings),
            created_at: row.created_at,
            command: row.run.command,
            report,
        })
    }
}

/// The draft for people, from a run's settings.
pub(crate) fn draft_name(settings: &serde_json::Value) -> String {
    settings["draft_name"]
        .as_str()
        .unwrap_or("prompt lookup")
        .to_owned()
}

fn notes(found: &PairFound) -> Vec<String> {
    let mut notes = vec![format!(
        "All {} tokens that both have are the same.",
        grouped(found.shared)
    )];
    if found.only_target > 0 {
        notes.push(format!(
            "{} at the end only the target has; the draft never proposes them, and drafts nothing while one is in the text.",
            counted(found.only_target, "token")
        ));
    }
    if found.only_draft > 0 {
        notes.push(format!(
            "{} at the end only the draft has; they are never proposed.",
            counted(found.only_draft, "token")
        ));
    }
    notes
}

#[cfg(test)]
mod tests;
