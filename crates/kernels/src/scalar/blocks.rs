//! What the bytes of a block mean: integers, scales and minima, as ggml lays them out (ggml-common.h, ggml-quants.c).
//!
//! The one place that knows source layouts; `dequantize` and the packing of tiles both read blocks through it.

use crate::Format;
use half::f16;

/// A block's numbers taken apart. Element `i` belongs to group `i / 16` and is worth
/// `scale(group) * (q[i] - offset) - min(group)`; see [`Block::value`].
#[derive(Clone)]
pub(crate) struct Block {
    /// Unsigned integers; `elems` of them are used.
    pub q: [u8; 256],
    /// Scale of the block, as stored.
    pub d: f16,
    /// Scale of the minima, as stored; in Q4_1 and Q5_1 the minimum itself.
    pub dmin: f16,
    /// Integer scale of each group of 16 (1 where the format has none).
    pub scales: [i8; 16],
    /// Integer minimum of each group of 16 (0 where the format has none).
    pub mins: [u8; 16],
}

impl Block {
    pub(crate) const EMPTY: Self = Self {
        q: [0; 256],
        d: f16::ZERO,
        dmin: f16::ZERO,
        scales: [1; 16],
        mins: [0; 16],
    };
}

/// How a quantized format turns integers into numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `d * (q - offset)`, one f16 `d` in 32.
    Offset32,
    /// `d * q + m`, f16 `d` and `m` in 32.
    Min32,
    /// `d * scale * q - dmin * min`, 6-bit `scale` and `min` in 32, f16 `d` and `dmin` in 256.
    Super32,
    /// `d * scale * (q - offset)`, i8 `scale` in 16, f16 `d` in 256.
    Super16Offset,
    /// `d * scale * q - dmin * min`, 4-bit `scale` and `min` in 16, f16 `d` and `dmin` in 256.
    Super16Min,
}

/// Bits of an integer, its offset and the scheme of a quantized format; none for floats.
pub(crate) const fn scheme(format: Format) -> Option<(u32, i32, Scheme)> {
    Some(match format {
        Format::F32 | Format::F16 | Format::BF16 => return None,
        Format::Q4_0 => (4, 8, Scheme::Offset32),
        Format::Q4_1 => (4, 0, Scheme::Min32),
        Format::Q5_0 => (5, 16, Scheme::Offset32),
        Format::Q5_1 => (5, 0, Scheme::Min32),
        Format::Q8_0 => (8, 128, Scheme::Offset32),
        Format::Q2_K => (2, 0, Scheme::Super16Min),
        Format::Q3_K => (3, 4, Scheme::Super16Offset),
        Format::Q4_K => (4, 0, Scheme::Super32),
        Format::Q5_K => (5, 0, Scheme::Super32),
        Format::Q6_K => (6, 32, Scheme::Super16Offset),
    })
}

/// The number that integer `q` stands for, in ggml's order of operations, so that every reader gets the same bits.
#[inline(always)]
pub(crate) fn value(
    scheme: Scheme,
    offset: i32,
    q: u8,
    d: f32,
    dmin: f32,
    scale: i8,
    min: u8,
) -> f32 {
    match scheme {
        Scheme::Offset32 => d * (i32::from(q) - offset) as f32,
        Scheme::Min32 => d * f32::from(q) + dmin,
        Scheme::Super16Offset => (d * f32::from(scale)) * (i32::from(q) - offset) as f32,
        Scheme::Super32 | Scheme::Super16Min => {
            (d * f32::from(scale)) * f32::from(q) - dmin * f32::from(min)
        }
    }
}

fn half_at(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Scale and minimum `j` of the 12 bytes that hold eight of each in 6 bits (`get_scale_min_k4`).
fn scale_min(s: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (
            (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4),
            (s[j + 4] >> 4) | ((s[j] >> 6) << 4),
        )
    }
}

