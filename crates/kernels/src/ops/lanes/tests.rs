//! Every function of every [`Lanes`] against plain Rust, a number at a time.

use super::{Lanes, vectorized};
use crate::Isa;
use half::f16;

/// A whole number of registers of any implementation.
const LEN: usize = 32;

/// Numbers of every kind: signs, zeros, ties of rounding to whole numbers and to half floats, what half floats cannot hold,
/// denormals, infinities and none at all.
const KINDS: [f32; LEN] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.5,
    -2.5,
    0.3,
    -7.75,
    3.5e4,
    65504.0,
    65519.0,
    65520.0,
    -65536.0,
    1e30,
    2049.0,
    2051.0,
    -2050.5,
    1.000_488_3,
    1.001_464_8,
    6e-8,
    2.98e-8,
    2.99e-8,
    6.1e-5,
    -3.3e-6,
    1e-40,
    f32::MIN_POSITIVE,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    127.0,
];

/// The same number, or both are none.
fn same(found: f32, expected: f32) -> bool {
    found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan())
}

/// What each function of two numbers gives, by its name.
type Pairwise = (&'static str, fn(f32, f32) -> f32);

const PAIRWISE: [Pairwise; 7] = [
    ("add", |a, b| a + b),
    ("sub", |a, b| a - b),
    ("mul", |a, b| a * b),
    ("div", |a, b| a / b),
    ("max", |a, b| if a > b { a } else { b }),
    ("min", |a, b| if a < b { a } else { b }),
    ("round", |a, _| a.round_ties_even()),
];

#[inline(always)]
unsafe fn pairwise<L: Lanes>(a: &[f32], b: &[f32], out: &mut [[f32; LEN]; PAIRWISE.len()]) {
    assert!(a.len() == LEN && b.len() == LEN && LEN.is_multiple_of(L::N));
    for i in (0..LEN).step_by(L::N) {
        // SAFETY: N numbers follow in each array of LEN; the caller vouches for the instructions.
        unsafe {
            let (x, y) = (L::load(a.as_ptr().add(i)), L::load(b.as_ptr().add(i)));
            let results = [
                L::add(x, y),
                L::sub(x, y),
                L::mul(x, y),
                L::div(x, y),
                L::max(x, y),
                L::min(x, y),
                L::round(x),
            ];
            for (out, v) in out.iter_mut().zip(results) {
                L::store(out.as_mut_ptr().add(i), v);
            }
        }
    }
}

#[test]
fn numbers_of_every_kind_are_those_of_plain_rust() {
    for isa in Isa::available() {
        for shift in 0..LEN {
            let (a, mut b) = (&KINDS, KINDS);
            b.rotate_left(shift);
            let (b, mut out) = (&b, [[0.0; LEN]; PAIRWISE.len()]);
            {
                let (a, b, out) = (&a[..], &b[..], &mut out);
                vectorized!(isa, pairwise(a: &[f32], b: &[f32], out: &mut [[f32; LEN]; PAIRWISE.len()]));
            }
            for ((name, plain), out) in PAIRWISE.iter().zip(&out) {
                for i in 0..LEN {
                    let expected = plain(a[i], b[i]);
                    assert!(
                        same(out[i], expected),
                        "{name} of {:e} and {:e} on {}: {:e}, expected {expected:e}",
                        a[i],
                        b[i],
                        isa.name(),
                        out[i]
                    );
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn to_halves<L: Lanes>(x: &[f32], out: &mut [u16]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(L::N));
    for i in (0..x.len()).step_by(L::N) {
        // SAFETY: N numbers follow in both; the caller vouches for the instructions.
        unsafe { L::store_f16(out.as_mut_ptr().add(i), L::load(x.as_ptr().add(i))) };
    }
}

#[inline(always)]
unsafe fn from_halves<L: Lanes>(x: &[u16], out: &mut [f32]) {
    assert!(x.len() == out.len() && x.len().is_multiple_of(L::N));
    for i in (0..x.len()).step_by(L::N) {
        // SAFETY: N numbers follow in both; the caller vouches for the instructions.
        unsafe { L::store(out.as_mut_ptr().add(i), L::load_f16(x.as_ptr().add(i))) };
    }
}

#[test]
fn half_floats_are_those_of_plain_rust() {
    let halves: Vec<u16> = (0..=u16::MAX).collect();
    let exact: Vec<f32> = halves.iter().map(|h| f16::from_bits(*h).to_f32()).collect();
    // Half floats, the ties between neighbours, and numbers to either side of the ties.
    let mut numbers = KINDS.to_vec();
    for pair in exact.windows(2) {
        let tie = f32::midpoint(pair[0], pair[1]);
        numbers.extend([pair[0], tie, tie.next_up(), tie.next_down()]);
    }
    numbers.resize(numbers.len().next_multiple_of(LEN), 0.0);
    for isa in Isa::available() {
        let mut wide = vec![0.0; halves.len()];
        {
            let (x, out) = (&halves[..], &mut wide[..]);
            vectorized!(isa, from_halves(x: &[u16], out: &mut [f32]));
        }
        for (bits, (found, expected)) in wide.iter().zip(&exact).enumerate() {
            assert!(
                same(*found, *expected),
                "{bits:#06x} on {}: {found}, expected {expected}",
                isa.name()
            );
        }
        let mut narrow = vec![0; numbers.len()];
        {
            let (x, out) = (&numbers[..], &mut narrow[..]);
            vectorized!(isa, to_halves(x: &[f32], out: &mut [u16]));
        }
        for (number, found) in numbers.iter().zip(narrow) {
            let (found, expected) = (f16::from_bits(found), f16::from_f32_const(*number));
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{number:e} on {}: {found}, expected {expected}",
                isa.name()
            );
        }
    }
}

/// `out`: a * b + c, then a * 2^n.
#[inline(always)]
unsafe fn scaled<L: Lanes>(of: &[[f32; LEN]; 4], out: &mut [[f32; LEN]; 2]) {
    for i in (0..LEN).step_by(L::N) {
        // SAFETY: N numbers follow in each array of LEN; the caller vouches for the instructions.
        unsafe {
            let [a, b, c, n] = std::array::from_fn(|k| L::load(of[k].as_ptr().add(i)));
            L::store(out[0].as_mut_ptr().add(i), L::mul_add(a, b, c));
            L::store(out[1].as_mut_ptr().add(i), L::scale_by_power(a, n));
        }
    }
}

/// The sum of all lanes and the largest, register by register.
#[inline(always)]
unsafe fn folded<L: Lanes>(x: &[f32; LEN], out: &mut Vec<(usize, f32, f32)>) {
    for i in (0..LEN).step_by(L::N) {
        // SAFETY: as in `scaled`.
        unsafe {
            let v = L::load(x.as_ptr().add(i));
            out.push((L::N, L::sum(v), L::largest(v)));
        }
    }
}

#[test]
fn scaled_and_folded_numbers_are_those_of_plain_rust() {
    let wave = |from: f32| std::array::from_fn(|i| ((i as f32 + from) * 1.7).sin() * 4.0);
    let powers = std::array::from_fn(|i| (i * 8) as f32 - 126.0);
    let of: [[f32; LEN]; 4] = [wave(0.0), wave(9.0), wave(40.0), powers];
    for isa in Isa::available() {
        let mut out = [[0.0; LEN]; 2];
        {
            let (of, out) = (&of, &mut out);
            vectorized!(isa, scaled(of: &[[f32; LEN]; 4], out: &mut [[f32; LEN]; 2]));
        }
        for i in 0..LEN {
            let [a, b, c, n] = of.map(|numbers| numbers[i]);
            // One rounding or two, of a product of up to 16.
            assert!(
                (out[0][i] - a.mul_add(b, c)).abs() <= 16.0 * f32::EPSILON,
                "{a} * {b} + {c} on {}: {}",
                isa.name(),
                out[0][i]
            );
            assert!(
                same(out[1][i], a * n.exp2()),
                "{a} * 2^{n} on {}: {}",
                isa.name(),
                out[1][i]
            );
        }
        let mut registers = Vec::new();
        {
            let (x, out) = (&of[0], &mut registers);
            vectorized!(isa, folded(x: &[f32; LEN], out: &mut Vec<(usize, f32, f32)>));
        }
        let mut left = &of[0][..];
        for (n, sum, largest) in registers {
            let (register, rest) = left.split_at(n);
            left = rest;
            let exact: f64 = register.iter().map(|v| f64::from(*v)).sum();
            let most = register.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert!(
                (f64::from(sum) - exact).abs() <= 64.0 * f64::from(f32::EPSILON) && largest == most,
                "{register:?} on {}: sum {sum}, largest {largest}",
                isa.name()
            );
        }
        assert!(left.is_empty());
    }
}
