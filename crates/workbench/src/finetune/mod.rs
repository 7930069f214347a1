//! Fine-tunings: a dataset looked at, training forecast, started, paused and resumed, listed with what came of it, and the
//! tuned models that follow from them.
//!
//! `train` does a recorded one, `ask` asks model and adapter the same questions, `report` is what is stored of a finished
//! one, `tuned` makes models of adapters.

mod ask;
mod report;
mod train;
mod tuned;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use report::FinetuneReport;
pub(crate) use report::{Card, Trained, headline};

use billion_lora::dataset::{SAMPLE, SAMPLE_NAME};
use billion_lora::train::TrainOptions;

use crate::api::{
    ApiError, ColumnMapping, DatasetLook, DatasetOptions, Finetune, FinetuneDefaults,
    FinetuneForecast, FinetuneHead, FinetuneRequest, Job, JobState, LossOn, OverLong, RowLayout,
    Trainable,
};
use crate::charts::loss_charts;
use crate::chat::unexpected;
use crate::facade::Workbench;
use crate::jobs::{Product, Work};
use crate::machine::{self, bytes_words};
use crate::models::{Model, known_of};
use crate::requests::{EngineOptions, JobProgress};
use crate::store::{FinetuneRow, NewFinetune};
use crate::words::plain;
use crate::worker::{Ask, DatasetAsk, Outcome, TuneAsk, Worker};

/// Rows that a training sees in all, where the dataset is small, and the most times that it sees each.
const ROWS_SEEN: u32 = 900;
const MOST_EPOCHS: u32 = 10;
/// High enough for small datasets, and what adapters of small models bear.
const LEARNING_RATE: f32 = 5e-4;
/// Most characters of a name.
const NAME: usize = 40;

impl Workbench {
    /// What a training on so many rows begins with: few rows are seen more often, so that there are steps enough to learn
    /// from.
    pub fn finetune_defaults(rows: Option<u32>) -> FinetuneDefaults {
        let options = TrainOptions {
            // Adapting every linear map learns in fewer steps than queries and values alone (J. Schulman et al. 2025, "LoRA
            // Without Regret"), at about the same speed.
            targets: vec!["all-linear".to_owned()],
            learning_rate: LEARNING_RATE,
            ..TrainOptions::default()
        };
        let epochs = match rows {
            Some(rows) => (ROWS_SEEN / rows.max(1)).clamp(options.epochs, MOST_EPOCHS),
            None => options.epochs,
        };
        FinetuneDefaults {
            dataset: DatasetOptions::default(),
            options: TrainOptions { epochs, ..options },
        }
    }

    /// Reads a dataset as a model would see it, in a process of its own.
    pub fn look_at_dataset(
        &self,
        model: &str,
        data: &str,
        options: &DatasetOptions,
    ) -> Result<DatasetLook, ApiError> {
        let model = self.resolve(model)?;
        let (_guard, cancel) = self.foreground();
        let mut worker = Worker::spawn(&self.engine)?;
        let ask = Ask::LookAtDataset(DatasetAsk {
            model: model.path,
            data: absolute(data)?,
            options: options.clone(),
        });
        match worker.request(ask, &cancel, &mut |_| {})? {
            Outcome::Dataset(look) => Ok(*look),
            other => Err(unexpected(&other)),
        }
    }