/// Takes one block of a quantized format apart.
///
/// # Panics
/// If `bytes` is no block of `format`, or `format` is a float.
#[inline]
pub(crate) fn read_block(format: Format, bytes: &[u8], block: &mut Block) {
    assert_eq!(bytes.len(), format.block_bytes());
    match format {
        Format::F32 | Format::F16 | Format::BF16 => unreachable!("floats have no blocks"),
        Format::Q4_0 => {
            block.d = half_at(bytes, 0);
            nibbles(&bytes[2..18], &mut block.q);
        }
        Format::Q4_1 => {
            block.d = half_at(bytes, 0);
            block.dmin = half_at(bytes, 2);
            nibbles(&bytes[4..20], &mut block.q);
        }
        Format::Q5_0 => {
            block.d = half_at(bytes, 0);
            nibbles(&bytes[6..22], &mut block.q);
            fifth_bits(&bytes[2..6], &mut block.q);
        }
        Format::Q5_1 => {
            block.d = half_at(bytes, 0);
            block.dmin = half_at(bytes, 2);
            nibbles(&bytes[8..24], &mut block.q);
            fifth_bits(&bytes[4..8], &mut block.q);
        }
        Format::Q8_0 => {
            block.d = half_at(bytes, 0);
            for (q, b) in block.q[..32].iter_mut().zip(&bytes[2..34]) {
                *q = b ^ 0x80;
            }
        }
        Format::Q2_K => {
            for g in 0..16 {
                block.scales[g] = (bytes[g] & 15) as i8;
                block.mins[g] = bytes[g] >> 4;
            }
            two_bits(&bytes[16..80], &mut block.q);
            block.d = half_at(bytes, 80);
            block.dmin = half_at(bytes, 82);
        }
        Format::Q3_K => {
            let (high, s) = (&bytes[..32], &bytes[96..108]);
            two_bits(&bytes[32..96], &mut block.q);
            for (j, chunk) in block.q.chunks_exact_mut(32).enumerate() {
                for (q, h) in chunk.iter_mut().zip(high) {
                    *q |= ((h >> j) & 1) << 2;
                }
            }
            for g in 0..16 {
                let low = if g < 8 { s[g] & 15 } else { s[g - 8] >> 4 };
                let top = (s[8 + g % 4] >> (2 * (g / 4))) & 3;
                block.scales[g] = (low | (top << 4)) as i8 - 32;
            }
            block.d = half_at(bytes, 108);
        }
        Format::Q4_K | Format::Q5_K => {
            block.d = half_at(bytes, 0);
            block.dmin = half_at(bytes, 2);
            for j in 0..8 {
                let (scale, min) = scale_min(&bytes[4..16], j);
                block.scales[2 * j..2 * j + 2].fill(scale as i8);
                block.mins[2 * j..2 * j + 2].fill(min);
            }
            let low = if format == Format::Q4_K { 16 } else { 48 };
            for (q, b) in block
                .q
                .chunks_exact_mut(64)
                .zip(bytes[low..].chunks_exact(32))
            {
                for l in 0..32 {
                    q[l] = b[l] & 15;
                    q[l + 32] = b[l] >> 4;
                }
            }
            if format == Format::Q5_K {
                let high = &bytes[16..48];
                for (j, chunk) in block.q.chunks_exact_mut(32).enumerate() {
                    for (q, h) in chunk.iter_mut().zip(high) {
                        *q |= ((h >> j) & 1) << 4;
                    }
                }
            }
        }
        Format::Q6_K => {
            for n in 0..2 {
                let low = &bytes[64 * n..64 * n + 64];
                let high = &bytes[128 + 32 * n..160 + 32 * n];
                let q = &mut block.q[128 * n..128 * n + 128];
                for l in 0..32 {
                    q[l] = (low[l] & 15) | ((high[l] & 3) << 4);
                    q[l + 32] = (low[l + 32] & 15) | (((high[l] >> 2) & 3) << 4);
                    q[l + 64] = (low[l] >> 4) | (((high[l] >> 4) & 3) << 4);
                    q[l + 96] = (low[l + 32] >> 4) | ((high[l] >> 6) << 4);
                }
            }
            for g in 0..16 {
                block.scales[g] = bytes[192 + g] as i8;
            }
            block.d = half_at(bytes, 208);
        }
    }
}

fn nibbles(bytes: &[u8], q: &mut [u8; 256]) {
    for (j, b) in bytes.iter().enumerate().take(16) {
        q[j] = b & 15;
        q[j + 16] = b >> 4;
    }
}

fn fifth_bits(bytes: &[u8], q: &mut [u8; 256]) {
    let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for (j, q) in q[..32].iter_mut().enumerate() {
        *q |= (((bits >> j) & 1) << 4) as u8;
    }
}

fn two_bits(bytes: &[u8], q: &mut [u8; 256]) {
    for (chunk, (n, j)) in q
        .chunks_exact_mut(32)
        .zip((0..2).flat_map(|n| (0..4).map(move |j| (n, j))))
    {
        for (q, b) in chunk.iter_mut().zip(&bytes[32 * n..32 * n + 32]) {
            *q = (b >> (2 * j)) & 3;
        }
    }
}
