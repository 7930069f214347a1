//! `bench humaneval`: a model's own completions, another tool's, or the self-test.

use billion_workbench::{Completions, HumanEvalReport, HumanEvalRequest, Workbench};

use crate::args::HumanEval;
use crate::output;
use crate::progress::Bar;

/// Temperature of several samples, where none is given (as lm-evaluation-harness's `humaneval_64`).
const SAMPLING: f32 = 0.2;

pub fn run(workbench: &Workbench, args: HumanEval, json: bool) -> anyhow::Result<()> {
    let bar = Bar::new();
    let mut show = |progress: &_| bar.show(progress);
    let report = if let Some(model) = args.model {
        let usual = HumanEvalRequest::default();
        let n = args.n.unwrap_or(usual.n);
        let request = HumanEvalRequest {
            engine: args.engine.options(None),
            model,
            limit: args.limit,
            n,
            temperature: args.temperature.unwrap_or(if n > 1 {
                SAMPLING
            } else {
                usual.temperature
            }),
            max_tokens: args.max_tokens.unwrap_or(usual.max_tokens),
            seed: args.seed.unwrap_or(usual.seed),
            samples: args.samples,
        };
        workbench.bench_humaneval(&request, &mut show)?
    } else {
        let what = match args.completions {
            Some(file) => Completions::File(file),
            None => Completions::Canonical,
        };
        workbench.score_completions(&what, args.samples.as_deref(), &mut show)?
    };
    drop(bar);
    if json {
        output::json(&report)?;
    } else {
        self::show(&report);
    }
    if args.self_test && (report.passed != report.total || report.passed_nothing != Some(0)) {
        anyhow::bail!(
            "the self-test failed: {} of {} canonical solutions pass and {} empty ones; the verdicts of this build cannot be trusted, please report it with `billion bench humaneval --self-test --samples FILE`",
            report.passed,
            report.total,
            report.passed_nothing.unwrap_or_default()
        );
    }
    Ok(())
}

fn show(report: &HumanEvalReport) {
    let rows: Vec<Vec<String>> = report
        .verdicts
        .iter()
        .map(|(verdict, count)| vec![verdict.replace('_', " "), count.to_string()])
        .collect();
    output::table(&["VERDICT", "COMPLETIONS"], &[1], &rows);
    let of = report.model.as_deref().unwrap_or("these completions");
    let form = match report.form.as_deref() {
        Some("instruct") => ", asked through its chat template",
        Some(_) => ", asked to go on from the prompt",
        None => "",
    };
    output::print(&format!(
        "\nHumanEval pass@1 of {of}: {} (95 % interval {} to {}), {} of {} completions of {} problems pass{form}\n",
        output::percent(report.pass_at_1),
        output::percent(report.ci95[0]),
        output::percent(report.ci95[1]),
        report.passed,
        report.total,
        report.problems,
    ));
    for (k, chance) in report.pass_at_k.iter().filter(|(k, _)| **k > 1) {
        output::print(&format!("pass@{k}: {}\n", output::percent(*chance)));
    }
    if let Some(count) = report.passed_nothing {
        output::print(&format!("`return None` in their place: {count} pass\n"));
    }
    let speed = report.tokens_per_s.map_or_else(String::new, |speed| {
        format!(", written at {speed:.1} tokens/s")
    });
    let stored = report
        .run
        .map_or_else(String::new, |run| format!("; stored as run {run}"));
    output::print(&format!("{:.1} s{speed}{stored}\n", report.seconds));
}
