//! Scales of the K formats: for each group the one whose rounded numbers lie nearest to the given ones.
//!
//! Groups with a minimum (Q4_K, Q5_K) are searched over a grid of step sizes; for each the best scale and minimum are the
//! weighted least squares solution, and the weight of a number is the root mean square of its group plus its own
//! magnitude. Symmetric groups (Q6_K) are weighted by the square. Grid and weights are those of llama.cpp without an
//! importance matrix (`make_qkx2_quants`, `make_qx_quants`), so that its measure of the error is ours. Beyond it, the
//! numbers are rounded a second time with the line that was fitted to them, the whole-number scale and minimum of a group
//! are chosen together with their neighbours, and the scales of the block are fitted to the outcome.
//!
//! A block's groups lie side by side, one a lane, and every step is taken for all of them: plain loops over arrays, which
//! `vectorized` compiles for the instruction set, with the same bits on each.

use std::ops::{Add, Mul, Sub};

use super::quantize::{inverse, put_k};
use crate::Format;
use half::f16;

/// How often the scales of a block are fitted again to the whole numbers that came of them.
const REFITS: usize = 2;

/// What the largest scale (or minimum) of a block becomes: the others round differently with each.
const GREATEST: [f32; 3] = [63.0, 61.0, 59.0];

/// Groups whose largest magnitude is below this are zeros (`GROUP_MAX_EPS` of ggml).
const ZERO: f32 = 1e-15;

/// A number of each group of a block.
#[derive(Clone, Copy)]
struct Wide<const L: usize>([f32; L]);

impl<const L: usize> Wide<L> {
    const ZERO: Self = Self([0.0; L]);

    #[inline(always)]
    fn all(x: f32) -> Self {
        Self([x; L])
    }

    #[inline(always)]
    fn map(self, f: impl Fn(f32) -> f32) -> Self {
        Self(std::array::from_fn(|l| f(self.0[l])))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|l| f(self.0[l], other.0[l])))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    /// One over it, 0 where it is 0.
    #[inline(always)]
    fn inverse(self) -> Self {
        self.map(inverse)
    }

    /// The quotient, 0 where it is divided by 0.
    #[inline(always)]
    fn over(self, other: Self) -> Self {
        self.zip(other, |a, b| if b == 0.0 { 0.0 } else { a / b })
    }

    /// Nearest whole number within `low..=high`, ties to even; NaN gives `low`.
    #[inline(always)]
    fn level(self, low: f32, high: f32) -> Self {
        // Exact below 2^22; larger numbers only lose their last bits.
        const SHIFT: f32 = 12_582_912.0;
        let nearest = self.map(|x| (x + SHIFT) - SHIFT);
        nearest.max(Self::all(low)).min(Self::all(high))
    }

    /// `then` where self is less than `other`, else `otherwise`.
    #[inline(always)]
    fn where_less(self, other: Self, then: Self, otherwise: Self) -> Self {
        Self(std::array::from_fn(|l| {
            if self.0[l] < other.0[l] {
                then.0[l]
            } else {
                otherwise.0[l]
            }
        }))
    }

    #[inline(always)]
    fn total(self) -> f32 {
        self.0.iter().sum()
    }

    /// The lane of largest magnitude.
    #[inline(always)]
    fn largest(self) -> f32 {
        let farther = |m: f32, v: &f32| if v.abs() > m.abs() { *v } else { m };
        self.0.iter().fold(0.0, farther)
    }
}

impl<const L: usize> Add for Wide<L> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
}

impl<const L: usize> Sub for Wide<L> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
}

impl<const L: usize> Mul for Wide<L> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
}

/// The groups of a block side by side: `[i]` holds number i of each.
#[inline(always)]
fn side_by_side<const L: usize, const N: usize>(x: &[f32; 256]) -> [Wide<L>; N] {
    std::array::from_fn(|i| Wide(std::array::from_fn(|g| x[g * N + i])))
}

