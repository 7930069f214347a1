//! Measurements: each loads the model into a fresh worker, begins a run in the store, fills it as answers come, and
//! finishes it with a report. Foreground runs, background jobs and scorecards share this code.
//!
//! This file owns what every measurement begins with and the public calls; each task has a file of its own.

mod benches;
mod humaneval;
mod meters;
mod mmlu;
mod perplexity;
mod samples;
mod scorecard;
mod speculate;
mod time_lapse;

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::api::{ApiError, Scorecard, ScorecardRequest};
use crate::cancel::Cancel;
use crate::facade::Workbench;
use crate::jobs::Product;
use crate::machine;
use crate::models::Model;
use crate::progress::Meter;
use crate::reports::{
    EnergyReport, HumanEvalReport, MemoryReport, MmluReport, PerplexityReport, SpeedReport,
};
use crate::requests::{
    EnergyRequest, EngineOptions, HumanEvalRequest, JobProgress, MemoryRequest, MmluRequest,
    PerplexityRequest, SpeedRequest,
};
use crate::store::NewRun;
use crate::worker::{self, LoadedModel, Worker};

pub use humaneval::Completions;
pub(crate) use scorecard::eval_size;
pub(crate) use speculate::draft_engine;
pub(crate) use time_lapse::Lapse;

/// A model loaded into a worker of its own.
struct Bench {
    worker: Worker,
    model: Model,
    loaded: LoadedModel,
    engine: EngineOptions,
    adapter: Option<AskedAdapter>,
    /// The adapter of a tuned model.
    tuned: Option<AskedAdapter>,
}

/// An adapter that the request names besides the model.
struct AskedAdapter {
    folder: PathBuf,
    /// Of its weights and settings.
    sha256: String,
}

impl AskedAdapter {
    /// What tells the tuned model from its base in ids.
    fn mark(&self) -> &str {
        self.sha256.get(..8).unwrap_or(&self.sha256)
    }

