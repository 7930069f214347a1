//! AVX2 with FMA: a tile's vectors of 64 bytes are worked through in halves of 8 rows.
//!
//! `maddubs` sums two products in 16 bits with saturation. Integers of up to 6 bits cannot saturate it
//! (2 * 63 * 127 < 2^15), and narrower ones leave room for more sums before widening. 8-bit integers are multiplied as
//! magnitude times signed activation (2 * 128 * 127 < 2^15).
//!
//! AVX-VNNI multiplies bytes and adds four products in 32 bits at once, in the same registers; its kernels are the same but for
//! that step, and weights of four bits meet twelve bits of each activation.

use crate::Format;
use crate::activations::twelve;
use crate::activations::{FINER_BITS, LINES, PANEL};
use crate::scalar::blocks::Scheme;
use crate::tile_product::{FloatKernel, FloatOperands, Outputs, QuantKernel, QuantOperands};
use crate::tiles::{TileParts, Tiles, pack_tile, scale_bytes, super_bytes};
use std::arch::x86_64::*;

/// How far ahead of the floats at hand memory is asked for, in bytes.
const AHEAD: usize = 2048;

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
/// The CPU must have AVX2.
#[target_feature(enable = "avx2,f16c")]
pub(crate) unsafe fn pack(tiles: &Tiles, source: &[u8], parts: TileParts<'_>) {
    pack_tile(tiles, source, parts);
}

