//! AVX-512 with VNNI: a vector holds 4 integers of each of a tile's 16 rows, or one float of each.

use crate::Format;
use crate::activations::twelve::{self, Int12Panel};
use crate::activations::{self, Block, FINER, FINER_BITS, Int8Panel, LINES, PANEL, SMALLEST};
use crate::scalar::blocks::Scheme;
use crate::tile_product::{FloatKernel, FloatOperands, Outputs, QuantKernel, QuantOperands};
use crate::tiles::{TileParts, Tiles, pack_tile, scale_bytes, super_bytes};
use std::arch::x86_64::*;

/// How far ahead of the floats at hand memory is asked for, in bytes. With 2 KB eight rows of F16 from memory took 1.6 times as
/// long on Zen 5.
const AHEAD: usize = 8192;

/// Pairs of columns summed before their sum is added to the total, so that rounding grows with its square root only.
const SUM_PAIRS: usize = 64;

const OFFSET_32: u8 = Scheme::Offset32 as u8;
const MIN_32: u8 = Scheme::Min32 as u8;
const SUPER_32: u8 = Scheme::Super32 as u8;
const SUPER_16_OFFSET: u8 = Scheme::Super16Offset as u8;
const SUPER_16_MIN: u8 = Scheme::Super16Min as u8;

/// [`pack_tile`] with wide copies.
///
/// # Safety
/// The CPU must have AVX-512 BW and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,f16c")]
pub(crate) unsafe fn pack(tiles: &Tiles, source: &[u8], parts: TileParts<'_>) {
    pack_tile(tiles, source, parts);
}

/// Runs `work` compiled for AVX-512.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, DQ and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
pub(crate) unsafe fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// Rows of a panel to int8, the same integers and scales as in plain Rust.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
pub(crate) unsafe fn quantize_panel(x: &[f32], cols: usize, out: &mut Int8Panel<'_>) {
    activations::quantize_panel(x, cols, out, |x, q| quantize_32(x, q));
}

/// The twin of `activations::quantize_32`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
fn quantize_32(x: &[f32; 32], q: &mut [[i8; 32]; LINES]) -> Block {
    let (a, b, top) = load_32(x);
    let inverse = if top < SMALLEST { 0.0 } else { 127.0 / top };
    let inverse = _mm512_set1_ps(inverse);
    // Rounds to nearest, ties to even; the fine line is what the coarse one left.
    let lines = |v: __m512| {
        let v = _mm512_mul_ps(v, inverse);
        let coarse = _mm512_cvtps_epi32(v);
        let left = _mm512_sub_ps(v, _mm512_cvtepi32_ps(coarse));
        let fine = _mm512_cvtps_epi32(_mm512_mul_ps(left, _mm512_set1_ps(FINER)));
        let (least, most) = (_mm512_set1_epi32(-127), _mm512_set1_epi32(127));
        let fine = _mm512_max_epi32(_mm512_min_epi32(fine, most), least);
        [_mm512_cvtsepi32_epi8(coarse), _mm512_cvtepi32_epi8(fine)]
    };
    let (a, b) = (lines(a), lines(b));
    let (zero, ones) = (_mm_setzero_si128(), _mm_set1_epi8(1));
    let mut halves = [[0; 2]; LINES];
    for line in 0..LINES {
        // SAFETY: a line is 32 bytes.
        unsafe {
            _mm_storeu_si128(q[line].as_mut_ptr().cast(), a[line]);
            _mm_storeu_si128(q[line].as_mut_ptr().add(16).cast(), b[line]);
        }
        let sums = _mm_hadd_epi32(
            _mm_dpbusd_epi32(zero, ones, a[line]),
            _mm_dpbusd_epi32(zero, ones, b[line]),
        );
        let sums = _mm_hadd_epi32(sums, sums);
        halves[line] = [_mm_cvtsi128_si32(sums), _mm_extract_epi32::<1>(sums)];
    }
    (top / 127.0, halves)
}

