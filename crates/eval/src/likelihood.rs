//! Log-likelihoods from rows of logits: the full-vocabulary log-softmax, in double precision.

/// Logarithm of the probability that each of `tokens` comes next, from one row of logits (its whole width is the
/// vocabulary, padding included, as lm-evaluation-harness takes it). `None` if the row holds a NaN, an infinity above,
/// or nothing finite.
///
/// # Panics
/// If a token lies outside the row.
pub fn log_softmax(row: &[f32], tokens: &[u32]) -> Option<Vec<f64>> {
    let norm = log_sum_exp(row)?;
    Some(
        tokens
            .iter()
            .map(|&t| f64::from(row[t as usize]) - norm)
            .collect(),
    )
}

/// ln(sum(exp(row))), shifted by the greatest entry so that nothing overflows.
fn log_sum_exp(row: &[f32]) -> Option<f64> {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if !most.is_finite() {
        return None;
    }
    let sum: f64 = row.iter().map(|&x| f64::from(x - most).exp()).sum();
    (!sum.is_nan()).then(|| f64::from(most) + sum.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_formula_and_survives_large_logits() {
        let got = log_softmax(&[1.0, 2.0, 3.0], &[2, 0]).expect("finite");
        let norm = (1f64.exp() + 2f64.exp() + 3f64.exp()).ln();
        assert!((got[0] - (3.0 - norm)).abs() < 1e-12 && (got[1] - (1.0 - norm)).abs() < 1e-12);
        let far = log_softmax(&[1e30, 0.0, f32::NEG_INFINITY], &[0, 2]).expect("finite");
        assert_eq!(far, [0.0, f64::NEG_INFINITY]);
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(log_softmax(&[0.0, bad, 1.0], &[0]).is_none());
        }
        assert!(log_softmax(&[], &[]).is_none());
    }
}