    /// Measures a step of the training on this machine, and says what all of it will take.
    pub fn forecast_finetune(
        &self,
        request: &FinetuneRequest,
        engine: &EngineOptions,
    ) -> Result<FinetuneForecast, ApiError> {
        let engine = self.with_settings(engine)?;
        let (model, request) = self.checked_finetune(request)?;
        let (_guard, cancel) = self.foreground();
        let mut worker = Worker::spawn(&self.executable(&engine)?)?;
        worker.expect_memory(model.needs_bytes());
        let ask = Ask::ForecastTuning(tune_ask(&model, &request, &engine, Path::new(""), false));
        let told = match worker.request(ask, &cancel, &mut |_| {})? {
            Outcome::TuneForecast(told) => told,
            other => return Err(unexpected(&other)),
        };
        let free_bytes = machine::free_memory_bytes();
        let mut warnings = Vec::new();
        if told.peak_bytes > free_bytes {
            warnings.push(format!(
                "training needs about {}, but {} are free: close other programs, choose a smaller model or shorter rows, or take fewer rows at a time",
                bytes_words(told.peak_bytes),
                bytes_words(free_bytes)
            ));
        }
        if request.dataset.eval_fraction <= 0.0 {
            warnings.push(
                "no rows are held out, so nothing will tell whether the model learnt more than these rows by heart"
                    .to_owned(),
            );
        }
        Ok(FinetuneForecast {
            seconds: told.seconds,
            forgetting_seconds: request
                .forgetting
                .then(|| self.forecast_forgetting(&model.id))
                .flatten(),
            peak_bytes: told.peak_bytes,
            free_bytes,
            steps: told.steps,
            tokens: told.tokens,
            trainable_params: told.trainable_params,
            trainable_share: told.share,
            basis: format!(
                "a step measured on this machine: {:.0} tokens/s{}",
                told.tokens_per_s,
                if told.recompute {
                    "; blocks are computed again in the backward pass to save memory"
                } else {
                    ""
                }
            ),
            warnings,
        })
    }

    /// Time of MMLU Standard on the model before and after.
    fn forecast_forgetting(&self, model: &str) -> Option<f64> {
        let all = self.forecast_mmlu_standard(model).ok()?;
        Some(2.0 * all)
    }

    /// Starts a fine-tuning in the background.
    pub fn start_finetune(self: &Arc<Self>, request: &FinetuneRequest) -> Result<Job, ApiError> {
        let engine = self.engine_options()?;
        let id = self.new_finetune(request)?;
        let started = self.start_in_background(|| self.finetune_work(id, engine));
        if started.is_err() {
            // The first error is the one to tell.
            drop(self.store.delete_finetune(id));
        }
        started
    }

