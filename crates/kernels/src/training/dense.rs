//! Products of two f32 matrices of any strides, for what is small beside frozen weights: adapters and attention.
//!
//! The order of a sum depends on its length only, never on threads or neighbours.

use crate::ops::lanes::{Lanes, load_part, store_part, vectorized};
use crate::{Isa, Pool};

/// Multiply-adds below which another thread is not woken.
const INLINE_WORK: usize = 1 << 17;

/// Rows of the left operand that a tile holds in registers.
pub(super) const TILE_ROWS: usize = 6;

/// Columns that chunks of a pool run are cut at.
const TILE_COLS: usize = 64;

/// A matrix whose number (i, k) is `data[i * row + k * col]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    /// The numbers.
    pub data: &'a [f32],
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub col: usize,
}

/// out (m, n) = scale * left (m, k) * right (k, n), or added to it.
pub struct Dense<'a> {
    /// (m, n, k).
    pub shape: (usize, usize, usize),
    /// (m, k), any strides.
    pub left: Left<'a>,
    /// (k, n), rows `right_row` apart.
    pub right: &'a [f32],
    /// From one row of `right` to the next.
    pub right_row: usize,
    /// (m, n), rows `out_row` apart.
    pub out: &'a mut [f32],
    /// From one row of `out` to the next.
    pub out_row: usize,
    /// What the product is multiplied by.
    pub scale: f32,
    /// The product is added to `out`.
    pub add: bool,
}

/// Computes a [`Dense`] on all threads.
///
/// # Panics
/// If a slice does not hold its matrix.
pub fn dense(isa: Isa, pool: &Pool, product: Dense<'_>) {
    let (m, n, k) = product.shape;
    if m == 0 || n == 0 {
        return;
    }
    let end = |rows: usize, row: usize, cols: usize, col: usize| {
        if rows == 0 || cols == 0 {
            0
        } else {
            // What does not fit a number fits no slice.
            let last_row = (rows - 1).saturating_mul(row);
            last_row
                .saturating_add((cols - 1).saturating_mul(col))
                .saturating_add(1)
        }
    };
    let Left { data, row, col } = product.left;
    assert!(
        end(m, row, k, col) <= data.len()
            && end(k, product.right_row, n, 1) <= product.right.len()
            && end(m, product.out_row, n, 1) <= product.out.len()
            && product.out_row >= n,
        "({m}, {k}) times ({k}, {n}) in slices of {}, {} and {}",
        data.len(),
        product.right.len(),
        product.out.len()
    );
    let raw = Raw {
        shape: product.shape,
        a: data.as_ptr(),
        a_strides: (row, col),
        b: product.right.as_ptr(),
        b_row: product.right_row,
        c: product.out.as_mut_ptr(),
        c_row: product.out_row,
        scale: product.scale,
        add: product.add,
    };
    let by_rows = m >= n;
    let (len, tile) = if by_rows {
        (m, TILE_ROWS)
    } else {
        (n, TILE_COLS)
    };
    let tiles = len.div_ceil(tile);
    let chunks = if m * n * k < INLINE_WORK {
        1
    } else {
        tiles.min(4 * pool.threads())
    };
    pool.run(chunks, &|chunk| {
        // Whole, so that the closure borrows the `Sync` struct and not its pointers.
        let raw = &raw;
        let from = tiles * chunk / chunks * tile;
        let to = (tiles * (chunk + 1) / chunks * tile).min(len);
        let part = if by_rows {
            raw.rows(from, to)
        } else {
            raw.cols(from, to)
        };
        // SAFETY: the part lies inside the slices checked above, and no other chunk has its outputs.
        unsafe { multiply(isa, part) };
    });
}

/// [`Dense`] in pointers: what they may reach is the caller's promise.
#[derive(Clone, Copy)]
pub(super) struct Raw {
    /// (m, n, k).
    pub shape: (usize, usize, usize),
    pub a: *const f32,
    /// (row, column).
    pub a_strides: (usize, usize),
    pub b: *const f32,
    pub b_row: usize,
    pub c: *mut f32,
    pub c_row: usize,
    pub scale: f32,
    pub add: bool,
}

// SAFETY: a `Raw` is used through `multiply` only, whose caller keeps outputs of threads apart.
unsafe impl Sync for Raw {}

