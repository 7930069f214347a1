//! Charts of a time-lapse: what a model knows and how well it foretells a text, over the steps of its training.

use super::{accuracy, measured, point, shown};
use crate::api::{
    Axis, ChartData, ChartForm, ChartPoint, ChartSeries, Figure, ReferenceLine, TimeLapsePoint,
};

/// Where step 0 stands on an axis of equal ratios, which has no zero.
const STEP_0: f64 = 0.5;

/// MMLU, then perplexity, over steps.
pub(crate) fn time_lapse_charts(
    model: &str,
    name: &str,
    points: &[TimeLapsePoint],
) -> Vec<ChartData> {
    let chart = |title: &str, y: Axis, scale: f64, of: fn(&TimeLapsePoint) -> Option<&Figure>| {
        let drawn: Vec<ChartPoint> = points
            .iter()
            .filter_map(|at| Some(point(place(at.step), of(at)?, scale)))
            .collect();
        ChartData {
            title: format!("{title} over the training of {name}"),
            form: ChartForm::Line,
            x: steps(points.iter().any(|at| at.step == 0)),
            y,
            value: None,
            series: vec![ChartSeries {
                model: model.to_owned(),
                name: name.to_owned(),
                points: drawn,
                marks: Vec::new(),
                dashed: false,
            }],
        }
    };
    shown([
        chart(
            "MMLU accuracy, with 95 % intervals,",
            accuracy("MMLU accuracy"),
            100.0,
            |at| at.mmlu.as_ref(),
        ),
        chart(
            "Perplexity of Billion's own text",
            Axis {
                min: None,
                log: true,
                ..measured("Perplexity", "")
            },
            1.0,
            |at| at.perplexity.as_ref(),
        ),
    ])
}

fn place(step: u32) -> f64 {
    if step == 0 { STEP_0 } else { f64::from(step) }
}

fn steps(with_first: bool) -> Axis {
    Axis {
        min: None,
        log: true,
        reference: with_first.then(|| ReferenceLine {
            value: STEP_0,
            label: "step 0: untrained".to_owned(),
        }),
        ..measured("Training step", "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_0_has_a_place_and_a_name_on_the_axis_of_ratios() {
        let figure = |value| Figure {
            value,
            lo: Some(value - 0.1),
            hi: Some(value + 0.1),
            unit: "accuracy".to_owned(),
            how: String::new(),
            run: Some(1),
        };
        let at = |step, mmlu: Option<f64>| TimeLapsePoint {
            step,
            training_tokens: 0,
            mmlu: mmlu.map(figure),
            perplexity: None,
            continuation: None,
            problem: None,
        };
        let points = [at(0, Some(0.25)), at(1, None), at(1000, Some(0.3))];
        let charts = time_lapse_charts("pythia-70m", "Pythia 70M", &points);
        assert_eq!(
            charts.len(),
            1,
            "without a perplexity there is no chart of it"
        );
        let chart = &charts[0];
        assert!(chart.x.log && chart.form == ChartForm::Line);
        assert_eq!(chart.x.reference.as_ref().unwrap().value, 0.5);
        let drawn: Vec<(f64, f64)> = chart.series[0].points.iter().map(|p| (p.x, p.y)).collect();
        assert_eq!(drawn, [(0.5, 25.0), (1000.0, 30.0)]);
        let without = time_lapse_charts("pythia-70m", "Pythia 70M", &points[2..]);
        assert!(without[0].x.reference.is_none());
    }
}
