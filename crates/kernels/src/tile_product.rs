//! Products over tiles, the same for every SIMD instruction set: which tiles meet which panels, in which order.
//!
//! A kernel multiplies one tile by one panel; its sums run over columns in one fixed order, so a result does not depend
//! on the batch.

use crate::activations::{LINES, PANEL, twelve};
use crate::floats::FloatTiles;
use crate::parts::Parts;
use crate::scalar::blocks::Scheme;
use crate::tiles::{TILE, Tiles, scale_bytes, super_bytes};
use crate::{Activations, Isa};
use std::ops::Range;

/// Activation bytes that stay in the second-level cache while the tiles of a chunk pass by.
const GROUP_BYTES: usize = 256 << 10;

/// Where a kernel's results go: for each row of the panel the 16 outputs of the tile.
#[derive(Clone, Copy)]
pub(crate) struct Outputs {
    start: *mut f32,
    /// From one row to the next.
    stride: usize,
}

impl Outputs {
    /// Where the results of row `m` go.
    #[inline(always)]
    pub(crate) const fn row(self, m: usize) -> *mut f32 {
        self.start.wrapping_add(m * self.stride)
    }
}

/// One tile of quantized weights and one panel of activations in int8.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "only SIMD kernels read operands")
)]
pub(crate) struct QuantOperands {
    pub blocks: usize,
    pub quants: *const u8,
    pub scales: *const u8,
    pub supers: *const u8,
    pub x: *const i8,
    pub x_scales: *const f32,
    /// Null where the kernel reads twelve bits.
    pub x_sums: *const i32,
    pub x_weighted: *const f32,
    /// Null where the format has no offset.
    pub x_corrections: *const i32,
}

/// One tile of float weights and one panel of activations: f32, whose rows are `cols` apart, or pairs of bf16, those of all rows
/// side by side.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code, reason = "only SIMD kernels read operands")
)]
pub(crate) struct FloatOperands {
    pub cols: usize,
    pub numbers: *const u8,
    /// Null where the kernel reads pairs.
    pub x: *const f32,
    /// Null where the kernel reads f32.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only AVX512-BF16 reads pairs")
    )]
    pub pairs: *const u32,
}

/// A kernel for one number of rows of a panel.
///
/// Safety: the CPU must have the kernel's instructions, and the pointers must cover a whole tile and panel.
pub(crate) type QuantKernel = unsafe fn(&QuantOperands, Outputs);
/// As [`QuantKernel`], for floats.
pub(crate) type FloatKernel = unsafe fn(&FloatOperands, Outputs);

/// A table of one kernel for each number of rows of a panel.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! by_rows {
    ($kernel:ident, $($arg:expr),*) => {
        [
            $kernel::<1, $({ $arg }),*>,
            $kernel::<2, $({ $arg }),*>,
            $kernel::<3, $({ $arg }),*>,
            $kernel::<4, $({ $arg }),*>,
            $kernel::<5, $({ $arg }),*>,
            $kernel::<6, $({ $arg }),*>,
            $kernel::<7, $({ $arg }),*>,
            $kernel::<8, $({ $arg }),*>,
        ]
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(crate) use by_rows;

/// The form of activations that the kernels of a quantized format read.
struct Form<'a> {
    q: &'a [i8],
    /// Of `q`, for 32 columns of a row.
    block_bytes: usize,
    scales: &'a [f32],
    weighted: &'a [f32],
    /// None where no kernel reads them.
    sums: Option<&'a [i32]>,
    /// None where the format has no offset.
    corrections: Option<&'a [i32]>,
    /// Numbers of `corrections` for 32 columns of a row.
    corrections_a_block: usize,
}

impl<'a> Form<'a> {
    fn of(isa: Isa, matrix: &Tiles, x: &'a Activations) -> Self {
        if crate::simd::reads_int12(isa, matrix.format) {
            let int12 = x.int12();
            debug_assert!([0, twelve::OFFSET].contains(&matrix.offset));
            return Self {
                q: &int12.q,
                block_bytes: twelve::BYTES,
                scales: &int12.scales,
                weighted: &int12.weighted,
                sums: None,
                corrections: Some(&int12.corrections),
                corrections_a_block: 1,
            };
        }
        let int8 = x.int8();
        let in_16 = matrix.scheme == Scheme::Super16Offset;
        let corrections = int8
            .corrections
            .iter()
            .find(|c| c.offset == matrix.offset && c.in_16 == in_16);
        assert!(
            corrections.is_some() || matrix.offset == 0,
            "`finish` was not told of a matrix of this format"
        );
        Self {
            q: &int8.q,
            block_bytes: 32 * LINES,
            scales: &int8.scales,
            weighted: &int8.weighted,
            sums: Some(&int8.sums),
            corrections: corrections.map(|c| &c.values[..]),
            corrections_a_block: if in_16 { 2 } else { 1 },
        }
    }

    /// `len` numbers of `of` from `start` on; null where there are none to read.
    fn part(of: Option<&[i32]>, start: usize, len: usize) -> *const i32 {
        of.map_or(std::ptr::null(), |of| of[start..start + len].as_ptr())
    }
}

