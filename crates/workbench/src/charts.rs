//! The one place that makes chart data of a scorecard; the window draws it interactively, exports draw the same.

use crate::api::{
    Axis, ChartData, ChartForm, ChartPoint, ChartSeries, Figure, ReferenceLine, ScorecardRow,
};

/// Accuracy of guessing among four choices.
pub(crate) const CHANCE: f64 = 0.25;

/// The charts of a scorecard; one without any figure is left out.
pub(crate) fn scorecard_charts(rows: &[ScorecardRow]) -> Vec<ChartData> {
    let names: Vec<String> = rows.iter().map(|row| row.name.clone()).collect();
    let model_axis = || Axis {
        label: "Model".to_owned(),
        unit: String::new(),
        categories: names.clone(),
        min: None,
        log: false,
        reference: None,
    };
    let dots = |title: &str,
                y: Axis,
                figure: &dyn Fn(&ScorecardRow) -> Option<&Figure>,
                scale: f64| ChartData {
        title: title.to_owned(),
        form: ChartForm::Dots,
        x: model_axis(),
        y,
        value: None,
        series: series(rows, &|index, row| {
            let figure = figure(row)?;
            Some(point(index as f64, figure, scale))
        }),
    };
    let mmlu = dots(
        "MMLU accuracy with 95 % intervals",
        Axis {
            reference: Some(ReferenceLine {
                value: CHANCE * 100.0,
                label: "guessing".to_owned(),
            }),
            ..measured("MMLU accuracy", "%")
        },
        &|row| row.mmlu.as_ref(),
        100.0,
    );
    let decode = dots(
        "Generation speed: median, slowest and fastest repeat",
        measured("Generation", "tokens/s"),
        &|row| row.decode.as_ref(),
        1.0,
    );
    let quality = ChartData {
        title: "Quality against memory: up and left is better".to_owned(),
        form: ChartForm::Scatter,
        x: measured("Peak memory", "GB"),
        y: Axis {
            reference: Some(ReferenceLine {
                value: CHANCE * 100.0,
                label: "guessing".to_owned(),
            }),
            ..measured("MMLU accuracy", "%")
        },
        value: None,
        series: series(rows, &|_, row| {
            Some(point(
                row.peak_memory.as_ref()?.value / 1e9,
                row.mmlu.as_ref()?,
                100.0,
            ))
        }),
    };
    [mmlu, decode, quality]
        .into_iter()
        .filter(|chart| !chart.series.is_empty())
        .collect()
}

/// A measured axis that begins at zero.
fn measured(label: &str, unit: &str) -> Axis {
    Axis {
        label: label.to_owned(),
        unit: unit.to_owned(),
        categories: Vec::new(),
        min: Some(0.0),
        log: false,
        reference: None,
    }
}

fn point(x: f64, figure: &Figure, scale: f64) -> ChartPoint {
    ChartPoint {
        x,
        y: figure.value * scale,
        lo: figure.lo.map(|lo| lo * scale),
        hi: figure.hi.map(|hi| hi * scale),
        value: None,
    }
}

fn series(
    rows: &[ScorecardRow],
    at: &dyn Fn(usize, &ScorecardRow) -> Option<ChartPoint>,
) -> Vec<ChartSeries> {
    rows.iter()
        .enumerate()
        .filter_map(|(index, row)| {
            Some(ChartSeries {
                model: row.model.clone(),
                name: row.name.clone(),
                points: vec![at(index, row)?],
                marks: Vec::new(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64, lo: f64, hi: f64) -> Figure {
        Figure {
            value,
            lo: Some(lo),
            hi: Some(hi),
            unit: String::new(),
            how: String::new(),
            run: None,
        }
    }

    fn row(model: &str) -> ScorecardRow {
        ScorecardRow {
            model: model.to_owned(),
            name: model.to_uppercase(),
            quant: "Q4_1".to_owned(),
            params: 1,
            mmlu: None,
            prefill: None,
            decode: None,
            ttft: None,
            load: None,
            humaneval: None,
            energy: None,
            correct_per_wh: None,
            references: Vec::new(),
            badges: Vec::new(),
            peak_memory: None,
            weights_memory: None,
            notes: Vec::new(),
        }
    }

    #[test]
    fn figures_keep_their_model_their_place_and_their_interval() {
        let mut second = row("b");
        second.mmlu = Some(figure(0.3, 0.25, 0.36));
        second.peak_memory = Some(figure(2.5e9, 0.0, 0.0));
        let charts = scorecard_charts(&[row("a"), second]);
        assert_eq!(charts.len(), 2, "no speed, no speed chart");
        let [mmlu, quality] = &charts[..] else {
            unreachable!()
        };
        assert_eq!(mmlu.x.categories, ["A", "B"]);
        assert_eq!(mmlu.y.reference.as_ref().unwrap().value, 25.0);
        assert_eq!(mmlu.series.len(), 1);
        assert_eq!(mmlu.series[0].model, "b");
        assert_eq!(
            mmlu.series[0].points,
            [ChartPoint {
                x: 1.0,
                y: 30.0,
                lo: Some(25.0),
                hi: Some(36.0),
                value: None
            }]
        );
        assert_eq!(quality.form, ChartForm::Scatter);
        assert_eq!(
            (quality.series[0].points[0].x, quality.series[0].points[0].y),
            (2.5, 30.0)
        );
        assert!(scorecard_charts(&[row("a")]).is_empty());
    }
}
