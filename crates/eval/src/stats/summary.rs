//! Median, minimum and maximum of repeated timings, and which of them stand apart.

use serde::{Deserialize, Serialize};

/// A modified z-score above this is an outlier: B. Iglewicz and D. Hoaglin (1993), How to Detect and Handle Outliers.
const OUTLIER_SCORE: f64 = 3.5;

/// Repeated measurements of one figure, in the figure's own unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Median of all runs.
    pub median: f64,
    /// Least run.
    pub min: f64,
    /// Greatest run.
    pub max: f64,
    /// Every run in the order made.
    pub runs: Vec<f64>,
    /// Indices into `runs` that lie far from the rest (they are kept: a median does not mind them).
    pub outliers: Vec<usize>,
}

impl Summary {
    /// Summarises `runs`; `None` if there is none or one is not finite.
    pub fn of(runs: &[f64]) -> Option<Self> {
        if runs.is_empty() || runs.iter().any(|r| !r.is_finite()) {
            return None;
        }
        let middle = median(runs);
        let deviations: Vec<f64> = runs.iter().map(|r| (r - middle).abs()).collect();
        let mad = median(&deviations);
        let outliers = (0..runs.len())
            .filter(|&i| mad > 0.0 && 0.6745 * deviations[i] / mad > OUTLIER_SCORE)
            .collect();
        Some(Self {
            median: middle,
            min: runs.iter().copied().fold(f64::INFINITY, f64::min),
            max: runs.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            runs: runs.to_vec(),
            outliers,
        })
    }
}

/// Median of a non-empty list.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        f64::midpoint(sorted[half - 1], sorted[half])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_even_and_outlying_runs() {
        let odd = Summary::of(&[30.0, 10.0, 20.0]).expect("three runs");
        assert_eq!((odd.median, odd.min, odd.max), (20.0, 10.0, 30.0));
        assert_eq!(Summary::of(&[1.0, 4.0]).expect("two runs").median, 2.5);
        let disturbed = Summary::of(&[50.0, 51.0, 49.0, 12.0, 50.5]).expect("five runs");
        assert_eq!(disturbed.outliers, [3]);
        assert_eq!(disturbed.median, 50.0);
        assert!(Summary::of(&[]).is_none());
        assert!(Summary::of(&[1.0, f64::NAN]).is_none());
    }
}
