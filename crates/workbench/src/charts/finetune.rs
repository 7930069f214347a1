//! Charts of a training: its loss over the steps, on the rows that it learns and on those that it does not see.

use super::{bare, measured, shown};
use crate::api::{Axis, ChartData, ChartForm, ChartPoint, ChartSeries, LossPoint};

/// Most points of a line; more are joined.
const POINTS: usize = 120;

/// The loss of each step, neighbours joined where there are many, and that of the held-out rows.
pub(crate) fn loss_charts(
    model: &str,
    train: &[LossPoint],
    held_out: &[LossPoint],
) -> Vec<ChartData> {
    let together = train.len().div_ceil(POINTS).max(1);
    let series = |name: &str, points: Vec<ChartPoint>, dashed: bool| ChartSeries {
        model: model.to_owned(),
        name: name.to_owned(),
        points,
        marks: Vec::new(),
        dashed,
    };
    let mut all = vec![series("training rows", joined(train, together), false)];
    if !held_out.is_empty() {
        all.push(series("held-out rows", joined(held_out, 1), true));
    }
    let mean = match together {
        1 => String::new(),
        many => format!(", means of {many} steps"),
    };
    shown([ChartData {
        title: format!("Loss over the steps{mean}"),
        form: ChartForm::Line,
        x: Axis {
            min: Some(0.0),
            ..measured("Step", "")
        },
        y: Axis {
            min: None,
            ..measured("Loss", "nats a token")
        },
        value: None,
        series: all,
    }])
}

/// Means of so many neighbours, each at the middle of their steps.
fn joined(points: &[LossPoint], together: usize) -> Vec<ChartPoint> {
    points
        .chunks(together)
        .map(|chunk| {
            let count = chunk.len() as f64;
            let step = chunk.iter().map(|point| f64::from(point.step)).sum::<f64>() / count;
            let loss = chunk.iter().map(|point| point.loss).sum::<f64>() / count;
            bare(step, loss)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_steps_are_joined_and_none_make_no_chart() {
        let point = |step: u32| LossPoint {
            step,
            loss: f64::from(step),
        };
        assert!(loss_charts("m", &[], &[]).is_empty());
        let train: Vec<LossPoint> = (1..=1000).map(point).collect();
        let [chart] = &loss_charts("m", &train, &[point(0), point(500)])[..] else {
            panic!("one chart");
        };
        let [learnt, held] = &chart.series[..] else {
            panic!("two series");
        };
        assert_eq!(learnt.points.len(), 112);
        assert_eq!((learnt.points[0].x, learnt.points[0].y), (5.0, 5.0));
        assert!(chart.title.contains("means of 9 steps"), "{}", chart.title);
        assert!(held.dashed && !learnt.dashed && held.points.len() == 2);
        let few = &loss_charts("m", &train[..3], &[])[0];
        assert_eq!((few.series.len(), few.series[0].points.len()), (1, 3));
        assert_eq!(few.title, "Loss over the steps");
    }
}