impl Raw {
    fn rows(&self, from: usize, to: usize) -> Self {
        Self {
            shape: (to - from, self.shape.1, self.shape.2),
            a: self.a.wrapping_add(from * self.a_strides.0),
            c: self.c.wrapping_add(from * self.c_row),
            ..*self
        }
    }

    fn cols(&self, from: usize, to: usize) -> Self {
        Self {
            shape: (self.shape.0, to - from, self.shape.2),
            b: self.b.wrapping_add(from),
            c: self.c.wrapping_add(from),
            ..*self
        }
    }
}

/// Computes a [`Raw`] on this thread.
///
/// # Safety
/// Every number of the three matrices must be valid, and `c` overlaps nothing.
pub(super) unsafe fn multiply(isa: Isa, raw: Raw) {
    vectorized!(isa, multiply_with(raw: Raw));
}

#[inline(always)]
unsafe fn multiply_with<L: Lanes>(raw: Raw) {
    let (_, n, _) = raw.shape;
    let many = if L::N == 16 { 4 } else { 2 };
    let mut j = 0;
    // SAFETY: tiles stay inside the shape, whose numbers the caller vouches for.
    unsafe {
        while j + many * L::N <= n {
            if L::N == 16 {
                strip::<L, 4>(&raw, j, L::N);
            } else {
                strip::<L, 2>(&raw, j, L::N);
            }
            j += many * L::N;
        }
        while j < n {
            let width = L::N.min(n - j);
            strip::<L, 1>(&raw, j, width);
            j += width;
        }
    }
}

/// All rows of the columns from `j`; the last register has `last` of its lanes.
#[inline(always)]
unsafe fn strip<L: Lanes, const NV: usize>(raw: &Raw, j: usize, last: usize) {
    let (m, _, _) = raw.shape;
    let mut i = 0;
    // SAFETY: as in `multiply_with`.
    unsafe {
        while i + TILE_ROWS <= m {
            tile::<L, 6, NV>(raw, i, j, last);
            i += TILE_ROWS;
        }
        match m - i {
            1 => tile::<L, 1, NV>(raw, i, j, last),
            2 => tile::<L, 2, NV>(raw, i, j, last),
            3 => tile::<L, 3, NV>(raw, i, j, last),
            4 => tile::<L, 4, NV>(raw, i, j, last),
            5 => tile::<L, 5, NV>(raw, i, j, last),
            _ => {}
        }
    }
}

#[inline(always)]
unsafe fn tile<L: Lanes, const R: usize, const NV: usize>(
    raw: &Raw,
    i: usize,
    j: usize,
    last: usize,
) {
    let (row, col) = raw.a_strides;
    let whole = last == L::N;
    // SAFETY: rows i..i + R, columns j.. and all terms are inside the shape.
    unsafe {
        let mut sums = [[L::splat(0.0); NV]; R];
        let mut a = raw.a.add(i * row);
        let mut b = raw.b.add(j);
        for _ in 0..raw.shape.2 {
            let mut w = [L::splat(0.0); NV];
            for (v, w) in w.iter_mut().enumerate() {
                *w = if NV > 1 || whole {
                    L::load(b.add(v * L::N))
                } else {
                    load_part::<L>(b, last, 0.0)
                };
            }
            for r in 0..R {
                let x = L::splat(*a.add(r * row));
                for v in 0..NV {
                    sums[r][v] = L::mul_add(x, w[v], sums[r][v]);
                }
            }
            a = a.wrapping_add(col);
            b = b.wrapping_add(raw.b_row);
        }
        let scale = L::splat(raw.scale);
        for r in 0..R {
            for v in 0..NV {
                let c = raw.c.add((i + r) * raw.c_row + j + v * L::N);
                let scaled = L::mul(sums[r][v], scale);
                if NV > 1 || whole {
                    let old = if raw.add { L::load(c) } else { L::splat(0.0) };
                    L::store(c, L::add(scaled, old));
                } else {
                    let old = if raw.add {
                        load_part::<L>(c, last, 0.0)
                    } else {
                        L::splat(0.0)
                    };
                    store_part::<L>(c, last, L::add(scaled, old));
                }
            }
        }
    }
}
