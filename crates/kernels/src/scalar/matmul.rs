//! The twin of every SIMD product: rows are dequantized and multiplied in plain Rust.
//!
//! It reads the source's bytes, not tiles, so that it also checks packing.

use super::dequantize;
use crate::activations::{FINER, LINES, PANEL};
use crate::parts::Parts;
use crate::{Activations, Matrix};
use std::ops::Range;

/// Columns that are dequantized at once, on the stack: whole blocks, and whole sums of [`SUM_COLS`].
const STRETCH: usize = 1024;

/// Columns summed before their sum is added to the total, so that rounding grows with its square root only.
const SUM_COLS: usize = 128;

/// Rows `rows` of the product of `x` and a matrix whose rows are `bytes`; `y`: (x.rows, matrix.rows).
pub(crate) fn matmul_rows(
    matrix: &Matrix,
    bytes: &[u8],
    x: &Activations,
    rows: Range<usize>,
    y: &Parts<'_, f32>,
) {
    let format = matrix.format();
    let (cols, row_bytes) = (matrix.cols(), bytes.len() / matrix.rows());
    let stretch_bytes = STRETCH / format.block_elems() * format.block_bytes();
    let mut w = [0.0; STRETCH];
    let place = |m: usize, row: usize| {
        let at = m * matrix.rows() + row;
        // SAFETY: each (m, row) is written by the one chunk that owns `row`, one at a time.
        let place = unsafe { y.part(at..at + 1) };
        &mut place[0]
    };
    for row in rows {
        for m in 0..x.rows() {
            *place(m, row) = 0.0;
        }
        let bytes = bytes[row * row_bytes..(row + 1) * row_bytes].chunks(stretch_bytes);
        for (first, bytes) in (0..cols).step_by(STRETCH).zip(bytes) {
            let w = &mut w[..STRETCH.min(cols - first)];
            dequantize(format, bytes, w);
            for m in 0..x.rows() {
                let total = place(m, row);
                *total = if matrix.is_quantized() {
                    dot_int8(*total, x, (m, first / 32), w)
                } else {
                    dot_f32(*total, &x.f32()[m * cols + first..][..w.len()], w)
                };
            }
        }
    }
}

/// `total` and the products of two slices of one length.
fn dot_f32(mut total: f32, x: &[f32], w: &[f32]) -> f32 {
    for (x, w) in x.chunks(SUM_COLS).zip(w.chunks(SUM_COLS)) {
        let mut lanes = [0.0_f32; 8];
        for (x, w) in x.chunks(8).zip(w.chunks(8)) {
            for (lane, (x, w)) in lanes.iter_mut().zip(x.iter().zip(w)) {
                *lane += x * w;
            }
        }
        total += lanes.iter().sum::<f32>();
    }
    total
}

/// `total` and the products of `w` and the int8 form of row `m`, from its block `skip` of 32 columns on.
fn dot_int8(mut total: f32, x: &Activations, (m, skip): (usize, usize), w: &[f32]) -> f32 {
    let int8 = x.int8();
    let blocks = x.cols() / 32;
    let (first, r) = (m / PANEL * PANEL, m % PANEL);
    let width = PANEL.min(x.rows() - first);
    for (b, w) in w.chunks_exact(32).enumerate() {
        let at = first * blocks + (skip + b) * width + r;
        let (coarse, fine) = int8.q[at * 32 * LINES..(at + 1) * 32 * LINES].split_at(32);
        let mut lanes = [0.0_f32; 8];
        for (i, (w, (coarse, fine))) in w.iter().zip(coarse.iter().zip(fine)).enumerate() {
            lanes[i % 8] += (FINER * f32::from(*coarse) + f32::from(*fine)) * w;
        }
        total += int8.scales[at] * lanes.iter().sum::<f32>();
    }
    total
}
