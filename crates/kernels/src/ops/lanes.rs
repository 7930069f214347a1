//! One vector register's worth of arithmetic, behind a trait, so that each vector operation is written once.
//!
//! An implementation is thin: one intrinsic a function. Generic code over [`Lanes`] is `inline(always)` and compiled inside
//! a function that enables the features (see [`vectorized`]); it owns no algorithms.

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

#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Avx2Lanes, Avx512Lanes};

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use super::Lanes;
    use std::arch::x86_64::*;

    /// AVX2 with FMA and F16C.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2Lanes;

    // SAFETY (of every block below): the trait's contract: the CPU has the instructions, pointers are valid for N.
    #[allow(
        clippy::undocumented_unsafe_blocks,
        reason = "stated once above: the trait's contract"
    )]
    impl Lanes for Avx2Lanes {
        const N: usize = 8;
        type V = __m256;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> __m256 {
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        }
        #[inline(always)]
        unsafe fn store_f16(to: *mut u16, v: __m256) {
            unsafe {
                let bits = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v);
                _mm_storeu_si128(to.cast(), bits);
            }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn round(v: __m256) -> __m256 {
            unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v) }
        }
        #[inline(always)]
        unsafe fn scale_by_power(a: __m256, n: __m256) -> __m256 {
            unsafe {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
            }
        }
        #[inline(always)]
        unsafe fn sum(v: __m256) -> f32 {
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
        #[inline(always)]
        unsafe fn largest(v: __m256) -> f32 {
            unsafe {
                let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }
    }

    /// AVX-512 F.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512Lanes;

    // SAFETY (of every block below): the trait's contract: the CPU has the instructions, pointers are valid for N.
    #[allow(
        clippy::undocumented_unsafe_blocks,
        reason = "stated once above: the trait's contract"
    )]
    impl Lanes for Avx512Lanes {
        const N: usize = 16;
        type V = __m512;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(to, v) }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> __m512 {
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
        }
        #[inline(always)]
        unsafe fn store_f16(to: *mut u16, v: __m512) {
            unsafe {
                let bits = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
                _mm256_storeu_si256(to.cast(), bits);
            }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn round(v: __m512) -> __m512 {
            unsafe { _mm512_roundscale_ps::<0>(v) }
        }
        #[inline(always)]
        unsafe fn scale_by_power(a: __m512, n: __m512) -> __m512 {
            unsafe { _mm512_scalef_ps(a, n) }
        }
        #[inline(always)]
        unsafe fn sum(v: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(v) }
        }
        #[inline(always)]
        unsafe fn largest(v: __m512) -> f32 {
            unsafe { _mm512_reduce_max_ps(v) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::NeonLanes;

#[cfg(target_arch = "aarch64")]
mod aarch64 {
    use super::Lanes;
    use std::arch::aarch64::*;

    /// NEON, two registers at once: attention then keeps 24 of the 32 in sums, and a broadcast number meets four.
    #[derive(Clone, Copy)]
    pub(crate) struct NeonLanes;

    /// The lower lanes and the upper ones.
    type Two = (float32x4_t, float32x4_t);

    // SAFETY (of every block below): the trait's contract: the CPU has the instructions, pointers are valid for N.
    #[allow(
        clippy::undocumented_unsafe_blocks,
        reason = "stated once above: the trait's contract"
    )]
    impl Lanes for NeonLanes {
        const N: usize = 8;
        type V = Two;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Two {
            unsafe { (vdupq_n_f32(x), vdupq_n_f32(x)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Two {
            unsafe { (vld1q_f32(from), vld1q_f32(from.add(4))) }
        }
        #[inline(always)]
        unsafe fn store(to: *mut f32, v: Two) {
            unsafe {
                vst1q_f32(to, v.0);
                vst1q_f32(to.add(4), v.1);
            }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Two {
            unsafe {
                let halves = vreinterpretq_f16_u16(vld1q_u16(from));
                (
                    vcvt_f32_f16(vget_low_f16(halves)),
                    vcvt_high_f32_f16(halves),
                )
            }
        }
        #[inline(always)]
        unsafe fn store_f16(to: *mut u16, v: Two) {
            // To nearest even: the rounding that every thread starts with.
            unsafe {
                let halves = vcvt_high_f16_f32(vcvt_f16_f32(v.0), v.1);
                vst1q_u16(to, vreinterpretq_u16_f16(halves));
            }
        }
        #[inline(always)]
        unsafe fn add(a: Two, b: Two) -> Two {
            unsafe { (vaddq_f32(a.0, b.0), vaddq_f32(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn sub(a: Two, b: Two) -> Two {
            unsafe { (vsubq_f32(a.0, b.0), vsubq_f32(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn mul(a: Two, b: Two) -> Two {
            unsafe { (vmulq_f32(a.0, b.0), vmulq_f32(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn div(a: Two, b: Two) -> Two {
            unsafe { (vdivq_f32(a.0, b.0), vdivq_f32(a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn mul_add(a: Two, b: Two, c: Two) -> Two {
            unsafe { (vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1)) }
        }
        #[inline(always)]
        unsafe fn max(a: Two, b: Two) -> Two {
            // Not `fmax` or `fmaxnm`: a number that is none gives b.
            let one = |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) };
            (one(a.0, b.0), one(a.1, b.1))
        }
        #[inline(always)]
        unsafe fn min(a: Two, b: Two) -> Two {
            let one = |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) };
            (one(a.0, b.0), one(a.1, b.1))
        }
        #[inline(always)]
        unsafe fn round(v: Two) -> Two {
            unsafe { (vrndnq_f32(v.0), vrndnq_f32(v.1)) }
        }
        #[inline(always)]
        unsafe fn scale_by_power(a: Two, n: Two) -> Two {
            let one = |a, n| unsafe {
                let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
                vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
            };
            (one(a.0, n.0), one(a.1, n.1))
        }
        #[inline(always)]
        unsafe fn sum(v: Two) -> f32 {
            unsafe {
                let four = vaddq_f32(v.0, v.1);
                vaddv_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
            }
        }
        #[inline(always)]
        unsafe fn largest(v: Two) -> f32 {
            unsafe { vmaxnmvq_f32(vmaxnmq_f32(v.0, v.1)) }
        }
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
