//! `speculate`.

use billion_workbench::Workbench;
use billion_workbench::api::{PromptSpeculation, SpeculationReport, TextOrigin};

use crate::args::Speculate;
use crate::output;
use crate::progress::Bar;

pub fn run(workbench: &Workbench, args: &Speculate, json: bool) -> anyhow::Result<()> {
    let request = args.request()?;
    let bar = Bar::new();
    let report = workbench.speculate(&request, &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        return output::json(&report);
    }
    show(&report);
    Ok(())
}

fn show(report: &SpeculationReport) {
    let share = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), output::percent);
    let ratio = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
    let rows: Vec<Vec<String>> = report
        .by_prompt
        .iter()
        .map(|prompt| {
            vec![
                kind(prompt),
                format!("{:.2}", prompt.speedup),
                format!(
                    "{:.2}-{:.2}",
                    prompt.speedup_repeats.min, prompt.speedup_repeats.max
                ),
                ratio(prompt.predicted_speedup),
                share(prompt.acceptance_rate),
                ratio(prompt.alpha),
                format!("{:.2}", prompt.tokens_per_step),
                prompt.tokens.len().to_string(),
                match (prompt.identical, prompt.first_difference) {
                    (Some(true), _) => "identical".to_owned(),
                    (_, Some(at)) => format!("differs at {at}"),
                    _ => "drawn".to_owned(),
                },
            ]
        })
        .collect();
    output::table(
        &[
            "PROMPT",
            "SPEED-UP",
            "RANGE",
            "PREDICTED",
            "ACCEPTED",
            "ALPHA",
            "TOKENS/PASS",
            "TOKENS",
            "OUTPUT",
        ],
        &[1, 2, 3, 4, 5, 6, 7],
        &rows,
    );
    if !report.by_k.is_empty() {
        output::print("\n");
        let rows: Vec<Vec<String>> = report
            .by_k
            .iter()
            .map(|tried| {
                vec![
                    tried.k.to_string(),
                    format!("{:.2}", tried.speedup),
                    ratio(tried.predicted_speedup),
                    share(tried.acceptance_rate),
                    format!("{:.2}", tried.tokens_per_step),
                ]
            })
            .collect();
        output::table(
            &[
                "DRAFTED",
                "SPEED-UP",
                "PREDICTED",
                "ACCEPTED",
                "TOKENS/PASS",
            ],
            &[0, 1, 2, 3, 4],
            &rows,
        );
    }
    if let [only] = &report.by_prompt[..] {
        output::print(&format!("\n{}\n", marked(only)));
    }
    output::print(&format!(
        "\n{} with {}: {:.2} times plain decoding's speed ({:.2} to {:.2}), {:.1} against {:.1} tokens/s; k {}, {} threads, {}; stored as run {}\n{}: {}\n",
        report.target,
        report.draft.as_deref().unwrap_or("prompt lookup"),
        report.speedup,
        report.speedup_repeats.min,
        report.speedup_repeats.max,
        report.speculative_tokens_per_s,
        report.baseline_tokens_per_s,
        report.k,
        report.threads,
        report.isa,
        report.run,
        if report.advice.on {
            "Use it"
        } else {
            "Leave it off"
        },
        report.advice.words,
    ));
    output::print(&match report.identical {
        Some(true) => format!(
            "Output is identical to plain decoding over {} tokens (SHA-256 {})\n",
            report.tokens.len(),
            report.speculative_sha256
        ),
        Some(false) => format!(
            "OUTPUT DIFFERS from plain decoding: SHA-256 {} against {}\n",
            report.speculative_sha256, report.baseline_sha256
        ),
        None => "Text was drawn: it has plain decoding's distribution, not its tokens\n".to_owned(),
    });
    for note in &report.notes {
        output::print(&format!("Note: {note}\n"));
    }
}

fn kind(prompt: &PromptSpeculation) -> String {
    serde_json::to_value(prompt.kind)
        .ok()
        .and_then(|kind| kind.as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

/// The text with its origin: accepted drafts in square brackets, what was rejected in braces before its correction.
fn marked(prompt: &PromptSpeculation) -> String {
    let mut text = "[accepted] {rejected}\n".to_owned();
    for piece in &prompt.pieces {
        if !piece.rejected.is_empty() {
            text.extend(["{", piece.rejected.as_str(), "}"]);
        }
        match piece.origin {
            TextOrigin::Accepted if !piece.text.is_empty() => {
                text.extend(["[", piece.text.as_str(), "]"]);
            }
            _ => text.push_str(&piece.text),
        }
    }
    text
}
