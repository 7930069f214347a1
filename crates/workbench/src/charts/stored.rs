//! The chart that the project argues for, from every stored run: what a model knows, and what that costs, against its size.

use std::collections::BTreeMap;

use super::{accuracy, measured, parameters, point, shown};
use crate::api::{Axis, ChartData, ChartForm, ChartPoint, ChartSeries, ScorecardRow};
use crate::scorecards::Line;

/// Quality, code and right answers a watt-hour against parameters; one dot a model and quantization.
pub(crate) fn stored_charts(lines: &[Line]) -> Vec<ChartData> {
    let shots: Vec<u32> = lines
        .iter()
        .filter_map(|line| Some(line.mmlu.as_ref()?.shots))
        .collect();
    let mixed = shots.iter().any(|n| Some(n) != shots.first());
    let mut quants: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        *quants.entry(line.row.model.as_str()).or_default() += 1;
    }
    let name = |line: &Line, of_mmlu: bool| {
        let mut name = line.row.name.clone();
        if quants.get(line.row.model.as_str()).is_some_and(|&n| n > 1) {
            name = format!("{name} {}", line.row.quant);
        }
        match line.mmlu.as_ref().filter(|_| of_mmlu && mixed) {
            Some(report) => format!("{name}, {}-shot", report.shots),
            None => name,
        }
    };
    let chart = |title: &str,
                 y: Axis,
                 of_mmlu: bool,
                 at: &dyn Fn(&ScorecardRow, f64) -> Option<ChartPoint>| {
        let series = lines.iter().filter_map(|line| {
            let x = line.row.params as f64 / 1e9;
            Some(ChartSeries {
                model: line.row.model.clone(),
                name: name(line, of_mmlu),
                points: vec![at(&line.row, x).filter(|_| x > 0.0)?],
                marks: Vec::new(),
                dashed: false,
            })
        });
        ChartData {
            title: title.to_owned(),
            form: ChartForm::Scatter,
            x: parameters(),
            y,
            value: None,
            series: series.collect(),
        }
    };
    shown([
        chart(
            "Quality against size: what each parameter buys",
            accuracy("MMLU accuracy"),
            true,
            &|row, x| Some(point(x, row.mmlu.as_ref()?, 100.0)),
        ),
        chart(
            "Code against size",
            measured("HumanEval pass@1", "%"),
            false,
            &|row, x| Some(point(x, row.humaneval.as_ref()?, 100.0)),
        ),
        chart(
            "Right answers a watt-hour against size: what each joule buys",
            measured("Right MMLU answers a watt-hour", "answers/Wh"),
            true,
            &|row, x| Some(point(x, row.correct_per_wh.as_ref()?, 1.0)),
        ),
    ])
}
