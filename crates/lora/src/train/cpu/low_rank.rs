//! What an adapter adds to a linear map, and its gradients: `y += scale * drop(x) A^T B^T`.
//!
//! Products are f32 and small. The rank is padded to a register's lanes, with zeros.

use billion_kernels::training::{Dense, Left, dense};
use billion_kernels::{Isa, Pool, ops};

use crate::train::random::drop_out;
use crate::train::trainable::{Slot, transposed};

/// Lanes of the widest register.
const LANES: usize = 16;

/// How one adapter is applied.
pub(super) struct LowRank<'a> {
    pub isa: Isa,
    pub pool: &'a Pool,
    pub slot: &'a Slot,
    pub rank: usize,
    pub scale: f32,
    /// Share of inputs dropped, and the rows' keys.
    pub dropout: f32,
    pub keys: &'a [u64],
}

impl LowRank<'_> {
    pub fn padded(rank: usize) -> usize {
        rank.next_multiple_of(LANES)
    }

    /// x (rows, in) with dropout; x itself where nothing is dropped.
    fn dropped<'x>(&self, x: &'x [f32], cols: usize, buffer: &'x mut Vec<f32>) -> &'x [f32] {
        if self.dropout == 0.0 {
            return x;
        }
        buffer.clear();
        buffer.extend_from_slice(x);
        self.drop(buffer, cols);
        buffer
    }

    fn drop(&self, x: &mut [f32], cols: usize) {
        ops::for_each_row(self.pool, x, cols, &|row, x| {
            drop_out(&[self.keys[row], self.slot.module], self.dropout, x);
        });
    }

    /// Adds to y (rows, out) what the adapter adds for x (rows, in); `low` becomes drop(x) A^T, (rows, rank padded).
    pub fn forward(
        &self,
        numbers: &[f32],
        x: &[f32],
        y: &mut [f32],
        low: &mut Vec<f32>,
        dropped: &mut Vec<f32>,
    ) {
        self.forward_low(numbers, x, low, dropped);
        let (rank, wide) = (self.rank, Self::padded(self.rank));
        let b = &numbers[self.slot.b.clone()];
        let outs = b.len() / rank;
        let product = Dense {
            shape: (y.len() / outs, outs, rank),
            left: rows_of(low, wide),
            right: b,
            right_row: outs,
            out: y,
            out_row: outs,
            scale: self.scale,
            add: true,
        };
        dense(self.isa, self.pool, product);
    }

    /// `low` becomes drop(x) A^T, (rows, rank padded).
    pub fn forward_low(
        &self,
        numbers: &[f32],
        x: &[f32],
        low: &mut Vec<f32>,
        dropped: &mut Vec<f32>,
    ) {
        let (rank, wide) = (self.rank, Self::padded(self.rank));
        let a = &numbers[self.slot.a.clone()];
        let cols = a.len() / rank;
        let rows = x.len() / cols;
        let x = self.dropped(x, cols, dropped);
        let a_turned = padded_columns(&transposed(a, rank), rank, wide);
        low.resize(rows * wide, 0.0);
        let product = Dense {
            shape: (rows, wide, cols),
            left: rows_of(x, cols),
            right: &a_turned,
            right_row: wide,
            out: low,
            out_row: wide,
            scale: 1.0,
            add: false,
        };
        dense(self.isa, self.pool, product);
    }

    /// Adds the gradients of A and B to `gradients` and, if there is a `dx`, that of x to it. `low` is what the forward pass
    /// left, `dy` (rows, out) the gradient of y.
    pub fn backward(
        &self,
        (numbers, gradients): (&[f32], &mut [f32]),
        (x, low, dy): (&[f32], &[f32], &[f32]),
        dx: Option<&mut [f32]>,
        (d_low, dropped): (&mut Vec<f32>, &mut Vec<f32>),
    ) {
        let (rank, wide) = (self.rank, Self::padded(self.rank));
        let (a, b) = (&numbers[self.slot.a.clone()], &numbers[self.slot.b.clone()]);
        let (cols, outs) = (a.len() / rank, b.len() / rank);
        let rows = x.len() / cols;
        let b_turned = padded_columns(&transposed(b, rank), rank, wide);
        d_low.resize(rows * wide, 0.0);
        let product = Dense {
            shape: (rows, wide, outs),
            left: rows_of(dy, outs),
            right: &b_turned,
            right_row: wide,
            out: d_low,
            out_row: wide,
            scale: self.scale,
            add: false,
        };
        dense(self.isa, self.pool, product);
        let turned = |data| Left {
            data,
            row: 1,
            col: wide,
        };
        let product = Dense {
            shape: (rank, outs, rows),
            left: turned(low),
            right: dy,
            right_row: outs,
            out: &mut gradients[self.slot.b.clone()],
            out_row: outs,
            scale: self.scale,
            add: true,
        };
        dense(self.isa, self.pool, product);
        let x = self.dropped(x, cols, dropped);
        let product = Dense {
            shape: (rank, cols, rows),
            left: turned(d_low),
            right: x,
            right_row: cols,
            out: &mut gradients[self.slot.a.clone()],
            out_row: cols,
            scale: 1.0,
            add: true,
        };
        dense(self.isa, self.pool, product);
        let Some(dx) = dx else { return };
        let product = |out, add| Dense {
            shape: (rows, cols, rank),
            left: rows_of(d_low, wide),
            right: a,
            right_row: cols,
            out,
            out_row: cols,
            scale: 1.0,
            add,
        };
        if self.dropout == 0.0 {
            dense(self.isa, self.pool, product(dx, true));
            return;
        }
        // The gradient goes through the same mask.
        dropped.resize(rows * cols, 0.0);
        dense(self.isa, self.pool, product(dropped, false));
        self.drop(dropped, cols);
        ops::for_each_row(self.pool, dx, cols, &|row, dx| {
            ops::add(self.isa, dx, &dropped[row * cols..(row + 1) * cols]);
        });
    }
}

const fn rows_of(data: &[f32], width: usize) -> Left<'_> {
    Left {
        data,
        row: width,
        col: 1,
    }
}

/// (rows, rank) with zeros up to `wide` columns.
fn padded_columns(x: &[f32], rank: usize, wide: usize) -> Vec<f32> {
    if rank == wide {
        return x.to_vec();
    }
    let mut out = vec![0.0; x.len() / rank * wide];
    for (out, x) in out.chunks_exact_mut(wide).zip(x.chunks_exact(rank)) {
        out[..rank].copy_from_slice(x);
    }
    out
}