/// Tiles `tiles` times all rows of `x`; `y`: (x.rows, rows).
pub(crate) fn quantized(
    isa: Isa,
    matrix: &Tiles,
    rows: usize,
    x: &Activations,
    tiles: Range<usize>,
    y: &Parts<'_, f32>,
) {
    let kernels = crate::simd::quant_kernels(isa, matrix.bits, matrix.scheme);
    let blocks = matrix.blocks;
    let form = Form::of(isa, matrix, x);
    let (q_len, s_len, p_len) = (
        blocks * matrix.bits * 64,
        blocks * scale_bytes(matrix.scheme),
        blocks / 8 * super_bytes(matrix.scheme),
    );
    each_pair(
        x.rows(),
        blocks * form.block_bytes,
        tiles,
        |tile, first, width| {
            let at = first * blocks;
            let operands = QuantOperands {
                blocks,
                quants: matrix.quants[tile * q_len..(tile + 1) * q_len].as_ptr(),
                scales: matrix.scales[tile * s_len..(tile + 1) * s_len].as_ptr(),
                supers: matrix.supers[tile * p_len..(tile + 1) * p_len].as_ptr(),
                x: form.q[at * form.block_bytes..(at + width * blocks) * form.block_bytes].as_ptr(),
                x_scales: form.scales[at..at + width * blocks].as_ptr(),
                x_sums: Form::part(form.sums, 2 * at, 2 * width * blocks),
                x_weighted: form.weighted[at..at + width * blocks].as_ptr(),
                x_corrections: Form::part(
                    form.corrections,
                    form.corrections_a_block * at,
                    form.corrections_a_block * width * blocks,
                ),
            };
            with_outputs((tile, rows), (first, width), y, |out| {
                // SAFETY: an `Isa` proves the instructions; the slices above have the lengths a tile and a panel have.
                unsafe { kernels[width - 1](&operands, out) };
            });
        },
    );
}

/// As [`quantized`], for floats.
pub(crate) fn floats(
    isa: Isa,
    matrix: &FloatTiles,
    rows: usize,
    x: &Activations,
    tiles: Range<usize>,
    y: &Parts<'_, f32>,
) {
    let kernels = crate::simd::float_kernels(isa, matrix.format);
    let cols = x.cols();
    let len = matrix.pairs * 32 * matrix.format.block_bytes();
    let in_pairs = crate::simd::reads_pairs(isa, matrix.format);
    let row_bytes = if in_pairs { matrix.pairs * 4 } else { cols * 4 };
    each_pair(x.rows(), row_bytes, tiles, |tile, first, width| {
        let (mut of_f32, mut of_pairs) = (std::ptr::null(), std::ptr::null());
        if in_pairs {
            of_pairs = x.pairs()[first * matrix.pairs..(first + width) * matrix.pairs].as_ptr();
        } else {
            of_f32 = x.f32()[first * cols..(first + width) * cols].as_ptr();
        }
        let operands = FloatOperands {
            cols,
            numbers: matrix.numbers[tile * len..(tile + 1) * len].as_ptr(),
            x: of_f32,
            pairs: of_pairs,
        };
        with_outputs((tile, rows), (first, width), y, |out| {
            // SAFETY: as in `quantized`.
            unsafe { kernels[width - 1](&operands, out) };
        });
    });
}

/// Visits (tile, first row of a panel, its width), a group of panels at a time so that the group stays in cache.
fn each_pair(
    x_rows: usize,
    x_row_bytes: usize,
    tiles: Range<usize>,
    visit: impl Fn(usize, usize, usize),
) {
    let group = (GROUP_BYTES / (x_row_bytes * PANEL).max(1)).max(1) * PANEL;
    for group_start in (0..x_rows).step_by(group) {
        let group_end = (group_start + group).min(x_rows);
        for tile in tiles.clone() {
            for first in (group_start..group_end).step_by(PANEL) {
                visit(tile, first, PANEL.min(group_end - first));
            }
        }
    }
}

/// Runs `kernel` with a place for `width` rows of results, from row `first` of `y`, which is (.., rows): in `y` itself where the
/// tile is whole, else in a buffer of which the real outputs are copied.
#[inline(always)]
fn with_outputs(
    (tile, rows): (usize, usize),
    (first, width): (usize, usize),
    y: &Parts<'_, f32>,
    kernel: impl FnOnce(Outputs),
) {
    let at = first * rows + tile * TILE;
    let real = TILE.min(rows - tile * TILE);
    if real == TILE {
        // SAFETY: a tile belongs to one chunk, and each of its rows is stored once.
        let start = unsafe { y.start_of(at, (width - 1) * rows + TILE) };
        kernel(Outputs {
            start,
            stride: rows,
        });
        return;
    }
    let mut out = [0.0; TILE * PANEL];
    kernel(Outputs {
        start: out.as_mut_ptr(),
        stride: TILE,
    });
    for (m, out) in out.chunks_exact(TILE).take(width).enumerate() {
        // SAFETY: as above.
        let place = unsafe { y.part(at + m * rows..at + m * rows + real) };
        place.copy_from_slice(&out[..real]);
    }
}
