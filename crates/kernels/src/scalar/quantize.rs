//! Numbers to blocks: the quantizers that make model files.
//!
//! Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 give ggml's own bytes (`quantize_row_*_ref`). Q4_K, Q5_K and Q6_K search for their
//! scales (`search`). Q2_K and Q3_K, which no file is made of, use plain minimum and maximum per group: valid blocks, a
//! little less exact.

use super::blocks::{Scheme, scheme};
use super::search;
use crate::simd::vectorized;
use crate::{Format, Isa};
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

/// Half floats converted at once: the instruction is asked for once for them.
pub(super) const HALVES: usize = 256;

/// Numbers to the bytes of `format`.
///
/// # Panics
/// If `x` is no whole number of blocks, or `out` is not exactly their bytes.
pub fn quantize(format: Format, x: &[f32], out: &mut [u8]) {
    quantize_blocks(format, x, out);
}

/// As `quantize`, with the loops compiled for `isa`: the same bytes, sooner.
///
/// # Panics
/// If `x` is no whole number of blocks, or `out` is not exactly their bytes.
pub fn quantize_on(isa: Isa, format: Format, x: &[f32], out: &mut [u8]) {
    vectorized(
        isa,
        #[inline(always)]
        || quantize_blocks(format, x, out),
    );
}

#[inline(always)]
fn quantize_blocks(format: Format, x: &[f32], out: &mut [u8]) {
    assert_eq!(
        format.row_bytes(x.len()),
        Some(out.len()),
        "{} numbers of {format} are not {} bytes",
        x.len(),
        out.len()
    );
    if format == Format::F16 {
        return put_halves(x, out);
    }
    let blocks = x
        .chunks_exact(format.block_elems())
        .zip(out.chunks_exact_mut(format.block_bytes()));
    for (x, out) in blocks {
        match format {
            Format::F32 => out.copy_from_slice(&x[0].to_le_bytes()),
            Format::F16 => unreachable!("written above"),
            Format::BF16 => out.copy_from_slice(&bf16::from_f32(x[0]).to_le_bytes()),
            Format::Q4_0 => offset_block(x, out, 8, false),
            Format::Q5_0 => offset_block(x, out, 16, true),
            Format::Q4_1 => min_block(x, out, 15, false),
            Format::Q5_1 => min_block(x, out, 31, true),
            Format::Q8_0 => q8_block(x, out),
            Format::Q4_K | Format::Q5_K | Format::Q6_K => {
                let x = x.try_into().expect("a K block has 256 numbers");
                if format == Format::Q6_K {
                    search::block_symmetric(x, out);
                } else {
                    search::block_with_mins(format, x, out);
                }
            }
            Format::Q2_K | Format::Q3_K => k_block(format, x, out),
        }
    }
}

/// F16, many at once.
fn put_halves(x: &[f32], out: &mut [u8]) {
    let mut halves = [f16::ZERO; HALVES];
    for (x, out) in x.chunks(HALVES).zip(out.chunks_mut(2 * HALVES)) {
        halves[..x.len()].convert_from_f32_slice(x);
        for (half, out) in halves.iter().zip(out.as_chunks_mut::<2>().0) {
            *out = half.to_le_bytes();
        }
    }
}

#[inline(always)]
pub(super) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

