//! Where MMLU's questions come from.

use std::path::PathBuf;

use billion_workbench::api::{ApiError, Job, MmluSource, MmluSubject};

use super::{Bench, blocking};

/// The questions that scorecards use now.
#[tauri::command]
#[specta::specta]
pub async fn mmlu_source(workbench: Bench<'_>) -> Result<MmluSource, ApiError> {
    blocking(&workbench, |bench| bench.mmlu_source()).await
}

/// Checks the official folder, archive or parquet files, and uses them from now on.
#[tauri::command]
#[specta::specta]
pub async fn use_mmlu(workbench: Bench<'_>, path: PathBuf) -> Result<MmluSource, ApiError> {
    blocking(&workbench, move |bench| bench.use_mmlu(&path)).await
}

/// Uses the questions of the starter pack again.
#[tauri::command]
#[specta::specta]
pub async fn use_starter_mmlu(workbench: Bench<'_>) -> Result<MmluSource, ApiError> {
    blocking(&workbench, |bench| bench.use_starter_mmlu()).await
}

/// Downloads `cais/mmlu` in the background, and uses it when it is here.
#[tauri::command]
#[specta::specta]
pub async fn fetch_mmlu(workbench: Bench<'_>) -> Result<Job, ApiError> {
    blocking(&workbench, billion_workbench::Workbench::fetch_mmlu).await
}

/// The subjects and their groups, in order.
#[tauri::command]
#[specta::specta]
pub async fn mmlu_subjects(workbench: Bench<'_>) -> Result<Vec<MmluSubject>, ApiError> {
    blocking(&workbench, |bench| Ok(bench.mmlu_subjects())).await
}
