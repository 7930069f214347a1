//! Speculative decoding against plain decoding: target and draft in one worker, with the machine to themselves.

use serde_json::json;

use super::{Bench, Details, Place, shell};
use crate::api::{
    ApiError, DraftLength, Drafter, PromptKind, SpeculationReport, SpeculationRequest,
};
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::jobs::{Product, Work};
use crate::models::Model;
use crate::progress::Meter;
use crate::requests::{EngineOptions, Executor, JobProgress, SpeculateRequest};
use crate::speculate::{Asked, prompt_of, report};
use crate::worker::{Ask, Event, Outcome, SpeculateAsk};

/// Version of the task; raised when a change makes results incomparable.
const VERSION: &str =
    "speculate 1 (both ways in turns, timed after the first token, the draft's prompt counted)";

/// Longest text asked for, and most repeats.
const MOST_TOKENS: u32 = 32_768;
const MOST_REPEATS: u32 = 100;
/// Most own prompts.
const MOST_PROMPTS: usize = 1000;

impl Workbench {
    /// Measures a pair and stores the run.
    pub fn speculate(
        &self,
        request: &SpeculateRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<SpeculationReport, ApiError> {
        let work = || self.speculate_work(request);
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Speculation(report) => Ok(*report),
            _ => Err(super::other_product()),
        }
    }

    /// Title and work of a measurement; a pair that cannot work together is refused here.
    pub(crate) fn speculate_work(
        &self,
        request: &SpeculateRequest,
    ) -> Result<(String, Work), ApiError> {
        check(&request.ask)?;
        let (target, name) = self.named(&request.ask.target)?;
        let (drafter, with) = match &request.ask.drafter {
            Drafter::Lookup => (Drafter::Lookup, "prompt lookup".to_owned()),
            Drafter::Model { model } => {
                let (model, name) = self.named(model)?;
                (Drafter::Model { model }, name)
            }
        };
        let checked = self.check_pair(&target, &drafter)?;
        if let Some(problem) = checked.problem {
            return Err(ApiError::failed(format!(
                "these models cannot work together: {problem}"
            )));
        }
        let request = SpeculateRequest {
            ask: SpeculationRequest {
                target,
                drafter,
                ..request.ask.clone()
            },
            ..request.clone()
        };
        Ok((
            format!("Speculation of {name} with {with}"),
            Work::Speculate(request),
        ))
    }

