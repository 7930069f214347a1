//! The twin of every SIMD product: rows are dequantized and multiplied in plain Rust.
//!
//! It reads the source's bytes, not tiles, so that it also checks packing.

use super::dequantize;
use crate::activations::{FINER, LINES, PANEL};
use crate::parts::Parts;
use crate::{Activations, Matrix};
use std::cell::RefCell;
use std::ops::Range;

thread_local! {
    /// The row of weights at hand, kept so that a product allocates nothing.
    static ROW: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

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
    let row_bytes = bytes.len() / matrix.rows();
    ROW.with_borrow_mut(|w| {
        w.resize(matrix.cols(), 0.0);
        for row in rows {
            let bytes = &bytes[row * row_bytes..(row + 1) * row_bytes];
            dequantize(matrix.format(), bytes, w);
            for m in 0..x.rows() {
                let sum = if matrix.is_quantized() {
                    dot_int8(x, m, w)
                } else {
                    dot_f32(&x.f32()[m * x.cols()..(m + 1) * x.cols()], w)
                };
                let at = m * matrix.rows() + row;
                // SAFETY: each (m, row) is written by the one chunk that owns `row`.
                let place = unsafe { y.part(at..at + 1) };
                place[0] = sum;
            }
        }
    });
}

fn dot_f32(x: &[f32], w: &[f32]) -> f32 {
    let mut total = 0.0;
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

/// The int8 form of row `m` times `w`.
fn dot_int8(x: &Activations, m: usize, w: &[f32]) -> f32 {
    let int8 = x.int8();
    let blocks = x.cols() / 32;
    let (first, r) = (m / PANEL * PANEL, m % PANEL);
    let width = PANEL.min(x.rows() - first);
    let mut total = 0.0;
    for (b, w) in w.chunks_exact(32).enumerate() {
        let at = first * blocks + b * width + r;
        let (coarse, fine) = int8.q[at * 32 * LINES..(at + 1) * 32 * LINES].split_at(32);
        let mut lanes = [0.0_f32; 8];
        for (i, (w, (coarse, fine))) in w.iter().zip(coarse.iter().zip(fine)).enumerate() {
            lanes[i % 8] += (FINER * f32::from(*coarse) + f32::from(*fine)) * w;
        }
        total += int8.scales[at] * lanes.iter().sum::<f32>();
    }
    total
}
