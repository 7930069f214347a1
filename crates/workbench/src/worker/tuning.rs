//! What a worker does for fine-tuning: reading a dataset for a model, foreseeing and doing the training. The work is
//! `billion-lora`'s; this feeds it, measures the process meanwhile, and reports in packets.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use billion_eval::meters::energy::{self, Recorder, Wanted};
use billion_eval::meters::memory::Rss;
use billion_llm::load::ModelFiles;
use billion_lora::dataset::{self, Dataset, Encoder};
use billion_lora::train::{self, TrainEvent, TrainOutcome, TrainingRows};

use super::engine::{Work, failed};
use super::protocol::{Body, DatasetAsk, Outcome, TuneAsk, TuneNews, Tuned};
use crate::api::{ApiError, DatasetLook, LossPoint};
use crate::words::counted;

/// Least time between two packets of steps: ten a second.
const PACKET: Duration = Duration::from_millis(100);

/// What a dataset is for a model. What cannot be read as asked is told beside what was found, so that a person can say which
/// column is which.
pub(super) fn look(work: Work<'_>, ask: &DatasetAsk) -> Result<Outcome, ApiError> {
    if work.progress("reads the dataset", 0, 0).is_break() {
        return Err(ApiError::cancelled());
    }
    let detected = dataset::detect(&ask.data).map_err(failed)?;
    let files = ModelFiles::open(&ask.model).map_err(failed)?;
    let encoder = Encoder::new(&files).map_err(failed)?;
    let (preview, error) = match dataset::preview(&ask.data, &encoder, &ask.options) {
        Ok(preview) => (Some(preview), None),
        Err(error) => (None, Some(failed(error))),
    };
    Ok(Outcome::Dataset(Box::new(DatasetLook {
        detected,
        preview,
        error,
    })))
}

/// Times the first steps.
pub(super) fn forecast(work: Work<'_>, ask: &TuneAsk) -> Result<Outcome, ApiError> {
    let (files, rows) = open(work, &ask.dataset)?;
    if work.progress("times some steps", 0, 0).is_break() {
        return Err(ApiError::cancelled());
    }
    let told = train::forecast(&files, rows_of(&rows), &ask.options).map_err(trained)?;
    Ok(Outcome::TuneForecast(told))
}

/// Trains, or goes on, and writes the adapter.
pub(super) fn tune(work: Work<'_>, ask: &TuneAsk) -> Result<Outcome, ApiError> {
    let (files, rows) = open(work, &ask.dataset)?;
    let device = ask.options.device.clone();
    let recorder = Recorder::start(move || energy::open(&Wanted::of_device(&device)));
    let mut packet = Packet::new(work);
    let outcome = train::train(
        &files,
        rows_of(&rows),
        &ask.options,
        (&ask.folder, ask.resume),
        &mut |event| packet.take(event),
    );
    let sent = packet.send();
    let energy = recorder.stop();
    let outcome = outcome.map_err(trained)?;
    if sent.is_break() && !matches!(outcome.ending, train::Ending::Stopped) {
        // Nobody waits for it any more; what is on the disk is enough to go on.
        return Err(ApiError::cancelled());
    }
    let TrainOutcome {
        mut adapter,
        ending,
        steps,
        best_step,
        losses,
        held_out,
        trainable_params,
        seconds,
        ..
    } = outcome;
    adapter.config.base_model = Some(ask.base.clone());
    for folder in &ask.out {
        adapter.write(folder, files.spec()).map_err(failed)?;
    }
    let preview = &rows.preview;
    Ok(Outcome::Tuned(Box::new(Tuned {
        ending,
        steps,
        best_step,
        train: points(losses),
        held_out: points(held_out),
        trainable_params,
        trainable_share: trainable_params as f64 / files.params().max(1) as f64,
        seconds,
        peak_rss_bytes: Rss::read().map(|rss| rss.peak_bytes),
        energy,
        rows_train: rows.train.len() as u32,
        rows_held_out: rows.held_out.len() as u32,
        template: preview.template.clone(),
        left_out: left_out(preview.rows_with_problems, preview.left_out),
        held_out_samples: rows.held_out_samples,
        train_samples: rows.train_samples,
    })))
}

fn open(work: Work<'_>, ask: &DatasetAsk) -> Result<(ModelFiles, Dataset), ApiError> {
    if work.progress("reads the dataset", 0, 0).is_break() {
        return Err(ApiError::cancelled());
    }
    let files = ModelFiles::open(&ask.model).map_err(failed)?;
    let encoder = Encoder::new(&files).map_err(failed)?;
    let mut cancelled = || work.goes_on().is_break();
    let rows = dataset::read(&ask.data, &encoder, &ask.options, &mut cancelled).map_err(trained)?;
    Ok((files, rows))
}

fn rows_of(rows: &Dataset) -> TrainingRows<'_> {
    TrainingRows {
        train: &rows.train,
        held_out: &rows.held_out,
    }
}

fn points(all: Vec<(u32, f64)>) -> Vec<LossPoint> {
    all.into_iter()
        .map(|(step, loss)| LossPoint { step, loss })
        .collect()
}

/// Rows that training does without, in words.
fn left_out(problems: u32, long: u32) -> String {
    let said = [(problems, "with problems"), (long, "too long")];
    let said: Vec<String> = said
        .into_iter()
        .filter(|(rows, _)| *rows > 0)
        .map(|(rows, why)| format!("{} {why}", counted(u64::from(rows), "row")))
        .collect();
    if said.is_empty() {
        String::new()
    } else {
        format!("left out: {}", said.join(", "))
    }
}

/// A broken-off training is a cancelled one.
fn trained(error: billion_lora::Error) -> ApiError {
    match error {
        billion_lora::Error::Cancelled => ApiError::cancelled(),
        other => failed(other),
    }
}

/// Steps on their way to the parent, several in a message.
struct Packet<'a> {
    work: Work<'a>,
    news: TuneNews,
    sent: Instant,
}

impl<'a> Packet<'a> {
    fn new(work: Work<'a>) -> Self {
        Self {
            work,
            news: TuneNews::default(),
            sent: Instant::now(),
        }
    }

    /// Adds what happened; everything but a step is sent at once.
    fn take(&mut self, event: TrainEvent) -> ControlFlow<()> {
        let news = &mut self.news;
        let mut now = true;
        match event {
            TrainEvent::Forecast(told) => news.forecast = Some(told),
            TrainEvent::Step(step) => {
                news.train.push(LossPoint {
                    step: step.step,
                    loss: step.loss,
                });
                news.tokens += step.tokens;
                if step.tokens_per_s > 0.0 {
                    news.seconds += step.tokens as f64 / step.tokens_per_s;
                }
                news.step = Some(step);
                now = self.sent.elapsed() >= PACKET;
            }
            TrainEvent::Evaluated { step, loss, .. } => {
                news.held_out.push(LossPoint { step, loss });
            }
            TrainEvent::Checkpoint { step } => news.checkpoint = Some(step),
            TrainEvent::Resumed { step, losses } => {
                news.restart = Some(step);
                news.checkpoint = Some(step);
                news.train.extend(points(losses));
            }
        }
        if now {
            self.send()
        } else {
            self.work.goes_on()
        }
    }

    fn send(&mut self) -> ControlFlow<()> {
        self.sent = Instant::now();
        let news = Box::new(std::mem::take(&mut self.news));
        self.work.send(Body::Tuning(news))
    }
}
