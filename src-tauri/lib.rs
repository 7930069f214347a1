//! The desktop shell: one window over `billion_workbench`. It owns the window and the list of commands, no logic.
//!
//! Heavy work runs in `billion --engine-worker` processes, which end at the end of their input: when the window closes,
//! this process ends and they end with it.

mod commands;

use std::process::ExitCode;
use std::sync::Arc;

use billion_workbench::api::ApiError;
use billion_workbench::{OpenOptions, Workbench};
use specta_typescript::semantic;
use tauri::{AppHandle, Manager, WebviewWindowBuilder};
use tauri_plugin_dialog::{DialogExt, MessageDialogKind};
use tauri_specta::{ErrorHandlingMode, collect_commands};

/// Every command of the window and the types they exchange: what serves them, and what `ui/src/ipc/bindings.ts` is
/// generated from.
pub fn bindings() -> tauri_specta::Builder<tauri::Wry> {
    use commands::{bench, chat, finetune, hub, mmlu, models, pages, results, settings, speculate};
    tauri_specta::Builder::new()
        .error_handling(ErrorHandlingMode::Throw)
        // Sizes in bytes and counts of parameters are below 2^53 and cross as JSON numbers.
        .dangerously_cast_bigints_to_number()
        // No figure of the workbench is infinite or not a number; an absent one is an Option.
        .semantic_types(semantic::Configuration::empty().enable_lossless_floats())
        .disable_serde_phases()
        .commands(collect_commands![
            models::list_models,
            models::model_details,
            models::import_model,
            models::remove_model,
            models::disk_usage,
            models::model_fit,
            models::what_runs_here,
            models::advice,
            models::plan_downloads,
            models::start_download,
            models::start_contenders,
            models::quant_choices,
            models::start_convert,
            models::checkpoints,
            models::start_time_lapse,
            models::time_lapses,
            models::time_lapse,
            hub::search_models,
            hub::look_up_model,
            hub::hub_account,
            hub::check_hub_account,
            hub::save_hub_token,
            hub::forget_hub_token,
            pages::open_page,
            chat::list_chats,
            chat::load_chat,
            chat::delete_chat,
            chat::send_chat,
            chat::stop_chat,
            bench::forecast_scorecards,
            bench::start_scorecard,
            bench::start_bench,
            bench::list_jobs,
            bench::watch_jobs,
            bench::cancel_job,
            bench::pause_job,
            bench::resume_job,
            bench::dismiss_job,
            mmlu::mmlu_source,
            mmlu::use_mmlu,
            mmlu::use_starter_mmlu,
            mmlu::fetch_mmlu,
            mmlu::mmlu_subjects,
            finetune::finetune_defaults,
            finetune::look_at_dataset,
            finetune::sample_dataset,
            finetune::forecast_finetune,
            finetune::start_finetune,
            finetune::list_finetunes,
            finetune::load_finetune,
            finetune::delete_finetune,
            finetune::export_adapter,
            finetune::open_adapter_folder,
            speculate::known_pairs,
            speculate::check_pair,
            speculate::lab_prompts,
            speculate::start_speculation,
            speculate::load_speculation,
            results::list_scorecards,
            results::load_scorecard,
            results::list_runs,
            results::run_details,
            results::delete_run,
            results::compare_runs,
            results::export_results,
            results::stored_charts,
            results::identities,
            settings::settings,
            settings::save_settings,
            settings::about,
        ])
}

/// Opens the window and returns when it is closed.
pub fn run() -> ExitCode {
    let app = tauri::Builder::default()
        .plugin(tauri_plugin_dialog::init())
        .invoke_handler(bindings().invoke_handler())
        .setup(|app| {
            match open_workbench(app.handle()) {
                Ok(workbench) => {
                    go_on(&workbench);
                    app.manage(workbench);
                    open_window(app.handle())?;
                }
                Err(error) => say_why_not(app.handle(), &error),
            }
            Ok(())
        })
        .build(tauri::generate_context!());
    match app {
        Ok(app) => ExitCode::from(app.run_return(|_, _| {}).clamp(0, 255) as u8),
        Err(error) => {
            eprintln!("Billion cannot open its window: {error}");
            ExitCode::FAILURE
        }
    }
}

fn open_workbench(app: &AppHandle) -> Result<Arc<Workbench>, ApiError> {
    Workbench::open(OpenOptions {
        resource_dir: app.path().resource_dir().ok(),
        ..OpenOptions::default()
    })
}

/// Goes on with the downloads that the last session left. What cannot go on now shows as interrupted.
fn go_on(workbench: &Arc<Workbench>) {
    if let Err(error) = workbench.continue_downloads() {
        eprintln!("Downloads of the last session do not go on: {error}");
    }
}

/// The window of tauri.conf.json, made only once there is a workbench for its commands.
fn open_window(app: &AppHandle) -> tauri::Result<()> {
    for window in &app.config().app.windows {
        WebviewWindowBuilder::from_config(app, window)?.build()?;
    }
    Ok(())
}

/// Tells the person why there is no window; the app ends when they have read it.
fn say_why_not(app: &AppHandle, error: &ApiError) {
    eprintln!("Billion cannot start: {error}");
    let ended = app.clone();
    app.dialog()
        .message(&error.message)
        .title("Billion cannot start")
        .kind(MessageDialogKind::Error)
        .show(move |_| ended.exit(1));
}
