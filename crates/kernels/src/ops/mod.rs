//! Vector operations between the matrix products of a decoder: norms, rotary embedding, activations, sums.
//!
//! Each works on one row; [`for_each_row`] spreads rows over the pool. It owns no matrices and no attention. A row's
//! result never depends on other rows or on the number of threads.
#![allow(
    clippy::excessive_precision,
    reason = "constants keep the digits of their sources"
)]

pub(crate) mod lanes;
mod low_rank;
mod rows;
#[cfg(test)]
mod tests;

pub use low_rank::add_low_rank;
pub use rows::{PairOfRows, for_each, for_each_row, for_each_row_pair};

use crate::isa::Isa;
use lanes::{Lanes, exp, load_part, store_part, vectorized};

/// Which of the rotated dimensions of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// `i` with `i + dims / 2`.
    Halves,
    /// `2 i` with `2 i + 1`.
    Interleaved,
}

/// The form of the Gaussian error linear unit (D. Hendrycks, K. Gimpel 2016, arXiv 1606.08415).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// x * (1 + erf(x / sqrt 2)) / 2
    Erf,
    /// x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
    Tanh,
}

/// Sum over a slice of a value of each register of it, padded to whole registers with a `fill` whose value is 0. The order
/// depends on the length only.
///
/// A macro, as the one below: a closure would be compiled without the instruction set's features.
macro_rules! sum_of {
    ($lanes:ident, $x:expr, $fill:expr, |$v:ident| $value:expr) => {{
        let x: &[f32] = $x;
        let (whole, rest) = split::<$lanes>(x.len());
        let mut sums = [$lanes::splat(0.0); 4];
        let mut i = 0;
        while i + 4 * $lanes::N <= whole {
            for (j, sum) in sums.iter_mut().enumerate() {
                let $v = $lanes::load(x.as_ptr().add(i + j * $lanes::N));
                *sum = $lanes::add(*sum, $value);
            }
            i += 4 * $lanes::N;
        }
        while i < whole {
            let $v = $lanes::load(x.as_ptr().add(i));
            sums[0] = $lanes::add(sums[0], $value);
            i += $lanes::N;
        }
        if rest > 0 {
            let $v = load_part::<$lanes>(x.as_ptr().add(whole), rest, $fill);
            sums[1] = $lanes::add(sums[1], $value);
        }
        $lanes::sum($lanes::add(
            $lanes::add(sums[0], sums[1]),
            $lanes::add(sums[2], sums[3]),
        ))
    }};
}

/// out = value of each register of a and b; the caller vouches for one length of all three.
macro_rules! elementwise {
    ($lanes:ident, $a:expr, $b:expr, $out:expr, |$x:ident, $y:ident| $value:expr) => {{
        let (a, b, out): (&[f32], &[f32], &mut [f32]) = ($a, $b, $out);
        let (whole, rest) = split::<$lanes>(out.len());
        for i in (0..whole).step_by($lanes::N) {
            let ($x, $y) = (
                $lanes::load(a.as_ptr().add(i)),
                $lanes::load(b.as_ptr().add(i)),
            );
            $lanes::store(out.as_mut_ptr().add(i), $value);
        }
        if rest > 0 {
            let $x = load_part::<$lanes>(a.as_ptr().add(whole), rest, 0.0);
            let $y = load_part::<$lanes>(b.as_ptr().add(whole), rest, 0.0);
            store_part::<$lanes>(out.as_mut_ptr().add(whole), rest, $value);
        }
    }};
}

/// out = x / sqrt(mean(x^2) + eps) * weight. Shapes: all (width).
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(
        (x.len(), x.len()),
        (weight.len(), out.len()),
        "rms_norm lengths"
    );
    vectorized!(isa, rms_norm_with(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]));
}

#[inline(always)]
unsafe fn rms_norm_with<L: Lanes>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: every pointer stays inside slices of the one length that the caller checked.
    unsafe {
        let squares = sum_of!(L, x, 0.0, |v| L::mul(v, v));
        let scale = 1.0 / (squares / x.len() as f32 + eps).sqrt();
        let scale = L::splat(scale);
        elementwise!(L, x, weight, out, |x, w| L::mul(L::mul(x, scale), w));
    }
}

