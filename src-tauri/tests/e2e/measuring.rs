//! Measuring in the real window: a scorecard paused, cancelled and resumed, its answers read, two runs compared, a report
//! exported, and a single benchmark with its options.

use std::time::Duration;

use crate::harness::{AFTER_WORK, SOON, Window};
use crate::look_at_every_view;

/// The scorecard that is shown has every figure it was asked for.
pub const COMPLETE: &str = "return document.querySelector('[data-testid=\"scorecard-result\"][data-complete=\"true\"]') !== null";

/// The state of the job that the tray lists first.
const FIRST_JOB: &str =
    "document.querySelector('[data-testid=\"job-tray\"] [data-state]')?.dataset.state";

/// A Quick scorecard goes on where it stopped, twice; then what it found is read, compared, and exported.
#[tokio::test]
async fn a_scorecard_survives_pause_and_cancel_and_is_read_compared_and_exported() {
    let data = tempfile::tempdir().unwrap();
    let window = Window::open(data.path()).await;
    window.wait_for("forecast-quick", SOON).await;
    window.wait_for("mmlu-source", SOON).await;
    let source = window.text("mmlu-source").await;
    assert!(
        source.contains("0-shot"),
        "the source of the questions says only {source:?}"
    );

    window.click("run-scorecard").await;
    window.wait_for("scorecard-progress", SOON).await;
    let moves = "return /[1-9]\\d*.%/.test(document.querySelector('[data-testid=\"scorecard-progress\"]')?.innerText)";
    window
        .wait("the scorecard gets on", AFTER_WORK, moves)
        .await;
    window.picture("10-progress").await;
    for (stop, state) in [
        ("scorecard-pause", "paused"),
        ("scorecard-cancel", "cancelled"),
    ] {
        window.click(stop).await;
        first_job_is(&window, state, SOON).await;
        window.wait_for("scorecard-incomplete", SOON).await;
        window.picture(&format!("11-{state}")).await;
        window.click("scorecard-resume").await;
        window.wait_for("scorecard-progress", SOON).await;
        first_job_is(&window, "running", AFTER_WORK).await;
    }
    window
        .wait("the scorecard is complete", AFTER_WORK, COMPLETE)
        .await;
    window
        .wait_until_gone("scorecard-progress", AFTER_WORK)
        .await;
    let verdicts = window.text("verdicts").await;
    assert!(
        verdicts.contains("MMLU"),
        "the verdicts say only {verdicts:?}"
    );
    window.picture("12-complete").await;

    // A report, where the person says.
    let report = data.path().join("report.html");
    window.answer_save_dialog(&report).await;
    window.click("export").await;
    window.picture("13-export-menu").await;
    window.click("export-html").await;
    window.wait_for("export-written", SOON).await;
    window.picture("14-exported").await;
    let html = std::fs::read_to_string(&report).unwrap();
    assert!(
        html.to_ascii_lowercase().starts_with("<!doctype html"),
        "the report begins with {:?}",
        html.chars().take(60).collect::<String>()
    );
    assert!(html.len() < 2_000_000, "{} bytes", html.len());

    // A wrong answer, and a program.
    window.click("nav-results").await;
    open_run(&window, "MMLU").await;
    window.click("questions-wrong").await;
    let question = window.text("question").await;
    assert!(
        question.contains("right is") && question.contains('%'),
        "a wrong answer shows only {question:?}"
    );
    window
        .run("document.querySelector('[data-testid=\"questions\"]').scrollIntoView()")
        .await;
    window.picture("15-wrong-answers").await;
    open_run(&window, "HumanEval").await;
    window.wait_for("completion", SOON).await;
    window
        .run("document.querySelector('[data-testid=\"completions\"]').scrollIntoView()")
        .await;
    window.picture("16-programs").await;

    // One task with its own options, and the two runs beside each other.
    window.click("nav-benchmarks").await;
    window.type_into("mmlu-limit", "5").await;
    window
        .run("document.querySelector('[data-testid=\"subjects\"]').open = true")
        .await;
    window.click("subject-world_religions").await;
    window.click("subject-us_foreign_policy").await;
    window.picture("17-benchmark").await;
    window.click("bench-start").await;
    let viewed = "const view = document.querySelector('[data-testid^=\"bench-view-\"]'); view?.click(); return view !== null";
    window
        .wait("the benchmark is done", AFTER_WORK, viewed)
        .await;
    window.wait_for("run-details", SOON).await;
    let headline = window.text("run-details").await;
    assert!(
        headline.contains("10"),
        "ten questions were asked for, the run says {headline:?}"
    );
    window
        .run(
            "[...document.querySelectorAll('[data-testid=\"results-list\"] li')]\
             .filter((run) => run.innerText.trim().startsWith('MMLU')).slice(0, 2)\
             .forEach((run) => run.querySelector('input').click())",
        )
        .await;
    window.click("compare-runs").await;
    window.wait_for("comparison-rows", SOON).await;
    window.picture("18-compared").await;
    let verdict = window.text("comparison").await;
    assert!(
        verdict.contains("both answered"),
        "the comparison says only {verdict:?}"
    );
    look_at_every_view(&window).await;
    window.close().await;
}

async fn first_job_is(window: &Window, state: &str, limit: Duration) {
    let is = format!("return {FIRST_JOB} === '{state}'");
    window
        .wait(&format!("the job is {state}"), limit, &is)
        .await;
}

/// Opens the first listed run of a task.
async fn open_run(window: &Window, task: &str) {
    let click = format!(
        "const run = [...document.querySelectorAll('[data-testid=\"results-list\"] button')]\
         .find((run) => run.innerText.startsWith('{task}')); run?.click(); return run !== undefined"
    );
    window
        .wait(&format!("a run of {task} is listed"), SOON, &click)
        .await;
    let shown = format!(
        "return document.querySelector('[data-testid=\"run-details\"] h2')?.innerText.startsWith('{task}')"
    );
    window
        .wait(&format!("the run of {task} is open"), SOON, &shown)
        .await;
}
