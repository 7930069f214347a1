//! Fine-tuning: datasets looked at, trainings forecast, started, shown, exported and deleted. Their jobs are `bench`'s.

use std::path::PathBuf;

use billion_workbench::api::{
    ApiError, DatasetLook, DatasetOptions, Exported, Finetune, FinetuneDefaults, FinetuneForecast,
    FinetuneHead, FinetuneRequest, Job,
};
use billion_workbench::{EngineOptions, Workbench};

use super::pages::open;
use super::{Bench, blocking};

/// What a training on so many rows begins with.
#[tauri::command]
#[specta::specta]
pub async fn finetune_defaults(rows: Option<u32>) -> FinetuneDefaults {
    Workbench::finetune_defaults(rows)
}

/// A dataset as a model would see it.
#[tauri::command]
#[specta::specta]
pub async fn look_at_dataset(
    workbench: Bench<'_>,
    model: String,
    data: String,
    options: DatasetOptions,
) -> Result<DatasetLook, ApiError> {
    blocking(&workbench, move |bench| {
        bench.look_at_dataset(&model, &data, &options)
    })
    .await
}

/// The file of the dataset that comes with Billion.
#[tauri::command]
#[specta::specta]
pub async fn sample_dataset(workbench: Bench<'_>) -> Result<String, ApiError> {
    blocking(&workbench, |bench| bench.sample_dataset()).await
}

/// What training will take.
#[tauri::command]
#[specta::specta]
pub async fn forecast_finetune(
    workbench: Bench<'_>,
    request: FinetuneRequest,
) -> Result<FinetuneForecast, ApiError> {
    blocking(&workbench, move |bench| {
        bench.forecast_finetune(&request, &EngineOptions::default())
    })
    .await
}

/// Trains in the background.
#[tauri::command]
#[specta::specta]
pub async fn start_finetune(
    workbench: Bench<'_>,
    request: FinetuneRequest,
) -> Result<Job, ApiError> {
    blocking(&workbench, move |bench| bench.start_finetune(&request)).await
}

/// All fine-tunings, the latest first.
#[tauri::command]
#[specta::specta]
pub async fn list_finetunes(workbench: Bench<'_>) -> Result<Vec<FinetuneHead>, ApiError> {
    blocking(&workbench, |bench| bench.finetunes()).await
}

/// A fine-tuning with all that is known of it now.
#[tauri::command]
#[specta::specta]
pub async fn load_finetune(workbench: Bench<'_>, id: u32) -> Result<Finetune, ApiError> {
    blocking(&workbench, move |bench| bench.finetune_details(id)).await
}

/// Deletes a fine-tuning with its checkpoints and its adapter.
#[tauri::command]
#[specta::specta]
pub async fn delete_finetune(workbench: Bench<'_>, id: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.delete_finetune(id)).await
}

/// Copies an adapter into a folder.
#[tauri::command]
#[specta::specta]
pub async fn export_adapter(
    workbench: Bench<'_>,
    id: u32,
    folder: PathBuf,
) -> Result<Exported, ApiError> {
    blocking(&workbench, move |bench| bench.export_adapter(id, &folder)).await
}

/// Shows the folder of an adapter in the system's own program for files.
#[tauri::command]
#[specta::specta]
pub async fn open_adapter_folder(workbench: Bench<'_>, id: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| {
        open(&bench.adapter_folder(id)?.display().to_string())
    })
    .await
}
