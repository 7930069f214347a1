//! Causal grouped-query attention over sequences laid end to end, and its backward pass.
//!
//! Scores exist for a block of queries of one head at a time; the backward pass computes them again from the logarithms of the
//! sums that the forward pass leaves (T. Dao et al. 2022, arXiv 2205.14135). One thread has one key head of one sequence, so
//! every sum has one order.

use std::ops::Range;

use super::dense::{Raw, multiply};
use crate::ops::lanes::{Lanes, exp, load_part, store_part, vectorized};
use crate::{Isa, Pool};

/// Queries of a block: whole tiles of six.
const BLOCK: usize = 48;

/// Lanes that rows of scores are padded to.
const PAD: usize = 16;

/// Heads of attention; `kv_heads` divides `heads`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl HeadShape {
    const fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    const fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn check(&self, sequences: &[Range<usize>], rows: usize) {
        assert!(
            self.kv_heads > 0 && self.heads.is_multiple_of(self.kv_heads),
            "{} query heads among {} key heads",
            self.heads,
            self.kv_heads
        );
        let mut next = 0;
        for sequence in sequences {
            assert!(
                sequence.start >= next && sequence.end >= sequence.start && sequence.end <= rows,
                "sequence {sequence:?} of {rows} rows"
            );
            next = sequence.end;
        }
    }
}

/// A pointer that items of a run share; each writes rows and columns of its own.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: items write disjoint parts: the columns of their heads in the rows of their sequence.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn at(&self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// Attention of every sequence. Shapes: q and out (rows, heads * head_dim); k and v (rows, kv_heads * head_dim); sums (rows,
/// heads): the logarithm of each row's sum of exponentials, for the backward pass. Rows outside `sequences` are left alone.
///
/// # Panics
/// If shapes do not fit or sequences are not ascending and apart.
pub fn attention_forward(
    isa: Isa,
    pool: &Pool,
    shape: HeadShape,
    sequences: &[Range<usize>],
    (q, k, v): (&[f32], &[f32], &[f32]),
    (out, sums): (&mut [f32], &mut [f32]),
) {
    let (qw, kw, d) = (shape.q_width(), shape.kv_width(), shape.head_dim);
    let rows = q.len() / qw.max(1);
    assert!(
        q.len() == rows * qw
            && k.len() == rows * kw
            && v.len() == rows * kw
            && out.len() == rows * qw
            && sums.len() == rows * shape.heads,
        "attention of {rows} rows"
    );
    shape.check(sequences, rows);
    let group = shape.heads / shape.kv_heads;
    let (out, sums) = (Shared(out.as_mut_ptr()), Shared(sums.as_mut_ptr()));
    pool.run(sequences.len() * shape.kv_heads, &|item| {
        let (out, sums) = (&out, &sums);
        let (range, kv) = (&sequences[item / shape.kv_heads], item % shape.kv_heads);
        let (first, len) = (range.start, range.len());
        let stride = len.next_multiple_of(PAD);
        let keys = turned(&k[first * kw + kv * d..], (len, d), kw, stride);
        let values = &v[first * kw + kv * d..];
        let mut scores = vec![0.0_f32; BLOCK * stride];
        for head in kv * group..(kv + 1) * group {
            for start in (0..len).step_by(BLOCK) {
                let end = (start + BLOCK).min(len);
                let at = (first + start) * qw + head * d;
                let block = ScoreBlock {
                    shape: (end - start, end, d),
                    stride,
                    scale: shape.scale(),
                };
                // SAFETY: the block's rows of q are inside it, and scores hold BLOCK rows.
                unsafe { block.product(isa, &q[at..], qw, &keys, &mut scores) };
                for row in start..end {
                    let scores = &mut scores[(row - start) * stride..][..stride];
                    let sum = softmax(isa, scores, row + 1);
                    // SAFETY: one number of this item's head and row.
                    unsafe { *sums.at((first + row) * shape.heads + head) = sum };
                }
                // SAFETY: `end` rows of values, and this head's columns of the block's rows of out.
                unsafe {
                    multiply(
                        isa,
                        Raw {
                            shape: (end - start, d, end),
                            a: scores.as_ptr(),
                            a_strides: (stride, 1),
                            b: values.as_ptr(),
                            b_row: kw,
                            c: out.at(at),
                            c_row: qw,
                            scale: 1.0,
                            add: false,
                        },
                    );
                }
            }
        }
    });
}

