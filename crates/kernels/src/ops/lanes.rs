//! One vector register's worth of arithmetic, behind a trait, so that each vector operation is written once.
//!
//! An implementation is thin: one intrinsic a function. Generic code over [`Lanes`] is `inline(always)` and compiled inside
//! a function that enables the features (see [`vectorized`]); it owns no algorithms.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::NeonLanes;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Avx2Lanes, Avx512Lanes};

/// A vector register of `N` f32 lanes.
///
/// Every function is unsafe for two reasons only: the CPU must have the instructions (the caller holds an
/// [`crate::Isa`] of that level), and pointers must be valid for the `N` elements read or written.
pub(crate) trait Lanes: Copy {
    /// Lanes of a register.
    const N: usize;
    /// The register.
    type V: Copy;

    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// Loads `N` f32.
    unsafe fn load(from: *const f32) -> Self::V;
    /// Stores `N` f32.
    unsafe fn store(to: *mut f32, v: Self::V);
    /// Loads `N` IEEE half floats.
    unsafe fn load_f16(from: *const u16) -> Self::V;
    /// Stores `N` IEEE half floats, rounded to nearest even.
    unsafe fn store_f16(to: *mut u16, v: Self::V);
    /// a + b
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a * b
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of a and b, b where a is not a number.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of a and b, b where a is not a number.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest whole number, ties to even.
    unsafe fn round(v: Self::V) -> Self::V;
    /// a * 2^n for whole n in -126..=127.
    unsafe fn scale_by_power(a: Self::V, n: Self::V) -> Self::V;
    /// The sum of all lanes, in an order that depends on `N` only.
    unsafe fn sum(v: Self::V) -> f32;
    /// The largest lane.
    unsafe fn largest(v: Self::V) -> f32;
}

/// Plain Rust: the twin that the others are tested against. Arrays, so that the compiler may still vectorize.
#[derive(Clone, Copy)]
pub(crate) struct ScalarLanes;

/// Lanes of the plain implementation.
const SCALAR_LANES: usize = 8;

impl ScalarLanes {
    #[inline(always)]
    fn zip(
        a: [f32; SCALAR_LANES],
        b: [f32; SCALAR_LANES],
        f: impl Fn(f32, f32) -> f32,
    ) -> [f32; SCALAR_LANES] {
        std::array::from_fn(|i| f(a[i], b[i]))
    }
}

