//! The `billion-cuda` binary: the engine worker of `--device cuda`, and nothing else. `billion` starts the one beside it.

mod engine_worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    engine_worker::run_if_asked().unwrap_or_else(|| {
        eprintln!(
            "billion-cuda is the engine that billion starts for --device cuda; keep it beside billion and run that"
        );
        ExitCode::from(2)
    })
}
