//! Stored weights back to f32, fast: what `scalar::dequantize` says, bit for bit, in loops that become wide ones when they
//! are inlined into a function with an instruction set.
//!
//! Formats that models are trained on have a loop of their own; Q2_K and Q3_K go by way of `scalar::blocks`.

use crate::Format;
use crate::scalar::blocks::{Block, read_block, scheme, value};

/// f16 to f32 without a table or a call: the exponent is moved by a multiplication, which is exact, also of subnormals.
#[inline(always)]
fn half(bits: u16) -> f32 {
    let shifted = u32::from(bits & 0x7fff) << 13;
    let size = if bits & 0x7c00 == 0x7c00 {
        f32::from_bits(shifted | 0x7f80_0000)
    } else {
        f32::from_bits(shifted) * f32::from_bits((127 + 112) << 23)
    };
    f32::from_bits(size.to_bits() | (u32::from(bits & 0x8000) << 16))
}

#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    half(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// The blocks of `bytes` with the numbers they become, each of a length the compiler knows.
macro_rules! blocks {
    ($bytes:expr, $out:expr, $len:literal, $size:literal, |$b:ident, $o:ident| $body:block) => {
        for ($b, $o) in $bytes
            .as_chunks::<$size>()
            .0
            .iter()
            .zip($out.as_chunks_mut::<$len>().0)
        $body
    };
}

/// The numbers of whole blocks; `bytes` and `out` are of one length in blocks, which the caller vouches for.
#[inline(always)]
pub(super) fn decode(format: Format, bytes: &[u8], out: &mut [f32]) {
    match format {
        Format::F32 => {
            for (o, b) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *o = f32::from_le_bytes(*b);
            }
        }
        Format::F16 => {
            for (o, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *o = half(u16::from_le_bytes(*b));
            }
        }
        Format::BF16 => {
            for (o, b) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *o = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
        Format::Q4_0 => blocks!(bytes, out, 32, 18, |b, o| {
            let d = half_at(b, 0);
            for l in 0..16 {
                o[l] = d * (i32::from(b[2 + l] & 15) - 8) as f32;
                o[l + 16] = d * (i32::from(b[2 + l] >> 4) - 8) as f32;
            }
        }),
        Format::Q4_1 => blocks!(bytes, out, 32, 20, |b, o| {
            let (d, m) = (half_at(b, 0), half_at(b, 2));
            for l in 0..16 {
                o[l] = d * f32::from(b[4 + l] & 15) + m;
                o[l + 16] = d * f32::from(b[4 + l] >> 4) + m;
            }
        }),
        Format::Q5_0 => blocks!(bytes, out, 32, 22, |b, o| {
            let d = half_at(b, 0);
            let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
            for l in 0..16 {
                let (first, second) = (((high >> l) & 1) << 4, ((high >> (l + 16)) & 1) << 4);
                o[l] = d * ((u32::from(b[6 + l] & 15) | first) as i32 - 16) as f32;
                o[l + 16] = d * ((u32::from(b[6 + l] >> 4) | second) as i32 - 16) as f32;
            }
        }),
        Format::Q5_1 => blocks!(bytes, out, 32, 24, |b, o| {
            let (d, m) = (half_at(b, 0), half_at(b, 2));
            let high = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
            for l in 0..16 {
                let (first, second) = (((high >> l) & 1) << 4, ((high >> (l + 16)) & 1) << 4);
                o[l] = d * (u32::from(b[8 + l] & 15) | first) as f32 + m;
                o[l + 16] = d * (u32::from(b[8 + l] >> 4) | second) as f32 + m;
            }
        }),
        Format::Q8_0 => blocks!(bytes, out, 32, 34, |b, o| {
            let d = half_at(b, 0);
            for l in 0..32 {
                o[l] = d * (b[2 + l] as i8) as f32;
            }
        }),
        Format::Q4_K => blocks!(bytes, out, 256, 144, |b, o| {
            let (d, dmin) = (half_at(b, 0), half_at(b, 2));
            for j in 0..4 {
                let (low, high) = (six_bits(&b[4..16], 2 * j), six_bits(&b[4..16], 2 * j + 1));
                let (d1, m1) = (d * f32::from(low.0), dmin * f32::from(low.1));
                let (d2, m2) = (d * f32::from(high.0), dmin * f32::from(high.1));
                let (q, o) = (&b[16 + 32 * j..48 + 32 * j], &mut o[64 * j..64 * j + 64]);
                for l in 0..32 {
                    o[l] = d1 * f32::from(q[l] & 15) - m1;
                    o[l + 32] = d2 * f32::from(q[l] >> 4) - m2;
                }
            }
        }),
        Format::Q5_K => blocks!(bytes, out, 256, 176, |b, o| {
            let (d, dmin) = (half_at(b, 0), half_at(b, 2));
            let high_bits = &b[16..48];
            for j in 0..4 {
                let (low, high) = (six_bits(&b[4..16], 2 * j), six_bits(&b[4..16], 2 * j + 1));
                let (d1, m1) = (d * f32::from(low.0), dmin * f32::from(low.1));
                let (d2, m2) = (d * f32::from(high.0), dmin * f32::from(high.1));
                let (q, o) = (&b[48 + 32 * j..80 + 32 * j], &mut o[64 * j..64 * j + 64]);
                for l in 0..32 {
                    let h = high_bits[l] >> (2 * j);
                    o[l] = d1 * f32::from((q[l] & 15) | ((h & 1) << 4)) - m1;
                    o[l + 32] = d2 * f32::from((q[l] >> 4) | ((h & 2) << 3)) - m2;
                }
            }
        }),
        Format::Q6_K => blocks!(bytes, out, 256, 210, |b, o| {
            let d = half_at(b, 208);
            for n in 0..2 {
                let low = &b[64 * n..64 * n + 64];
                let high = &b[128 + 32 * n..160 + 32 * n];
                let o = &mut o[128 * n..128 * n + 128];
                for half in 0..2 {
                    let scale = |part: usize| d * (b[192 + 8 * n + 2 * part + half] as i8) as f32;
                    let (s0, s1, s2, s3) = (scale(0), scale(1), scale(2), scale(3));
                    for i in 0..16 {
                        let l = 16 * half + i;
                        let h = high[l];
                        let number = |q: u8| (i32::from(q) - 32) as f32;
                        o[l] = s0 * number((low[l] & 15) | ((h & 3) << 4));
                        o[l + 32] = s1 * number((low[l + 32] & 15) | (((h >> 2) & 3) << 4));
                        o[l + 64] = s2 * number((low[l] >> 4) | (((h >> 4) & 3) << 4));
                        o[l + 96] = s3 * number((low[l + 32] >> 4) | ((h >> 6) << 4));
                    }
                }
            }
        }),
        Format::Q2_K | Format::Q3_K => decode_by_block(format, bytes, out),
    }
}

