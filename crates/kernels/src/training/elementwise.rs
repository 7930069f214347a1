//! Backward passes of norms and activations, biases, and rounding to bf16 and back. One row at a time unless a pool is taken.

use super::panel::bf16_bits;
use crate::ops::Gelu;
use crate::ops::lanes::{Lanes, exp, vectorized};
use crate::parts::Parts;
use crate::{Isa, Pool};

/// Numbers that a chunk of rounding takes.
const CHUNK: usize = 1 << 15;

/// dx += the gradient of `x / sqrt(mean(x^2) + eps) * weight` for the gradient `dy` of its result. Shapes: all (width).
///
/// # Panics
/// If the lengths differ.
pub fn rms_norm_backward(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
) {
    assert!(
        [weight.len(), dy.len(), dx.len()] == [x.len(); 3],
        "rms_norm_backward lengths"
    );
    vectorized!(isa, rms_with(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]));
}

/// Sums of products of up to three slices in sixteen lanes, so that the compiler may use registers.
#[inline(always)]
fn sum_of(n: usize, term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let whole = n - n % 16;
    for start in (0..whole).step_by(16) {
        for (l, lane) in lanes.iter_mut().enumerate() {
            *lane += term(start + l);
        }
    }
    let mut total = 0.0;
    for i in whole..n {
        total += term(i);
    }
    lanes.iter().sum::<f32>() + total
}

#[inline(always)]
unsafe fn rms_with<L: Lanes>(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let n = x.len();
    let (weight, dy, dx) = (&weight[..n], &dy[..n], &mut dx[..n]);
    let squares = sum_of(n, |i| x[i] * x[i]);
    let along = sum_of(n, |i| dy[i] * weight[i] * x[i]);
    let scale = 1.0 / (squares / n as f32 + eps).sqrt();
    let back = scale * scale * scale * along / n as f32;
    for i in 0..n {
        dx[i] += scale * weight[i] * dy[i] - back * x[i];
    }
}

/// dx += the gradient of a layer norm with this weight for the gradient `dy` of its result. Shapes: all (width).
///
/// # Panics
/// If the lengths differ.
pub fn layer_norm_backward(
    isa: Isa,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
) {
    assert!(
        [weight.len(), dy.len(), dx.len()] == [x.len(); 3],
        "layer_norm_backward lengths"
    );
    vectorized!(isa, layer_with(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]));
}

#[inline(always)]
unsafe fn layer_with<L: Lanes>(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let n = x.len();
    let (weight, dy, dx) = (&weight[..n], &dy[..n], &mut dx[..n]);
    let width = n as f32;
    let mean = sum_of(n, |i| x[i]) / width;
    let variance = sum_of(n, |i| (x[i] - mean) * (x[i] - mean)) / width;
    let scale = 1.0 / (variance + eps).sqrt();
    let slope_mean = sum_of(n, |i| dy[i] * weight[i]) / width;
    let along = sum_of(n, |i| dy[i] * weight[i] * (x[i] - mean)) * scale / width;
    for i in 0..n {
        let standard = (x[i] - mean) * scale;
        dx[i] += scale * (dy[i] * weight[i] - slope_mean - standard * along);
    }
}

/// Gradients of `silu(gate) * up` for the gradient `dy` of the result, written over `gate` and `up`. Shapes: all (width).
///
/// # Panics
/// If the lengths differ.
pub fn silu_mul_backward(isa: Isa, gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    assert!(
        [gate.len(), up.len()] == [dy.len(); 2],
        "silu_mul_backward lengths"
    );
    vectorized!(isa, silu_with(gate: &mut [f32], up: &mut [f32], dy: &[f32]));
}

/// Whole registers by intrinsics, the rest by the same formula on a padded register.
macro_rules! in_registers {
    ($lanes:ident, $n:expr, |$i:ident, $load:ident, $store:ident| $body:block) => {{
        let n = $n;
        let whole = n - n % $lanes::N;
        {
            let $load = |p: *const f32| $lanes::load(p);
            let $store = |p: *mut f32, v: $lanes::V| $lanes::store(p, v);
            for $i in (0..whole).step_by($lanes::N) $body
        }
        if n > whole {
            let rest = n - whole;
            let $load = |p: *const f32| crate::ops::lanes::load_part::<$lanes>(p, rest, 0.0);
            let $store =
                |p: *mut f32, v: $lanes::V| crate::ops::lanes::store_part::<$lanes>(p, rest, v);
            let $i = whole;
            $body
        }
    }};
}

