//! The engine worker under `--engine-worker`, the same in every executable.

use std::process::ExitCode;

/// Serves as the engine if the arguments ask for it.
pub fn run_if_asked() -> Option<ExitCode> {
    if std::env::args_os().nth(1)? != "--engine-worker" {
        return None;
    }
    // A terminal interrupts its whole foreground group. What a worker does then is its parent's to say: it is asked
    // to cancel, and its input ends when the parent does. Where this is refused the worker ends, which is a cancel too.
    let _ = ctrlc::set_handler(|| {});
    let status = billion_workbench::run_engine_worker();
    Some(ExitCode::from(u8::try_from(status).unwrap_or(1)))
}
