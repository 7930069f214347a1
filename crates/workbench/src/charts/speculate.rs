//! Charts of a measured pair: by kind of prompt and by number of drafted tokens.

use super::{Axis, bare, categories, measured, shown};
use crate::api::{
    ChartData, ChartForm, ChartPoint, ChartSeries, PromptKind, PromptSpeculation, ReferenceLine,
    SpeculationReport,
};
use crate::speculate::kind_name;

/// Speed-up by prompt with its range; acceptance by prompt; speed-up by number of drafted tokens, measured and predicted.
pub(crate) fn speculation_charts(report: &SpeculationReport, name: &str) -> Vec<ChartData> {
    let names = prompt_names(&report.by_prompt);
    let series = |name: &str, points: Vec<ChartPoint>, dashed: bool| ChartSeries {
        model: report.target.clone(),
        name: name.to_owned(),
        points,
        marks: Vec::new(),
        dashed,
    };
    let dots = |title: &str, y: Axis, all: Vec<ChartSeries>| ChartData {
        title: title.to_owned(),
        form: ChartForm::Dots,
        x: categories("Prompt", names.clone()),
        y,
        value: None,
        series: all
            .into_iter()
            .filter(|series| !series.points.is_empty())
            .collect(),
    };
    let predicted = report.by_prompt.iter().enumerate();
    let predicted = predicted
        .filter_map(|(place, prompt)| Some(bare(place as f64, prompt.predicted_speedup?)))
        .collect();
    let speedups = report.by_prompt.iter().enumerate();
    let speedups = speedups
        .filter(|(_, prompt)| prompt.speedup > 0.0)
        .map(|(place, prompt)| ChartPoint {
            lo: Some(prompt.speedup_repeats.min),
            hi: Some(prompt.speedup_repeats.max),
            ..bare(place as f64, prompt.speedup)
        })
        .collect();
    let acceptance = report.by_prompt.iter().enumerate();
    let acceptance = acceptance
        .filter_map(|(place, prompt)| Some(bare(place as f64, 100.0 * prompt.acceptance_rate?)))
        .collect();
    let by_k = |of: fn(&crate::api::LengthSpeed) -> Option<f64>| {
        report
            .by_k
            .iter()
            .filter_map(|tried| Some(bare(f64::from(tried.k), of(tried)?)))
            .collect::<Vec<_>>()
    };
    shown([
        dots(
            "Speed-up by prompt: median and range of the repeats, and predicted",
            speed_up(),
            vec![
                series("measured", speedups, false),
                series("predicted", predicted, true),
            ],
        ),
        dots(
            "Drafted tokens that were accepted, by prompt",
            measured("Accepted", "%"),
            vec![series(name, acceptance, false)],
        ),
        ChartData {
            title: "Speed-up by number of drafted tokens, measured and predicted".to_owned(),
            form: ChartForm::Line,
            x: measured("Tokens drafted at a time", ""),
            y: speed_up(),
            value: None,
            series: [
                series("measured", by_k(|tried| Some(tried.speedup)), false),
                series("predicted", by_k(|tried| tried.predicted_speedup), true),
            ]
            .into_iter()
            .filter(|series| !series.points.is_empty())
            .collect(),
        },
    ])
}

fn speed_up() -> Axis {
    Axis {
        reference: Some(ReferenceLine {
            value: 1.0,
            label: "plain decoding".to_owned(),
        }),
        ..measured("Speed-up", "×")
    }
}

/// Kinds, own prompts numbered.
fn prompt_names(prompts: &[PromptSpeculation]) -> Vec<String> {
    let mut own = 0;
    prompts
        .iter()
        .map(|prompt| {
            if prompt.kind != PromptKind::Own {
                return kind_name(prompt.kind).to_owned();
            }
            own += 1;
            format!("{} {own}", kind_name(prompt.kind))
        })
        .collect()
}