/// A block of Q4_K or Q5_K: 8 groups of 32 with a scale and a minimum each.
#[inline(always)]
pub(super) fn block_with_mins(format: Format, x: &[f32; 256], out: &mut [u8]) {
    let (top, first, tries) = if format == Format::Q4_K {
        (15.0, -1.0, 20)
    } else {
        (31.0, -0.5, 15)
    };
    let x = side_by_side::<8, 32>(x);
    let squares = x.iter().fold(Wide::ZERO, |sum, x| sum + *x * *x);
    let rms = squares.map(|sum| (sum / 32.0).sqrt());
    let w: [Wide<8>; 32] = std::array::from_fn(|i| rms + x[i].map(f32::abs));
    let (mut scale, mut min) = fit_lines(&x, &w, top, first, tries);
    let (top_scale, top_min) = (scale.largest(), min.largest());
    let mut best = Whole::NONE;
    let (mut d, mut dmin) = (0.0, 0.0);
    for turn in 0..GREATEST.len() + REFITS {
        if let Some(greatest) = GREATEST.get(turn) {
            (d, dmin) = (top_scale / greatest, top_min / greatest);
        }
        let found = Whole::near(&x, &w, (scale, min), (d, dmin), top);
        if found.error < best.error {
            best = found;
        } else if turn >= GREATEST.len() {
            break;
        }
        if turn + 1 >= GREATEST.len() {
            let Some(better) = best.refit(&x, &w, top) else {
                break;
            };
            (d, dmin) = better;
            // What a group came to is where its next search begins.
            scale = Wide::all(best.d) * best.scale;
            min = Wide::all(best.dmin) * best.min;
        }
    }
    let (mut is, mut im, mut all) = ([0_i8; 16], [0_u8; 16], [0_u8; 256]);
    for g in 0..8 {
        (is[g], im[g]) = (best.scale.0[g] as i8, best.min.0[g] as u8);
    }
    for (i, x) in x.iter().enumerate() {
        let q = best.levels(*x, top);
        for g in 0..8 {
            all[32 * g + i] = q.0[g] as u8;
        }
    }
    put_k(format, best.d, best.dmin, &is, &im, &all, out);
}

/// Scale and subtracted minimum (both at least 0) of each group, whose numbers become `0..=top`.
#[inline(always)]
fn fit_lines(
    x: &[Wide<8>; 32],
    w: &[Wide<8>; 32],
    top: f32,
    first: f32,
    tries: u8,
) -> (Wide<8>, Wide<8>) {
    let (mut low, mut high) = (Wide::ZERO, x[0]);
    let (mut sum_w, mut sum_x) = (Wide::ZERO, Wide::ZERO);
    for (x, w) in x.iter().zip(w) {
        low = low.min(*x);
        high = high.max(*x);
        sum_w = sum_w + *w;
        sum_x = sum_x + *w * *x;
    }
    let spread = (high - low).max(Wide::ZERO);
    let per_spread = spread.inverse();
    // Until something is found: the plain division of the range, whose error counts as infinite.
    let mut best = (
        spread * Wide::all(1.0 / top),
        low,
        Wide::<8>::all(f32::INFINITY),
    );
    let mut q = [Wide::ZERO; 32];
    for step in 0..=tries {
        let mut steps = Wide::all(first + 0.1 * f32::from(step) + top) * per_spread;
        let mut from = low;
        // The numbers are rounded, a line is fitted to them, and once more with the line that was found.
        for _ in 0..2 {
            let (mut sum_q, mut sum_qq, mut sum_qx) = (Wide::ZERO, Wide::ZERO, Wide::ZERO);
            for i in 0..32 {
                q[i] = (steps * (x[i] - from)).level(0.0, top);
                let wq = w[i] * q[i];
                sum_q = sum_q + wq;
                sum_qq = sum_qq + wq * q[i];
                sum_qx = sum_qx + wq * x[i];
            }
            let per_determinant = (sum_w * sum_qq - sum_q * sum_q).inverse();
            let line_scale = (sum_w * sum_qx - sum_x * sum_q) * per_determinant;
            let line_low = (sum_qq * sum_x - sum_q * sum_qx) * per_determinant;
            // A minimum is never above 0: then the line goes through 0.
            let through_zero = sum_qx.over(sum_qq);
            let scale = Wide::ZERO.where_less(line_low, through_zero, line_scale);
            let new_low = line_low.min(Wide::ZERO);
            let mut error = Wide::ZERO;
            for i in 0..32 {
                let off = scale * q[i] + new_low - x[i];
                error = error + w[i] * off * off;
            }
            // Not where all numbers are alike: no line is determined by them.
            let error = Wide::ZERO.where_less(per_determinant, error, Wide::all(f32::INFINITY));
            best = (
                error.where_less(best.2, scale, best.0),
                error.where_less(best.2, new_low, best.1),
                error.where_less(best.2, error, best.2),
            );
            (steps, from) = (scale.inverse(), new_low);
        }
    }
    (best.0.max(Wide::ZERO), Wide::ZERO - best.1.min(Wide::ZERO))
}