/// `twelve::quantize_panel` for these instructions.
///
/// # Safety
/// The CPU must have AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
pub(crate) unsafe fn quantize_panel_12(x: &[f32], cols: usize, out: &mut Int12Panel<'_>) {
    twelve::quantize_panel(x, cols, out, |x, q| quantize_32_in_12(x, q));
}

/// The twin of `twelve::quantize_32`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
fn quantize_32_in_12(x: &[f32; 32], q: &mut [i8; twelve::BYTES]) -> (f32, i32) {
    let (a, b, top) = load_32(x);
    let inverse = if top < twelve::SMALLEST {
        0.0
    } else {
        twelve::MOST as f32 / top
    };
    let inverse = _mm512_set1_ps(inverse);
    // Rounds to nearest, ties to even.
    let integers = |v: __m512| _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
    let (x, y) = (integers(a), integers(b));
    let t = _mm512_sub_epi32(y, _mm512_slli_epi32::<4>(x));
    let k = _mm512_srai_epi32::<8>(_mm512_add_epi32(t, _mm512_set1_epi32(128)));
    let lines = [
        _mm512_sub_epi32(_mm512_setzero_si512(), k),
        t,
        _mm512_add_epi32(x, _mm512_slli_epi32::<4>(k)),
    ];
    for (line, q) in lines.into_iter().zip(q.as_chunks_mut::<16>().0) {
        // SAFETY: a line is 16 bytes.
        unsafe { _mm_storeu_si128(q.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(line)) };
    }
    let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(x, y));
    (top / twelve::MOST as f32, sum)
}

/// 32 numbers and their largest magnitude; NaN counts as larger than infinity.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
fn load_32(x: &[f32; 32]) -> (__m512, __m512, f32) {
    // SAFETY: 32 numbers are two vectors.
    let (a, b) = unsafe {
        (
            _mm512_loadu_ps(x.as_ptr()),
            _mm512_loadu_ps(x.as_ptr().add(16)),
        )
    };
    // Magnitudes order as their bits do, with infinity and NaN on top.
    let sign = _mm512_set1_epi32(i32::MAX);
    let top = _mm512_max_epu32(
        _mm512_and_si512(_mm512_castps_si512(a), sign),
        _mm512_and_si512(_mm512_castps_si512(b), sign),
    );
    let top = _mm256_max_epu32(
        _mm512_castsi512_si256(top),
        _mm512_extracti64x4_epi64::<1>(top),
    );
    let top = _mm_max_epu32(
        _mm256_castsi256_si128(top),
        _mm256_extracti128_si256::<1>(top),
    );
    let top = _mm_max_epu32(top, _mm_shuffle_epi32::<0b01_00_11_10>(top));
    let top = _mm_max_epu32(top, _mm_shuffle_epi32::<0b10_11_00_01>(top));
    let top = f32::from_bits(_mm_cvtsi128_si32(top) as u32);
    (a, b, top)
}

/// The kernels of a quantized format, by rows of the panel.
pub(crate) fn quant_kernels(bits: usize, scheme: Scheme) -> [QuantKernel; PANEL] {
    match (bits, scheme) {
        (4, Scheme::Offset32) => super::by_rows!(quant, 4, OFFSET_32),
        (5, Scheme::Offset32) => super::by_rows!(quant, 5, OFFSET_32),
        (_, Scheme::Offset32) => super::by_rows!(quant, 8, OFFSET_32),
        (4, Scheme::Min32) => super::by_rows!(quant, 4, MIN_32),
        (_, Scheme::Min32) => super::by_rows!(quant, 5, MIN_32),
        (4, Scheme::Super32) => super::by_rows!(quant, 4, SUPER_32),
        (_, Scheme::Super32) => super::by_rows!(quant, 5, SUPER_32),
        (3, Scheme::Super16Offset) => super::by_rows!(quant, 3, SUPER_16_OFFSET),
        (_, Scheme::Super16Offset) => super::by_rows!(quant, 6, SUPER_16_OFFSET),
        (_, Scheme::Super16Min) => super::by_rows!(quant, 2, SUPER_16_MIN),
    }
}