/// Gradients of attention's inputs, written over what `dq`, `dk` and `dv` held in the rows of `sequences`.
///
/// Shapes as in [`attention_forward`]; `out` and `sums` are what it left, `dout` the gradient of `out`.
///
/// # Panics
/// If shapes do not fit or sequences are not ascending and apart.
pub fn attention_backward(
    isa: Isa,
    pool: &Pool,
    shape: HeadShape,
    sequences: &[Range<usize>],
    (q, k, v): (&[f32], &[f32], &[f32]),
    (out, sums, dout): (&[f32], &[f32], &[f32]),
    (dq, dk, dv): (&mut [f32], &mut [f32], &mut [f32]),
) {
    let (qw, kw, d) = (shape.q_width(), shape.kv_width(), shape.head_dim);
    let rows = q.len() / qw.max(1);
    assert!(
        [q.len(), out.len(), dout.len(), dq.len()] == [rows * qw; 4]
            && [k.len(), v.len(), dk.len(), dv.len()] == [rows * kw; 4]
            && sums.len() == rows * shape.heads,
        "attention of {rows} rows"
    );
    shape.check(sequences, rows);
    let group = shape.heads / shape.kv_heads;
    let (dq, dk, dv) = (
        Shared(dq.as_mut_ptr()),
        Shared(dk.as_mut_ptr()),
        Shared(dv.as_mut_ptr()),
    );
    pool.run(sequences.len() * shape.kv_heads, &|item| {
        let (dq, dk, dv) = (&dq, &dk, &dv);
        let (range, kv) = (&sequences[item / shape.kv_heads], item % shape.kv_heads);
        let (first, len) = (range.start, range.len());
        let stride = len.next_multiple_of(PAD);
        let kv_at = first * kw + kv * d;
        let keys = turned(&k[kv_at..], (len, d), kw, stride);
        let values = turned(&v[kv_at..], (len, d), kw, stride);
        let mut weights = vec![0.0_f32; BLOCK * stride];
        let mut slopes = vec![0.0_f32; BLOCK * stride];
        for row in 0..len {
            for gradient in [dk, dv] {
                // SAFETY: this item's columns in its sequence's rows.
                unsafe {
                    std::slice::from_raw_parts_mut(gradient.at(kv_at + row * kw), d).fill(0.0);
                }
            }
        }
        for head in kv * group..(kv + 1) * group {
            for start in (0..len).step_by(BLOCK) {
                let end = (start + BLOCK).min(len);
                let at = (first + start) * qw + head * d;
                let mut block = ScoreBlock {
                    shape: (end - start, end, d),
                    stride,
                    scale: shape.scale(),
                };
                // SAFETY: the block's rows of q and dout are inside them, and both scores hold BLOCK rows.
                unsafe {
                    block.product(isa, &q[at..], qw, &keys, &mut weights);
                    block.scale = 1.0;
                    block.product(isa, &dout[at..], qw, &values, &mut slopes);
                }
                for row in start..end {
                    let from = (row - start) * stride;
                    let at = (first + row) * qw + head * d;
                    let along: f32 = out[at..at + d]
                        .iter()
                        .zip(&dout[at..at + d])
                        .map(|(o, g)| o * g)
                        .sum();
                    let sum = sums[(first + row) * shape.heads + head];
                    let weights = &mut weights[from..from + stride];
                    let slopes = &mut slopes[from..from + stride];
                    slope(isa, weights, slopes, row + 1, (sum, along, shape.scale()));
                }
                let part = |a: &[f32], a_strides, shape, b: &[f32], b_row, c, c_row, add| Raw {
                    shape,
                    a: a.as_ptr(),
                    a_strides,
                    b: b.as_ptr(),
                    b_row,
                    c,
                    c_row,
                    scale: 1.0,
                    add,
                };
                let (n, here) = (end - start, at);
                // SAFETY: reads stay in rows of this sequence and in the block's scores, whose numbers behind a row's last key
                // are zeros; writes go to this item's columns.
                unsafe {
                    let turned_block = (1, stride);
                    multiply(
                        isa,
                        part(
                            &weights,
                            turned_block,
                            (end, d, n),
                            &dout[here..],
                            qw,
                            dv.at(kv_at),
                            kw,
                            true,
                        ),
                    );
                    multiply(
                        isa,
                        part(
                            &slopes,
                            (stride, 1),
                            (n, d, end),
                            &k[kv_at..],
                            kw,
                            dq.at(here),
                            qw,
                            false,
                        ),
                    );
                    multiply(
                        isa,
                        part(
                            &slopes,
                            turned_block,
                            (end, d, n),
                            &q[here..],
                            qw,
                            dk.at(kv_at),
                            kw,
                            true,
                        ),
                    );
                }
            }
        }
    });
}

/// Rows of `x` (len, d), `row` apart, as columns: (d, stride), zeros behind `len`.
fn turned(x: &[f32], (len, d): (usize, usize), row: usize, stride: usize) -> Vec<f32> {
    let mut out = vec![0.0; d * stride];
    for i in 0..len {
        for (j, x) in x[i * row..i * row + d].iter().enumerate() {
            out[j * stride + i] = *x;
        }
    }
    out
}

