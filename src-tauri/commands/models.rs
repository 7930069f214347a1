//! Models of the library: listing, describing, importing, removing.

use std::path::PathBuf;

use billion_workbench::api::{ApiError, ModelDetails, ModelEntry};

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

/// Removes a model from the library.
#[tauri::command]
#[specta::specta]
pub async fn remove_model(workbench: Bench<'_>, id: String) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.remove_model(&id)).await
}
