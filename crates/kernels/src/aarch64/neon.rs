//! NEON with the dot products of Armv8.4 (`sdot`; optional before): a tile's vectors of 64 bytes are four registers, one
//! for each quad of its rows.
//!
//! `sdot` sums four products of signed bytes into each 32-bit lane, and takes the four activations from one lane of a
//! register, so 16 columns of a line of activations are one register and no broadcast is needed. Integers of up to 6 bits are
//! signed bytes as they are; 8-bit integers become so by flipping their sign bit, which takes their offset of 128 off.
//!
//! As compiled, a row of a panel costs 32 to 46 instructions for a block and a quad, 16 of them `sdot`, and unpacking 4 bits
//! another 12 for all rows. Counted, not timed: it ran under emulation only, so nothing is asked ahead of what the hardware
//! reads ahead by itself.

use crate::Format;
use crate::activations::{FINER_BITS, LINES, PANEL};
use crate::scalar::blocks::Scheme;
use crate::tile_product::{
    FloatKernel, FloatOperands, Outputs, QuantKernel, QuantOperands, by_rows,
};
use crate::tiles::{scale_bytes, super_bytes};
use std::arch::aarch64::*;
use std::arch::asm;

/// Quads of rows in a tile.
const QUADS: usize = 4;

/// Pairs of columns summed before their sum is added to the total, so that rounding grows with its square root only.
const SUM_PAIRS: usize = 64;

const OFFSET_32: u8 = Scheme::Offset32 as u8;
const MIN_32: u8 = Scheme::Min32 as u8;
const SUPER_32: u8 = Scheme::Super32 as u8;
const SUPER_16_OFFSET: u8 = Scheme::Super16Offset as u8;
const SUPER_16_MIN: u8 = Scheme::Super16Min as u8;

/// The kernels of a quantized format, by rows of the panel.
pub(crate) fn quant_kernels(bits: usize, scheme: Scheme) -> [QuantKernel; PANEL] {
    match (bits, scheme) {
        (4, Scheme::Offset32) => by_rows!(quant, 4, OFFSET_32),
        (5, Scheme::Offset32) => by_rows!(quant, 5, OFFSET_32),
        (_, Scheme::Offset32) => by_rows!(quant, 8, OFFSET_32),
        (4, Scheme::Min32) => by_rows!(quant, 4, MIN_32),
        (_, Scheme::Min32) => by_rows!(quant, 5, MIN_32),
        (4, Scheme::Super32) => by_rows!(quant, 4, SUPER_32),
        (_, Scheme::Super32) => by_rows!(quant, 5, SUPER_32),
        (3, Scheme::Super16Offset) => by_rows!(quant, 3, SUPER_16_OFFSET),
        (_, Scheme::Super16Offset) => by_rows!(quant, 6, SUPER_16_OFFSET),
        (_, Scheme::Super16Min) => by_rows!(quant, 2, SUPER_16_MIN),
    }
}

/// The kernels of a float format, by rows of the panel.
pub(crate) fn float_kernels(format: Format) -> [FloatKernel; PANEL] {
    match format {
        Format::F16 => by_rows!(float, F16),
        Format::BF16 => by_rows!(float, BF16),
        _ => by_rows!(float, F32),
    }
}

/// `sum` plus, for each of 4 rows, the product of its 4 bytes in `w` with the bytes of lane `LANE` of `x`.
///
/// As `vdotq_laneq_s32`, which is not stable (rust-lang/rust#117224).
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: usize>(mut sum: int32x4_t, w: uint8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes these registers only, and the function enables it.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            w = in(vreg) w,
            x = in(vreg) x,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// Both lines of 32 activations: columns 0..16 and 16..32 of the coarse line, then those of the fine one.
type Lines = [int8x16_t; 2 * LINES];

/// Adds the products of vectors `4 * HALF..4 * HALF + 4` with 16 activations of one line to `sum`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_16<const HALF: usize>(
    sum: int32x4_t,
    w: &[uint8x16_t; 8],
    lines: &Lines,
    line: usize,
) -> int32x4_t {
    let x = lines[2 * line + HALF];
    let sum = sdot::<0>(sum, w[4 * HALF], x);
    let sum = sdot::<1>(sum, w[4 * HALF + 1], x);
    let sum = sdot::<2>(sum, w[4 * HALF + 2], x);
    sdot::<3>(sum, w[4 * HALF + 3], x)
}

