//! AVX-512 with BF16: a register holds a pair of terms of 16 outputs.
//!
//! For training six rows times four registers are summed at once; for BF16 weights up to eight rows meet one tile.

use crate::activations::PANEL;
use crate::tile_product::{FloatKernel, FloatOperands, Outputs};
use crate::training::panel::{self, Pairs, WIDTH};
use crate::training::stored::Stored;
use std::arch::x86_64::*;

/// Rows of a tile.
const ROWS: usize = 6;

/// Rounding by `vcvtneps2bf16`, which takes what is smaller than normal numbers for 0. Only for functions of this file, which
/// have the instructions.
struct Rounding;

impl Pairs for Rounding {
    #[inline(always)]
    fn neighbours(x: &[f32], out: &mut [u32]) {
        // SAFETY: private to this file, whose functions are called where the CPU has the instructions.
        unsafe { neighbours(x, out) };
    }

    #[inline(always)]
    fn rows(first: &[f32; WIDTH], second: &[f32; WIDTH], out: &mut [u32; WIDTH]) {
        // SAFETY: as above.
        unsafe { join_rows(first, second, out) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
unsafe fn neighbours(x: &[f32], out: &mut [u32]) {
    let (whole, rest) = x.as_chunks::<32>();
    let (out, out_rest) = out.split_at_mut(16 * whole.len());
    for (x, out) in whole.iter().zip(out.as_chunks_mut::<16>().0) {
        // SAFETY: 32 numbers are read, 16 words written.
        unsafe {
            let (low, high) = (
                _mm512_loadu_ps(x.as_ptr()),
                _mm512_loadu_ps(x.as_ptr().add(16)),
            );
            let pairs: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high, low));
            _mm512_storeu_si512(out.as_mut_ptr().cast(), pairs);
        }
    }
    panel::PlainPairs::neighbours(rest, out_rest);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
unsafe fn join_rows(first: &[f32; WIDTH], second: &[f32; WIDTH], out: &mut [u32; WIDTH]) {
    for v in 0..WIDTH / 16 {
        // SAFETY: 16 numbers from 16 v of 64 each.
        unsafe {
            let halves = |x: &[f32; WIDTH]| {
                let bits: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(_mm512_loadu_ps(
                    x.as_ptr().add(16 * v),
                )));
                _mm512_cvtepu16_epi32(bits)
            };
            let pairs = _mm512_or_si512(halves(first), _mm512_slli_epi32::<16>(halves(second)));
            _mm512_storeu_si512(out.as_mut_ptr().add(16 * v).cast(), pairs);
        }
    }
}

/// `panel::of_rows` for these instructions.
///
/// # Safety
/// The CPU must have them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
pub(crate) unsafe fn pack_of_rows(
    weight: &Stored<'_>,
    first: usize,
    terms: (usize, usize),
    scratch: &mut [u32],
    out: &mut [u32],
) {
    panel::of_rows::<Rounding, true>(
        weight,
        first,
        terms,
        scratch,
        out,
        // SAFETY: the features are enabled here.
        |rows, stride, width, out| unsafe { turn(rows, stride, width, out) },
    );
}

/// `panel::of_cols` for these instructions.
///
/// # Safety
/// The CPU must have them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
pub(crate) unsafe fn pack_of_cols(
    weight: &Stored<'_>,
    cols: (usize, usize),
    terms: (usize, usize),
    out: &mut [u32],
) {
    panel::of_cols::<Rounding, true>(weight, cols, terms, out);
}

/// `panel::turn_plain`, 16 x 16 words at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn turn(rows: &[u32], stride: usize, width: usize, out: &mut [u32]) {
    let whole = width / 16 * 16;
    assert!(rows.len() >= 15 * stride + width && out.len() >= (width.max(1) - 1) * WIDTH + 16);
    for j in (0..whole).step_by(16) {
        // SAFETY: 16 words from column j of each of 16 rows, and 16 lines of 16 words: both checked above.
        unsafe {
            let mut r = [_mm512_setzero_si512(); 16];
            for (i, r) in r.iter_mut().enumerate() {
                *r = _mm512_loadu_si512(rows.as_ptr().add(i * stride + j).cast());
            }
            let mut t = [_mm512_setzero_si512(); 16];
            for i in 0..8 {
                t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
                t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
            }
            for i in 0..4 {
                r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
                r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
                r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
                r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
            }
            for i in 0..4 {
                t[i] = _mm512_shuffle_i32x4::<0x88>(r[i], r[i + 4]);
                t[i + 4] = _mm512_shuffle_i32x4::<0xdd>(r[i], r[i + 4]);
                t[i + 8] = _mm512_shuffle_i32x4::<0x88>(r[i + 8], r[i + 12]);
                t[i + 12] = _mm512_shuffle_i32x4::<0xdd>(r[i + 8], r[i + 12]);
            }
            for i in 0..8 {
                r[i] = _mm512_shuffle_i32x4::<0x88>(t[i], t[i + 8]);
                r[i + 8] = _mm512_shuffle_i32x4::<0xdd>(t[i], t[i + 8]);
            }
            for (i, r) in r.iter().enumerate() {
                _mm512_storeu_si512(out.as_mut_ptr().add((j + i) * WIDTH).cast(), *r);
            }
        }
    }
    for r in 0..16 {
        for j in whole..width {
            out[j * WIDTH + r] = rows[r * stride + j];
        }
    }
}