    /// Fine-tunes and returns when all is done. With `resume` it goes on with one that was to write to the same folder and
    /// stopped, and gives the report of one that is done.
    pub fn finetune(
        &self,
        request: &FinetuneRequest,
        resume: bool,
        engine: &EngineOptions,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<FinetuneReport, ApiError> {
        let engine = self.with_settings(engine)?;
        if resume && let Some(row) = self.finetune_to(request)? {
            if self.store.job::<Work>(row.job)?.job.state == JobState::Done {
                return self.finetune_report(row.id);
            }
            let Some((work, cancel)) = self.claim(row.job)? else {
                return Err(ApiError::new(
                    crate::api::ErrorCode::Busy,
                    format!(
                        "the training to {} is at work in another process; let it end, or pause it there",
                        row.request.out.unwrap_or_default()
                    ),
                ));
            };
            self.run_claimed_in_foreground(row.job, &work, &cancel, on_progress)?;
            return self.finetune_report(row.id);
        }
        let id = self.new_finetune(request)?;
        let done = self.run_in_foreground(|| self.finetune_work(id, engine), on_progress);
        if self.store.finetune(id)?.job == 0 {
            self.store.delete_finetune(id)?;
        }
        match done?.1 {
            Product::Finetuned(id) => self.finetune_report(id),
            _ => Err(ApiError::failed(
                "the job made something else than an adapter; please report this",
            )),
        }
    }

    /// The latest fine-tuning that was to write to the same folder.
    fn finetune_to(&self, request: &FinetuneRequest) -> Result<Option<FinetuneRow>, ApiError> {
        let Some(out) = &request.out else {
            return Ok(None);
        };
        let out = absolute(out)?.display().to_string();
        let all = self.store.finetunes()?;
        Ok(all
            .into_iter()
            .find(|row| row.job > 0 && row.request.out.as_ref() == Some(&out)))
    }

    fn finetune_report(&self, id: u32) -> Result<FinetuneReport, ApiError> {
        let row = self.store.finetune(id)?;
        let run = row.run.ok_or_else(|| {
            ApiError::failed(format!(
                "the run of fine-tuning {id} was deleted from Results"
            ))
        })?;
        crate::scorecards::report_of(&self.store.run(run)?)
    }

    /// Checks a request as far as that is quick, and makes its paths hold from everywhere.
    fn checked_finetune(
        &self,
        request: &FinetuneRequest,
    ) -> Result<(Model, FinetuneRequest), ApiError> {
        let model = self.resolve(&request.model)?;
        if model.adapter.is_some() {
            return Err(ApiError::failed(format!(
                "{} is a model with an adapter already: choose the model itself, or merge the adapter into a GGUF file and train on that",
                model.name
            )));
        }
        let data = absolute(&request.data)?;
        if !data.is_file() {
            return Err(ApiError::failed(format!(
                "there is no dataset {}; give a .jsonl, .json, .csv, .tsv, .parquet or .txt file",
                data.display()
            )));
        }
        // Before anything is recorded, and before its hash is taken.
        billion_lora::dataset::check_size(&data)
            .map_err(|error| ApiError::failed(error.to_string()))?;
        request
            .options
            .check()
            .map_err(|error| ApiError::failed(error.to_string()))?;
        let out = request.out.as_deref().map(absolute).transpose()?;
        if let Some(out) = &out
            && out.exists()
            && !out.is_dir()
        {
            return Err(ApiError::failed(format!(
                "{} is a file; name a folder for the adapter",
                out.display()
            )));
        }
        let request = FinetuneRequest {
            model: model.id.clone(),
            data: data.display().to_string(),
            out: out.map(|out| out.display().to_string()),
            ..request.clone()
        };
        Ok((model, request))
    }

    fn new_finetune(&self, request: &FinetuneRequest) -> Result<u32, ApiError> {
        let (model, request) = self.checked_finetune(request)?;
        let name = name_of(&request);
        self.store.new_finetune(&NewFinetune {
            tuned: &format!("{}+{}", model.id, slug(&name)),
            name: &name,
            model: &model.id,
            model_name: &model.name,
            request: &request,
        })
    }

    fn finetune_work(&self, id: u32, engine: EngineOptions) -> Result<(String, Work), ApiError> {
        let row = self.store.finetune(id)?;
        Ok((
            format!("Fine-tuning of {} on {}", row.model_name, row.name),
            Work::Finetune {
                finetune: id,
                engine,
            },
        ))
    }

    /// All fine-tunings, the latest first.
    pub fn finetunes(&self) -> Result<Vec<FinetuneHead>, ApiError> {
        let rows = self.store.finetunes()?;
        rows.iter().map(|row| self.finetune_head(row)).collect()
    }

    fn finetune_head(&self, row: &FinetuneRow) -> Result<FinetuneHead, ApiError> {
        let state = match row.job {
            0 => JobState::Failed,
            job => self.store.job::<serde_json::Value>(job)?.job.state,
        };
        let run = match row.run {
            Some(id) => Some(self.store.run(id)?).filter(|run| run.report.is_some()),
            None => None,
        };
        Ok(FinetuneHead {
            id: row.id,
            name: row.name.clone(),
            tuned: row.tuned.clone(),
            model: row.model.clone(),
            model_name: row.model_name.clone(),
            data: file_name(&row.request.data),
            state,
            usable: row.adapter.is_some(),
            created_at: row.created_at,
            job: row.job,
            headline: match &run {
                Some(run) => headline(&crate::scorecards::report_of(run)?),
                None if row.progress.of > 0 => {
                    format!("step {} of {}", row.progress.step, row.progress.of)
                }
                None => String::new(),
            },
            run: run.map(|run| run.id),
        })
    }

    /// A fine-tuning with all that is known of it now.
    pub fn finetune_details(&self, id: u32) -> Result<Finetune, ApiError> {
        let row = self.store.finetune(id)?;
        let head = self.finetune_head(&row)?;
        let job = match row.job {
            0 => None,
            job => Some(self.store.job::<serde_json::Value>(job)?.job),
        };
        let [train, held_out] = self.store.losses(id)?;
        let report = row
            .trained
            .as_ref()
            .map(|trained| self.report_card(&row, trained))
            .transpose()?;
        Ok(Finetune {
            charts: loss_charts(&row.model, &train, &held_out),
            trainable: row.trained.as_ref().map(|trained| Trainable {
                params: trained.trainable_params,
                share: trained.trainable_share,
            }),
            progress: row.progress,
            step: job
                .as_ref()
                .map_or_else(String::new, |job| job.step.clone()),
            error: job.and_then(|job| job.error),
            report,
            folder: row.adapter,
            command: command(&row.request),
            request: row.request,
            head,
        })
    }

    /// Deletes a fine-tuning with its checkpoints and its adapter; its run and what the person exported stay.
    pub fn delete_finetune(&self, id: u32) -> Result<(), ApiError> {
        let row = self.store.finetune(id)?;
        if row.job > 0 && !self.store.dismiss_job(row.job)? {
            return Err(ApiError::new(
                crate::api::ErrorCode::Busy,
                format!("{} is being trained; cancel that first", row.name),
            ));
        }
        if let Ok(model) = self.resolve(&row.tuned) {
            self.pool.unload(&model.path);
        }
        let folder = self.finetune_folder(id);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|error| {
                ApiError::failed(format!("cannot delete {}: {error}", folder.display()))
            })?;
        }
        self.store.delete_finetune(id)?;
        self.changes.tell();
        Ok(())
    }

    /// Copies the two files of an adapter into a folder of the person's choice.
    pub fn export_adapter(&self, id: u32, folder: &Path) -> Result<crate::api::Exported, ApiError> {
        let bytes = tuned::copy_adapter(&self.adapter_folder(id)?, folder)?;
        Ok(crate::api::Exported {
            path: folder.display().to_string(),
            bytes,
        })
    }

    /// Where the adapter of a fine-tuning lies.
    pub fn adapter_folder(&self, id: u32) -> Result<PathBuf, ApiError> {
        let row = self.store.finetune(id)?;
        row.adapter.map(PathBuf::from).ok_or_else(|| {
            ApiError::failed(format!(
                "{} has no adapter yet; let training get to its first look at the held-out rows",
                row.name
            ))
        })
    }

    /// The dataset that comes with Billion, as a file.
    pub fn sample_dataset(&self) -> Result<String, ApiError> {
        let folder = self.cache_dir().join("texts");
        let file = folder.join(SAMPLE_NAME);
        if !std::fs::read_to_string(&file).is_ok_and(|text| text == SAMPLE) {
            std::fs::create_dir_all(&folder)
                .and_then(|()| std::fs::write(&file, SAMPLE))
                .map_err(|error| {
                    ApiError::failed(format!("cannot write {}: {error}", file.display()))
                })?;
        }
        Ok(file.display().to_string())
    }

    /// Where a fine-tuning keeps its checkpoints and its adapter.
    pub(crate) fn finetune_folder(&self, id: u32) -> PathBuf {
        self.data_dir().join("finetunes").join(id.to_string())
    }
}

