//! `bench mmlu`, `bench speed`, `bench memory`, `bench energy` and `perplexity`.

use billion_workbench::reports::{MmluPart, Spread};
use billion_workbench::{
    EnergyReport, EnergyRequest, MemoryRequest, MmluReport, MmluRequest, PerplexityRequest,
    SpeedRequest, Workbench,
};

use crate::args::{Bench, Energy, Memory, Mmlu, Perplexity, Speed};
use crate::output;
use crate::progress::Bar;

pub fn run(workbench: &Workbench, command: Bench, json: bool) -> anyhow::Result<()> {
    match command {
        Bench::Mmlu(args) => mmlu(workbench, args, json),
        Bench::Humaneval(args) => super::humaneval::run(workbench, args, json),
        Bench::Speed(args) => speed(workbench, args, json),
        Bench::Memory(args) => memory(workbench, args, json),
        Bench::Energy(args) => energy(workbench, args, json),
    }
}

fn mmlu(workbench: &Workbench, args: Mmlu, json: bool) -> anyhow::Result<()> {
    let request = MmluRequest {
        engine: args.engine.options(None),
        model: args.model,
        shots: args.shots,
        limit: args.limit,
        subjects: args.subjects,
        data: args.data,
        stop_at_half_width: args.stop_at,
        samples: args.samples,
    };
    let bar = Bar::new();
    let report = workbench.bench_mmlu(&request, &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        return output::json(&report);
    }
    show_mmlu(&report);
    Ok(())
}

fn show_mmlu(report: &MmluReport) {
    let part = |name: &str, part: &MmluPart| {
        vec![
            name.to_owned(),
            output::percent(part.accuracy),
            part.correct.to_string(),
            part.total.to_string(),
            part.shots.map_or_else(|| "-".to_owned(), |s| s.to_string()),
        ]
    };
    let rows: Vec<Vec<String>> = report
        .by_subject
        .iter()
        .chain(&report.by_group)
        .map(|(name, figures)| part(name, figures))
        .collect();
    output::table(
        &["SUBJECT, THEN GROUP", "ACCURACY", "RIGHT", "OF", "SHOTS"],
        &[1, 2, 3, 4],
        &rows,
    );
    output::print(&format!(
        "\nMMLU of {}: {} (95 % interval {} to {}), {} of {} right, {}-shot\n{} prompt tokens in {:.1} s; stored as run {}\n",
        report.model,
        output::percent(report.accuracy),
        output::percent(report.ci95[0]),
        output::percent(report.ci95[1]),
        report.correct,
        report.total,
        report.shots,
        report.prompt_tokens_computed,
        report.seconds,
        report.run,
    ));
    notes(&report.notes);
}

fn speed(workbench: &Workbench, args: Speed, json: bool) -> anyhow::Result<()> {
    let usual = SpeedRequest::default();
    let request = SpeedRequest {
        engine: args.engine.options(None),
        model: args.model,
        prompt: args.prompt.unwrap_or(usual.prompt),
        generate: args.r#gen.unwrap_or(usual.generate),
        repeat: args.repeat.unwrap_or(usual.repeat),
        batch: args.batch.unwrap_or(usual.batch),
        depth: args.depth.unwrap_or(usual.depth),
    };
    let bar = Bar::new();
    let report = workbench.bench_speed(&request, &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        return output::json(&report);
    }
    let spread = |what: &str, spread: &Spread| {
        let figure = |value: f64| format!("{value:.1}");
        vec![
            what.to_owned(),
            figure(spread.median),
            figure(spread.min),
            figure(spread.max),
            spread.runs.len().to_string(),
        ]
    };
    output::table(
        &["TOKENS/S", "MEDIAN", "MIN", "MAX", "REPEATS"],
        &[1, 2, 3, 4],
        &[
            spread(
                &format!("read {} tokens", report.prompt),
                &report.prefill_tokens_per_s,
            ),
            spread(
                &format!("generate {} tokens", report.generate),
                &report.decode_tokens_per_s,
            ),
        ],
    );
    output::print(&format!(
        "\n{}: first token after {:.3} s, loaded in {:.2} s; {} threads, {}; {} together, {} tokens deep; stored as run {}\n",
        report.model,
        report.ttft_s,
        report.load_s,
        report.threads,
        report.isa,
        report.batch,
        report.depth,
        report.run,
    ));
    notes(&report.notes);
    Ok(())
}

