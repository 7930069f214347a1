//! Panels: 64 columns of the right operand, decoded and laid out for the microkernels of `product`.
//!
//! A panel holds `depth` terms of 64 outputs: for f32 64 numbers a term; for bf16 64 pairs a pair of terms, the earlier term in
//! the low half. Missing columns and an odd last term are zeros.

use super::decode::decode;
use super::stored::Stored;

/// Columns of a panel: four registers of sixteen.
pub(crate) const WIDTH: usize = 64;

/// Terms of a panel: 64 kB of bf16, which stays in the second-level cache while all rows pass by.
pub(super) const DEPTH: usize = 512;

/// Rows that are turned into columns at a time: a register's lanes.
const TURN: usize = 16;

/// Nearest bf16, ties to even; what is not a number stays so.
#[inline(always)]
pub(super) fn bf16_bits(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if bits & 0x7fff_ffff > 0x7f80_0000 {
        (bits >> 16) | 0x40
    } else {
        rounded
    }
}

/// How numbers are rounded to pairs of bf16, the earlier one in the low half.
pub(crate) trait Pairs {
    /// Neighbours: `out[i]` from `x[2 i]` and `x[2 i + 1]`, an odd last one with 0.
    fn neighbours(x: &[f32], out: &mut [u32]);
    /// Two rows: `out[j]` from `first[j]` and `second[j]`.
    fn rows(first: &[f32; WIDTH], second: &[f32; WIDTH], out: &mut [u32; WIDTH]);
}

/// In plain Rust.
pub(crate) struct PlainPairs;

impl Pairs for PlainPairs {
    #[inline(always)]
    fn neighbours(x: &[f32], out: &mut [u32]) {
        for (word, two) in out.iter_mut().zip(x.as_chunks::<2>().0) {
            *word = bf16_bits(two[0]) | (bf16_bits(two[1]) << 16);
        }
        if x.len() % 2 == 1 {
            out[x.len() / 2] = bf16_bits(x[x.len() - 1]);
        }
    }

    #[inline(always)]
    fn rows(first: &[f32; WIDTH], second: &[f32; WIDTH], out: &mut [u32; WIDTH]) {
        for j in 0..WIDTH {
            out[j] = bf16_bits(first[j]) | (bf16_bits(second[j]) << 16);
        }
    }
}

/// Turns 16 rows of `width` words into columns, in plain Rust: `out[j * WIDTH + r] = rows[r * stride + j]`.
#[inline(always)]
pub(super) fn turn_plain(rows: &[u32], stride: usize, width: usize, out: &mut [u32]) {
    for r in 0..TURN {
        for (j, word) in rows[r * stride..r * stride + width].iter().enumerate() {
            out[j * WIDTH + r] = *word;
        }
    }
}

/// Words of scratch that the functions below need.
pub(super) const SCRATCH: usize = TURN * DEPTH;

/// A panel of W^T: outputs are rows `first..first + WIDTH` of W, terms are its columns `start..start + depth`.
#[inline(always)]
pub(crate) fn of_rows<P: Pairs, const BF16: bool>(
    weight: &Stored<'_>,
    first: usize,
    (start, depth): (usize, usize),
    scratch: &mut [u32],
    out: &mut [u32],
    turn: impl Fn(&[u32], usize, usize, &mut [u32]),
) {
    let mut row = [0.0_f32; DEPTH];
    let row = &mut row[..depth];
    let words = if BF16 { depth.div_ceil(2) } else { depth };
    let rows = (weight.rows() - first).min(WIDTH);
    for group in (0..WIDTH).step_by(TURN) {
        let turned = &mut scratch[..TURN * words];
        for (r, turned) in turned.chunks_exact_mut(words).enumerate() {
            if group + r >= rows {
                turned.fill(0);
                continue;
            }
            let bytes = weight.part(first + group + r, start, depth);
            decode(weight.format(), bytes, row);
            if BF16 {
                P::neighbours(row, turned);
            } else {
                for (word, number) in turned.iter_mut().zip(&*row) {
                    *word = number.to_bits();
                }
            }
        }
        turn(turned, words, words, &mut out[group..]);
    }
}

/// Panels of W, one after another, each of `words * WIDTH`: outputs are columns `first..first + width` of W, terms are its rows
/// `start..start + depth`. `width` is whole blocks.
#[inline(always)]
pub(crate) fn of_cols<P: Pairs, const BF16: bool>(
    weight: &Stored<'_>,
    (first, width): (usize, usize),
    (start, depth): (usize, usize),
    out: &mut [u32],
) {
    let words = if BF16 { depth.div_ceil(2) } else { depth };
    let panels = width.div_ceil(WIDTH);
    let padded = panels * WIDTH;
    let (mut even, mut odd) = ([0.0_f32; MAX_WIDTH], [0.0_f32; MAX_WIDTH]);
    let (even, odd) = (&mut even[..padded], &mut odd[..padded]);
    for word in 0..words {
        let term = start + if BF16 { 2 * word } else { word };
        decode(
            weight.format(),
            weight.part(term, first, width),
            &mut even[..width],
        );
        if BF16 {
            if term + 1 < start + depth {
                let bytes = weight.part(term + 1, first, width);
                decode(weight.format(), bytes, &mut odd[..width]);
            } else {
                odd.fill(0.0);
            }
        }
        for p in 0..panels {
            let at = (p * words + word) * WIDTH;
            let out = &mut out.as_chunks_mut::<WIDTH>().0[at / WIDTH];
            let (even, odd) = (
                &even.as_chunks::<WIDTH>().0[p],
                &odd.as_chunks::<WIDTH>().0[p],
            );
            if BF16 {
                P::rows(even, odd, out);
            } else {
                for (out, number) in out.iter_mut().zip(even) {
                    *out = number.to_bits();
                }
            }
        }
    }
}

/// Most columns that [`of_cols`] takes: a block of a K-quant.
pub(super) const MAX_WIDTH: usize = 256;