#[inline(always)]
fn put_half(out: &mut [u8], at: usize, value: f32) {
    out[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
}

#[inline(always)]
fn put_nibbles(q: &[u8], out: &mut [u8]) {
    for j in 0..16 {
        out[j] = (q[j] & 15) | ((q[j + 16] & 15) << 4);
    }
}

#[inline(always)]
fn put_fifth_bits(q: &[u8], out: &mut [u8]) {
    let bits = q
        .iter()
        .enumerate()
        .fold(0_u32, |bits, (j, q)| bits | (u32::from(q >> 4) & 1) << j);
    out.copy_from_slice(&bits.to_le_bytes());
}

/// Q4_0 and Q5_0: the number of largest magnitude becomes `-half`.
#[inline(always)]
fn offset_block(x: &[f32], out: &mut [u8], half: u8, five: bool) {
    let largest = x
        .iter()
        .fold(0.0_f32, |m, v| if v.abs() > m.abs() { *v } else { m });
    let d = largest / -f32::from(half);
    let id = inverse(d);
    let mut q = [0_u8; 32];
    for (q, v) in q.iter_mut().zip(x) {
        *q = ((v * id + (f32::from(half) + 0.5)) as i8).min(2 * half as i8 - 1) as u8;
    }
    put_half(out, 0, d);
    if five {
        put_fifth_bits(&q, &mut out[2..6]);
        put_nibbles(&q, &mut out[6..22]);
    } else {
        put_nibbles(&q, &mut out[2..18]);
    }
}

/// Q4_1 and Q5_1: from the minimum up in `steps` steps.
#[inline(always)]
fn min_block(x: &[f32], out: &mut [u8], steps: u8, five: bool) {
    let min = x.iter().copied().fold(f32::MAX, f32::min);
    let max = x.iter().copied().fold(f32::MIN, f32::max);
    let d = (max - min) / f32::from(steps);
    let id = inverse(d);
    let mut q = [0_u8; 32];
    for (q, v) in q.iter_mut().zip(x) {
        *q = (((v - min) * id + 0.5) as i8).min(steps as i8) as u8;
    }
    put_half(out, 0, d);
    put_half(out, 2, min);
    if five {
        put_fifth_bits(&q, &mut out[4..8]);
        put_nibbles(&q, &mut out[8..24]);
    } else {
        put_nibbles(&q, &mut out[4..20]);
    }
}

#[inline(always)]
fn q8_block(x: &[f32], out: &mut [u8]) {
    let d = x.iter().fold(0.0_f32, |m, v| m.max(v.abs())) / 127.0;
    let id = inverse(d);
    put_half(out, 0, d);
    for (o, v) in out[2..].iter_mut().zip(x) {
        *o = (v * id).round() as i8 as u8;
    }
}

/// A block of Q2_K or Q3_K: each group's own scale (and minimum) first, then the block's, then the integers.
fn k_block(format: Format, x: &[f32], out: &mut [u8]) {
    let (bits, offset, scheme) = scheme(format).expect("a quantized format has a scheme");
    let (group, groups) = (16, 16);
    let top = f32::from((1_u16 << bits) - 1);
    let (mut scales, mut mins) = ([0.0_f32; 16], [0.0_f32; 16]);
    for (g, x) in x.chunks_exact(group).enumerate() {
        if scheme == Scheme::Super16Offset {
            let largest = x
                .iter()
                .fold(0.0_f32, |m, v| if v.abs() > m.abs() { *v } else { m });
            scales[g] = largest / -(offset as f32);
        } else {
            let min = x.iter().copied().fold(0.0, f32::min);
            let max = x.iter().copied().fold(0.0, f32::max);
            (scales[g], mins[g]) = ((max - min) / top, -min);
        }
    }
    let largest = scales
        .iter()
        .fold(0.0_f32, |m, v| if v.abs() > m.abs() { *v } else { m });
    let (limit, low) = match format {
        Format::Q2_K => (15.0, 0.0),
        _ => (-32.0, -32.0),
    };
    let d = f16::from_f32(largest / limit).to_f32();
    let dmin = f16::from_f32(mins.iter().copied().fold(0.0, f32::max) / 15.0).to_f32();
    let (mut is, mut im, mut q) = ([0_i8; 16], [0_u8; 16], [0_u8; 256]);
    for g in 0..groups {
        is[g] = (scales[g] * inverse(d))
            .round()
            .clamp(low, f32::abs(limit) - f32::from(u8::from(low < 0.0))) as i8;
        im[g] = (mins[g] * inverse(dmin)).round().min(15.0) as u8;
        let id = inverse(d * f32::from(is[g]));
        let min = dmin * f32::from(im[g]);
        for i in g * group..(g + 1) * group {
            q[i] = ((x[i] + min) * id + offset as f32).round().clamp(0.0, top) as u8;
        }
    }
    put_k(format, d, dmin, &is, &im, &q, out);
}

/// Lays a K block's parts out as ggml does; the inverse of `read_block`, with one scale and minimum for each of Q4_K's
/// and Q5_K's 8 groups.
#[inline(always)]
pub(super) fn put_k(
    format: Format,
    d: f32,
    dmin: f32,
    is: &[i8; 16],
    im: &[u8; 16],
    q: &[u8; 256],
    out: &mut [u8],
) {
    out.fill(0);
    match format {
        Format::Q2_K => {
            for g in 0..16 {
                out[g] = is[g] as u8 | (im[g] << 4);
            }
            put_two_bits(q, &mut out[16..80]);
            put_half(out, 80, d);
            put_half(out, 82, dmin);
        }
        Format::Q3_K => {
            put_two_bits(q, &mut out[32..96]);
            for (i, q) in q.iter().enumerate() {
                out[i % 32] |= ((q >> 2) & 1) << (i / 32);
            }
            for g in 0..16 {
                let s = (is[g] + 32) as u8;
                out[96 + g % 8] |= (s & 15) << (4 * (g / 8));
                out[104 + g % 4] |= (s >> 4) << (2 * (g / 4));
            }
            put_half(out, 108, d);
        }
        Format::Q6_K => {
            for (i, q) in q.iter().enumerate() {
                let (n, part, l) = (i / 128, i % 128 / 32, i % 32);
                out[64 * n + 32 * (part % 2) + l] |= (q & 15) << (4 * (part / 2));
                out[128 + 32 * n + l] |= (q >> 4) << (2 * part);
            }
            for g in 0..16 {
                out[192 + g] = is[g] as u8;
            }
            put_half(out, 208, d);
        }
        _ => {
            put_half(out, 0, d);
            put_half(out, 2, dmin);
            for j in 0..8 {
                let (s, m) = (is[j] as u8, im[j]);
                if j < 4 {
                    out[4 + j] |= s;
                    out[8 + j] |= m;
                } else {
                    out[8 + j] = (s & 15) | ((m & 15) << 4);
                    out[j] |= (s >> 4) << 6;
                    out[4 + j] |= (m >> 4) << 6;
                }
            }
            let low = if format == Format::Q4_K { 16 } else { 48 };
            for (i, q) in q.iter().enumerate() {
                out[low + 32 * (i / 64) + i % 32] |= (q & 15) << (4 * (i / 32 % 2));
                if format == Format::Q5_K {
                    out[16 + i % 32] |= (q >> 4) << (i / 32);
                }
            }
        }
    }
}

#[inline(always)]
fn put_two_bits(q: &[u8; 256], out: &mut [u8]) {
    for (i, q) in q.iter().enumerate() {
        out[32 * (i / 128) + i % 32] |= (q & 3) << (2 * (i / 32 % 4));
    }
}
