//! What the processor's multipliers reach at most: loops over registers that load nothing, 16 sums at once.

/// A kind of multiplication: its name, and a loop of so many rounds, which returns the operations of a round (a multiplication and
/// an addition are two).
pub type Peak = (&'static str, fn(usize) -> usize);

/// Those of this processor.
#[cfg(target_arch = "x86_64")]
pub fn peaks() -> Vec<Peak> {
    let mut peaks: Vec<Peak> = Vec::new();
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
    peaks
}

/// None is known here.
#[cfg(not(target_arch = "x86_64"))]
pub const fn peaks() -> Vec<Peak> {
    Vec::new()
}

/// Reads all words, as wide as the processor can, and asks for memory ahead of them.
pub fn read(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor was asked.
        return unsafe { x86_64::read_512(words) };
    }
    words.iter().fold(0, |a, b| a ^ b)
}

/// Sums that run side by side: more than two multipliers times their latency.
#[cfg(target_arch = "x86_64")]
const SUMS: usize = 16;

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::SUMS;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// How far ahead memory is asked for, in bytes: as far as kernels ask.
    const AHEAD: usize = 8192;

    #[target_feature(enable = "avx512f")]
    pub fn read_512(words: &[u64]) -> u64 {
        let mut sums = [_mm512_setzero_si512(); 4];
        let (lines, rest) = words.as_chunks::<32>();
        for line in lines {
            for (v, sum) in sums.iter_mut().enumerate() {
                let at = line.as_ptr().wrapping_add(8 * v);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_byte_add(AHEAD).cast());
                // SAFETY: eight words of the line's 32; prefetching may name any address.
                *sum = _mm512_xor_si512(*sum, unsafe { _mm512_loadu_si512(at.cast()) });
            }
        }
        let [a, b, c, d] = sums;
        let all = _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d));
        let sum = _mm512_reduce_or_epi64(all) as u64;
        rest.iter().fold(sum, |a, b| a ^ b)
    }

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