#[inline(always)]
unsafe fn silu_with<L: Lanes>(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    let (g, u, d) = (gate.as_mut_ptr(), up.as_mut_ptr(), dy.as_ptr());
    // SAFETY: offsets stay below the one length that the caller checked.
    unsafe {
        let one = L::splat(1.0);
        in_registers!(L, dy.len(), |i, load, store| {
            let (gv, uv, dv) = (load(g.add(i)), load(u.add(i)), load(d.add(i)));
            let s = L::div(one, L::add(one, exp::<L>(L::sub(L::splat(0.0), gv))));
            // d silu = s (1 + g (1 - s))
            let slope = L::mul(s, L::mul_add(gv, L::sub(one, s), one));
            store(g.add(i), L::mul(L::mul(dv, uv), slope));
            store(u.add(i), L::mul(dv, L::mul(gv, s)));
        });
    }
}

/// The gradient of `gelu(x)` for the gradient `dy` of the result, written over `x`. Shapes: both (width).
///
/// # Panics
/// If the lengths differ.
pub fn gelu_backward(isa: Isa, form: Gelu, x: &mut [f32], dy: &[f32]) {
    assert_eq!(x.len(), dy.len(), "gelu_backward lengths");
    vectorized!(isa, gelu_with(form: Gelu, x: &mut [f32], dy: &[f32]));
}

#[inline(always)]
unsafe fn gelu_with<L: Lanes>(form: Gelu, x: &mut [f32], dy: &[f32]) {
    let (p, d) = (x.as_mut_ptr(), dy.as_ptr());
    // SAFETY: offsets stay below the one length that the caller checked.
    unsafe {
        let (zero, half, one) = (L::splat(0.0), L::splat(0.5), L::splat(1.0));
        in_registers!(L, dy.len(), |i, load, store| {
            let (x, dy) = (load(p.add(i)), load(d.add(i)));
            let slope = match form {
                // Phi(x) + x phi(x)
                Gelu::Erf => {
                    let scaled = L::mul(x, L::splat(std::f32::consts::FRAC_1_SQRT_2));
                    let square = L::mul(x, x);
                    let bell = exp::<L>(L::mul(square, L::splat(-0.5)));
                    let density = L::mul(bell, L::splat(0.398_942_3));
                    let below = L::mul_add(crate::ops::erf::<L>(scaled), half, half);
                    L::mul_add(x, density, below)
                }
                // With s = sigmoid(2 u): s + x s (1 - s) 2 u'
                Gelu::Tanh => {
                    let square = L::mul(x, x);
                    let cubic = L::mul_add(square, L::splat(0.044_715), one);
                    let factor = L::splat(2.0 * 0.797_884_6);
                    let u = L::mul(L::mul(x, cubic), factor);
                    let s = L::div(one, L::add(one, exp::<L>(L::sub(zero, u))));
                    let du = L::mul(L::mul_add(square, L::splat(3.0 * 0.044_715), one), factor);
                    L::mul_add(L::mul(x, L::mul(s, L::sub(one, s))), du, s)
                }
            };
            store(p.add(i), L::mul(slope, dy));
        });
    }
}

/// Adds `bias` (width) to every row of `y`, shape (rows, width).
///
/// # Panics
/// If `y` is no whole number of rows.
pub fn add_bias(isa: Isa, pool: &Pool, y: &mut [f32], bias: &[f32]) {
    crate::ops::for_each_row(pool, y, bias.len(), &|_, y| crate::ops::add(isa, y, bias));
}

/// Rounds to bf16, nearest, ties to even.
///
/// # Panics
/// If the lengths differ.
pub fn to_bf16(isa: Isa, pool: &Pool, x: &[f32], out: &mut [u16]) {
    assert_eq!(x.len(), out.len(), "to_bf16 lengths");
    let parts = Parts::new(out);
    pool.run(x.len().div_ceil(CHUNK), &|chunk| {
        let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(x.len());
        // SAFETY: each chunk is run once and has its own range.
        let out = unsafe { parts.part(range.clone()) };
        round(isa, &x[range], out);
    });
}

fn round(isa: Isa, x: &[f32], out: &mut [u16]) {
    vectorized!(isa, round_with(x: &[f32], out: &mut [u16]));
}

#[inline(always)]
unsafe fn round_with<L: Lanes>(x: &[f32], out: &mut [u16]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = bf16_bits(*x) as u16;
    }
}

/// bf16 to f32, which is exact.
///
/// # Panics
/// If the lengths differ.
pub fn from_bf16(isa: Isa, pool: &Pool, x: &[u16], out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "from_bf16 lengths");
    let parts = Parts::new(out);
    pool.run(x.len().div_ceil(CHUNK), &|chunk| {
        let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(x.len());
        // SAFETY: each chunk is run once and has its own range.
        let out = unsafe { parts.part(range.clone()) };
        widen(isa, &x[range], out);
    });
}

fn widen(isa: Isa, x: &[u16], out: &mut [f32]) {
    vectorized!(isa, widen_with(x: &[u16], out: &mut [f32]));
}

#[inline(always)]
unsafe fn widen_with<L: Lanes>(x: &[u16], out: &mut [f32]) {
    for (o, x) in out.iter_mut().zip(x) {
        *o = f32::from_bits(u32::from(*x) << 16);
    }
}
