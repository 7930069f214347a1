//! Cross-entropy of a row of logits and its gradient in one pass over the row.

use crate::Isa;
use crate::ops::lanes::{Lanes, exp, load_part, store_part, vectorized};

/// Loss of predicting `target`, in nats; the logits become the loss's gradient times `scale`. `scale` 0 leaves zeros.
///
/// # Panics
/// If `target` is no index of `logits`.
pub fn cross_entropy(isa: Isa, logits: &mut [f32], target: usize, scale: f32) -> f64 {
    assert!(
        target < logits.len(),
        "target {target} of {} logits",
        logits.len()
    );
    let own = f64::from(logits[target]);
    let log_sum = vectorized!(isa, to_gradient(logits: &mut [f32], scale: f32) -> f64);
    logits[target] -= scale;
    log_sum - own
}

/// Logits to softmax times `scale`; the logarithm of the sum of exponentials.
#[inline(always)]
unsafe fn to_gradient<L: Lanes>(logits: &mut [f32], scale: f32) -> f64 {
    let n = logits.len();
    let (whole, rest) = (n - n % L::N, n % L::N);
    let x = logits.as_mut_ptr();
    // SAFETY: offsets stay below the length.
    unsafe {
        let lowest = f32::NEG_INFINITY;
        let mut top = L::splat(lowest);
        for i in (0..whole).step_by(L::N) {
            top = L::max(L::load(x.add(i)), top);
        }
        if rest > 0 {
            top = L::max(load_part::<L>(x.add(whole), rest, lowest), top);
        }
        let top = L::largest(top);
        let (top_lanes, mut sum) = (L::splat(top), L::splat(0.0));
        // What is not a number must not vanish in `exp`'s clamp: it is added as it is.
        let mut odd = L::splat(0.0);
        for i in (0..whole).step_by(L::N) {
            let below = L::sub(L::load(x.add(i)), top_lanes);
            odd = L::mul_add(below, L::splat(0.0), odd);
            let e = exp::<L>(below);
            sum = L::add(sum, e);
            L::store(x.add(i), e);
        }
        let mut total = L::sum(sum) + L::sum(odd);
        if rest > 0 {
            let below = L::sub(load_part::<L>(x.add(whole), rest, top), top_lanes);
            total += L::sum(L::mul(below, L::splat(0.0)));
            store_part::<L>(x.add(whole), rest, exp::<L>(below));
            for e in &logits[whole..] {
                total += e;
            }
        }
        let factor = scale / total;
        let factor_lanes = L::splat(factor);
        for i in (0..whole).step_by(L::N) {
            L::store(x.add(i), L::mul(L::load(x.add(i)), factor_lanes));
        }
        for e in &mut logits[whole..] {
            *e *= factor;
        }
        f64::from(top) + f64::from(total).ln()
    }
}