/// The sums of both lines as one integer.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn join(coarse: int32x4_t, fine: int32x4_t) -> int32x4_t {
    vaddq_s32(vshlq_n_s32::<{ FINER_BITS as i32 }>(coarse), fine)
}

/// `start` plus the products of half a block with both lines.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_half<const HALF: usize>(start: i32, w: &[uint8x16_t; 8], x: &Lines) -> int32x4_t {
    let coarse = dot_16::<HALF>(vdupq_n_s32(0), w, x, 0);
    join(coarse, dot_16::<HALF>(vdupq_n_s32(start), w, x, 1))
}

/// `start` plus the products of a block with both lines.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot_block(start: i32, w: &[uint8x16_t; 8], x: &Lines) -> int32x4_t {
    let coarse = dot_16::<1>(dot_16::<0>(vdupq_n_s32(0), w, x, 0), w, x, 0);
    let fine = dot_16::<1>(dot_16::<0>(vdupq_n_s32(start), w, x, 1), w, x, 1);
    join(coarse, fine)
}

/// A quad of rows of the 8 vectors of a block; see `tiles` for the planes. 8-bit integers come back signed.
///
/// # Safety
/// `quad` must be 16 bytes inside the first of `BITS` vectors of 64 bytes.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn integers<const BITS: usize>(quad: *const u8) -> [uint8x16_t; 8] {
    // SAFETY: `BITS` vectors lie there.
    let load = |v: usize| unsafe { vld1q_u8(quad.add(64 * v)) };
    let mut w = [vdupq_n_u8(0); 8];
    match BITS {
        8 => {
            let flip = vdupq_n_u8(0x80);
            for (j, w) in w.iter_mut().enumerate() {
                *w = veorq_u8(load(j), flip);
            }
        }
        2 | 3 => {
            let mask = vdupq_n_u8(3);
            for v in 0..2 {
                let u = load(v);
                w[v] = vandq_u8(u, mask);
                w[v + 2] = vandq_u8(vshrq_n_u8::<2>(u), mask);
                w[v + 4] = vandq_u8(vshrq_n_u8::<4>(u), mask);
                w[v + 6] = vshrq_n_u8::<6>(u);
            }
        }
        _ => {
            let mask = vdupq_n_u8(15);
            for v in 0..4 {
                let u = load(v);
                w[v] = vandq_u8(u, mask);
                w[v + 4] = vshrq_n_u8::<4>(u);
            }
        }
    }
    // Bits above come from a plane of their own, moved to their place; a select puts them in.
    match BITS {
        3 | 5 => {
            let (h, mask, target) = if BITS == 3 {
                (load(2), vdupq_n_u8(4), 2)
            } else {
                (load(4), vdupq_n_u8(16), 4)
            };
            for (j, w) in w.iter_mut().enumerate() {
                // Bit j moves to bit 2 or 4; a negative count moves right.
                let moved = vshlq_u8(h, vdupq_n_s8(target - j as i8));
                *w = vbslq_u8(mask, moved, *w);
            }
        }
        6 => {
            let mask = vdupq_n_u8(0x30);
            for v in 0..2 {
                let h = load(4 + v);
                w[v] = vbslq_u8(mask, vshlq_n_u8::<4>(h), w[v]);
                w[v + 2] = vbslq_u8(mask, vshlq_n_u8::<2>(h), w[v + 2]);
                w[v + 4] = vbslq_u8(mask, h, w[v + 4]);
                w[v + 6] = vbslq_u8(mask, vshrq_n_u8::<2>(h), w[v + 6]);
            }
        }
        _ => {}
    }
    w
}

/// 4 half floats.
///
/// # Safety
/// They must be readable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn halves(at: *const u8) -> float32x4_t {
    // SAFETY: the caller's promise; such a load needs no alignment.
    vcvt_f32_f16(vreinterpret_f16_u16(unsafe { vld1_u16(at.cast()) }))
}

/// 4 unsigned bytes.
///
/// # Safety
/// They must be readable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn bytes(at: *const u8) -> uint32x4_t {
    // SAFETY: the caller's promise.
    let four = vcreate_u8(u64::from(unsafe { at.cast::<u32>().read_unaligned() }));
    vmovl_u16(vget_low_u16(vmovl_u8(four)))
}