/// Runs `work` compiled for AVX2.
///
/// # Safety
/// The CPU must have AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) unsafe fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// The kernels of a quantized format, by rows of the panel; with `vnni` those of AVX-VNNI.
pub(crate) fn quant_kernels(bits: usize, scheme: Scheme, vnni: bool) -> [QuantKernel; PANEL] {
    macro_rules! of {
        ($bits:literal, $scheme:ident) => {
            if vnni {
                super::by_rows!(quant_vnni, $bits, $scheme)
            } else {
                super::by_rows!(quant, $bits, $scheme)
            }
        };
    }
    match (bits, scheme) {
        (4, Scheme::Offset32) => of!(4, OFFSET_32),
        (5, Scheme::Offset32) => of!(5, OFFSET_32),
        (_, Scheme::Offset32) => of!(8, OFFSET_32),
        (4, Scheme::Min32) => of!(4, MIN_32),
        (_, Scheme::Min32) => of!(5, MIN_32),
        (4, Scheme::Super32) => of!(4, SUPER_32),
        (_, Scheme::Super32) => of!(5, SUPER_32),
        (3, Scheme::Super16Offset) => of!(3, SUPER_16_OFFSET),
        (_, Scheme::Super16Offset) => of!(6, SUPER_16_OFFSET),
        (_, Scheme::Super16Min) => of!(2, SUPER_16_MIN),
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

/// 8 rows (half of the tile) of the 8 vectors of a block; see `tiles` for the planes. 8-bit integers come back signed, but
/// for AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn integers<const BITS: usize, const VNNI: bool>(half: *const u8) -> [__m256i; 8] {
    // SAFETY: `half` is 32 bytes into a vector at most, and `BITS` vectors lie there.
    let load = |v: usize| unsafe { _mm256_loadu_si256(half.add(64 * v).cast()) };
    let mut w = [_mm256_setzero_si256(); 8];
    match BITS {
        8 => {
            let flip = _mm256_set1_epi8(if VNNI { 0 } else { -128 });
            for (j, w) in w.iter_mut().enumerate() {
                *w = _mm256_xor_si256(load(j), flip);
            }
        }
        2 | 3 => {
            let mask = _mm256_set1_epi8(3);
            for v in 0..2 {
                let u = load(v);
                w[v] = _mm256_and_si256(u, mask);
                w[v + 2] = _mm256_and_si256(_mm256_srli_epi16::<2>(u), mask);
                w[v + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(u), mask);
                w[v + 6] = _mm256_and_si256(_mm256_srli_epi16::<6>(u), mask);
            }
        }
        _ => {
            let mask = _mm256_set1_epi8(15);
            for v in 0..4 {
                let u = load(v);
                w[v] = _mm256_and_si256(u, mask);
                w[v + 4] = _mm256_and_si256(_mm256_srli_epi16::<4>(u), mask);
            }
        }
    }
    let merge =
        |w: __m256i, h: __m256i, mask: __m256i| _mm256_or_si256(w, _mm256_and_si256(h, mask));
    match BITS {
        3 | 5 => {
            let (h, mask) = if BITS == 3 {
                (load(2), _mm256_set1_epi8(4))
            } else {
                (load(4), _mm256_set1_epi8(16))
            };
            // Bit j moves to bit 2 or 4; a count beyond the width gives zero, so one of the two shifts counts.
            let target = if BITS == 3 { 2 } else { 4 };
            for (j, w) in w.iter_mut().enumerate() {
                let moved = if j <= target {
                    _mm256_sll_epi16(h, _mm_cvtsi32_si128(target as i32 - j as i32))
                } else {
                    _mm256_srl_epi16(h, _mm_cvtsi32_si128(j as i32 - target as i32))
                };
                *w = merge(*w, moved, mask);
            }
        }
        6 => {
            let mask = _mm256_set1_epi8(0x30);
            for v in 0..2 {
                let h = load(4 + v);
                w[v] = merge(w[v], _mm256_slli_epi16::<4>(h), mask);
                w[v + 2] = merge(w[v + 2], _mm256_slli_epi16::<2>(h), mask);
                w[v + 4] = merge(w[v + 4], h, mask);
                w[v + 6] = merge(w[v + 6], _mm256_srli_epi16::<2>(h), mask);
            }
        }
        _ => {}
    }
    w
}

/// The dot products of vectors `FROM..TO` with both lines of the activations at `x`, by AVX-VNNI.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn dot_vnni<const FROM: usize, const TO: usize>(w: &[__m256i; 8], x: *const i32) -> __m256i {
    let (mut coarse, mut fine) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for j in FROM..TO {
        // SAFETY: two lines of 8 groups of 4 activations lie at `x`.
        let x = |line: usize| _mm256_set1_epi32(unsafe { x.add(8 * line + j).read_unaligned() });
        coarse = _mm256_dpbusd_avx_epi32(coarse, w[j], x(0));
        fine = _mm256_dpbusd_avx_epi32(fine, w[j], x(1));
    }
    _mm256_add_epi32(_mm256_slli_epi32::<{ FINER_BITS as i32 }>(coarse), fine)
}

/// The dot products of half a block of 4-bit weights, apart in `w` and two in a byte at `half`, with the three lines of twelve bits
/// at `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn dot_12(w: &[__m256i; 8], half: *const u8, x: *const i8) -> __m256i {
    let (mut low, mut high, mut sum) = (
        _mm256_setzero_si256(),
        _mm256_setzero_si256(),
        _mm256_setzero_si256(),
    );
    for j in 0..4 {
        // SAFETY: four vectors lie around `half`, three lines of four groups at `x`.
        unsafe {
            let x = x.cast::<i32>();
            let x = |group: usize| _mm256_set1_epi32(x.add(group).read_unaligned());
            let both = _mm256_loadu_si256(half.add(64 * j).cast());
            low = _mm256_dpbusd_avx_epi32(low, w[j], x(j));
            high = _mm256_dpbusd_avx_epi32(high, w[4 + j], x(4 + j));
            sum = _mm256_dpbusd_avx_epi32(sum, both, x(8 + j));
        }
    }
    let low = _mm256_slli_epi32::<{ twelve::A_BITS as i32 }>(low);
    _mm256_add_epi32(low, _mm256_add_epi32(high, sum))
}