/// out = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias. Shapes: all (width).
///
/// # Panics
/// If the lengths differ.
pub fn layer_norm(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    assert_eq!(
        (x.len(), x.len()),
        (weight.len(), out.len()),
        "layer_norm lengths"
    );
    assert!(
        bias.is_none_or(|b| b.len() == x.len()),
        "layer_norm bias length"
    );
    vectorized!(isa, layer_norm_with(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]));
}

#[inline(always)]
unsafe fn layer_norm_with<L: Lanes>(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    // SAFETY: every pointer stays inside slices of the one length that the caller checked.
    unsafe {
        let width = x.len() as f32;
        let mean = sum_of!(L, x, 0.0, |v| v) / width;
        let mean_lanes = L::splat(mean);
        let squares = sum_of!(L, x, mean, |v| {
            let d = L::sub(v, mean_lanes);
            L::mul(d, d)
        });
        let scale = L::splat(1.0 / (squares / width + eps).sqrt());
        elementwise!(L, x, weight, out, |x, w| {
            L::mul(L::mul(L::sub(x, mean_lanes), scale), w)
        });
        if let Some(bias) = bias {
            add_with::<L>(out, bias);
        }
    }
}

/// y += x. Shapes: both (width).
///
/// # Panics
/// If the lengths differ.
pub fn add(isa: Isa, y: &mut [f32], x: &[f32]) {
    assert_eq!(y.len(), x.len(), "add lengths");
    vectorized!(isa, add_with(y: &mut [f32], x: &[f32]));
}

#[inline(always)]
unsafe fn add_with<L: Lanes>(y: &mut [f32], x: &[f32]) {
    let (whole, rest) = split::<L>(x.len());
    // SAFETY: offsets stay below the one length that the caller checked.
    unsafe {
        let (to, from) = (y.as_mut_ptr(), x.as_ptr());
        for i in (0..whole).step_by(L::N) {
            L::store(to.add(i), L::add(L::load(to.add(i)), L::load(from.add(i))));
        }
        if rest > 0 {
            let sum = L::add(
                load_part::<L>(to.add(whole), rest, 0.0),
                load_part::<L>(from.add(whole), rest, 0.0),
            );
            store_part::<L>(to.add(whole), rest, sum);
        }
    }
}

/// out = silu(gate) * up, silu(x) = x / (1 + e^-x). Shapes: all (width).
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul(isa: Isa, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert_eq!(
        (gate.len(), gate.len()),
        (up.len(), out.len()),
        "silu_mul lengths"
    );
    vectorized!(isa, silu_mul_with(gate: &[f32], up: &[f32], out: &mut [f32]));
}

#[inline(always)]
unsafe fn silu_mul_with<L: Lanes>(gate: &[f32], up: &[f32], out: &mut [f32]) {
    // SAFETY: `elementwise!` stays inside slices of the one length that the caller checked.
    unsafe {
        elementwise!(L, gate, up, out, |g, u| L::mul(
            L::mul(g, sigmoid::<L>(g)),
            u
        ));
    }
}

/// out = gelu(x). Shapes: both (width).
///
/// # Panics
/// If the lengths differ.
pub fn gelu(isa: Isa, form: Gelu, x: &[f32], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "gelu lengths");
    vectorized!(isa, gelu_with(form: Gelu, x: &[f32], out: &mut [f32]));
}

#[inline(always)]
unsafe fn gelu_with<L: Lanes>(form: Gelu, x: &[f32], out: &mut [f32]) {
    // SAFETY: `elementwise!` stays inside slices of the one length that the caller checked.
    unsafe {
        match form {
            Gelu::Erf => elementwise!(L, x, x, out, |x, _same| {
                let half = L::mul(x, L::splat(0.5));
                let scaled = L::mul(x, L::splat(std::f32::consts::FRAC_1_SQRT_2));
                L::mul_add(half, erf::<L>(scaled), half)
            }),
            // (1 + tanh(u)) / 2 = sigmoid(2 u)
            Gelu::Tanh => elementwise!(L, x, x, out, |x, _same| {
                let cubic = L::mul_add(L::mul(x, x), L::splat(0.044715), L::splat(1.0));
                let u = L::mul(L::mul(x, cubic), L::splat(2.0 * 0.797_884_56));
                L::mul(x, sigmoid::<L>(u))
            }),
        }
    }
}