/// What a block of Q4_K or Q5_K holds besides its numbers: whole scales and minima, and `d` and `dmin` as F16 holds them.
struct Whole {
    d: f32,
    dmin: f32,
    scale: Wide<8>,
    min: Wide<8>,
    /// Weighted sum of squares.
    error: f32,
}

impl Whole {
    const NONE: Self = Self {
        d: 0.0,
        dmin: 0.0,
        scale: Wide::ZERO,
        min: Wide::ZERO,
        error: f32::INFINITY,
    };

    /// The whole scales and minima near the wanted ones that err least.
    #[inline(always)]
    fn near(
        x: &[Wide<8>; 32],
        w: &[Wide<8>; 32],
        (scale, min): (Wide<8>, Wide<8>),
        (d, dmin): (f32, f32),
        top: f32,
    ) -> Self {
        let (d, dmin) = (f16::from_f32(d).to_f32(), f16::from_f32(dmin).to_f32());
        let scale = (scale * Wide::all(inverse(d))).level(0.0, 63.0);
        let min = (min * Wide::all(inverse(dmin))).level(0.0, 63.0);
        let mut best = (Wide::all(f32::INFINITY), scale, min);
        for beside_scale in [0.0, -1.0, 1.0] {
            for beside_min in [0.0, -1.0, 1.0] {
                let near = Self {
                    d,
                    dmin,
                    scale: (scale + Wide::all(beside_scale)).level(0.0, 63.0),
                    min: (min + Wide::all(beside_min)).level(0.0, 63.0),
                    error: 0.0,
                };
                let (step, low) = near.line();
                let steps = step.inverse();
                let mut error = Wide::ZERO;
                for i in 0..32 {
                    let q = ((x[i] + low) * steps).level(0.0, top);
                    let off = step * q - low - x[i];
                    error = error + w[i] * off * off;
                }
                best = (
                    error.where_less(best.0, error, best.0),
                    error.where_less(best.0, near.scale, best.1),
                    error.where_less(best.0, near.min, best.2),
                );
            }
        }
        Self {
            d,
            dmin,
            scale: best.1,
            min: best.2,
            error: best.0.total(),
        }
    }

    /// Step and subtracted minimum of each group.
    #[inline(always)]
    fn line(&self) -> (Wide<8>, Wide<8>) {
        (
            Wide::all(self.d) * self.scale,
            Wide::all(self.dmin) * self.min,
        )
    }

    /// What number i of each group becomes.
    #[inline(always)]
    fn levels(&self, x: Wide<8>, top: f32) -> Wide<8> {
        let (step, low) = self.line();
        ((x + low) * step.inverse()).level(0.0, top)
    }

    /// `d` and `dmin` that fit the whole numbers best, by weighted least squares; none if they are not determined.
    #[inline(always)]
    fn refit(&self, x: &[Wide<8>; 32], w: &[Wide<8>; 32], top: f32) -> Option<(f32, f32)> {
        let (mut qq, mut q1, mut ww) = (Wide::ZERO, Wide::ZERO, Wide::ZERO);
        let (mut qx, mut x1) = (Wide::ZERO, Wide::ZERO);
        for (x, w) in x.iter().zip(w) {
            let q = self.levels(*x, top);
            let wq = *w * q;
            qq = qq + wq * q;
            q1 = q1 + wq;
            ww = ww + *w;
            qx = qx + wq * *x;
            x1 = x1 + *w * *x;
        }
        let (scale, min) = (self.scale, self.min);
        let (aa, bb) = ((scale * scale * qq).total(), (min * min * ww).total());
        let ab = (scale * min * q1).total();
        let (ax, bx) = ((scale * qx).total(), (min * x1).total());
        if bb == 0.0 {
            return (aa > 0.0).then(|| (ax / aa, 0.0));
        }
        let determinant = aa * bb - ab * ab;
        let d = (ax * bb - ab * bx) / determinant;
        let dmin = (ab * ax - aa * bx) / determinant;
        (d > 0.0 && dmin > 0.0 && d.is_finite() && dmin.is_finite()).then_some((d, dmin))
    }
}