/// The kernels of a float format, by rows of the panel.
pub(crate) fn float_kernels(format: Format) -> [FloatKernel; PANEL] {
    match format {
        Format::F16 => super::by_rows!(float, F16),
        Format::BF16 => super::by_rows!(float, BF16),
        _ => super::by_rows!(float, F32),
    }
}

/// The 8 vectors of a block; see `tiles` for the planes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
unsafe fn integers<const BITS: usize>(block: *const u8) -> [__m512i; 8] {
    // SAFETY: `BITS` vectors lie at `block`.
    let load = |v: usize| unsafe { _mm512_loadu_si512(block.add(64 * v).cast()) };
    let mut w = [_mm512_setzero_si512(); 8];
    match BITS {
        8 => {
            for (j, w) in w.iter_mut().enumerate() {
                *w = load(j);
            }
        }
        2 | 3 => {
            let mask = _mm512_set1_epi8(3);
            for v in 0..2 {
                let u = load(v);
                w[v] = _mm512_and_si512(u, mask);
                w[v + 2] = _mm512_and_si512(_mm512_srli_epi16::<2>(u), mask);
                w[v + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(u), mask);
                w[v + 6] = _mm512_and_si512(_mm512_srli_epi16::<6>(u), mask);
            }
        }
        _ => {
            let mask = _mm512_set1_epi8(15);
            for v in 0..4 {
                let u = load(v);
                w[v] = _mm512_and_si512(u, mask);
                w[v + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(u), mask);
            }
        }
    }
    // w | (shifted & mask)
    const MERGE: i32 = 0xf8;
    match BITS {
        3 => {
            let (h, mask) = (load(2), _mm512_set1_epi8(4));
            w[0] = _mm512_ternarylogic_epi32::<MERGE>(w[0], _mm512_slli_epi16::<2>(h), mask);
            w[1] = _mm512_ternarylogic_epi32::<MERGE>(w[1], _mm512_slli_epi16::<1>(h), mask);
            w[2] = _mm512_ternarylogic_epi32::<MERGE>(w[2], h, mask);
            w[3] = _mm512_ternarylogic_epi32::<MERGE>(w[3], _mm512_srli_epi16::<1>(h), mask);
            w[4] = _mm512_ternarylogic_epi32::<MERGE>(w[4], _mm512_srli_epi16::<2>(h), mask);
            w[5] = _mm512_ternarylogic_epi32::<MERGE>(w[5], _mm512_srli_epi16::<3>(h), mask);
            w[6] = _mm512_ternarylogic_epi32::<MERGE>(w[6], _mm512_srli_epi16::<4>(h), mask);
            w[7] = _mm512_ternarylogic_epi32::<MERGE>(w[7], _mm512_srli_epi16::<5>(h), mask);
        }
        5 => {
            let (h, mask) = (load(4), _mm512_set1_epi8(16));
            w[0] = _mm512_ternarylogic_epi32::<MERGE>(w[0], _mm512_slli_epi16::<4>(h), mask);
            w[1] = _mm512_ternarylogic_epi32::<MERGE>(w[1], _mm512_slli_epi16::<3>(h), mask);
            w[2] = _mm512_ternarylogic_epi32::<MERGE>(w[2], _mm512_slli_epi16::<2>(h), mask);
            w[3] = _mm512_ternarylogic_epi32::<MERGE>(w[3], _mm512_slli_epi16::<1>(h), mask);
            w[4] = _mm512_ternarylogic_epi32::<MERGE>(w[4], h, mask);
            w[5] = _mm512_ternarylogic_epi32::<MERGE>(w[5], _mm512_srli_epi16::<1>(h), mask);
            w[6] = _mm512_ternarylogic_epi32::<MERGE>(w[6], _mm512_srli_epi16::<2>(h), mask);
            w[7] = _mm512_ternarylogic_epi32::<MERGE>(w[7], _mm512_srli_epi16::<3>(h), mask);
        }
        6 => {
            let mask = _mm512_set1_epi8(0x30);
            for v in 0..2 {
                let h = load(4 + v);
                w[v] = _mm512_ternarylogic_epi32::<MERGE>(w[v], _mm512_slli_epi16::<4>(h), mask);
                let up = _mm512_slli_epi16::<2>(h);
                w[v + 2] = _mm512_ternarylogic_epi32::<MERGE>(w[v + 2], up, mask);
                w[v + 4] = _mm512_ternarylogic_epi32::<MERGE>(w[v + 4], h, mask);
                let down = _mm512_srli_epi16::<2>(h);
                w[v + 6] = _mm512_ternarylogic_epi32::<MERGE>(w[v + 6], down, mask);
            }
        }
        _ => {}
    }
    w
}