/// 4 signed bytes as floats.
///
/// # Safety
/// They must be readable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn signed_bytes(at: *const u8) -> float32x4_t {
    // SAFETY: the caller's promise.
    let four = vcreate_s8(u64::from(unsafe { at.cast::<u32>().read_unaligned() }));
    vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(four))))
}

/// One tile of quantized weights times `M` rows.
///
/// # Safety
/// The CPU must have these instructions; the operands must be a whole tile and a panel of `M` rows.
#[target_feature(enable = "neon,dotprod")]
unsafe fn quant<const M: usize, const BITS: usize, const SCHEME: u8>(
    t: &QuantOperands,
    out: Outputs,
) {
    // SAFETY: of this whole block: every address is inside the operands, whose sizes are the caller's promise.
    unsafe {
        // Of few rows in registers; of many in the first cache, a load and a store beside 16 `sdot`.
        let mut sums = [[vdupq_n_f32(0.0); M]; QUADS];
        for b in 0..t.blocks {
            for (quad, sums) in sums.iter_mut().enumerate() {
                add_block::<M, BITS, SCHEME>(t, b, quad, sums);
            }
        }
        for (quad, sums) in sums.iter().enumerate() {
            for m in 0..M {
                vst1q_f32(out.row(m).add(4 * quad), sums[m]);
            }
        }
    }
}

