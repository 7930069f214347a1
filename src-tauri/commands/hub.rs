//! The Hugging Face Hub: searching it, looking a repository up, and the account.

use billion_workbench::api::{ApiError, FoundModel, HubAccount};

use super::{Bench, blocking};

/// Repositories that a keyword finds.
#[tauri::command]
#[specta::specta]
pub async fn search_models(
    workbench: Bench<'_>,
    keyword: String,
) -> Result<Vec<FoundModel>, ApiError> {
    blocking(&workbench, move |bench| bench.search_models(&keyword)).await
}

/// A repository with everything that can be fetched of it.
#[tauri::command]
#[specta::specta]
pub async fn look_up_model(workbench: Bench<'_>, text: String) -> Result<FoundModel, ApiError> {
    blocking(&workbench, move |bench| bench.look_up_model(&text)).await
}

/// What this machine knows of the person's account.
#[tauri::command]
#[specta::specta]
pub async fn hub_account(workbench: Bench<'_>) -> Result<HubAccount, ApiError> {
    blocking(&workbench, |bench| bench.hub_account()).await
}

/// The same, after the hub was asked whose the token is.
#[tauri::command]
#[specta::specta]
pub async fn check_hub_account(workbench: Bench<'_>) -> Result<HubAccount, ApiError> {
    blocking(&workbench, |bench| bench.check_hub_account()).await
}

/// Checks a token with the hub and keeps it.
#[tauri::command]
#[specta::specta]
pub async fn save_hub_token(workbench: Bench<'_>, token: String) -> Result<HubAccount, ApiError> {
    blocking(&workbench, move |bench| bench.save_hub_token(&token)).await
}

/// Removes the token that was saved here.
#[tauri::command]
#[specta::specta]
pub async fn forget_hub_token(workbench: Bench<'_>) -> Result<HubAccount, ApiError> {
    blocking(&workbench, |bench| bench.forget_hub_token()).await
}
