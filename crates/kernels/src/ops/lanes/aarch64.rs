//! [`Lanes`] of 64-bit Arm: NEON.

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
