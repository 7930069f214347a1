//! The commands of the window, one module for each part of it. A command parses its arguments, calls the workbench on
//! a thread that may block, and returns.

pub mod bench;
pub mod chat;
pub mod finetune;
pub mod hub;
pub mod mmlu;
pub mod models;
pub mod pages;
pub mod results;
pub mod settings;
pub mod speculate;

use std::sync::Arc;

use billion_workbench::Workbench;
use billion_workbench::api::ApiError;
use tauri::State;

/// The workbench that every command works with.
type Bench<'a> = State<'a, Arc<Workbench>>;

/// Runs `work` on a thread that may block, so that the window never waits.
async fn blocking<T: Send + 'static>(
    workbench: &Bench<'_>,
    work: impl FnOnce(&Arc<Workbench>) -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let workbench = Arc::clone(workbench);
    tauri::async_runtime::spawn_blocking(move || work(&workbench))
        .await
        .unwrap_or_else(|error| Err(ApiError::failed(format!("Billion has a defect: {error}"))))
}
