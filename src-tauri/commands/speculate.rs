//! The pair lab: pairs known and checked, measurements started and shown. Their jobs are `bench`'s, their runs `results`'.

use billion_workbench::Workbench;
use billion_workbench::api::{
    ApiError, Drafter, Job, KnownPair, LabPrompt, PairCheck, Speculation, SpeculationRequest,
};

use super::{Bench, blocking};

/// Pairs of the catalogue, those on this machine first.
#[tauri::command]
#[specta::specta]
pub async fn known_pairs(workbench: Bench<'_>) -> Result<Vec<KnownPair>, ApiError> {
    blocking(&workbench, |bench| bench.known_pairs()).await
}

/// Whether a target and a draft can work together, token by token.
#[tauri::command]
#[specta::specta]
pub async fn check_pair(
    workbench: Bench<'_>,
    target: String,
    drafter: Drafter,
) -> Result<PairCheck, ApiError> {
    blocking(&workbench, move |bench| bench.check_pair(&target, &drafter)).await
}

/// The prompts of the lab.
#[tauri::command]
#[specta::specta]
pub async fn lab_prompts() -> Vec<LabPrompt> {
    Workbench::lab_prompts()
}

/// Measures a pair in the background.
#[tauri::command]
#[specta::specta]
pub async fn start_speculation(
    workbench: Bench<'_>,
    request: SpeculationRequest,
) -> Result<Job, ApiError> {
    blocking(&workbench, move |bench| bench.start_speculation(&request)).await
}

/// A measured pair, by its run.
#[tauri::command]
#[specta::specta]
pub async fn load_speculation(workbench: Bench<'_>, run: u32) -> Result<Speculation, ApiError> {
    blocking(&workbench, move |bench| bench.speculation(run)).await
}
