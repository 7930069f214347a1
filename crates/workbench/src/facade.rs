//! `Workbench`: everything a shell can ask for, one method each. It only hands on to the modules that own the work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::api::{
    About, ApiError, Chat, ChatEvent, ChatSend, ChatSummary, Job, ModelDetails, ModelEntry, Reply,
    RunDetails, RunSummary, Scorecard, ScorecardForecast, ScorecardHead, ScorecardRequest,
    Settings,
};
use crate::reports::{MemoryReport, MmluReport, PerplexityReport, SpeedReport};
use crate::requests::{
    EngineOptions, JobProgress, MemoryRequest, MmluRequest, PerplexityRequest, ReplyRequest,
    SpeedRequest,
};

/// Where things are; the default finds everything itself.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// Where everything is stored; none takes `BILLION_DATA`, or else the platform's data folder and "billion".
    pub data_dir: Option<PathBuf>,
    /// The `billion` executable; none takes this executable if it is `billion`, or else the one beside it.
    pub engine: Option<PathBuf>,
    /// Folder of the app's resources, which holds the starter pack.
    pub resource_dir: Option<PathBuf>,
}

/// The product's use cases over one store. Window and command line may each hold one over the same store.
#[derive(Debug)]
pub struct Workbench {}

fn absent<T>(what: &str) -> Result<T, ApiError> {
    Err(ApiError::failed(format!("{what} is not available yet")))
}

#[allow(unused_variables, clippy::unused_self, clippy::needless_pass_by_value)]
impl Workbench {
    /// Opens the store, making it if there is none.
    pub fn open(options: OpenOptions) -> Result<Arc<Self>, ApiError> {
        absent("the store")
    }

    /// All known models, installed ones first.
    pub fn models(&self) -> Result<Vec<ModelEntry>, ApiError> {
        absent("the library")
    }

    /// Everything known of an installed model.
    pub fn model_details(&self, id: &str) -> Result<ModelDetails, ApiError> {
        absent("the library")
    }

    /// Adds a model file or folder to the library.
    pub fn import_model(&self, path: &Path) -> Result<ModelEntry, ApiError> {
        absent("the library")
    }

    /// Removes a model from the library.
    pub fn remove_model(&self, id: &str) -> Result<(), ApiError> {
        absent("the library")
    }

    /// Stored chats whose title or text holds `search`, the latest first; empty finds all.
    pub fn chats(&self, search: &str) -> Result<Vec<ChatSummary>, ApiError> {
        absent("the chat history")
    }

    /// A stored chat.
    pub fn chat(&self, id: u32) -> Result<Chat, ApiError> {
        absent("the chat history")
    }

    /// Deletes a stored chat.
    pub fn delete_chat(&self, id: u32) -> Result<(), ApiError> {
        absent("the chat history")
    }

    /// Stores what is sent and lets every model answer, one after the other; returns when all have.
    pub fn send_chat(
        &self,
        send: &ChatSend,
        on_event: &mut dyn FnMut(ChatEvent),
    ) -> Result<(), ApiError> {
        absent("the chat")
    }

    /// Ends the answers of a chat; what was said so far is kept.
    pub fn stop_chat(&self, chat: u32) -> Result<(), ApiError> {
        absent("the chat")
    }

    /// A reply that is not stored.
    pub fn reply(
        &self,
        request: &ReplyRequest,
        on_text: &mut dyn FnMut(&str),
    ) -> Result<Reply, ApiError> {
        absent("the chat")
    }

    /// Runs MMLU and stores the run.
    pub fn bench_mmlu(
        &self,
        request: &MmluRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MmluReport, ApiError> {
        absent("MMLU")
    }

    /// Measures speed and stores the run.
    pub fn bench_speed(
        &self,
        request: &SpeedRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<SpeedReport, ApiError> {
        absent("the speed run")
    }

    /// Measures memory in a fresh process and stores the run.
    pub fn bench_memory(
        &self,
        request: &MemoryRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<MemoryReport, ApiError> {
        absent("the memory run")
    }

    /// Measures perplexity and stores the run.
    pub fn perplexity(
        &self,
        request: &PerplexityRequest,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<PerplexityReport, ApiError> {
        absent("perplexity")
    }

    /// Makes a scorecard and returns when it is done.
    pub fn run_scorecard(
        &self,
        request: &ScorecardRequest,
        engine: &EngineOptions,
        on_progress: &mut dyn FnMut(&JobProgress),
    ) -> Result<Scorecard, ApiError> {
        absent("the scorecard")
    }

    /// What each size of scorecard would cost and how sure it would be.
    pub fn forecast_scorecards(
        &self,
        models: &[String],
    ) -> Result<Vec<ScorecardForecast>, ApiError> {
        absent("the forecast")
    }

    /// Starts a scorecard in the background.
    pub fn start_scorecard(self: &Arc<Self>, request: &ScorecardRequest) -> Result<Job, ApiError> {
        absent("the scorecard")
    }

    /// All jobs that were not dismissed, the latest first.
    pub fn jobs(&self) -> Result<Vec<Job>, ApiError> {
        absent("the jobs")
    }

    /// Cancels a job; what it has measured is kept.
    pub fn cancel_job(&self, id: u32) -> Result<(), ApiError> {
        absent("the jobs")
    }

    /// Goes on with an interrupted, failed or cancelled job where it stopped.
    pub fn resume_job(self: &Arc<Self>, id: u32) -> Result<(), ApiError> {
        absent("the jobs")
    }

    /// Takes an ended job off the list.
    pub fn dismiss_job(&self, id: u32) -> Result<(), ApiError> {
        absent("the jobs")
    }

    /// Calls `on_change` with all jobs now and at each change, at most 20 times a second.
    pub fn watch_jobs(&self, on_change: Box<dyn Fn(Vec<Job>) + Send + Sync>) {}

    /// All scorecards, the latest first.
    pub fn scorecards(&self) -> Result<Vec<ScorecardHead>, ApiError> {
        absent("the results")
    }

    /// A scorecard, drawn from the store.
    pub fn scorecard(&self, id: u32) -> Result<Scorecard, ApiError> {
        absent("the results")
    }

    /// All runs, the latest first.
    pub fn runs(&self) -> Result<Vec<RunSummary>, ApiError> {
        absent("the results")
    }

    /// A run with all it holds.
    pub fn run_details(&self, id: u32) -> Result<RunDetails, ApiError> {
        absent("the results")
    }

    /// Deletes a run.
    pub fn delete_run(&self, id: u32) -> Result<(), ApiError> {
        absent("the results")
    }

    /// The person's settings.
    pub fn settings(&self) -> Result<Settings, ApiError> {
        absent("the settings")
    }

    /// Keeps the person's settings.
    pub fn save_settings(&self, settings: &Settings) -> Result<(), ApiError> {
        absent("the settings")
    }

    /// The machine and the program.
    pub fn about(&self) -> Result<About, ApiError> {
        absent("the description of this machine")
    }

    /// Ends the foreground work (Ctrl-C on the command line).
    pub fn cancel(&self) {}
}

/// The main loop of `billion --engine-worker` over stdin and stdout; returns the exit status.
pub fn run_engine_worker() -> i32 {
    eprintln!("the engine worker is not available yet");
    1
}