/// Adds what block `b` of one quad of rows gives to the sums of `M` rows.
///
/// # Safety
/// As [`quant`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn add_block<const M: usize, const BITS: usize, const SCHEME: u8>(
    t: &QuantOperands,
    b: usize,
    quad: usize,
    sums: &mut [float32x4_t; M],
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
    // Quads of f16 and of bytes in a plane of 16 rows.
    let (wide, narrow) = (8 * quad, 4 * quad);
    // SAFETY: of this whole block: as in `quant`.
    unsafe {
        let (mut d, mut dmin) = (vdupq_n_f32(0.0), vdupq_n_f32(0.0));
        if super_bytes(scheme) > 0 {
            let supers = t.supers.add(b / 8 * super_bytes(scheme));
            d = halves(supers.add(wide));
            if super_bytes(scheme) == 64 {
                dmin = halves(supers.add(32 + wide));
            }
        }
        let w = integers::<BITS>(t.quants.add(b * BITS * 64 + 16 * quad));
        let s = t.scales.add(b * scale_bytes(scheme));
        let lines = |m: usize| -> Lines {
            let x = t.x.add((b * M + m) * 32 * LINES);
            std::array::from_fn(|i| vld1q_s8(x.add(16 * i)))
        };
        match scheme {
            Scheme::Offset32 => {
                let scale = halves(s.add(wide));
                for m in 0..M {
                    let start = if BITS == 8 {
                        0
                    } else {
                        *t.x_corrections.add(b * M + m)
                    };
                    let sum = vcvtq_f32_s32(dot_block(start, &w, &lines(m)));
                    let scale = vmulq_n_f32(scale, *t.x_scales.add(b * M + m));
                    sums[m] = vfmaq_f32(sums[m], sum, scale);
                }
            }
            Scheme::Min32 | Scheme::Super32 => {
                let (scale, min) = if SCHEME == MIN_32 {
                    (halves(s.add(wide)), halves(s.add(32 + wide)))
                } else {
                    let small = |at: *const u8| vcvtq_f32_u32(bytes(at));
                    let min = vmulq_f32(dmin, small(s.add(16 + narrow)));
                    (vmulq_f32(d, small(s.add(narrow))), vnegq_f32(min))
                };
                for m in 0..M {
                    let sum = vcvtq_f32_s32(dot_block(0, &w, &lines(m)));
                    let scale = vmulq_n_f32(scale, *t.x_scales.add(b * M + m));
                    sums[m] = vfmaq_n_f32(sums[m], min, *t.x_weighted.add(b * M + m));
                    sums[m] = vfmaq_f32(sums[m], sum, scale);
                }
            }
            Scheme::Super16Offset => {
                let low = vmulq_f32(d, signed_bytes(s.add(narrow)));
                let high = vmulq_f32(d, signed_bytes(s.add(16 + narrow)));
                for m in 0..M {
                    let x = lines(m);
                    let start = t.x_corrections.add(2 * b * M + m);
                    let a = vcvtq_f32_s32(dot_half::<0>(*start, &w, &x));
                    let c = vcvtq_f32_s32(dot_half::<1>(*start.add(M), &w, &x));
                    let sum = vfmaq_f32(vmulq_f32(c, high), a, low);
                    sums[m] = vfmaq_n_f32(sums[m], sum, *t.x_scales.add(b * M + m));
                }
            }
            Scheme::Super16Min => {
                let (low, high) = (bytes(s.add(narrow)), bytes(s.add(16 + narrow)));
                let min = |both| vreinterpretq_s32_u32(vshrq_n_u32::<4>(both));
                let scale = |both| vreinterpretq_s32_u32(vandq_u32(both, vdupq_n_u32(15)));
                let (low_min, high_min) = (min(low), min(high));
                let (low, high) = (scale(low), scale(high));
                for m in 0..M {
                    let x = lines(m);
                    let x_sums = t.x_sums.add(2 * b * M + m);
                    let sum = vmulq_s32(dot_half::<0>(0, &w, &x), low);
                    let sum = vmlaq_s32(sum, dot_half::<1>(0, &w, &x), high);
                    let mins = vmulq_n_s32(low_min, *x_sums);
                    let mins = vmlaq_n_s32(mins, high_min, *x_sums.add(M));
                    let x_scale = *t.x_scales.add(b * M + m);
                    let (scale, min) = (vmulq_n_f32(d, x_scale), vmulq_n_f32(dmin, x_scale));
                    sums[m] = vfmsq_f32(sums[m], vcvtq_f32_s32(mins), min);
                    sums[m] = vfmaq_f32(sums[m], vcvtq_f32_s32(sum), scale);
                }
            }
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
#[target_feature(enable = "neon,dotprod")]
unsafe fn float<const M: usize, const FORMAT: u8>(t: &FloatOperands, out: Outputs) {
    let pair_bytes = const { if FORMAT == F32 { 128 } else { 64 } };
    // SAFETY: of this whole block: as in `quant`.
    unsafe {
        // Both columns of a quad of rows.
        let pair = |p: usize, quad: usize| {
            let at = t.numbers.add(p * pair_bytes);
            match FORMAT {
                F32 => (
                    vld1q_f32(at.add(16 * quad).cast()),
                    vld1q_f32(at.add(64 + 16 * quad).cast()),
                ),
                F16 => (halves(at.add(8 * quad)), halves(at.add(32 + 8 * quad))),
                _ => {
                    let both = vld1q_u32(at.add(16 * quad).cast());
                    let high = vdupq_n_u32(0xffff_0000);
                    (
                        vreinterpretq_f32_u32(vshlq_n_u32::<16>(both)),
                        vreinterpretq_f32_u32(vandq_u32(both, high)),
                    )
                }
            }
        };
        let whole = t.cols / 2;
        // Quads at once: chains of sums for few rows, registers for many.
        let at_once = const { if M <= 4 { 4 } else { 2 } };
        for first in (0..QUADS).step_by(at_once) {
            let mut totals = [[vdupq_n_f32(0.0); M]; QUADS];
            let mut start = 0;
            while start < whole {
                let end = (start + SUM_PAIRS).min(whole);
                let mut sums = [[vdupq_n_f32(0.0); M]; QUADS];
                for p in start..end {
                    // Quads inside rows: the numbers of one row at a time are in a register.
                    let w: [_; QUADS] = std::array::from_fn(|quad| pair(p, first + quad % at_once));
                    for m in 0..M {
                        let x = vld1_f32(t.x.add(m * t.cols + 2 * p));
                        for quad in 0..at_once {
                            let sum = vfmaq_lane_f32::<0>(sums[quad][m], w[quad].0, x);
                            sums[quad][m] = vfmaq_lane_f32::<1>(sum, w[quad].1, x);
                        }
                    }
                }
                for (totals, sums) in totals[..at_once].iter_mut().zip(&sums) {
                    for m in 0..M {
                        totals[m] = vaddq_f32(totals[m], sums[m]);
                    }
                }
                start = end;
            }
            for (quad, totals) in totals[..at_once].iter().enumerate() {
                for m in 0..M {
                    let mut total = totals[m];
                    if t.cols % 2 == 1 {
                        let x = *t.x.add(m * t.cols + 2 * whole);
                        total = vfmaq_n_f32(total, pair(whole, first + quad).0, x);
                    }
                    vst1q_f32(out.row(m).add(4 * (first + quad)), total);
                }
            }
        }
    }
}
