//! Models: listing, describing, importing, removing, how they fit, which to choose, their downloads, and the
//! checkpoints of a training.

use std::path::PathBuf;

use billion_workbench::api::{
    Advice, ApiError, ConvertRequest, DiskUsage, DownloadPlan, Fit, Job, ModelDetails, ModelEntry,
    QuantChoice, RunsHere, TimeLapse, TimeLapseHead, TimeLapseRequest,
};

use super::{Bench, blocking};

/// All known models, installed ones first.
#[tauri::command]
#[specta::specta]
pub async fn list_models(workbench: Bench<'_>) -> Result<Vec<ModelEntry>, ApiError> {
    blocking(&workbench, |bench| bench.models()).await
}

/// Everything known of an installed model.
#[tauri::command]
#[specta::specta]
pub async fn model_details(workbench: Bench<'_>, id: String) -> Result<ModelDetails, ApiError> {
    blocking(&workbench, move |bench| bench.model_details(&id)).await
}

/// Adds a model file or folder to the library.
#[tauri::command]
#[specta::specta]
pub async fn import_model(workbench: Bench<'_>, path: PathBuf) -> Result<ModelEntry, ApiError> {
    blocking(&workbench, move |bench| bench.import_model(&path)).await
}

/// Removes a model and its files.
#[tauri::command]
#[specta::specta]
pub async fn remove_model(workbench: Bench<'_>, id: String) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.remove_model(&id)).await
}

/// What models take on the disk.
#[tauri::command]
#[specta::specta]
pub async fn disk_usage(workbench: Bench<'_>) -> Result<DiskUsage, ApiError> {
    blocking(&workbench, |bench| bench.disk_usage()).await
}

/// Whether a model fits with so many tokens of context.
#[tauri::command]
#[specta::specta]
pub async fn model_fit(
    workbench: Bench<'_>,
    id: String,
    context: Option<u32>,
) -> Result<Fit, ApiError> {
    blocking(&workbench, move |bench| bench.model_fit(&id, context)).await
}

/// The contenders against kinds of machine.
#[tauri::command]
#[specta::specta]
pub async fn what_runs_here(workbench: Bench<'_>) -> Result<RunsHere, ApiError> {
    blocking(&workbench, |bench| bench.what_runs_here()).await
}

/// "Which should I choose?".
#[tauri::command]
#[specta::specta]
pub async fn advice(workbench: Bench<'_>) -> Result<Vec<Advice>, ApiError> {
    blocking(&workbench, |bench| bench.advice()).await
}

/// What downloads of these models would take.
#[tauri::command]
#[specta::specta]
pub async fn plan_downloads(
    workbench: Bench<'_>,
    references: Vec<String>,
) -> Result<DownloadPlan, ApiError> {
    blocking(&workbench, move |bench| bench.plan_downloads(&references)).await
}

/// Starts the download of a model, or goes on with it.
#[tauri::command]
#[specta::specta]
pub async fn start_download(workbench: Bench<'_>, reference: String) -> Result<Job, ApiError> {
    blocking(&workbench, move |bench| bench.start_download(&reference)).await
}

/// Starts the downloads of the article's four models.
#[tauri::command]
#[specta::specta]
pub async fn start_contenders(workbench: Bench<'_>) -> Result<Vec<Job>, ApiError> {
    blocking(&workbench, billion_workbench::Workbench::start_contenders).await
}

/// Training steps whose checkpoints can be had.
#[tauri::command]
#[specta::specta]
pub async fn checkpoints(workbench: Bench<'_>, model: String) -> Result<Vec<u32>, ApiError> {
    blocking(&workbench, move |bench| bench.checkpoints(&model)).await
}

/// Looks at a model over its training, in the background.
#[tauri::command]
#[specta::specta]
pub async fn start_time_lapse(
    workbench: Bench<'_>,
    request: TimeLapseRequest,
) -> Result<Job, ApiError> {
    blocking(&workbench, move |bench| bench.start_time_lapse(&request)).await
}

/// All time-lapses, the latest first.
#[tauri::command]
#[specta::specta]
pub async fn time_lapses(workbench: Bench<'_>) -> Result<Vec<TimeLapseHead>, ApiError> {
    blocking(&workbench, |bench| bench.time_lapses()).await
}

/// A time-lapse with what there is of it so far.
#[tauri::command]
#[specta::specta]
pub async fn time_lapse(workbench: Bench<'_>, id: u32) -> Result<TimeLapse, ApiError> {
    blocking(&workbench, move |bench| bench.time_lapse(id)).await
}

/// The formats that a model can be written in.
#[tauri::command]
#[specta::specta]
pub async fn quant_choices(
    workbench: Bench<'_>,
    model: String,
) -> Result<Vec<QuantChoice>, ApiError> {
    blocking(&workbench, move |bench| bench.quant_choices(&model)).await
}

/// Quantizes a model in the background.
#[tauri::command]
#[specta::specta]
pub async fn start_convert(workbench: Bench<'_>, request: ConvertRequest) -> Result<Job, ApiError> {
    blocking(&workbench, move |bench| bench.start_convert(&request)).await
}