    pub(crate) fn measure_speculation(
        &self,
        job: u32,
        request: &SpeculateRequest,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<SpeculationReport, ApiError> {
        let mut meter = Meter::new(0, on_progress);
        let _lease = self.lease.alone(
            "a measurement of speculative decoding",
            cancel,
            &mut |why| {
                meter.tell(why, 0);
            },
        )?;
        let ask = &request.ask;
        let draft = match &ask.drafter {
            Drafter::Lookup => None,
            Drafter::Model { model } => Some(self.resolve(model)?),
        };
        // What runs models on a GPU runs them on the processor too.
        let executable = match request.draft_device.as_deref() {
            Some(device) if request.engine.device == "cpu" => self.executable(&EngineOptions {
                device: device.to_owned(),
                ..request.engine.clone()
            })?,
            _ => self.executable(&request.engine)?,
        };
        let mut bench = self.bench_in(
            &executable,
            &ask.target,
            &request.engine,
            cancel,
            &mut meter,
        )?;
        if let Some(draft) = &draft {
            meter.tell("loads the draft", 0);
            let engine = draft_engine(draft, &bench.engine, request.draft_device.as_deref());
            bench
                .worker
                .expect_memory(bench.model.needs_bytes() + draft.needs_bytes());
            let load = Ask::LoadDraft {
                path: draft.path.clone(),
                engine,
            };
            match bench.worker.request(load, cancel, &mut |_| {})? {
                Outcome::DraftLoaded(_) => {}
                other => return Err(unexpected(&other)),
            }
        }
        self.speculation_of(&mut bench, draft.as_ref(), job, request, cancel, &mut meter)
    }

    fn speculation_of(
        &self,
        bench: &mut Bench,
        draft: Option<&Model>,
        job: u32,
        request: &SpeculateRequest,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<SpeculationReport, ApiError> {
        let ask = &request.ask;
        let asked: Vec<Asked> = ask
            .kinds
            .iter()
            .filter_map(|&kind| Some((kind, prompt_of(kind)?)))
            .chain(ask.prompts.iter().map(|own| (PromptKind::Own, own.clone())))
            .map(|(kind, prompt)| Asked { kind, prompt })
            .collect();
        let place = Place {
            job,
            scorecard: None,
        };
        let run = bench.new_run(
            "speculate",
            VERSION,
            place,
            Details {
                settings: json!({
                    "draft": draft.map(|draft| &draft.id),
                    "draft_sha256": draft.map(|draft| &draft.sha256),
                    "draft_quant": draft.map(|draft| &draft.facts.quant),
                    "draft_device": request.draft_device,
                    "draft_name": draft.map(|draft| &draft.name),
                    "k": ask.k,
                    "kinds": ask.kinds,
                    "prompts": ask.prompts,
                    "raw": ask.raw,
                    "temperature": ask.temperature,
                    "seed": ask.seed,
                    "max_tokens": ask.max_tokens,
                    "repeat": ask.repeat,
                    "sweep": ask.sweep,
                }),
                options: options(request),
                ..Details::default()
            },
        );
        let id = self.store.begin_run(&run)?;
        self.kept_if_done(id, || {
            let work = Ask::Speculate(SpeculateAsk {
                lookup: draft.is_none(),
                prompts: asked.iter().map(|asked| asked.prompt.clone()).collect(),
                raw: ask.raw,
                k: match ask.k {
                    DraftLength::Fixed(k) => Some(k),
                    DraftLength::Auto(_) => None,
                },
                temperature: ask.temperature,
                seed: ask.seed,
                max_tokens: ask.max_tokens,
                repeat: ask.repeat,
                sweep: ask.sweep,
            });
            let outcome = bench.worker.request(work, cancel, &mut |event| {
                if let Event::Progress { step, done, total } = event {
                    meter.total(total);
                    meter.tell(&step, done);
                }
            })?;
            let Outcome::Speculated(found) = outcome else {
                return Err(unexpected(&outcome));
            };
            let report = report(
                &SpeculationReport {
                    run: id,
                    target: bench.model.id.clone(),
                    draft: draft.map(|draft| draft.id.clone()),
                    k: ask.k,
                    threads: bench.loaded.threads,
                    isa: bench.loaded.isa.clone(),
                    device: bench.engine.device.clone(),
                    temperature: ask.temperature,
                    max_tokens: ask.max_tokens,
                    ..SpeculationReport::default()
                },
                &asked,
                *found,
            )?;
            self.store.finish_run(id, 0, &report)?;
            Ok(report)
        })
    }
}

/// The engine of a draft: the target's, without the target's adapter and with as much context as the draft has.
pub(crate) fn draft_engine(
    draft: &Model,
    target: &EngineOptions,
    device: Option<&str>,
) -> EngineOptions {
    let mut engine = EngineOptions {
        adapter: None,
        context_len: None,
        ..target.clone()
    };
    if let Some(device) = device.filter(|device| *device != target.device) {
        device.clone_into(&mut engine.device);
        // On a GPU there is only candle's.
        engine.executor = match device {
            "cpu" => Executor::Cpu,
            _ => Executor::Candle,
        };
    }
    draft.engine(&engine)
}

/// Says what of a request makes no sense.
fn check(ask: &SpeculationRequest) -> Result<(), ApiError> {
    let refuse = |problem: String| Err(ApiError::failed(problem));
    if ask.kinds.is_empty() && ask.prompts.is_empty() {
        return refuse(
            "there is no prompt: choose a kind of prompt, or give one of your own".into(),
        );
    }
    if ask.kinds.contains(&PromptKind::Own) {
        return refuse("own prompts are given as text, not as a kind".into());
    }
    if let Some(at) = ask.prompts.iter().position(|own| own.trim().is_empty()) {
        return refuse(format!(
            "own prompt {} is empty; write it, or leave it out",
            at + 1
        ));
    }
    if ask.prompts.len() > MOST_PROMPTS {
        return refuse(format!(
            "{} prompts are more than the {MOST_PROMPTS} that one run takes; give fewer",
            ask.prompts.len()
        ));
    }
    if let DraftLength::Fixed(k) = ask.k
        && !(1..=15).contains(&k)
    {
        return refuse(format!(
            "k is {k}; 1 to 15 tokens can be drafted at a time, or auto"
        ));
    }
    if !(ask.temperature.is_finite() && ask.temperature >= 0.0) {
        return refuse(format!(
            "a temperature of {} is not possible; take 0 or more",
            ask.temperature
        ));
    }
    if !(2..=MOST_TOKENS).contains(&ask.max_tokens) {
        return refuse(format!(
            "a text of at most {} tokens cannot be timed; take 2 to {MOST_TOKENS}",
            ask.max_tokens
        ));
    }
    if !(1..=MOST_REPEATS).contains(&ask.repeat) {
        return refuse(format!(
            "{} repeats are not possible; take 1 to {MOST_REPEATS}",
            ask.repeat
        ));
    }
    Ok(())
}

/// The command line's options of a request, the target apart.
fn options(request: &SpeculateRequest) -> String {
    let ask = &request.ask;
    let mut all = match &ask.drafter {
        Drafter::Lookup => "--lookup".to_owned(),
        Drafter::Model { model } => format!("--draft {}", shell(model)),
    };
    if let Some(device) = &request.draft_device {
        all = format!("{all} --draft-device {device}");
    }
    all = format!("{all} --k {}", ask.k);
    if !ask.kinds.is_empty() {
        let kinds: Vec<String> = ask.kinds.iter().copied().map(kind_flag).collect();
        all = format!("{all} --kinds {}", kinds.join(","));
    }
    for own in &ask.prompts {
        all = format!("{all} --prompt {}", shell(own));
    }
    if ask.raw {
        all.push_str(" --raw");
    }
    if ask.sweep {
        all.push_str(" --sweep");
    }
    format!(
        "{all} --temperature {} --seed {} --max-tokens {} --repeat {}",
        ask.temperature, ask.seed, ask.max_tokens, ask.repeat
    )
}

/// The kind as the command line and the store have it.
fn kind_flag(kind: PromptKind) -> String {
    serde_json::to_value(kind)
        .ok()
        .and_then(|value| value.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}
