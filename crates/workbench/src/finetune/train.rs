//! A recorded fine-tuning at work: training in a worker with losses kept as they come, the same questions to model and
//! adapter, MMLU before and after; each part is done once, whatever stopped it in between.

use std::path::PathBuf;

use billion_lora::train::Ending;
use serde_json::json;

use super::report::{Card, Trained, sums};
use super::{command, tune_ask};
use crate::api::{ApiError, FinetuneRequest, LossPoint, Rate, TuneProgress};
use crate::cancel::Cancel;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::machine;
use crate::models::Model;
use crate::progress::Meter;
use crate::requests::{EngineOptions, JobProgress};
use crate::store::{FinetuneRow, NewRun};
use crate::words::{duration, significant};
use crate::worker::{Ask, Event, Outcome, TuneNews, Tuned, Worker};

/// Version of the task; raised when a change makes results incomparable.
const VERSION: &str = "finetune 1";

impl Workbench {
    /// Does what is still to be done of a fine-tuning.
    pub(crate) fn do_finetune(
        &self,
        job: u32,
        id: u32,
        engine: &EngineOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(), ApiError> {
        let _lease = {
            let mut meter = Meter::new(0, on_progress);
            self.lease.shared(cancel, &mut |why| meter.tell(why, 0))?
        };
        let row = self.store.finetune(id)?;
        let model = self.resolve(&row.model)?;
        let run = self.begin_finetune(job, &row, &model, engine)?;
        if !row.trained.as_ref().is_some_and(Trained::is_over) {
            self.train(&row, run, &model, engine, cancel, on_progress)?;
            // What there is shows in Results from here on.
            self.store_report(id, run)?;
        }
        self.ask_both(id, engine, cancel, on_progress)?;
        self.store_report(id, run)?;
        if row.request.forgetting {
            self.measure_forgetting(job, id, engine, cancel, on_progress)?;
        }
        let mut card = self.store.finetune(id)?.card;
        card.complete = true;
        self.store.set_card(id, &card)?;
        self.store_report(id, run)
    }

    /// Records the run, or finds it.
    fn begin_finetune(
        &self,
        job: u32,
        row: &FinetuneRow,
        model: &Model,
        engine: &EngineOptions,
    ) -> Result<u32, ApiError> {
        let data_sha256 = self.hash_of(&[PathBuf::from(&row.request.data)])?;
        if let Some(run) = row.run {
            let before = self.store.run(run)?.run.settings["data_sha256"].clone();
            let over = row.trained.as_ref().is_some_and(Trained::is_over);
            if before != json!(data_sha256) && !over {
                return Err(ApiError::failed(format!(
                    "{} has changed since training on it began (its SHA-256 was {} and is {}), so training cannot go on where it stopped: put the file back, or start anew",
                    row.request.data,
                    before.as_str().unwrap_or("unknown"),
                    data_sha256
                )));
            }
            self.store.set_finetune_work(row.id, job, Some(run))?;
            return Ok(run);
        }
        let run = self.store.begin_run(&NewRun {
            task: "finetune".to_owned(),
            model: model.id.clone(),
            name: model.name.clone(),
            path: model.path.display().to_string(),
            sha256: model.sha256.clone(),
            quant: model.facts.quant.clone(),
            params: model.facts.params,
            task_version: VERSION.to_owned(),
            shots: 0,
            seed: u32::try_from(row.request.options.seed).unwrap_or(u32::MAX),
            hardware: machine::hardware_words(),
            isa: billion_llm::Isa::detect().name().to_owned(),
            threads: engine.threads.unwrap_or_else(machine::cores),
            settings: settings(&row.request, &data_sha256, engine),
            command: command(&row.request),
            scorecard: None,
            job,
        })?;
        self.store.set_finetune_work(row.id, job, Some(run))?;
        Ok(run)
    }

    /// Trains, or goes on from the last checkpoint.
    fn train(
        &self,
        row: &FinetuneRow,
        run: u32,
        model: &Model,
        engine: &EngineOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(), ApiError> {
        cancel.check()?;
        let card = Card {
            sessions: row.card.sessions + 1,
            ..row.card.clone()
        };
        self.store.set_card(row.id, &card)?;
        let mut worker = Worker::spawn(&self.executable(engine)?)?;
        worker.expect_memory(model.needs_bytes());
        let folder = self.finetune_folder(row.id);
        let ask = tune_ask(model, &row.request, engine, &folder, true);
        let mut progress = row.progress.clone();
        let mut forecast_s = None;
        let mut broken = None;
        let stop = cancel.clone();
        let outcome = worker.request(Ask::Tune(ask), cancel, &mut |event| match event {
            Event::Progress { step, .. } => on_progress(&JobProgress {
                step,
                done: progress.step,
                total: progress.of,
                ..JobProgress::default()
            }),
            Event::Tuning(news) => {
                take(&mut progress, &mut forecast_s, &news);
                let kept = self
                    .store
                    .add_losses(row.id, news.restart, &news.train, &news.held_out, &progress)
                    .and_then(|()| self.store.add_cost(run, news.seconds, news.tokens));
                if let Err(error) = kept {
                    // A training that cannot be kept is not worth its time.
                    stop.set();
                    broken.get_or_insert(error);
                }
                on_progress(&words(&progress, news.doing.as_deref(), forecast_s));
            }
            _ => {}
        });
        if let Some(error) = broken {
            return Err(error);
        }
        let tuned = match outcome? {
            Outcome::Tuned(tuned) => tuned,
            other => return Err(unexpected(&other)),
        };
        self.keep_trained(row, &tuned, &progress, &folder)?;
        match &tuned.ending {
            Ending::Stopped => Err(ApiError::cancelled()),
            _ => Ok(()),
        }
    }

    /// Keeps what a session of training gave, a stopped one's as well: its best adapter can be used.
    fn keep_trained(
        &self,
        row: &FinetuneRow,
        tuned: &Tuned,
        progress: &TuneProgress,
        folder: &std::path::Path,
    ) -> Result<(), ApiError> {
        let adapter = folder.join(super::ADAPTER);
        let weights = adapter.join(super::tuned::WEIGHTS);
        if weights.is_file() {
            let sha256 = self.hash_of(&[weights])?;
            self.store
                .set_adapter(row.id, &adapter.display().to_string(), &sha256)?;
            self.pool_forgets(&row.tuned);
        }
        // The whole of it, in place of what came piece by piece.
        self.store
            .add_losses(row.id, Some(0), &tuned.train, &tuned.held_out, progress)?;
        let before = self.store.finetune(row.id)?.trained;
        self.store
            .set_trained(row.id, &sums(before.as_ref(), tuned))?;
        self.store.set_questions(
            row.id,
            &super::ask::questions(tuned, row.request.options.seed),
        )
    }

    /// Ends the chats that hold an adapter which has changed.
    fn pool_forgets(&self, tuned: &str) {
        if let Ok(model) = self.resolve(tuned) {
            self.pool.unload(&model.path);
        }
    }

    /// MMLU Standard of the model, unless it was measured alike before, and of model and adapter.
    fn measure_forgetting(
        &self,
        job: u32,
        id: u32,
        engine: &EngineOptions,
        cancel: &Cancel,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<(), ApiError> {
        let row = self.store.finetune(id)?;
        let mut card: Card = row.card;
        for (name, reference, before) in
            [("before", &row.model, true), ("after", &row.tuned, false)]
        {
            let place = if before {
                &mut card.mmlu_before
            } else {
                &mut card.mmlu_after
            };
            if place.is_some_and(|run| self.store.run(run).is_ok()) {
                continue;
            }
            let mut heard = |progress: &JobProgress| {
                on_progress(&JobProgress {
                    step: format!("what was forgotten, {name}: {}", progress.step),
                    ..progress.clone()
                });
            };
            *place = Some(self.mmlu_standard(job, reference, before, engine, cancel, &mut heard)?);
            self.store.set_card(id, &card)?;
        }
        if let (Some(before), Some(after)) = (card.mmlu_before, card.mmlu_after) {
            card.forgetting = Some(self.forgetting(before, after)?);
            self.store.set_card(id, &card)?;
        }
        Ok(())
    }
}

/// What fixes the result.
fn settings(
    request: &FinetuneRequest,
    data_sha256: &str,
    engine: &EngineOptions,
) -> serde_json::Value {
    let mut settings = json!({
        "data": request.data,
        "data_sha256": data_sha256,
        "device": engine.device,
    });
    let parts = [
        serde_json::to_value(&request.options),
        serde_json::to_value(&request.dataset),
    ];
    if let Some(all) = settings.as_object_mut() {
        for part in parts.into_iter().flatten() {
            let serde_json::Value::Object(part) = part else {
                continue;
            };
            // The engine's are those that hold.
            all.extend(part.into_iter().filter(|(key, _)| {
                !["device", "threads", "memory_bytes", "skip_problems"].contains(&key.as_str())
            }));
        }
    }
    settings
}

fn take(progress: &mut TuneProgress, forecast_s: &mut Option<f64>, news: &TuneNews) {
    if let Some(step) = news.restart {
        progress.step = step;
    }
    if let Some(told) = &news.forecast {
        progress.of = told.steps;
        *forecast_s = Some(told.seconds);
    }
    if let Some(step) = &news.step {
        progress.step = step.step;
        progress.of = step.of;
        progress.epoch = step.epoch;
        progress.loss = Some(step.loss).filter(|loss| loss.is_finite());
        progress.lr = step.lr;
        progress.seconds_left = Some(step.seconds_left).filter(|s| s.is_finite());
    }
    if news.seconds > 0.0 {
        progress.tokens_per_s = news.tokens as f64 / news.seconds;
    }
    if let Some(LossPoint { loss, .. }) = news.held_out.last() {
        progress.held_out = Some(*loss).filter(|loss| loss.is_finite());
    }
    if let Some(step) = news.checkpoint {
        progress.checkpoint = step;
    }
    progress.spent_s += news.seconds;
    progress.spent_tokens += news.tokens;
}

/// Where training is, as the tray and the bar show it.
fn words(progress: &TuneProgress, doing: Option<&str>, forecast_s: Option<f64>) -> JobProgress {
    let mut step = match doing {
        Some(doing) => doing.to_owned(),
        None => format!("trains, step {} of {}", progress.step, progress.of),
    };
    if progress.step == 0
        && let Some(seconds) = forecast_s
    {
        step = format!("{step}, about {} in all", duration(seconds));
    }
    if let Some(loss) = progress.loss {
        step = format!("{step}, loss {}", significant(loss));
    }
    if let Some(loss) = progress.held_out {
        step = format!("{step}, held out {}", significant(loss));
    }
    JobProgress {
        step,
        done: progress.step,
        total: progress.of,
        eta_s: progress.seconds_left,
        rate: (progress.tokens_per_s > 0.0).then(|| Rate {
            per_s: progress.tokens_per_s,
            unit: "tokens".to_owned(),
        }),
    }
}
