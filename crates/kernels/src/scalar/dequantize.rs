//! Bytes of a tensor back to f32: the oracle of every packed layout.

use super::blocks::{Block, read_block, scheme, value};
use super::quantize::HALVES;
use crate::Format;
use half::slice::HalfFloatSliceExt as _;
use half::{bf16, f16};

/// The numbers that `bytes` stand for, as ggml's reference functions compute them.
///
/// # Panics
/// If `bytes` is not exactly `out.len()` numbers of `format` in whole blocks.
pub fn dequantize(format: Format, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        format.row_bytes(out.len()),
        Some(bytes.len()),
        "{} numbers of {format} are not {} bytes",
        out.len(),
        bytes.len()
    );
    match format {
        Format::F32 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *o = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        Format::F16 => {
            let mut halves = [f16::ZERO; HALVES];
            for (out, bytes) in out.chunks_mut(HALVES).zip(bytes.chunks(2 * HALVES)) {
                for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *half = f16::from_le_bytes(*bytes);
                }
                halves[..out.len()].convert_to_f32_slice(out);
            }
        }
        Format::BF16 => {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = bf16::from_le_bytes([b[0], b[1]]).to_f32();
            }
        }
        _ => {
            let (_, offset, scheme) = scheme(format).expect("a quantized format has a scheme");
            let mut block = Block::EMPTY;
            for (o, b) in out
                .chunks_exact_mut(format.block_elems())
                .zip(bytes.chunks_exact(format.block_bytes()))
            {
                read_block(format, b, &mut block);
                let (d, dmin) = (block.d.to_f32(), block.dmin.to_f32());
                for (i, o) in o.iter_mut().enumerate() {
                    let (scale, min) = (block.scales[i / 16], block.mins[i / 16]);
                    *o = value(scheme, offset, block.q[i], d, dmin, scale, min);
                }
            }
        }
    }
}