/// The dot products of vectors `FROM..TO` with both lines of the activations at `x`, in 32 bits.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_pairs<const BITS: usize, const FROM: usize, const TO: usize>(
    w: &[__m256i; 8],
    x: *const i32,
) -> __m256i {
    // SAFETY: two lines of 8 groups of 4 activations lie at `x`.
    let (coarse, fine) = unsafe {
        (
            dot_line::<BITS, FROM, TO>(w, x),
            dot_line::<BITS, FROM, TO>(w, x.add(8)),
        )
    };
    _mm256_add_epi32(_mm256_slli_epi32::<{ FINER_BITS as i32 }>(coarse), fine)
}

/// The dot products of vectors `FROM..TO` with one line of the activations at `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_line<const BITS: usize, const FROM: usize, const TO: usize>(
    w: &[__m256i; 8],
    x: *const i32,
) -> __m256i {
    // Sums of pairs that fit 16 bits before they must be widened: 2^15 / (2 * 127 * (2^bits - 1)).
    let fit = const {
        match BITS {
            2..=4 => 8,
            5 => 4,
            6 => 2,
            _ => 1,
        }
    };
    let ones = _mm256_set1_epi16(1);
    let mut sum = _mm256_setzero_si256();
    let mut narrow = _mm256_setzero_si256();
    for j in FROM..TO {
        // SAFETY: 8 groups of 4 activations lie at `x`.
        let x = _mm256_set1_epi32(unsafe { x.add(j).read_unaligned() });
        let pairs = if BITS == 8 {
            _mm256_maddubs_epi16(_mm256_abs_epi8(w[j]), _mm256_sign_epi8(x, w[j]))
        } else {
            _mm256_maddubs_epi16(w[j], x)
        };
        narrow = _mm256_add_epi16(narrow, pairs);
        if (j - FROM + 1).is_multiple_of(fit) || j + 1 == TO {
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, ones));
            narrow = _mm256_setzero_si256();
        }
    }
    sum
}

/// One tile of quantized weights times `M` rows.
///
/// # Safety
/// The CPU must have these instructions; the operands must be a whole tile and a panel of `M` rows.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn quant<const M: usize, const BITS: usize, const SCHEME: u8>(
    t: &QuantOperands,
    out: Outputs,
) {
    // SAFETY: the caller's promise.
    unsafe { quant_with::<M, BITS, SCHEME, false>(t, out) };
}

/// As [`quant`], with AVX-VNNI.
///
/// # Safety
/// As [`quant`].
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn quant_vnni<const M: usize, const BITS: usize, const SCHEME: u8>(
    t: &QuantOperands,
    out: Outputs,
) {
    // SAFETY: the caller's promise.
    unsafe { quant_with::<M, BITS, SCHEME, true>(t, out) };
}

