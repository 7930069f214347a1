//! The charts of a scorecard: one series a model, models in the order of its rows.

use super::{
    accuracy, bare, by_group, categories, chance_points, measured, point, shown, subject_label,
};
use crate::api::{
    Axis, ChartData, ChartForm, ChartMark, ChartPoint, ChartSeries, Figure, ScorecardRow,
};
use crate::references::mark_words;
use crate::reports::{MemoryReport, MmluReport};

/// A row of a scorecard, and the reports that its finer charts are drawn from.
#[derive(Debug)]
pub(crate) struct ChartRow<'a> {
    pub(crate) row: &'a ScorecardRow,
    pub(crate) mmlu: Option<&'a MmluReport>,
    pub(crate) memory: Option<&'a MemoryReport>,
}

/// The charts of a scorecard; one without any figure is left out.
pub(crate) fn scorecard_charts(rows: &[ChartRow<'_>]) -> Vec<ChartData> {
    let names: Vec<String> = rows.iter().map(|row| row.row.name.clone()).collect();
    let dots = |title: &str,
                y: Axis,
                scale: f64,
                figure: &dyn Fn(&ScorecardRow) -> Option<&Figure>| ChartData {
        title: title.to_owned(),
        form: ChartForm::Dots,
        x: categories("Model", names.clone()),
        y,
        value: None,
        series: series(rows, &|index, row| {
            Some(vec![point(index as f64, figure(row.row)?, scale)])
        }),
    };
    let against = |title: &str, x: Axis, at: &dyn Fn(&ScorecardRow) -> Option<f64>| ChartData {
        title: title.to_owned(),
        form: ChartForm::Scatter,
        x,
        y: accuracy("MMLU accuracy"),
        value: None,
        series: series(rows, &|_, row| {
            let quality = row.row.mmlu.as_ref()?;
            Some(vec![point(at(row.row)?, quality, 100.0)])
        }),
    };
    let mmlu = with_marks(
        dots(
            "MMLU accuracy with 95 % intervals",
            accuracy("MMLU accuracy"),
            100.0,
            &|row| row.mmlu.as_ref(),
        ),
        rows,
        "mmlu",
    );
    let humaneval = with_marks(
        dots(
            "HumanEval, share of problems solved at the first try, with 95 % intervals",
            measured("HumanEval pass@1", "%"),
            100.0,
            &|row| row.humaneval.as_ref(),
        ),
        rows,
        "humaneval",
    );
    shown([
        mmlu,
        humaneval,
        dots(
            "Generation speed: median, slowest and fastest repeat",
            measured("Generation", "tokens/s"),
            1.0,
            &|row| row.decode.as_ref(),
        ),
        dots(
            "Reading speed: median, slowest and fastest repeat",
            measured("Reading a prompt", "tokens/s"),
            1.0,
            &|row| row.prefill.as_ref(),
        ),
        memory(rows),
        against(
            "Quality against memory: up and left is better",
            measured("Peak memory", "GB"),
            &|row| Some(row.peak_memory.as_ref()?.value / 1e9),
        ),
        against(
            "Quality against energy: up and left is better",
            measured("Energy of generating", "J/token"),
            &|row| Some(row.energy.as_ref()?.value),
        ),
        dots(
            "Right MMLU answers a watt-hour: more is better",
            measured("Right answers a watt-hour", "answers/Wh"),
            1.0,
            &|row| row.correct_per_wh.as_ref(),
        ),
        subjects(rows),
    ])
}

/// Weights, a full cache and the peak of each model.
fn memory(rows: &[ChartRow<'_>]) -> ChartData {
    let parts = ["weights", "KV cache, full", "peak of the engine"];
    ChartData {
        title: "Memory: the weights, a full cache, and the most the engine took".to_owned(),
        form: ChartForm::Dots,
        x: categories("Part", parts.map(str::to_owned).to_vec()),
        y: measured("Memory", "GB"),
        value: None,
        series: series(rows, &|_, row| {
            let report = row.memory?;
            let bytes = [report.weights_bytes, report.kv_bytes, report.peak_rss_bytes];
            Some(
                bytes
                    .iter()
                    .enumerate()
                    .map(|(place, &bytes)| bare(place as f64, bytes as f64 / 1e9))
                    .collect(),
            )
        }),
    }
}

/// Every subject that any model was asked, grouped, against the models.
fn subjects(rows: &[ChartRow<'_>]) -> ChartData {
    let reports = || rows.iter().filter_map(|row| row.mmlu);
    let subjects = by_group(reports().flat_map(|report| report.by_subject.keys()));
    let title = match chance_points(reports().map(|report| &report.by_subject)) {
        Some(points) => {
            format!("MMLU accuracy by subject; ±{points:.0} points in a cell can be chance")
        }
        None => "MMLU accuracy by subject".to_owned(),
    };
    ChartData {
        title,
        form: ChartForm::HeatMap,
        x: categories(
            "Model",
            rows.iter().map(|row| row.row.name.clone()).collect(),
        ),
        y: categories(
            "Subject",
            subjects.iter().map(|name| subject_label(name)).collect(),
        ),
        value: Some(accuracy("MMLU accuracy")),
        series: series(rows, &|index, row| {
            let report = row.mmlu?;
            let cells = subjects.iter().enumerate().filter_map(|(place, subject)| {
                let part = report.by_subject.get(*subject)?;
                let cell = super::part_point(index as f64, part);
                Some(ChartPoint {
                    y: place as f64,
                    value: Some(cell.y),
                    ..cell
                })
            });
            Some(cells.collect())
        }),
    }
}

/// What others say of the models that the chart shows.
fn with_marks(mut chart: ChartData, rows: &[ChartRow<'_>], task: &str) -> ChartData {
    for (index, row) in rows.iter().enumerate() {
        let Some(series) = chart
            .series
            .iter_mut()
            .find(|series| series.points.iter().any(|point| point.x == index as f64))
        else {
            continue;
        };
        let said = row.row.references.iter().filter(|said| said.task == task);
        series.marks.extend(said.map(|said| ChartMark {
            x: index as f64,
            y: said.value * 100.0,
            kind: said.kind,
            label: mark_words(said),
        }));
    }
    chart
}

fn series(
    rows: &[ChartRow<'_>],
    points: &dyn Fn(usize, &ChartRow<'_>) -> Option<Vec<ChartPoint>>,
) -> Vec<ChartSeries> {
    rows.iter()
        .enumerate()
        .filter_map(|(index, row)| {
            Some(ChartSeries {
                model: row.row.model.clone(),
                name: row.row.name.clone(),
                points: points(index, row)?,
                marks: Vec::new(),
                dashed: false,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::{ReferenceKind, ReferenceScore};
    use crate::reports::MmluPart;

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
            name: model.to_uppercase(),
            ..crate::scorecards::empty_row(model)
        }
    }

    fn drawn(row: &ScorecardRow) -> ChartRow<'_> {
        ChartRow {
            row,
            mmlu: None,
            memory: None,
        }
    }

    #[test]
    fn figures_keep_their_model_their_place_and_their_interval() {
        let (first, mut second) = (row("a"), row("b"));
        second.mmlu = Some(figure(0.3, 0.25, 0.36));
        second.peak_memory = Some(figure(2.5e9, 0.0, 0.0));
        second.references = vec![
            ReferenceScore {
                task: "mmlu".to_owned(),
                value: 0.321,
                kind: ReferenceKind::Claimed,
                shots: None,
                source: "the article".to_owned(),
            },
            ReferenceScore {
                task: "humaneval".to_owned(),
                value: 0.5,
                kind: ReferenceKind::Published,
                shots: Some(0),
                source: "elsewhere".to_owned(),
            },
        ];
        let charts = scorecard_charts(&[drawn(&first), drawn(&second)]);
        assert_eq!(charts.len(), 2, "no speed, no speed chart: {charts:?}");
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
        let [mark] = &mmlu.series[0].marks[..] else {
            panic!("{:?}", mmlu.series[0].marks)
        };
        assert_eq!(
            (mark.x, mark.y, mark.kind),
            (1.0, 32.1, ReferenceKind::Claimed)
        );
        assert_eq!(quality.form, ChartForm::Scatter);
        assert_eq!(
            (quality.series[0].points[0].x, quality.series[0].points[0].y),
            (2.5, 30.0)
        );
        assert!(quality.series[0].marks.is_empty());
        assert!(scorecard_charts(&[drawn(&first)]).is_empty());
    }

    #[test]
    fn subjects_stand_by_group_and_keep_their_cell() {
        let part = |correct| MmluPart {
            accuracy: f64::from(correct) / 10.0,
            correct,
            total: 10,
            shots: None,
            stderr: None,
        };
        let report = |parts: &[(&str, u32)]| MmluReport {
            run: 1,
            model: "a".to_owned(),
            accuracy: 0.0,
            correct: 0,
            total: 0,
            ci95: [0.0, 1.0],
            by_subject: parts
                .iter()
                .map(|(name, correct)| ((*name).to_owned(), part(*correct)))
                .collect(),
            by_group: BTreeMap::new(),
            shots: 0,
            prompt_tokens_computed: 0,
            truncated: 0,
            stderr: None,
            stopped_early: None,
            notes: Vec::new(),
            seconds: 0.0,
        };
        let (a, b) = (row("a"), row("b"));
        let first = report(&[("world_religions", 4), ("astronomy", 1)]);
        let second = report(&[("astronomy", 2), ("marketing", 3), ("my_own", 5)]);
        let charts = scorecard_charts(&[
            ChartRow {
                mmlu: Some(&first),
                ..drawn(&a)
            },
            ChartRow {
                mmlu: Some(&second),
                ..drawn(&b)
            },
        ]);
        let [heat] = &charts[..] else {
            panic!("{charts:?}")
        };
        assert_eq!(
            heat.y.categories,
            [
                "STEM · astronomy",
                "Humanities · world religions",
                "Other · marketing",
                "my own"
            ]
        );
        let cells = |series: usize| -> Vec<(f64, f64, f64)> {
            heat.series[series]
                .points
                .iter()
                .map(|p| (p.x, p.y, p.value.unwrap()))
                .collect()
        };
        assert_eq!(cells(0), [(0.0, 0.0, 10.0), (0.0, 1.0, 40.0)]);
        assert_eq!(
            cells(1),
            [(1.0, 0.0, 20.0), (1.0, 2.0, 30.0), (1.0, 3.0, 50.0)]
        );
        assert!(heat.title.contains("±24 points"), "{}", heat.title);
    }
}