/// Rotates the first `2 * cos.len()` dimensions of every head of a row in place (arXiv 2104.09864).
///
/// Shapes: x (heads * head_dim), cos and sin (dims / 2): one angle a pair.
///
/// # Panics
/// If `x` is no whole number of heads, or the rotated dimensions exceed a head.
pub fn rope(
    isa: Isa,
    x: &mut [f32],
    head_dim: usize,
    pairing: Pairing,
    (cos, sin): (&[f32], &[f32]),
) {
    assert_eq!(cos.len(), sin.len(), "rope tables");
    assert!(
        2 * cos.len() <= head_dim && x.len().is_multiple_of(head_dim),
        "rope head size"
    );
    match pairing {
        Pairing::Halves => {
            vectorized!(isa, rope_halves(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]));
        }
        Pairing::Interleaved => {
            for head in x.chunks_exact_mut(head_dim) {
                for ((pair, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                    let (a, b) = (pair[0], pair[1]);
                    pair[0] = a * c - b * s;
                    pair[1] = a * s + b * c;
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn rope_halves<L: Lanes>(x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    let (whole, _) = split::<L>(half);
    for head in x.chunks_exact_mut(head_dim) {
        // SAFETY: offsets stay below 2 * half <= head_dim in the head and below half in the tables.
        unsafe {
            let (low, high) = (head.as_mut_ptr(), head.as_mut_ptr().add(half));
            let zero = L::splat(0.0);
            for i in (0..whole).step_by(L::N) {
                let (a, b) = (L::load(low.add(i)), L::load(high.add(i)));
                let (c, s) = (L::load(cos.as_ptr().add(i)), L::load(sin.as_ptr().add(i)));
                L::store(low.add(i), L::mul_add(a, c, L::sub(zero, L::mul(b, s))));
                L::store(high.add(i), L::mul_add(a, s, L::mul(b, c)));
            }
        }
        for i in whole..half {
            let (a, b) = (head[i], head[half + i]);
            head[i] = a * cos[i] - b * sin[i];
            head[half + i] = a * sin[i] + b * cos[i];
        }
    }
}

/// 1 / (1 + e^-x)
#[inline(always)]
unsafe fn sigmoid<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: register arithmetic only; the caller vouches for the instructions.
    unsafe {
        let one = L::splat(1.0);
        L::div(one, L::add(one, exp::<L>(L::sub(L::splat(0.0), x))))
    }
}

/// erf(x) to 1.5e-7 (M. Abramowitz, I. Stegun, Handbook of Mathematical Functions, 7.1.26).
#[inline(always)]
pub(crate) unsafe fn erf<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: register arithmetic only; the caller vouches for the instructions.
    unsafe {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        let size = L::max(x, L::sub(zero, x));
        let t = L::div(one, L::mul_add(size, L::splat(0.327_591_1), one));
        let mut p = L::splat(1.061_405_43);
        for c in [-1.453_152_03, 1.421_413_74, -0.284_496_736, 0.254_829_592] {
            p = L::mul_add(p, t, L::splat(c));
        }
        let tail = L::mul(L::mul(p, t), exp::<L>(L::sub(zero, L::mul(size, size))));
        let positive = L::sub(one, tail);
        // The sign of x, by x / |x| with 0 / tiny = 0.
        let sign = L::div(x, L::max(size, L::splat(f32::MIN_POSITIVE)));
        L::mul(positive, sign)
    }
}

/// (whole registers' elements, rest) of `n`.
#[inline(always)]
fn split<L: Lanes>(n: usize) -> (usize, usize) {
    (n - n % L::N, n % L::N)
}