/// What a worker is asked to train, or to foresee.
fn tune_ask(
    model: &Model,
    request: &FinetuneRequest,
    engine: &EngineOptions,
    folder: &Path,
    resume: bool,
) -> TuneAsk {
    let mut out = Vec::new();
    if !folder.as_os_str().is_empty() {
        out.push(folder.join(ADAPTER));
        out.extend(request.out.as_ref().map(PathBuf::from));
    }
    TuneAsk {
        dataset: DatasetAsk {
            model: model.path.clone(),
            data: PathBuf::from(&request.data),
            options: request.dataset.clone(),
        },
        options: TrainOptions {
            device: engine.device.clone(),
            threads: engine.threads,
            ..request.options.clone()
        },
        base: known_of(&model.id, model.source)
            .map_or_else(|| model.id.clone(), |known| known.repository.to_owned()),
        folder: folder.join(CHECKPOINTS),
        resume,
        out,
    }
}

/// Folder of the adapter in a fine-tuning's own.
const ADAPTER: &str = "adapter";
/// Folder of the checkpoints.
const CHECKPOINTS: &str = "run";

fn absolute(path: &str) -> Result<PathBuf, ApiError> {
    std::path::absolute(path).map_err(|error| ApiError::failed(format!("{path}: {error}")))
}

fn file_name(path: &str) -> String {
    let name = Path::new(path).file_name();
    name.map_or_else(|| path.to_owned(), |name| plain(&name.to_string_lossy()))
}

