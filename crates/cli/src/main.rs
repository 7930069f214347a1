//! The `billion` binary: the command line of cli.md over `billion-workbench`, and the engine worker under
//! `--engine-worker`.
//!
//! It parses arguments and shows results; every use case is the workbench's. One JSON document or a table goes to standard
//! output, everything else to standard error. Exit status: 0 done, 1 failed, 2 wrong usage, 130 cancelled.

mod args;
mod commands;
mod engine_worker;
mod output;
mod progress;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use billion_workbench::api::{ApiError, ErrorCode};
use billion_workbench::{OpenOptions, Workbench};
use clap::Parser as _;
use clap::error::ErrorKind;

use args::Cli;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CANCELLED: u8 = 130;

fn main() -> ExitCode {
    if let Some(status) = engine_worker::run_if_asked() {
        return status;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help) if help.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::say(help.to_string().trim_end());
            return ExitCode::from(USAGE);
        }
        Err(error) if error.use_stderr() => {
            output::say(&usage_line(&error));
            return ExitCode::from(USAGE);
        }
        Err(help) => {
            output::print(&help.to_string());
            return ExitCode::SUCCESS;
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let status = match error.downcast_ref::<ApiError>() {
                Some(api) if api.code == ErrorCode::Cancelled => CANCELLED,
                _ => FAILED,
            };
            output::say(&output::one_line(&format!("error: {error:#}")));
            ExitCode::from(status)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let workbench = Workbench::open(OpenOptions::default())?;
    let foreground = workbench.clone();
    let asked = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        let twice = asked.swap(true, Ordering::SeqCst);
        if twice || !commands::chat::busy() || !foreground.cancel() {
            // Asked twice, or nothing is under way that could end by itself.
            output::say("error: cancelled");
            std::process::exit(i32::from(CANCELLED));
        }
        if commands::chat::interactive() {
            // Only the reply ends; the next Ctrl-C begins anew.
            asked.store(false, Ordering::SeqCst);
        }
    })
    .context("cannot watch for Ctrl-C")?;
    commands::run(&workbench, cli)
}

/// The gist of clap's message in one line.
fn usage_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let gist: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    output::one_line(&format!("{}; see billion --help", gist.join(" ")))
}