/// Calls `f` for each of `M` rows, in two loops: one of more than five rows is not unrolled, and then the sums go through
/// memory.
#[inline(always)]
fn each_row<const M: usize>(mut f: impl FnMut(usize)) {
    for m in 0..M.min(4) {
        f(m);
    }
    for m in M.min(4)..M {
        f(m);
    }
}

/// The dot products of a block of 4-bit weights with twelve bits of `M` rows, each added to `start(m)`.
///
/// All rows meet four columns of either half before the next four, so that no more than three registers hold weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
unsafe fn dots_12<const M: usize>(
    block: *const u8,
    x: *const i8,
    start: impl Fn(usize) -> __m512i,
) -> [__m512i; M] {
    let mask = _mm512_set1_epi8(15);
    let mut low = [_mm512_setzero_si512(); M];
    let mut sum = [_mm512_setzero_si512(); M];
    for m in 0..M {
        sum[m] = start(m);
    }
    for j in 0..4 {
        // SAFETY: four vectors lie at `block`, three lines of four groups for each row at `x`.
        unsafe {
            let both = _mm512_loadu_si512(block.add(64 * j).cast());
            let first = _mm512_and_si512(both, mask);
            let second = _mm512_and_si512(_mm512_srli_epi16::<4>(both), mask);
            for m in 0..M {
                let x = x.add(m * twelve::BYTES).cast::<i32>();
                let x = |group: usize| _mm512_set1_epi32(x.add(group).read_unaligned());
                low[m] = _mm512_dpbusd_epi32(low[m], first, x(j));
                sum[m] = _mm512_dpbusd_epi32(sum[m], second, x(4 + j));
                sum[m] = _mm512_dpbusd_epi32(sum[m], both, x(8 + j));
            }
        }
    }
    for m in 0..M {
        sum[m] = _mm512_add_epi32(_mm512_slli_epi32::<{ twelve::A_BITS }>(low[m]), sum[m]);
    }
    sum
}

