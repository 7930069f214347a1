//! Which kernels an [`Isa`] has; the only place that names the instruction sets' files.
//!
//! Where there is no SIMD (other machines, `BILLION_ISA=scalar`) matrices are not packed into tiles, and none of the
//! kernels is asked for.

use crate::activations::twelve::{self, Int12Panel};
use crate::activations::{self, Int8Panel, PANEL};
use crate::isa::Level;
use crate::scalar::blocks::{self, Scheme};
use crate::tile_product::{FloatKernel, QuantKernel};
use crate::tiles::{TileParts, Tiles};
use crate::{Format, Isa};

#[cfg(target_arch = "aarch64")]
use crate::aarch64::neon;
#[cfg(target_arch = "x86_64")]
use crate::x86_64::{avx2, avx512, avx512_bf16};

/// Whether matrices are packed into tiles; if not, they stay as in the file for plain Rust.
pub(crate) fn has_tiles(isa: Isa) -> bool {
    isa.level() != Level::Scalar
}

/// Packs the rows of one tile.
pub(crate) fn pack_tile(isa: Isa, tiles: &Tiles, source: &[u8], parts: TileParts<'_>) {
    match isa.level() {
        // SAFETY: the `Isa` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::pack(tiles, source, parts) },
        // SAFETY: the `Isa` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::pack(tiles, source, parts) },
        _ => crate::tiles::pack_tile(tiles, source, parts),
    }
}

/// The kernels of a quantized format, by rows of the panel.
pub(crate) fn quant_kernels(isa: Isa, bits: usize, scheme: Scheme) -> [QuantKernel; PANEL] {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512::quant_kernels(bits, scheme),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::quant_kernels(bits, scheme, isa.has_avx_vnni()),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::quant_kernels(bits, scheme),
        level => unreachable!("{level:?} has no tiles ({bits} bits, {scheme:?})"),
    }
}

/// The kernels of a float format, by rows of the panel.
pub(crate) fn float_kernels(isa: Isa, format: Format) -> [FloatKernel; PANEL] {
    match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if reads_pairs(isa, format) => avx512_bf16::float_kernels(),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => avx512::float_kernels(format),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => avx2::float_kernels(format),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => neon::float_kernels(format),
        level => unreachable!("{level:?} has no tiles of {format}"),
    }
}

/// Whether the kernels of a quantized format read activations of twelve bits and not of two int8 lines.
pub(crate) fn reads_int12(isa: Isa, format: Format) -> bool {
    let vnni = match isa.level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => true,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => isa.has_avx_vnni(),
        _ => false,
    };
    vnni && blocks::scheme(format).is_some_and(|(bits, _, _)| bits == 4)
}

/// Rows of a panel to twelve bits.
pub(crate) fn quantize_panel_12(isa: Isa, x: &[f32], cols: usize, out: &mut Int12Panel<'_>) {
    match isa.level() {
        // SAFETY: the `Isa` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::quantize_panel_12(x, cols, out) },
        _ => vectorized(isa, || {
            twelve::quantize_panel(x, cols, out, twelve::quantize_32)
        }),
    }
}

/// Whether the kernels of a float format read activations as pairs of bf16 and not as f32.
pub(crate) fn reads_pairs(isa: Isa, format: Format) -> bool {
    isa.has_bf16() && format == Format::BF16
}

/// Rows of a panel to pairs of bf16, `[pair][row]`.
pub(crate) fn pair_panel(isa: Isa, x: &[f32], cols: usize, out: &mut [u32]) {
    match isa.level() {
        // SAFETY: the `Isa` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if isa.has_bf16() => unsafe { avx512_bf16::pair_panel(x, cols, out) },
        level => unreachable!(
            "{level:?} reads f32, not pairs of {cols} columns ({} of {})",
            x.len(),
            out.len()
        ),
    }
}

/// Rows of a panel to int8.
pub(crate) fn quantize_panel(isa: Isa, x: &[f32], cols: usize, out: &mut Int8Panel<'_>) {
    match isa.level() {
        // SAFETY: the `Isa` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::quantize_panel(x, cols, out) },
        _ => vectorized(isa, || {
            activations::quantize_panel(x, cols, out, activations::quantize_32)
        }),
    }
}

/// Compiles `work` for the instruction set, so that plain loops in it become wide ones. NEON needs nothing enabled: 64-bit Arm
/// always has it.
#[inline]
pub(crate) fn vectorized<R>(isa: Isa, work: impl FnOnce() -> R) -> R {
    match isa.level() {
        // SAFETY: the `Isa` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512::vectorized(work) },
        // SAFETY: the `Isa` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2::vectorized(work) },
        _ => work(),
    }
}