    fn name(&self) -> String {
        let name = self.folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// Where a measurement belongs.
#[derive(Clone, Copy)]
struct Place {
    job: u32,
    scorecard: Option<u32>,
}

impl Workbench {
    /// Runs MMLU and stores the run.
    pub fn bench_mmlu(
        &self,
        request: &MmluRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MmluReport, ApiError> {
        let work = || self.mmlu_work(request);
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Mmlu(report) => Ok(*report),
            _ => Err(other_product()),
        }
    }

    /// Runs HumanEval and stores the run.
    pub fn bench_humaneval(
        &self,
        request: &HumanEvalRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<HumanEvalReport, ApiError> {
        let work = || self.humaneval_work(request);
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::HumanEval(report) => Ok(*report),
            _ => Err(other_product()),
        }
    }

    /// Measures speed and stores the run.
    pub fn bench_speed(
        &self,
        request: &SpeedRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<SpeedReport, ApiError> {
        let work = || self.speed_work(request);
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Speed(report) => Ok(*report),
            _ => Err(other_product()),
        }
    }

    /// Measures memory in a fresh process and stores the run.
    pub fn bench_memory(
        &self,
        request: &MemoryRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MemoryReport, ApiError> {
        let work = || self.memory_work(request);
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Memory(report) => Ok(report),
            _ => Err(other_product()),
        }
    }

    /// Measures joules a token and stores the run; where nothing tells them, the report says why and nothing is stored.
    pub fn bench_energy(
        &self,
        request: &EnergyRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<EnergyReport, ApiError> {
        let work = || self.energy_work(request);
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Energy(report) => Ok(*report),
            _ => Err(other_product()),
        }
    }

    /// Measures perplexity and stores the run.
    pub fn perplexity(
        &self,
        request: &PerplexityRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<PerplexityReport, ApiError> {
        let work = || self.perplexity_work(request);
        match self.run_in_foreground(work, on_progress)?.1 {
            Product::Perplexity(report) => Ok(report),
            _ => Err(other_product()),
        }
    }

    /// Makes a scorecard and returns when it is done. Models that could not be measured say why in their row.
    pub fn run_scorecard(
        &self,
        request: &ScorecardRequest,
        engine: &EngineOptions,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<Scorecard, ApiError> {
        let id = self.scorecard_in_foreground(request, engine, on_progress)?;
        self.scorecard(id)
    }

    /// Id, which holds from every folder, and name of a model.
    fn named(&self, reference: &str) -> Result<(String, String), ApiError> {
        self.resolve(reference).map(|model| (model.id, model.name))
    }

    /// Loads a model into a fresh worker.
    fn bench(
        &self,
        reference: &str,
        engine: &EngineOptions,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<Bench, ApiError> {
        let executable = self.executable(engine)?;
        self.bench_in(&executable, reference, engine, cancel, meter)
    }

    /// The same in a worker of this executable.
    fn bench_in(
        &self,
        executable: &Path,
        reference: &str,
        engine: &EngineOptions,
        cancel: &Cancel,
        meter: &mut Meter<'_>,
    ) -> Result<Bench, ApiError> {
        cancel.check()?;
        meter.tell("checks the file", 0);
        let model = self.resolve(reference)?;
        let adapter = match &engine.adapter {
            Some(folder) => Some(self.asked_adapter(folder)?),
            None => None,
        };
        let tuned = match &model.adapter {
            Some(_) if adapter.is_some() => {
                return Err(ApiError::failed(format!(
                    "{} has an adapter already; leave --adapter out, or name the model that it was trained on",
                    model.id
                )));
            }
            Some(folder) => Some(self.asked_adapter(folder)?),
            None => None,
        };
        meter.tell("loads the model", 0);
        let engine = model.engine(&self.with_settings(engine)?);
        let mut worker = Worker::spawn(executable)?;
        let loaded = worker::load(
            &mut worker,
            &model.path,
            &engine,
            model.needs_bytes(),
            cancel,
        )?;
        Ok(Bench {
            worker,
            model,
            loaded,
            engine,
            adapter,
            tuned,
        })
    }

    /// The adapter in a folder; that it fits the model is found when it is loaded.
    fn asked_adapter(&self, folder: &Path) -> Result<AskedAdapter, ApiError> {
        let files = ["adapter_config.json", "adapter_model.safetensors"];
        let files = files.map(|name| folder.join(name));
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            return Err(ApiError::failed(format!(
                "{} is missing; --adapter takes the folder of a PEFT adapter",
                missing.display()
            )));
        }
        Ok(AskedAdapter {
            folder: folder.to_owned(),
            sha256: self.hash_of(&files)?,
        })
    }

    /// Deletes a run that did not come to a report.
    fn kept_if_done<T>(
        &self,
        run: u32,
        measure: impl FnOnce() -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        measure().inspect_err(|_| {
            // The first error is the one to tell; an unfinished run is not listed anyway.
            let _ = self.store.delete_run(run);
        })
    }
}

/// What differs from task to task.
#[derive(Default)]
struct Details {
    shots: u32,
    settings: serde_json::Value,
    /// Command-line options besides the model and the engine.
    options: String,
}

impl Bench {
    fn new_run(&self, task: &str, version: &str, place: Place, details: Details) -> NewRun {
        let mut settings = details.settings;
        if let Some(map) = settings.as_object_mut() {
            map.insert("executor".to_owned(), json!(self.engine.executor));
            map.insert("device".to_owned(), json!(self.engine.device));
            map.insert("context_len".to_owned(), json!(self.loaded.context_len));
            // Of a tuned model it is part of the model, else the request's.
            for adapter in self.tuned.iter().chain(&self.adapter) {
                map.insert("adapter".to_owned(), json!(adapter.folder));
                map.insert("adapter_sha256".to_owned(), json!(adapter.sha256));
            }
        }
        let mut options = details.options;
        let (mut id, mut name) = (self.model.id.clone(), self.model.name.clone());
        if let Some(adapter) = &self.adapter {
            options = format!("{options} --adapter {}", shell(&adapter.folder));
            // Another model in comparisons and charts. The lines of a scorecard go by the ids that it was asked for.
            if place.scorecard.is_none() {
                id = format!("{id}+{}", adapter.mark());
            }
            name = format!("{name} + {}", adapter.name());
        }
        let command = match task {
            "perplexity" => format!(
                "billion perplexity --model {} {}",
                shell(&self.model.id),
                options.trim_start()
            ),
            "speculate" => format!(
                "billion speculate --target {} {}",
                shell(&self.model.id),
                options.trim_start()
            ),
            _ => format!(
                "billion bench {task} --model {} {}",
                shell(&self.model.id),
                options.trim_start()
            ),
        };
        NewRun {
            task: task.to_owned(),
            model: id,
            name,
            path: self.model.path.display().to_string(),
            sha256: self.model.sha256.clone(),
            quant: self.model.facts.quant.clone(),
            params: self.model.facts.params,
            task_version: version.to_owned(),
            shots: details.shots,
            seed: 0,
            hardware: machine::hardware_words(),
            isa: self.loaded.isa.clone(),
            threads: self.loaded.threads,
            settings,
            command: format!("{} --threads {}", command.trim_end(), self.loaded.threads),
            scorecard: place.scorecard,
            job: place.job,
        }
    }
}

/// The path as it is seen from every folder; a job may be resumed from another one.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn other_product() -> ApiError {
    ApiError::failed("the job gave another result than was asked for; please report this")
}

/// Text or a path as a shell takes it.
pub(crate) fn shell(text: impl AsRef<Path>) -> String {
    let text = text.as_ref().display().to_string();
    let plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_./:@+,=".contains(c));
    if plain && !text.is_empty() {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
