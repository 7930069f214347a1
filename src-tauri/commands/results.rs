//! What was measured: scorecards and runs, from the store.

use billion_workbench::api::{
    ApiError, ChartData, ExportRequest, Exported, ModelIdentity, RunComparison, RunDetails,
    RunSummary, Scorecard, ScorecardHead,
};

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

/// Two runs of the same task beside each other.
#[tauri::command]
#[specta::specta]
pub async fn compare_runs(workbench: Bench<'_>, a: u32, b: u32) -> Result<RunComparison, ApiError> {
    blocking(&workbench, move |bench| bench.compare_runs(a, b)).await
}

/// Writes a scorecard or runs to a file.
#[tauri::command]
#[specta::specta]
pub async fn export_results(
    workbench: Bench<'_>,
    request: ExportRequest,
) -> Result<Exported, ApiError> {
    blocking(&workbench, move |bench| bench.export_results(&request)).await
}

/// What all stored runs say together, against the models' size.
#[tauri::command]
#[specta::specta]
pub async fn stored_charts(workbench: Bench<'_>) -> Result<Vec<ChartData>, ApiError> {
    blocking(&workbench, |bench| bench.stored_charts()).await
}

/// The place of each model in the order of first use, which decides its colour and marker.
#[tauri::command]
#[specta::specta]
pub async fn identities(workbench: Bench<'_>) -> Result<Vec<ModelIdentity>, ApiError> {
    blocking(&workbench, |bench| bench.identities()).await
}
