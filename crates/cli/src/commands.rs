//! One module a group of commands. Each calls the workbench and shows what comes back.

mod bench;
pub mod chat;
mod convert;
mod finetune;
mod humaneval;
mod models;
mod results;
mod scorecard;
mod speculate;

use std::sync::Arc;

use billion_workbench::Workbench;

use crate::args::{Cli, Command};

/// Runs the command that was asked for.
pub fn run(workbench: &Arc<Workbench>, cli: Cli) -> anyhow::Result<()> {
    let json = cli.json;
    match cli.command {
        Command::Models(command) => models::run(workbench, command, json),
        Command::Chat(args) => chat::run(workbench, &args, json),
        Command::Perplexity(args) => bench::perplexity(workbench, args, json),
        Command::Convert(args) => convert::run(workbench, args, json),
        Command::Finetune(args) => finetune::run(workbench, &args, json),
        Command::Speculate(args) => speculate::run(workbench, &args, json),
        Command::Bench(command) => bench::run(workbench, command, json),
        Command::Scorecard(args) => scorecard::run(workbench, &args, json),
        Command::Results(command) => results::run(workbench, &command, json),
    }
}
