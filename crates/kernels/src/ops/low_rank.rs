//! Products with two thin matrices, as LoRA adapters add them to a linear map (E. Hu et al. 2021, arXiv 2106.09685).
//!
//! The order in which a number is added up depends on the sizes only, so a row's result never depends on other rows.

use super::lanes::{Lanes, load_part, store_part, vectorized};
use super::split;
use crate::isa::Isa;

/// Ranks worked on at once: what fits a buffer on the stack.
const STRIP: usize = 64;

/// y += scale * B * (A * x).
///
/// Shapes: x (in), a (rank, in), b (rank, out): B transposed, y (out).
///
/// # Panics
/// If `a` and `b` are no whole rows of one number of ranks.
pub fn add_low_rank(isa: Isa, x: &[f32], (a, b): (&[f32], &[f32]), scale: f32, y: &mut [f32]) {
    let (cols, out) = (x.len(), y.len());
    let rank = a.len().checked_div(cols).unwrap_or(0);
    assert_eq!(
        (a.len(), b.len()),
        (rank * cols, rank * out),
        "low-rank matrices for {cols} inputs and {out} outputs"
    );
    vectorized!(isa, add_low_rank_with(x: &[f32], a: &[f32], b: &[f32], scale: f32, y: &mut [f32]));
}

#[inline(always)]
unsafe fn add_low_rank_with<L: Lanes>(x: &[f32], a: &[f32], b: &[f32], scale: f32, y: &mut [f32]) {
    if x.is_empty() || y.is_empty() {
        return;
    }
    let mut inner = [0.0; STRIP];
    let strips = a.chunks(STRIP * x.len()).zip(b.chunks(STRIP * y.len()));
    for (a, b) in strips {
        let rank = a.len() / x.len();
        for (inner, a) in inner.iter_mut().zip(a.chunks_exact(x.len())) {
            // SAFETY: both slices have the length of x.
            *inner = scale * unsafe { dot::<L>(a, x) };
        }
        // SAFETY: b has rank rows of y.len() numbers.
        unsafe { add_rows::<L>(&inner[..rank], b, y) };
    }
}

/// Sum of products of two slices of one length.
#[inline(always)]
unsafe fn dot<L: Lanes>(a: &[f32], x: &[f32]) -> f32 {
    let (whole, rest) = split::<L>(x.len());
    let (a, x) = (a.as_ptr(), x.as_ptr());
    // SAFETY: offsets stay below the one length that the caller vouches for.
    unsafe {
        let mut sums = [L::splat(0.0); 4];
        let mut i = 0;
        while i + 4 * L::N <= whole {
            for (j, sum) in sums.iter_mut().enumerate() {
                let at = i + j * L::N;
                *sum = L::mul_add(L::load(a.add(at)), L::load(x.add(at)), *sum);
            }
            i += 4 * L::N;
        }
        while i < whole {
            sums[0] = L::mul_add(L::load(a.add(i)), L::load(x.add(i)), sums[0]);
            i += L::N;
        }
        if rest > 0 {
            let (a, x) = (a.add(whole), x.add(whole));
            let (a, x) = (load_part::<L>(a, rest, 0.0), load_part::<L>(x, rest, 0.0));
            sums[1] = L::mul_add(a, x, sums[1]);
        }
        L::sum(L::add(L::add(sums[0], sums[1]), L::add(sums[2], sums[3])))
    }
}

/// y += the rows of b, each times its factor.
#[inline(always)]
unsafe fn add_rows<L: Lanes>(factors: &[f32], b: &[f32], y: &mut [f32]) {
    let (whole, rest) = split::<L>(y.len());
    let width = y.len();
    let (b, y) = (b.as_ptr(), y.as_mut_ptr());
    // SAFETY: b holds a row of y's length for each factor, which the caller vouches for.
    unsafe {
        let mut at = 0;
        while at + 2 * L::N <= whole {
            let mut sums = [L::load(y.add(at)), L::load(y.add(at + L::N))];
            for (row, factor) in factors.iter().enumerate() {
                let (factor, from) = (L::splat(*factor), b.add(row * width + at));
                sums[0] = L::mul_add(factor, L::load(from), sums[0]);
                sums[1] = L::mul_add(factor, L::load(from.add(L::N)), sums[1]);
            }
            L::store(y.add(at), sums[0]);
            L::store(y.add(at + L::N), sums[1]);
            at += 2 * L::N;
        }
        while at < whole {
            let mut sum = L::load(y.add(at));
            for (row, factor) in factors.iter().enumerate() {
                sum = L::mul_add(L::splat(*factor), L::load(b.add(row * width + at)), sum);
            }
            L::store(y.add(at), sum);
            at += L::N;
        }
        if rest > 0 {
            let mut sum = load_part::<L>(y.add(whole), rest, 0.0);
            for (row, factor) in factors.iter().enumerate() {
                let from = load_part::<L>(b.add(row * width + whole), rest, 0.0);
                sum = L::mul_add(L::splat(*factor), from, sum);
            }
            store_part::<L>(y.add(whole), rest, sum);
        }
    }
}
