//! x86-64: one file per instruction set.

use crate::scalar::blocks::Scheme;
use crate::tile_product::{QuantOperands, by_rows};
use crate::tiles::{scale_bytes, super_bytes};
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// How far ahead of the integers at hand memory is asked for, in bytes.
///
/// The work of a few rows on one block fills the processor's window of instructions, so the loads of the next blocks start
/// late, and the hardware's own reading ahead covers the distance to the third-level cache but not to memory: eight rows took
/// as long as the arithmetic and twice the reading together. Asked for this early, reading costs them nothing, and one row
/// reads a fifth faster. Measured on Zen 5 from 512 bytes to 24 KB: up to 2 KB is too late, and from 6 KB on nothing changes
/// for many rows; one row of 8 bits a weight prefers 6 to 8 KB, one of 4 bits 8 to 16.
const QUANTS_AHEAD: usize = 8192;

/// Asks for what the block [`QUANTS_AHEAD`] after block `b` needs; tiles lie one after another, so it may be in the next one.
#[inline(always)]
fn ask_ahead<const BITS: usize>(t: &QuantOperands, scheme: Scheme, b: usize) {
    let block = b + QUANTS_AHEAD / (64 * BITS);
    let ask = |at: *const u8| {
        // SAFETY: prefetching reads nothing and may name any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    };
    for line in 0..BITS {
        ask(t.quants.wrapping_add(64 * (block * BITS + line)));
    }
    ask(t.scales.wrapping_add(block * scale_bytes(scheme)));
    if super_bytes(scheme) > 0 && b.is_multiple_of(8) {
        ask(t.supers.wrapping_add(block / 8 * super_bytes(scheme)));
    }
}

pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod avx512_bf16;