/// One tile of quantized weights times `M` rows.
///
/// # Safety
/// The CPU must have these instructions; the operands must be a whole tile and a panel of `M` rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
unsafe fn quant<const M: usize, const BITS: usize, const SCHEME: u8>(
    t: &QuantOperands,
    out: Outputs,
) {
    let scheme = const {
        match SCHEME {
            OFFSET_32 => Scheme::Offset32,
            MIN_32 => Scheme::Min32,
            SUPER_32 => Scheme::Super32,
            SUPER_16_OFFSET => Scheme::Super16Offset,
            _ => Scheme::Super16Min,
        }
    };
    // SAFETY: of this whole block: every address is inside the operands, whose sizes are the caller's promise.
    unsafe {
        let halves = |at: *const u8| _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
        let mut sums = [_mm512_setzero_ps(); M];
        let (mut d, mut dmin) = (_mm512_setzero_ps(), _mm512_setzero_ps());
        for b in 0..t.blocks {
            super::ask_ahead::<BITS>(t, scheme, b);
            let block = t.quants.add(b * BITS * 64);
            if super_bytes(scheme) > 0 && b % 8 == 0 {
                let supers = t.supers.add(b / 8 * super_bytes(scheme));
                d = halves(supers);
                if super_bytes(scheme) == 64 {
                    dmin = halves(supers.add(32));
                }
            }
            let w = integers::<BITS>(block);
            let s = t.scales.add(b * scale_bytes(scheme));
            // The dot products of the vectors `from..to` with row m, both lines, added to `start`.
            let dot = |m: usize, from: usize, to: usize, start: __m512i| {
                let x = t.x.add((b * M + m) * 32 * LINES).cast::<i32>();
                let (mut coarse, mut fine) = (_mm512_setzero_si512(), start);
                for j in from..to {
                    let x = |line: usize| _mm512_set1_epi32(x.add(8 * line + j).read_unaligned());
                    coarse = _mm512_dpbusd_epi32(coarse, w[j], x(0));
                    fine = _mm512_dpbusd_epi32(fine, w[j], x(1));
                }
                _mm512_add_epi32(_mm512_slli_epi32::<FINER_BITS>(coarse), fine)
            };
            match scheme {
                Scheme::Offset32 if BITS == 4 => {
                    let scale = halves(s);
                    let x = t.x.add(b * M * twelve::BYTES);
                    let start = |m: usize| _mm512_set1_epi32(*t.x_corrections.add(b * M + m));
                    let dots = dots_12::<M>(block, x, start);
                    for m in 0..M {
                        let scale =
                            _mm512_mul_ps(scale, _mm512_set1_ps(*t.x_scales.add(b * M + m)));
                        sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots[m]), scale, sums[m]);
                    }
                }
                Scheme::Offset32 => {
                    let scale = halves(s);
                    each_row::<M>(|m| {
                        let start = _mm512_set1_epi32(*t.x_corrections.add(b * M + m));
                        let scale =
                            _mm512_mul_ps(scale, _mm512_set1_ps(*t.x_scales.add(b * M + m)));
                        sums[m] = _mm512_fmadd_ps(
                            _mm512_cvtepi32_ps(dot(m, 0, 8, start)),
                            scale,
                            sums[m],
                        );
                    });
                }
                Scheme::Min32 | Scheme::Super32 => {
                    let (scale, min) = if SCHEME == MIN_32 {
                        (halves(s), halves(s.add(32)))
                    } else {
                        let small = |at: *const u8| {
                            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())))
                        };
                        (
                            _mm512_mul_ps(d, small(s)),
                            _mm512_sub_ps(
                                _mm512_setzero_ps(),
                                _mm512_mul_ps(dmin, small(s.add(16))),
                            ),
                        )
                    };
                    let add = |m: usize, dot: __m512i, sum: &mut __m512| {
                        let weighted = _mm512_set1_ps(*t.x_weighted.add(b * M + m));
                        let scale =
                            _mm512_mul_ps(scale, _mm512_set1_ps(*t.x_scales.add(b * M + m)));
                        *sum = _mm512_fmadd_ps(min, weighted, *sum);
                        *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, *sum);
                    };
                    if BITS == 4 {
                        let x = t.x.add(b * M * twelve::BYTES);
                        let dots = dots_12::<M>(block, x, |_| _mm512_setzero_si512());
                        for m in 0..M {
                            add(m, dots[m], &mut sums[m]);
                        }
                    } else {
                        each_row::<M>(|m| {
                            add(m, dot(m, 0, 8, _mm512_setzero_si512()), &mut sums[m]);
                        });
                    }
                }
                Scheme::Super16Offset => {
                    let small = |at: *const u8| {
                        let integers = _mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()));
                        _mm512_mul_ps(d, _mm512_cvtepi32_ps(integers))
                    };
                    let (low, high) = (small(s), small(s.add(16)));
                    each_row::<M>(|m| {
                        let start = t.x_corrections.add(2 * b * M + m);
                        let a = _mm512_cvtepi32_ps(dot(m, 0, 4, _mm512_set1_epi32(*start)));
                        let c = _mm512_cvtepi32_ps(dot(m, 4, 8, _mm512_set1_epi32(*start.add(M))));
                        let sum = _mm512_fmadd_ps(a, low, _mm512_mul_ps(c, high));
                        let x_scale = _mm512_set1_ps(*t.x_scales.add(b * M + m));
                        sums[m] = _mm512_fmadd_ps(sum, x_scale, sums[m]);
                    });
                }
                Scheme::Super16Min => {
                    let small = |at: *const u8| _mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()));
                    let (low, high) = (small(s), small(s.add(16)));
                    let mask = _mm512_set1_epi32(15);
                    let (low_min, high_min) =
                        (_mm512_srli_epi32::<4>(low), _mm512_srli_epi32::<4>(high));
                    let (low, high) = (_mm512_and_si512(low, mask), _mm512_and_si512(high, mask));
                    each_row::<M>(|m| {
                        let zero = _mm512_setzero_si512();
                        let x_sums = t.x_sums.add(2 * b * M + m);
                        let (first, second) = (
                            _mm512_set1_epi32(*x_sums),
                            _mm512_set1_epi32(*x_sums.add(M)),
                        );
                        // At most 2 * 16 * 3 * 15 * 127 * 257: far from 2^31.
                        let sum = _mm512_add_epi32(
                            _mm512_mullo_epi32(dot(m, 0, 4, zero), low),
                            _mm512_mullo_epi32(dot(m, 4, 8, zero), high),
                        );
                        let mins = _mm512_add_epi32(
                            _mm512_mullo_epi32(low_min, first),
                            _mm512_mullo_epi32(high_min, second),
                        );
                        let x_scale = _mm512_set1_ps(*t.x_scales.add(b * M + m));
                        let (scale, min) =
                            (_mm512_mul_ps(d, x_scale), _mm512_mul_ps(dmin, x_scale));
                        sums[m] = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(mins), min, sums[m]);
                        sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, sums[m]);
                    });
                }
            }
        }
        for m in 0..M {
            _mm512_storeu_ps(out.row(m), sums[m]);
        }
    }
}