/// Inlined into the two above, which have its instructions.
#[inline(always)]
unsafe fn quant_with<const M: usize, const BITS: usize, const SCHEME: u8, const VNNI: bool>(
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
        let halves = |at: *const u8| _mm256_cvtph_ps(_mm_loadu_si128(at.cast()));
        let mut sums = [[_mm256_setzero_ps(); M]; 2];
        for b in 0..t.blocks {
            super::ask_ahead::<BITS>(t, scheme, b);
            let block = t.quants.add(b * BITS * 64);
            for half in 0..2 {
                // Halves of f16 and of bytes in a plane of 16 rows.
                let (wide, narrow) = (16 * half, 8 * half);
                let (mut d, mut dmin) = (_mm256_setzero_ps(), _mm256_setzero_ps());
                if super_bytes(scheme) > 0 {
                    let supers = t.supers.add(b / 8 * super_bytes(scheme));
                    d = halves(supers.add(wide));
                    if super_bytes(scheme) == 64 {
                        dmin = halves(supers.add(32 + wide));
                    }
                }
                let w = integers::<BITS, VNNI>(block.add(32 * half));
                // The dot products of all columns, or of either half, with row m.
                let row = |m: usize| t.x.add((b * M + m) * 32 * LINES).cast();
                let dot = |m: usize| {
                    if VNNI && BITS == 4 {
                        let x = t.x.add((b * M + m) * twelve::BYTES);
                        dot_12(&w, block.add(32 * half), x)
                    } else if VNNI {
                        dot_vnni::<0, 8>(&w, row(m))
                    } else {
                        dot_pairs::<BITS, 0, 8>(&w, row(m))
                    }
                };
                let halves_of = |m: usize| {
                    if VNNI {
                        (dot_vnni::<0, 4>(&w, row(m)), dot_vnni::<4, 8>(&w, row(m)))
                    } else {
                        (
                            dot_pairs::<BITS, 0, 4>(&w, row(m)),
                            dot_pairs::<BITS, 4, 8>(&w, row(m)),
                        )
                    }
                };
                let s = t.scales.add(b * scale_bytes(scheme));
                let sums = &mut sums[half];
                match scheme {
                    Scheme::Offset32 => {
                        let scale = halves(s.add(wide));
                        for m in 0..M {
                            let mut sum = dot(m);
                            if BITS != 8 || VNNI {
                                let start = _mm256_set1_epi32(*t.x_corrections.add(b * M + m));
                                sum = _mm256_add_epi32(sum, start);
                            }
                            let scale =
                                _mm256_mul_ps(scale, _mm256_set1_ps(*t.x_scales.add(b * M + m)));
                            sums[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, sums[m]);
                        }
                    }
                    Scheme::Min32 | Scheme::Super32 => {
                        let (scale, min) = if SCHEME == MIN_32 {
                            (halves(s.add(wide)), halves(s.add(32 + wide)))
                        } else {
                            let small = |at: *const u8| {
                                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())))
                            };
                            let min = _mm256_mul_ps(dmin, small(s.add(16 + narrow)));
                            (
                                _mm256_mul_ps(d, small(s.add(narrow))),
                                _mm256_sub_ps(_mm256_setzero_ps(), min),
                            )
                        };
                        for m in 0..M {
                            let weighted = _mm256_set1_ps(*t.x_weighted.add(b * M + m));
                            let scale =
                                _mm256_mul_ps(scale, _mm256_set1_ps(*t.x_scales.add(b * M + m)));
                            let sum = dot(m);
                            sums[m] = _mm256_fmadd_ps(min, weighted, sums[m]);
                            sums[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, sums[m]);
                        }
                    }
                    Scheme::Super16Offset => {
                        let small = |at: *const u8| {
                            let integers = _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()));
                            _mm256_mul_ps(d, _mm256_cvtepi32_ps(integers))
                        };
                        let (low, high) = (small(s.add(narrow)), small(s.add(16 + narrow)));
                        for m in 0..M {
                            let start = t.x_corrections.add(2 * b * M + m);
                            let (a, c) = halves_of(m);
                            let a = _mm256_add_epi32(a, _mm256_set1_epi32(*start));
                            let c = _mm256_add_epi32(c, _mm256_set1_epi32(*start.add(M)));
                            let (a, c) = (_mm256_cvtepi32_ps(a), _mm256_cvtepi32_ps(c));
                            let sum = _mm256_fmadd_ps(a, low, _mm256_mul_ps(c, high));
                            let x_scale = _mm256_set1_ps(*t.x_scales.add(b * M + m));
                            sums[m] = _mm256_fmadd_ps(sum, x_scale, sums[m]);
                        }
                    }
                    Scheme::Super16Min => {
                        let small =
                            |at: *const u8| _mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast()));
                        let (low, high) = (small(s.add(narrow)), small(s.add(16 + narrow)));
                        let mask = _mm256_set1_epi32(15);
                        let (low_min, high_min) =
                            (_mm256_srli_epi32::<4>(low), _mm256_srli_epi32::<4>(high));
                        let (low, high) =
                            (_mm256_and_si256(low, mask), _mm256_and_si256(high, mask));
                        for m in 0..M {
                            let (a, c) = halves_of(m);
                            let x_sums = t.x_sums.add(2 * b * M + m);
                            let sum = _mm256_add_epi32(
                                _mm256_mullo_epi32(a, low),
                                _mm256_mullo_epi32(c, high),
                            );
                            let mins = _mm256_add_epi32(
                                _mm256_mullo_epi32(low_min, _mm256_set1_epi32(*x_sums)),
                                _mm256_mullo_epi32(high_min, _mm256_set1_epi32(*x_sums.add(M))),
                            );
                            let x_scale = _mm256_set1_ps(*t.x_scales.add(b * M + m));
                            let (scale, min) =
                                (_mm256_mul_ps(d, x_scale), _mm256_mul_ps(dmin, x_scale));
                            sums[m] = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(mins), min, sums[m]);
                            sums[m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, sums[m]);
                        }
                    }
                }
            }
        }
        for (half, sums) in sums.iter().enumerate() {
            for m in 0..M {
                _mm256_storeu_ps(out.row(m).add(8 * half), sums[m]);
            }
        }
    }
}

