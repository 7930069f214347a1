//! The person's settings, and what this machine and program are.

use billion_workbench::api::{About, ApiError, Settings};

use super::{Bench, blocking};

/// The person's settings.
#[tauri::command]
#[specta::specta]
pub async fn settings(workbench: Bench<'_>) -> Result<Settings, ApiError> {
    blocking(&workbench, |bench| bench.settings()).await
}

/// Keeps the person's settings.
#[tauri::command]
#[specta::specta]
pub async fn save_settings(workbench: Bench<'_>, settings: Settings) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.save_settings(&settings)).await
}

/// The machine and the program.
#[tauri::command]
#[specta::specta]
pub async fn about(workbench: Bench<'_>) -> Result<About, ApiError> {
    blocking(&workbench, |bench| bench.about()).await
}
