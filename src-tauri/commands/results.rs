//! What was measured: scorecards and runs, from the store.

use billion_workbench::api::{ApiError, RunDetails, RunSummary, Scorecard, ScorecardHead};

use super::{Bench, blocking};

/// All scorecards, the latest first.
#[tauri::command]
#[specta::specta]
pub async fn list_scorecards(workbench: Bench<'_>) -> Result<Vec<ScorecardHead>, ApiError> {
    blocking(&workbench, |bench| bench.scorecards()).await
}

/// A scorecard, drawn from the store.
#[tauri::command]
#[specta::specta]
pub async fn load_scorecard(workbench: Bench<'_>, id: u32) -> Result<Scorecard, ApiError> {
    blocking(&workbench, move |bench| bench.scorecard(id)).await
}

/// All runs, the latest first.
#[tauri::command]
#[specta::specta]
pub async fn list_runs(workbench: Bench<'_>) -> Result<Vec<RunSummary>, ApiError> {
    blocking(&workbench, |bench| bench.runs()).await
}

/// A run with all it holds.
#[tauri::command]
#[specta::specta]
pub async fn run_details(workbench: Bench<'_>, id: u32) -> Result<RunDetails, ApiError> {
    blocking(&workbench, move |bench| bench.run_details(id)).await
}

/// Deletes a run.
#[tauri::command]
#[specta::specta]
pub async fn delete_run(workbench: Bench<'_>, id: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.delete_run(id)).await
}