const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

/// One tile of float weights times `M` rows.
///
/// # Safety
/// As [`quant`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx512dq,f16c,fma,avx2")]
unsafe fn float<const M: usize, const FORMAT: u8>(t: &FloatOperands, out: Outputs) {
    let bytes = const { if FORMAT == F32 { 128 } else { 64 } };
    // SAFETY: of this whole block: as in `quant`; prefetching may name any address.
    unsafe {
        let pair = |p: usize| {
            let at = t.numbers.add(p * bytes);
            for line in 0..bytes / 64 {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD + 64 * line).cast());
            }
            match FORMAT {
                F32 => (
                    _mm512_loadu_ps(at.cast()),
                    _mm512_loadu_ps(at.add(64).cast()),
                ),
                F16 => (
                    _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())),
                    _mm512_cvtph_ps(_mm256_loadu_si256(at.add(32).cast())),
                ),
                _ => {
                    let both = _mm512_loadu_si512(at.cast());
                    let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                    (
                        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(both)),
                        _mm512_castsi512_ps(_mm512_and_si512(both, high)),
                    )
                }
            }
        };
        let mut totals = [_mm512_setzero_ps(); M];
        let whole = t.cols / 2;
        let mut start = 0;
        while start < whole {
            let end = (start + SUM_PAIRS).min(whole);
            let mut even = [_mm512_setzero_ps(); M];
            let mut odd = [_mm512_setzero_ps(); M];
            for p in start..end {
                let (a, b) = pair(p);
                for m in 0..M {
                    let x = t.x.add(m * t.cols + 2 * p);
                    even[m] = _mm512_fmadd_ps(a, _mm512_set1_ps(*x), even[m]);
                    odd[m] = _mm512_fmadd_ps(b, _mm512_set1_ps(*x.add(1)), odd[m]);
                }
            }
            for m in 0..M {
                totals[m] = _mm512_add_ps(totals[m], _mm512_add_ps(even[m], odd[m]));
            }
            start = end;
        }
        if t.cols % 2 == 1 {
            let (a, _) = pair(whole);
            for m in 0..M {
                let x = _mm512_set1_ps(*t.x.add(m * t.cols + 2 * whole));
                totals[m] = _mm512_fmadd_ps(a, x, totals[m]);
            }
        }
        for m in 0..M {
            _mm512_storeu_ps(out.row(m), totals[m]);
        }
    }
}
