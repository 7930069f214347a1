//! What the processor's multipliers reach at most: loops over registers that load nothing, 16 sums at once.

use std::hint::black_box;

/// A kind of multiplication: its name, and a loop of so many rounds, which returns the operations of a round (a multiplication and
/// an addition are two).
pub type Peak = (&'static str, fn(usize) -> usize);

/// Those of this processor.
pub fn peaks() -> Vec<Peak> {
    let mut peaks: Vec<Peak> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512vnni") && is_x86_feature_detected!("avx512bw") {
            // SAFETY: the processor was asked.
            peaks.push(("bytes", |rounds| unsafe { x86_64::bytes(rounds) }));
        }
        if is_x86_feature_detected!("avx512bf16") {
            // SAFETY: the processor was asked.
            peaks.push(("bf16", |rounds| unsafe { x86_64::bf16(rounds) }));
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor was asked.
            peaks.push(("f32", |rounds| unsafe { x86_64::f32(rounds) }));
        }
    }
    peaks
}

/// Sums that run side by side: more than two multipliers times their latency.
#[cfg(target_arch = "x86_64")]
const SUMS: usize = 16;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::{SUMS, black_box};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub fn bytes(rounds: usize) -> usize {
        let (a, b) = (
            black_box(_mm512_set1_epi8(3)),
            black_box(_mm512_set1_epi8(5)),
        );
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
        2 * 64 * SUMS
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16(rounds: usize) -> usize {
        let one = black_box(_mm512_set1_ps(1.0));
        let pairs = _mm512_cvtne2ps_pbh(one, one);
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, pairs, pairs);
            }
        }
        black_box(sums);
        2 * 32 * SUMS
    }

    #[target_feature(enable = "avx512f")]
    pub fn f32(rounds: usize) -> usize {
        let (a, b) = (
            black_box(_mm512_set1_ps(1.0)),
            black_box(_mm512_set1_ps(0.5)),
        );
        let mut sums = [_mm512_setzero_ps(); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
        2 * 16 * SUMS
    }
}