/// A block of queries against the keys that it may see.
struct ScoreBlock {
    /// (queries, keys, head_dim).
    shape: (usize, usize, usize),
    stride: usize,
    scale: f32,
}

impl ScoreBlock {
    /// scores (queries, stride) = scale * x (queries, head_dim) by `turned` (head_dim, stride).
    ///
    /// # Safety
    /// `x` holds the queries' rows, `x_row` apart.
    unsafe fn product(
        &self,
        isa: Isa,
        x: &[f32],
        x_row: usize,
        turned: &[f32],
        scores: &mut [f32],
    ) {
        let (rows, keys, d) = self.shape;
        assert!(rows * self.stride <= scores.len() && d * self.stride <= turned.len());
        let raw = Raw {
            shape: (rows, keys.next_multiple_of(PAD).min(self.stride), d),
            a: x.as_ptr(),
            a_strides: (x_row, 1),
            b: turned.as_ptr(),
            b_row: self.stride,
            c: scores.as_mut_ptr(),
            c_row: self.stride,
            scale: self.scale,
            add: false,
        };
        // SAFETY: sizes were checked here and by the caller.
        unsafe { multiply(isa, raw) };
    }
}

/// Softmax of the first `live` scores; the others become 0. Returns the logarithm of the sum of exponentials.
fn softmax(isa: Isa, scores: &mut [f32], live: usize) -> f32 {
    vectorized!(isa, softmax_with(scores: &mut [f32], live: usize) -> f32)
}

#[inline(always)]
unsafe fn softmax_with<L: Lanes>(scores: &mut [f32], live: usize) -> f32 {
    let (live_scores, dead) = scores.split_at_mut(live);
    dead.fill(0.0);
    let (whole, rest) = (live - live % L::N, live % L::N);
    let x = live_scores.as_mut_ptr();
    // SAFETY: offsets stay below `live`.
    unsafe {
        let lowest = f32::NEG_INFINITY;
        let mut top = L::splat(lowest);
        for i in (0..whole).step_by(L::N) {
            top = L::max(L::load(x.add(i)), top);
        }
        if rest > 0 {
            top = L::max(load_part::<L>(x.add(whole), rest, lowest), top);
        }
        let top = L::largest(top);
        let (top_lanes, mut sum) = (L::splat(top), L::splat(0.0));
        for i in (0..whole).step_by(L::N) {
            let e = exp::<L>(L::sub(L::load(x.add(i)), top_lanes));
            sum = L::add(sum, e);
            L::store(x.add(i), e);
        }
        let mut total = L::sum(sum);
        if rest > 0 {
            let e = exp::<L>(L::sub(load_part::<L>(x.add(whole), rest, top), top_lanes));
            store_part::<L>(x.add(whole), rest, e);
            for e in &live_scores[whole..] {
                total += e;
            }
        }
        let inverse = 1.0 / total;
        for e in &mut *live_scores {
            *e *= inverse;
        }
        top + total.ln()
    }
}

/// Scores become weights, slopes of the weights become slopes of the scores: `w = e^(s - sum)`, `ds = w (dw - along) scale`.
fn slope(isa: Isa, weights: &mut [f32], slopes: &mut [f32], live: usize, numbers: (f32, f32, f32)) {
    vectorized!(isa, slope_with(weights: &mut [f32], slopes: &mut [f32], live: usize, numbers: (f32, f32, f32)));
}

#[inline(always)]
unsafe fn slope_with<L: Lanes>(
    weights: &mut [f32],
    slopes: &mut [f32],
    live: usize,
    (sum, along, scale): (f32, f32, f32),
) {
    assert_eq!(weights.len(), slopes.len());
    let (w, s) = (weights.as_mut_ptr(), slopes.as_mut_ptr());
    let padded = live.next_multiple_of(L::N).min(weights.len());
    let (whole, rest) = (padded - padded % L::N, padded % L::N);
    // SAFETY: offsets stay below the length of both; lanes behind `live` are cleared below.
    unsafe {
        let (sum, along, scale) = (L::splat(sum), L::splat(along), L::splat(scale));
        for i in (0..whole).step_by(L::N) {
            let e = exp::<L>(L::sub(L::load(w.add(i)), sum));
            let d = L::mul(L::mul(e, L::sub(L::load(s.add(i)), along)), scale);
            L::store(w.add(i), e);
            L::store(s.add(i), d);
        }
        if rest > 0 {
            let e = exp::<L>(L::sub(load_part::<L>(w.add(whole), rest, 0.0), sum));
            let slopes = load_part::<L>(s.add(whole), rest, 0.0);
            let d = L::mul(L::mul(e, L::sub(slopes, along)), scale);
            store_part::<L>(w.add(whole), rest, e);
            store_part::<L>(s.add(whole), rest, d);
        }
    }
    weights[live..].fill(0.0);
    slopes[live..].fill(0.0);
}