impl Lanes for ScalarLanes {
    const N: usize = SCALAR_LANES;
    type V = [f32; SCALAR_LANES];

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; SCALAR_LANES]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        // SAFETY: the caller vouches for N readable elements; no alignment is assumed.
        unsafe { from.cast::<Self::V>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        // SAFETY: the caller vouches for N writable elements; no alignment is assumed.
        unsafe { to.cast::<Self::V>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self::V {
        // SAFETY: the caller vouches for N readable elements; no alignment is assumed.
        let bits = unsafe { from.cast::<[u16; SCALAR_LANES]>().read_unaligned() };
        bits.map(|b| half::f16::from_bits(b).to_f32_const())
    }
    #[inline(always)]
    unsafe fn store_f16(to: *mut u16, v: Self::V) {
        let bits = v.map(|x| half::f16::from_f32_const(x).to_bits());
        // SAFETY: the caller vouches for N writable elements; no alignment is assumed.
        unsafe { to.cast::<[u16; SCALAR_LANES]>().write_unaligned(bits) }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Rounded twice: a fused step without the instruction is a slow library call.
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        Self::zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(v: Self::V) -> Self::V {
        v.map(f32::round_ties_even)
    }
    #[inline(always)]
    unsafe fn scale_by_power(a: Self::V, n: Self::V) -> Self::V {
        Self::zip(a, n, |a, n| {
            a * f32::from_bits(((n as i32 + 127) as u32) << 23)
        })
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        let [a, b, c, d, e, f, g, h] = v;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// Loads `n` f32 (at most `N`), the other lanes `fill`.
#[inline(always)]
pub(crate) unsafe fn load_part<L: Lanes>(from: *const f32, n: usize, fill: f32) -> L::V {
    let mut lanes = [fill; 16];
    // SAFETY: the caller vouches for n readable elements, n <= N <= 16; `lanes` holds N.
    unsafe {
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), n);
        L::load(lanes.as_ptr())
    }
}

/// Stores the first `n` lanes (at most `N`).
#[inline(always)]
pub(crate) unsafe fn store_part<L: Lanes>(to: *mut f32, n: usize, v: L::V) {
    let mut lanes = [0.0; 16];
    // SAFETY: the caller vouches for n writable elements, n <= N <= 16; `lanes` holds N.
    unsafe {
        L::store(lanes.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(lanes.as_ptr(), to, n);
    }
}

/// e^x to about 2 units in the last place (the range reduction and minimax polynomial of Cephes `expf`, S. Moshier);
/// arguments are held to -87.3..=88.3, so the result is never 0, infinite or denormal.
#[inline(always)]
pub(crate) unsafe fn exp<L: Lanes>(x: L::V) -> L::V {
    // SAFETY: register arithmetic only; the caller vouches for the instructions.
    unsafe {
        let x = L::min(L::max(x, L::splat(-87.3)), L::splat(88.3));
        let n = L::round(L::mul(x, L::splat(std::f32::consts::LOG2_E)));
        let r = L::mul_add(n, L::splat(-0.693_359_375), x);
        let r = L::mul_add(n, L::splat(2.121_944_4e-4), r);
        let mut p = L::splat(1.987_569_15e-4);
        for c in [
            1.398_199_950_7e-3,
            8.333_451_907_3e-3,
            4.166_579_589_4e-2,
            1.666_666_545_9e-1,
            5.000_000_120_1e-1,
        ] {
            p = L::mul_add(p, r, L::splat(c));
        }
        let e = L::add(L::mul_add(p, L::mul(r, r), r), L::splat(1.0));
        L::scale_by_power(e, n)
    }
}

/// Calls a function that is generic over [`Lanes`] with the lanes of an [`crate::Isa`], compiled with its features.
///
/// `vectorized!(isa, name(arg: Type, ...) -> Return)`; the arguments are the variables of those names.
macro_rules! vectorized {
    ($isa:expr, $generic:ident $(::<$element:ty>)? ($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)?) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(clippy::too_many_arguments, reason = "a copy of the generic function's list")]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: passed on to the caller, who vouches for the pointers; the features are enabled here.
                unsafe { $generic::<$crate::ops::lanes::Avx2Lanes $(, $element)?>($($arg),*) }
            }
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            #[allow(clippy::too_many_arguments, reason = "a copy of the generic function's list")]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: passed on to the caller, who vouches for the pointers; the features are enabled here.
                unsafe { $generic::<$crate::ops::lanes::Avx512Lanes $(, $element)?>($($arg),*) }
            }
            match $crate::isa::Isa::level($isa) {
                // SAFETY: an `Isa` of this level exists only where the CPU has the features; sizes were checked above.
                $crate::isa::Level::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: plain Rust; sizes were checked above.
                $crate::isa::Level::Scalar => unsafe {
                    $generic::<$crate::ops::lanes::ScalarLanes $(, $element)?>($($arg),*)
                },
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            #[target_feature(enable = "neon")]
            #[allow(clippy::too_many_arguments, reason = "a copy of the generic function's list")]
            unsafe fn neon($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: passed on to the caller, who vouches for the pointers; the features are enabled here.
                unsafe { $generic::<$crate::ops::lanes::NeonLanes $(, $element)?>($($arg),*) }
            }
            match $crate::isa::Isa::level($isa) {
                // SAFETY: an `Isa` of this level exists only where the CPU has the features; sizes were checked above.
                $crate::isa::Level::Neon => unsafe { neon($($arg),*) },
                // SAFETY: plain Rust; sizes were checked above.
                $crate::isa::Level::Scalar => unsafe {
                    $generic::<$crate::ops::lanes::ScalarLanes $(, $element)?>($($arg),*)
                },
            }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            let _ = $isa;
            // SAFETY: plain Rust; sizes were checked above.
            unsafe { $generic::<$crate::ops::lanes::ScalarLanes $(, $element)?>($($arg),*) }
        }
    }};
}
pub(crate) use vectorized;
