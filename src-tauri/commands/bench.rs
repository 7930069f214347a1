//! Scorecards, single benchmarks, and the jobs that make them.

use billion_workbench::api::{ApiError, BenchRequest, Job, ScorecardForecast, ScorecardRequest};
use tauri::ipc::Channel;

use super::{Bench, blocking};

/// What each size of scorecard would cost and how sure it would be.
#[tauri::command]
#[specta::specta]
pub async fn forecast_scorecards(
    workbench: Bench<'_>,
    models: Vec<String>,
    stop_at_half_width: Option<f64>,
) -> Result<Vec<ScorecardForecast>, ApiError> {
    blocking(&workbench, move |bench| {
        bench.forecast_scorecards(&models, stop_at_half_width)
    })
    .await
}

/// Starts a scorecard in the background.
#[tauri::command]
#[specta::specta]
pub async fn start_scorecard(
    workbench: Bench<'_>,
    request: ScorecardRequest,
) -> Result<Job, ApiError> {
    blocking(&workbench, move |bench| bench.start_scorecard(&request)).await
}

/// Starts one task with all its options in the background.
#[tauri::command]
#[specta::specta]
pub async fn start_bench(workbench: Bench<'_>, request: BenchRequest) -> Result<Job, ApiError> {
    blocking(&workbench, move |bench| bench.start_bench(&request)).await
}

/// All jobs that were not dismissed, the latest first.
#[tauri::command]
#[specta::specta]
pub async fn list_jobs(workbench: Bench<'_>) -> Result<Vec<Job>, ApiError> {
    blocking(&workbench, |bench| bench.jobs()).await
}

/// Sends all jobs now and at each change.
#[tauri::command]
#[specta::specta]
pub async fn watch_jobs(workbench: Bench<'_>, events: Channel<Vec<Job>>) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| {
        bench.watch_jobs(Box::new(move |jobs| drop(events.send(jobs))));
        Ok(())
    })
    .await
}

/// Cancels a job; what it has measured is kept.
#[tauri::command]
#[specta::specta]
pub async fn cancel_job(workbench: Bench<'_>, id: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.cancel_job(id)).await
}

/// Pauses a job until it is resumed.
#[tauri::command]
#[specta::specta]
pub async fn pause_job(workbench: Bench<'_>, id: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.pause_job(id)).await
}

/// Goes on with a paused, interrupted, failed or cancelled job where it stopped.
#[tauri::command]
#[specta::specta]
pub async fn resume_job(workbench: Bench<'_>, id: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.resume_job(id)).await
}

/// Takes an ended job off the list.
#[tauri::command]
#[specta::specta]
pub async fn dismiss_job(workbench: Bench<'_>, id: u32) -> Result<(), ApiError> {
    blocking(&workbench, move |bench| bench.dismiss_job(id)).await
}