/// The person's name for it, or the file's.
fn name_of(request: &FinetuneRequest) -> String {
    let given = request.name.as_deref().map(plain);
    let stem = || {
        let stem = Path::new(&request.data).file_stem();
        stem.map_or_else(String::new, |stem| plain(&stem.to_string_lossy()))
    };
    let name = given
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(stem);
    let name: String = name.chars().take(NAME).collect();
    if name.trim().is_empty() {
        "dataset".to_owned()
    } else {
        name
    }
}

/// A name as a part of a reference: small letters, digits and hyphens.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        "tuned".to_owned()
    } else {
        slug.to_owned()
    }
}

/// As the command line spells it.
fn layout_flag(layout: RowLayout) -> &'static str {
    match layout {
        RowLayout::Alpaca => "alpaca",
        RowLayout::ShareGpt => "sharegpt",
        RowLayout::Messages => "messages",
        RowLayout::PromptCompletion => "prompt-completion",
        RowLayout::QuestionAnswer => "question-answer",
        RowLayout::Text => "text",
    }
}

fn parts(mapping: &ColumnMapping) -> [(&'static str, &Option<String>); 6] {
    [
        ("prompt", &mapping.prompt),
        ("input", &mapping.input),
        ("answer", &mapping.answer),
        ("system", &mapping.system),
        ("turns", &mapping.turns),
        ("text", &mapping.text),
    ]
}

/// The command that makes it again.
pub(crate) fn command(request: &FinetuneRequest) -> String {
    use crate::measure::shell;
    use billion_lora::train::{Schedule, TrainOptions};
    use std::fmt::Write as _;
    let mut text = format!(
        "billion finetune --model {} --data {} --out {}",
        shell(&request.model),
        shell(&request.data),
        shell(request.out.as_deref().unwrap_or("adapter"))
    );
    let (o, d) = (&request.options, TrainOptions::default());
    let mut add = |flag: &str, value: String| {
        let _ = write!(text, " --{flag} {value}");
    };
    add("epochs", o.epochs.to_string());
    if let Some(steps) = o.max_steps {
        add("max-steps", steps.to_string());
    }
    add("rank", o.rank.to_string());
    add("alpha", o.alpha.to_string());
    if !o.targets.is_empty() {
        add("targets", o.targets.join(","));
    }
    add("lr", o.learning_rate.to_string());
    if o.schedule != d.schedule {
        let name = match o.schedule {
            Schedule::Constant => "constant",
            Schedule::Linear => "linear",
            Schedule::Cosine => "cosine",
        };
        add("schedule", name.to_owned());
    }
    for (flag, value, default) in [
        ("dropout", o.dropout, d.dropout),
        ("warmup", o.warmup, d.warmup),
        ("weight-decay", o.weight_decay, d.weight_decay),
    ] {
        if value != default {
            add(flag, value.to_string());
        }
    }
    add("batch", o.batch.to_string());
    if o.accumulate != d.accumulate {
        add("accumulate", o.accumulate.to_string());
    }
    for (flag, value) in [
        ("patience", o.patience),
        ("eval-every", o.eval_every),
        ("checkpoint-every", o.checkpoint_every),
    ] {
        if let Some(value) = value {
            add(flag, value.to_string());
        }
    }
    if let Some(layout) = request.dataset.layout {
        add("layout", layout_flag(layout).to_owned());
    }
    for (part, column) in request.dataset.mapping.iter().flat_map(parts) {
        if let Some(column) = column {
            add("map", shell(format!("{part}={column}")));
        }
    }
    add("max-len", request.dataset.max_len.to_string());
    add("eval-fraction", request.dataset.eval_fraction.to_string());
    add("seed", o.seed.to_string());
    if o.rslora {
        text.push_str(" --rslora");
    }
    if request.dataset.loss_on == LossOn::Everything {
        text.push_str(" --learn-all");
    }
    if request.dataset.over_long == OverLong::Skip {
        text.push_str(" --skip-long-rows");
    }
    if request.dataset.skip_problems {
        text.push_str(" --skip-bad-rows");
    }
    if request.forgetting {
        text.push_str(" --report");
    }
    text
}

#[cfg(test)]
mod tests;