/// Six rows `left` (pairs, 6) times a panel (pairs, 64): the first `rows` rows and `cols` columns go to `c`.
///
/// # Safety
/// The CPU must have the instructions; `rows` rows of `cols` numbers lie at `c`, its second number apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(crate) unsafe fn tile(
    left: &[u32],
    panel: &[u32],
    (c, c_row): (*mut f32, usize),
    (rows, cols): (usize, usize),
    add: bool,
) {
    let pairs = panel.len() / WIDTH;
    assert!(left.len() >= pairs * ROWS && panel.len() >= pairs * WIDTH && rows <= ROWS);
    // SAFETY: reads stay inside the lengths checked; writes are masked to what the caller vouches for.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); 4]; ROWS];
        let (mut a, mut b) = (left.as_ptr(), panel.as_ptr());
        for _ in 0..pairs {
            let w: [__m512bh; 4] = std::array::from_fn(|v| {
                std::mem::transmute(_mm512_loadu_si512(b.add(16 * v).cast()))
            });
            for r in 0..ROWS {
                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*a.add(r) as i32));
                for v in 0..4 {
                    sums[r][v] = _mm512_dpbf16_ps(sums[r][v], x, w[v]);
                }
            }
            a = a.add(ROWS);
            b = b.add(WIDTH);
        }
        for (r, sums) in sums.iter().enumerate().take(rows) {
            let c = c.add(r * c_row);
            for (v, sum) in sums.iter().enumerate() {
                let left = cols.saturating_sub(16 * v).min(16);
                let mask = ((1_u32 << left) - 1) as u16;
                let c = c.wrapping_add(16 * v);
                let old = if add {
                    _mm512_maskz_loadu_ps(mask, c)
                } else {
                    _mm512_setzero_ps()
                };
                _mm512_mask_storeu_ps(c, mask, _mm512_add_ps(*sum, old));
            }
        }
    }
}

/// How far ahead of the pairs at hand memory is asked for, in bytes.
const AHEAD: usize = 8192;

/// Pairs of columns summed before their sum is added to the total, so that rounding grows with its square root only.
const SUM_PAIRS: usize = 64;

/// The kernels of BF16 weights and pairs of activations, by rows of the panel.
pub(crate) fn float_kernels() -> [FloatKernel; PANEL] {
    super::by_rows!(float,)
}

/// Rows of a panel, each `cols` long, rounded to pairs of bf16: `[pair][row]`.
///
/// # Safety
/// The CPU must have these instructions.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
pub(crate) unsafe fn pair_panel(x: &[f32], cols: usize, out: &mut [u32]) {
    let width = x.len() / cols;
    if width == 1 {
        // SAFETY: as the caller's.
        return unsafe { neighbours(x, out) };
    }
    let mut words = [0_u32; STRIP / 2];
    for (r, x) in x.chunks_exact(cols).enumerate() {
        for (strip, x) in x.chunks(STRIP).enumerate() {
            let words = &mut words[..x.len().div_ceil(2)];
            // SAFETY: as the caller's.
            unsafe { neighbours(x, words) };
            let out = &mut out[strip * STRIP / 2 * width..];
            for (out, word) in out.iter_mut().skip(r).step_by(width).zip(words) {
                *out = *word;
            }
        }
    }
}

/// Columns that are rounded at a time.
const STRIP: usize = 256;

/// One tile of BF16 weights times `M` rows in bf16; sums are f32.
///
/// # Safety
/// The CPU must have these instructions; the operands must be a whole tile and a panel of `M` rows of pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
unsafe fn float<const M: usize>(t: &FloatOperands, out: Outputs) {
    // SAFETY: of this whole block: every address is inside the operands, whose sizes are the caller's promise; prefetching may
    // name any address.
    unsafe {
        let step = |p: usize, sums: &mut [__m512; M]| {
            let at = t.numbers.add(64 * p);
            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
            let w: __m512bh = std::mem::transmute(_mm512_loadu_si512(at.cast()));
            let x = t.pairs.add(p * M);
            for m in 0..M {
                let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(*x.add(m).cast()));
                sums[m] = _mm512_dpbf16_ps(sums[m], w, x);
            }
        };
        let mut totals = [_mm512_setzero_ps(); M];
        let pairs = t.cols.div_ceil(2);
        let mut start = 0;
        while start < pairs {
            let end = (start + SUM_PAIRS).min(pairs);
            // Two sums a row, so that one addition need not wait for the other.
            let mut even = [_mm512_setzero_ps(); M];
            let mut odd = [_mm512_setzero_ps(); M];
            let mut p = start;
            while p + 1 < end {
                step(p, &mut even);
                step(p + 1, &mut odd);
                p += 2;
            }
            if p < end {
                step(p, &mut even);
            }
            for m in 0..M {
                totals[m] = _mm512_add_ps(totals[m], _mm512_add_ps(even[m], odd[m]));
            }
            start = end;
        }
        for m in 0..M {
            _mm512_storeu_ps(out.row(m), totals[m]);
        }
    }
}
