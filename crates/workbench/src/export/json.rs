//! JSON: everything the store holds of the runs, their answers and completions, and the scorecard as people see it.

use serde::Serialize;
use serde_json::Value;

use super::bundle::{Bundle, RunContents};
use crate::api::{AnsweredQuestion, ApiError, ChartData, JudgedCompletion, Scorecard};

/// Raised when a field changes its meaning or goes.
const FORMAT: &str = "billion results 1";

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    app_version: &'static str,
    exported_at: f64,
    scorecard: Option<&'a Scorecard>,
    verdicts: &'a [String],
    runs: Vec<Run<'a>>,
    charts: &'a [ChartData],
}

#[derive(Serialize)]
struct Run<'a> {
    id: u32,
    task: &'a str,
    model: &'a str,
    name: &'a str,
    path: &'a str,
    sha256: &'a str,
    quant: &'a str,
    params: u64,
    task_version: &'a str,
    shots: u32,
    seed: u32,
    hardware: &'a str,
    isa: &'a str,
    threads: u32,
    app_version: &'a str,
    ended_at: f64,
    scorecard: Option<u32>,
    settings: &'a Value,
    command: &'a str,
    report: &'a Option<Value>,
    questions: &'a [AnsweredQuestion],
    completions: &'a [JudgedCompletion],
}

/// The file.
pub(super) fn json(bundle: &Bundle, runs: &[RunContents]) -> Result<Vec<u8>, ApiError> {
    let document = Document {
        format: FORMAT,
        app_version: env!("CARGO_PKG_VERSION"),
        exported_at: crate::machine::now(),
        scorecard: bundle.scorecard.as_ref(),
        verdicts: &bundle.verdicts,
        runs: runs.iter().map(run).collect(),
        charts: &bundle.charts,
    };
    let mut text = serde_json::to_vec_pretty(&document)
        .map_err(|error| ApiError::failed(format!("the JSON cannot be made: {error}")))?;
    text.push(b'\n');
    Ok(text)
}

fn run(contents: &RunContents) -> Run<'_> {
    let row = &contents.row;
    let run = &row.run;
    Run {
        id: row.id,
        task: &run.task,
        model: &run.model,
        name: &run.name,
        path: &run.path,
        sha256: &run.sha256,
        quant: &run.quant,
        params: run.params,
        task_version: &run.task_version,
        shots: run.shots,
        seed: run.seed,
        hardware: &run.hardware,
        isa: &run.isa,
        threads: run.threads,
        app_version: &row.app_version,
        ended_at: row.created_at,
        scorecard: run.scorecard,
        settings: &run.settings,
        command: &run.command,
        report: &row.report,
        questions: &contents.questions,
        completions: &contents.completions,
    }
}