/// A block of Q6_K: 16 groups of 16 with a scale each, whose numbers become `-32..=31`.
#[inline(always)]
pub(super) fn block_symmetric(x: &[f32; 256], out: &mut [u8]) {
    let x = side_by_side::<16, 16>(x);
    let w: [Wide<16>; 16] = std::array::from_fn(|i| x[i] * x[i]);
    let mut wanted = fit_scales(&x, &w);
    let mut d = f16::from_f32(wanted.largest() / -128.0).to_f32();
    let mut best = (f32::INFINITY, 0.0, Wide::ZERO);
    for _ in 0..=REFITS {
        let scale = (wanted * Wide::all(inverse(d))).level(-128.0, 127.0);
        let mut found = (Wide::all(f32::INFINITY), scale);
        for beside in [0.0, -1.0, 1.0] {
            let near = (scale + Wide::all(beside)).level(-128.0, 127.0);
            let step = Wide::all(d) * near;
            let steps = step.inverse();
            let mut error = Wide::ZERO;
            for i in 0..16 {
                let off = step * (x[i] * steps).level(-32.0, 31.0) - x[i];
                error = error + w[i] * off * off;
            }
            found = (
                error.where_less(found.0, error, found.0),
                error.where_less(found.0, near, found.1),
            );
        }
        let error = found.0.total();
        if error >= best.0 {
            break;
        }
        best = (error, d, found.1);
        wanted = Wide::all(d) * found.1;
        let steps = wanted.inverse();
        let (mut qq, mut qx) = (Wide::ZERO, Wide::ZERO);
        for i in 0..16 {
            let q = found.1 * (x[i] * steps).level(-32.0, 31.0);
            qq = qq + w[i] * q * q;
            qx = qx + w[i] * q * x[i];
        }
        d = f16::from_f32(Wide([qx.total()]).over(Wide([qq.total()])).0[0]).to_f32();
    }
    let (_, d, scale) = best;
    let steps = (Wide::all(d) * scale).inverse();
    let (mut is, mut all) = ([0_i8; 16], [0_u8; 256]);
    for g in 0..16 {
        is[g] = scale.0[g] as i8;
    }
    for (i, x) in x.iter().enumerate() {
        let q = (*x * steps).level(-32.0, 31.0);
        for g in 0..16 {
            all[16 * g + i] = (q.0[g] + 32.0) as u8;
        }
    }
    put_k(Format::Q6_K, d, 0.0, &is, &[0; 16], &all, out);
}

/// The scale of each group.
#[inline(always)]
fn fit_scales(x: &[Wide<16>; 16], w: &[Wide<16>; 16]) -> Wide<16> {
    let (mut low, mut high) = (x[0], x[0]);
    for x in x {
        low = low.min(*x);
        high = high.max(*x);
    }
    let largest = (Wide::ZERO - high).where_less(low, high, low);
    let per_largest = largest.inverse();
    // The scale, and by how much it lessens the error. Squares of squares are lost below 1e-10: then the plain scale.
    let mut best = (largest * Wide::all(-1.0 / 32.0), Wide::<16>::ZERO);
    // The plain step first: what it makes exact stays so.
    for step in std::iter::once(0_i8).chain(-9..=9) {
        let steps = Wide::all(-(32.0 + 0.1 * f32::from(step))) * per_largest;
        let (mut qx, mut qq) = (Wide::ZERO, Wide::ZERO);
        for i in 0..16 {
            let q = (steps * x[i]).level(-32.0, 31.0);
            let wq = w[i] * q;
            qx = qx + wq * x[i];
            qq = qq + wq * q;
        }
        let scale = qx.over(qq);
        let gain = scale * qx;
        best = (
            best.1.where_less(gain, scale, best.0),
            best.1.where_less(gain, gain, best.1),
        );
    }
    let magnitude = largest.map(f32::abs);
    magnitude.where_less(Wide::all(ZERO), Wide::ZERO, best.0)
}