/// Scale and minimum `j` of eight each in 6 bits (ggml's `get_scale_min_k4`).
#[inline(always)]
fn six_bits(s: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (
            (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4),
            (s[j + 4] >> 4) | ((s[j] >> 6) << 4),
        )
    }
}

fn decode_by_block(format: Format, bytes: &[u8], out: &mut [f32]) {
    let Some((_, offset, scheme)) = scheme(format) else {
        return;
    };
    let mut block = Block::EMPTY;
    let blocks = bytes.chunks_exact(format.block_bytes());
    for (o, b) in out.chunks_exact_mut(format.block_elems()).zip(blocks) {
        read_block(format, b, &mut block);
        let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
        for (i, o) in o.iter_mut().enumerate() {
            let (scale, min) = (block.scales[i / 16], block.mins[i / 16]);
            *o = value(scheme, offset, block.q[i], d, dmin, scale, min);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, dequantize, quantize, simd};

    #[test]
    fn every_format_decodes_to_the_same_bits_as_the_oracle() {
        let numbers: Vec<f32> = (0..2048)
            .map(|i| {
                ((i * 7919 % 4001) as f32 / 2000.0 - 1.0) * if i % 97 == 3 { 9.0 } else { 0.3 }
            })
            .collect();
        for format in Format::ALL {
            let mut bytes = vec![0; format.row_bytes(numbers.len()).unwrap()];
            quantize(format, &numbers, &mut bytes);
            let mut expected = vec![0.0; numbers.len()];
            dequantize(format, &bytes, &mut expected);
            for isa in Isa::available() {
                let mut found = vec![f32::NAN; numbers.len()];
                simd::vectorized(isa, || decode(format, &bytes, &mut found));
                assert_eq!(found, expected, "{format} on {}", isa.name());
            }
        }
    }

    #[test]
    fn halves_are_exact() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (half(bits), half::f16::from_bits(bits).to_f32());
            assert!(found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()));
        }
    }
}