/// Why figures should not be trusted.
fn notes(notes: &[String]) {
    for note in notes {
        output::print(&format!("Note: {note}\n"));
    }
}

fn memory(workbench: &Workbench, args: Memory, json: bool) -> anyhow::Result<()> {
    let request = MemoryRequest {
        engine: args.engine.options(None),
        model: args.model,
        ctx: args.ctx,
    };
    let bar = Bar::new();
    let report = workbench.bench_memory(&request, &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        return output::json(&report);
    }
    output::pairs(&[
        ("Model", report.model.clone()),
        ("Weights", output::size(report.weights_bytes)),
        (
            "Cache",
            format!(
                "{} for {} tokens, {:.1} kB each",
                output::size(report.kv_bytes),
                report.ctx,
                report.kv_bytes_per_token as f64 / 1e3
            ),
        ),
        (
            "Resident, idle",
            report
                .idle_rss_bytes
                .map_or_else(|| "unknown".to_owned(), output::size),
        ),
        ("Resident, most", output::size(report.peak_rss_bytes)),
        ("Stored as run", report.run.to_string()),
    ]);
    notes(&report.notes);
    Ok(())
}

fn energy(workbench: &Workbench, args: Energy, json: bool) -> anyhow::Result<()> {
    let usual = EnergyRequest::default();
    let request = EnergyRequest {
        engine: args.engine.options(None),
        model: args.model,
        generate: args.r#gen.unwrap_or(usual.generate),
        repeat: args.repeat.unwrap_or(usual.repeat),
    };
    let bar = Bar::new();
    let report = workbench.bench_energy(&request, &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        return output::json(&report);
    }
    show_energy(&report);
    Ok(())
}

fn show_energy(report: &EnergyReport) {
    if let Some(reason) = &report.reason {
        return output::print(&format!(
            "Energy of {}: unavailable. {reason}\n",
            report.model
        ));
    }
    let figure = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3} {unit}"))
    };
    let mut pairs = vec![
        ("Model", report.model.clone()),
        (
            "Joules a token",
            figure(report.joules_per_token, "J, idle subtracted"),
        ),
    ];
    if let Some(spread) = &report.spread {
        pairs.push((
            "Repeats",
            format!(
                "{} from {:.3} to {:.3} J",
                spread.runs.len(),
                spread.min,
                spread.max
            ),
        ));
    }
    pairs.extend([
        (
            "Idle included",
            figure(report.gross_joules_per_token, "J a token"),
        ),
        ("Idle machine", figure(report.idle_watts, "W")),
        ("Generating", figure(report.load_watts, "W")),
        (
            "Measured",
            format!(
                "{} tokens in {:.1} s, {} threads, {}",
                report.tokens, report.seconds, report.threads, report.isa
            ),
        ),
        (
            "Source",
            report.source.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        (
            "It counts",
            report.covers.clone().unwrap_or_else(|| "-".to_owned()),
        ),
        (
            "Stored as run",
            report
                .run
                .map_or_else(|| "-".to_owned(), |run| run.to_string()),
        ),
    ]);
    output::pairs(&pairs);
    notes(&report.notes);
}

pub fn perplexity(workbench: &Workbench, args: Perplexity, json: bool) -> anyhow::Result<()> {
    let request = PerplexityRequest {
        engine: args.engine.options(None),
        model: args.model,
        text: args.text,
        ctx: args.ctx,
    };
    let bar = Bar::new();
    let report = workbench.perplexity(&request, &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        return output::json(&report);
    }
    output::print(&format!(
        "Perplexity of {}: {:.4} ({:.5} nats a token, {} tokens scored in windows of {}); stored as run {}\n",
        report.model, report.perplexity, report.nll_mean, report.tokens, report.ctx, report.run,
    ));
    Ok(())
}