const F32: u8 = 0;
const F16: u8 = 1;
const BF16: u8 = 2;

/// One tile of float weights times `M` rows, 8 rows of the tile at a time.
///
/// # Safety
/// As [`quant`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn float<const M: usize, const FORMAT: u8>(t: &FloatOperands, out: Outputs) {
    let bytes = const { if FORMAT == F32 { 128 } else { 64 } };
    // SAFETY: of this whole block: as in `quant`; prefetching may name any address.
    unsafe {
        let pair = |p: usize, half: usize| {
            let at = t.numbers.add(p * bytes);
            match FORMAT {
                F32 => (
                    _mm256_loadu_ps(at.add(32 * half).cast()),
                    _mm256_loadu_ps(at.add(64 + 32 * half).cast()),
                ),
                F16 => (
                    _mm256_cvtph_ps(_mm_loadu_si128(at.add(16 * half).cast())),
                    _mm256_cvtph_ps(_mm_loadu_si128(at.add(32 + 16 * half).cast())),
                ),
                _ => {
                    let both = _mm256_loadu_si256(at.add(32 * half).cast());
                    let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
                    (
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(both)),
                        _mm256_castsi256_ps(_mm256_and_si256(both, high)),
                    )
                }
            }
        };
        let whole = t.cols / 2;
        // Halves at once: two chains of sums for few rows, registers for one with many.
        let at_once = const { if M <= 4 { 2 } else { 1 } };
        for first in (0..2).step_by(at_once) {
            let mut totals = [[_mm256_setzero_ps(); M]; 2];
            let mut start = 0;
            while start < whole {
                let end = (start + SUM_PAIRS).min(whole);
                let mut sums = [[_mm256_setzero_ps(); M]; 2];
                for p in start..end {
                    if first == 0 {
                        let at = t.numbers.wrapping_add(p * bytes + AHEAD);
                        for line in 0..bytes / 64 {
                            _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(64 * line).cast());
                        }
                    }
                    for half in 0..at_once {
                        let (a, b) = pair(p, first + half);
                        let sums = &mut sums[half];
                        for m in 0..M {
                            let x = t.x.add(m * t.cols + 2 * p);
                            sums[m] = _mm256_fmadd_ps(a, _mm256_set1_ps(*x), sums[m]);
                            sums[m] = _mm256_fmadd_ps(b, _mm256_set1_ps(*x.add(1)), sums[m]);
                        }
                    }
                }
                for half in 0..at_once {
                    for m in 0..M {
                        totals[half][m] = _mm256_add_ps(totals[half][m], sums[half][m]);
                    }
                }
                start = end;
            }
            for half in 0..at_once {
                for m in 0..M {
                    let mut total = totals[half][m];
                    if t.cols % 2 == 1 {
                        let x = _mm256_set1_ps(*t.x.add(m * t.cols + 2 * whole));
                        total = _mm256_fmadd_ps(pair(whole, first + half).0, x, total);
                    }
                    _mm256_storeu_ps(out.row(m).add(8 * (first + half)), total);
                }
            }
        }
    }
}
