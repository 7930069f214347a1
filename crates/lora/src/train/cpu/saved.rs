//! What a block keeps from the forward pass for the backward pass, rounded to bf16 where the arithmetic is.

use billion_kernels::training::{from_bf16, to_bf16};
use billion_kernels::{Isa, Pool};

use crate::train::frozen::PLACES;

/// Numbers kept. Memory is reused from pass to pass.
#[derive(Default)]
pub(super) struct Kept {
    exact: Vec<f32>,
    rounded: Vec<u16>,
}

impl Kept {
    /// Keeps `x`, rounded if asked.
    pub fn put(&mut self, (isa, pool): (Isa, &Pool), x: &[f32], round: bool) {
        if round {
            self.rounded.resize(x.len(), 0);
            to_bf16(isa, pool, x, &mut self.rounded);
        } else {
            self.exact.clear();
            self.exact.extend_from_slice(x);
        }
    }

    /// Gives back what was put, of the same length.
    pub fn take(&self, (isa, pool): (Isa, &Pool), x: &mut [f32], rounded: bool) {
        if rounded {
            from_bf16(isa, pool, &self.rounded, x);
        } else {
            x.copy_from_slice(&self.exact);
        }
    }

    fn bytes(&self) -> usize {
        self.exact.capacity() * size_of::<f32>() + self.rounded.capacity() * size_of::<u16>()
    }
}

/// What one block keeps.
#[derive(Default)]
pub(super) struct Saved {
    /// The block's input, (rows, hidden).
    pub x: Kept,
    /// Rotated queries and keys, values; (rows, widths).
    pub q: Kept,
    pub k: Kept,
    pub v: Kept,
    /// Queries and keys before their norms, where there are such.
    pub q_raw: Kept,
    pub k_raw: Kept,
    /// Attention's result, (rows, heads * head_dim).
    pub attended: Kept,
    /// Logarithms of attention's sums, (rows, heads).
    pub sums: Vec<f32>,
    /// Input of the MLP's norm in a sequential block.
    pub mid: Kept,
    pub gate: Kept,
    pub up: Kept,
    /// Adapters' inputs times A, (rows, rank padded).
    pub low: [Vec<f32>; PLACES],
}

impl Saved {
    pub fn bytes(&self) -> usize {
        let kept = [
            &self.x,
            &self.q,
            &self.k,
            &self.v,
            &self.q_raw,
            &self.k_raw,
            &self.attended,
            &self.mid,
            &self.gate,
            &self.up,
        ];
        let f32s = self.sums.capacity() + self.low.iter().map(Vec::capacity).sum::<usize>();
        kept.iter().map(|kept| kept.bytes()).sum::<usize>() + f32s * size_of::<f32>()
    }
}
