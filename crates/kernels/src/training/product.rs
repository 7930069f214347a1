//! Activations times frozen weights: forward `y = x W^T`, backward `dx = dy W`.
//!
//! Work is cut into strips of 64 outputs. Whoever takes a strip decodes [`DEPTH`] terms of it at a time into a panel and lets
//! all rows pass by, six in registers at once.

use super::arithmetic::{Arithmetic, Kind};
use super::dense::{Raw, TILE_ROWS, multiply};
use super::panel::{self, DEPTH, MAX_WIDTH, WIDTH};
use super::stored::Stored;
use crate::buffer::Buffer;
use crate::ops::lanes::{Lanes, vectorized};
use crate::{Isa, Pool};

/// Rows of activations, packed once for all products that read them.
#[derive(Default)]
pub struct PackedRows {
    rows: usize,
    cols: usize,
    /// f32 bits (rows, cols); or pairs of bf16 (rows / 6, cols / 2, 6), missing ones 0.
    words: Vec<u32>,
    bf16: bool,
}

impl PackedRows {
    /// Kernels read as many words as their arithmetic packs.
    fn must_be_for(&self, arithmetic: Arithmetic) {
        assert_eq!(
            self.bf16,
            arithmetic.is_bf16(),
            "rows packed for another arithmetic than {}",
            arithmetic.name()
        );
    }

    /// Nothing yet; memory is kept from one `pack` to the next.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over `x`, shape (rows, cols).
    ///
    /// # Panics
    /// If `x` is no whole number of rows.
    pub fn pack(&mut self, arithmetic: Arithmetic, pool: &Pool, x: &[f32], cols: usize) {
        let rows = x.len().checked_div(cols).unwrap_or(0);
        assert_eq!(x.len(), rows * cols, "whole rows of {cols}");
        (self.rows, self.cols, self.bf16) = (rows, cols, arithmetic.is_bf16());
        let pairs = cols.div_ceil(2);
        let group = if self.bf16 { TILE_ROWS * pairs } else { cols };
        let len = if self.bf16 {
            rows.div_ceil(TILE_ROWS) * group
        } else {
            rows * cols
        };
        self.words.resize(len, 0);
        if len == 0 {
            return;
        }
        let isa = arithmetic.isa();
        let words = crate::parts::Parts::new(&mut self.words);
        let groups = len / group;
        let chunks = if len < 1 << 14 {
            1
        } else {
            groups.min(4 * pool.threads())
        };
        let bf16 = self.bf16;
        pool.run(chunks, &|chunk| {
            for g in groups * chunk / chunks..groups * (chunk + 1) / chunks {
                // SAFETY: groups do not overlap and each is one chunk's.
                let out = unsafe { words.part(g * group..(g + 1) * group) };
                if bf16 {
                    let first = g * TILE_ROWS;
                    let x = &x[first * cols..(first + TILE_ROWS).min(rows) * cols];
                    pack_group(isa, x, cols, out);
                } else {
                    for (o, x) in out.iter_mut().zip(&x[g * cols..]) {
                        *o = x.to_bits();
                    }
                }
            }
        });
    }

    /// Rows packed.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of a row.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u32>()
    }
}

fn pack_group(isa: Isa, x: &[f32], cols: usize, out: &mut [u32]) {
    vectorized!(isa, pack_group_with(x: &[f32], cols: usize, out: &mut [u32]));
}

/// Up to six rows `x` of `cols` into `out`, (cols / 2, 6).
#[inline(always)]
unsafe fn pack_group_with<L: Lanes>(x: &[f32], cols: usize, out: &mut [u32]) {
    let pairs = cols.div_ceil(2);
    let rows = x.len() / cols;
    // Pairs of a row first, in a wide loop, then one by one to their places.
    let mut words = [0_u32; 128];
    if rows < TILE_ROWS {
        out.fill(0);
    }
    for (r, x) in x.chunks_exact(cols).enumerate() {
        for start in (0..pairs).step_by(words.len()) {
            let x = &x[2 * start..(2 * (start + words.len())).min(cols)];
            for (word, two) in words.iter_mut().zip(x.as_chunks::<2>().0) {
                *word = panel::bf16_bits(two[0]) | (panel::bf16_bits(two[1]) << 16);
            }
            if x.len() % 2 == 1 {
                words[x.len() / 2] = panel::bf16_bits(x[x.len() - 1]);
            }
            for (j, word) in words[..x.len().div_ceil(2)].iter().enumerate() {
                out[(start + j) * TILE_ROWS + r] = *word;
            }
        }
    }
}

/// `y = x W^T` for every pair; `y`: (x.rows, W.rows).
///
/// # Panics
/// If `x` was packed for another arithmetic, an output has another shape, or a matrix not as many columns as `x`.
pub fn forward(
    arithmetic: Arithmetic,
    pool: &Pool,
    x: &PackedRows,
    outputs: &mut [(&Stored<'_>, &mut [f32])],
) {
    x.must_be_for(arithmetic);
    let jobs: Vec<(&Stored<'_>, Out, usize)> = {
        let mut before = 0;
        outputs
            .iter_mut()
            .map(|(weight, y)| {
                assert!(
                    weight.cols() == x.cols && y.len() == x.rows * weight.rows(),
                    "({}, {}) activations times a {} x {} matrix do not give {} numbers",
                    x.rows,
                    x.cols,
                    weight.rows(),
                    weight.cols(),
                    y.len()
                );
                let out = Out(y.as_mut_ptr(), weight.rows());
                let first = before;
                before += weight.rows().div_ceil(WIDTH);
                (*weight, out, first)
            })
            .collect()
    };
    let strips = jobs.last().map_or(0, |(weight, _, first)| {
        first + weight.rows().div_ceil(WIDTH)
    });
    for_each_item(pool, strips, x.rows, &|strip, rows| {
        let job = jobs.partition_point(|(_, _, first)| *first <= strip) - 1;
        let (weight, out, first) = &jobs[job];
        let first = (strip - first) * WIDTH;
        let mut buffers = Buffers::new(1);
        for start in (0..x.cols).step_by(DEPTH) {
            let depth = DEPTH.min(x.cols - start);
            let Buffers { panel, scratch } = &mut buffers;
            pack_rows_panel(arithmetic, weight, first, (start, depth), scratch, panel);
            let tile = Tiles {
                x,
                rows,
                term: start,
                depth,
                col: first,
                cols: WIDTH.min(weight.rows() - first),
                add: start > 0,
            };
            // SAFETY: the columns are this strip's and the rows this item's: nobody else writes them.
            unsafe { run_tiles(arithmetic, &tile, panel, *out) };
        }
    });
}

/// `dx = sum of dy_i W_i` over all pairs, added to `dx` if `add`; `dx`: (rows, W.cols), which is the same for all.
///
/// # Panics
/// If shapes do not fit, or rows were packed for another arithmetic.
pub fn backward(
    arithmetic: Arithmetic,
    pool: &Pool,
    inputs: &[(&PackedRows, &Stored<'_>)],
    dx: &mut [f32],
    add: bool,
) {
    let Some((first, weight)) = inputs.first() else {
        if !add {
            dx.fill(0.0);
        }
        return;
    };
    let (rows, cols) = (first.rows, weight.cols());
    for (dy, weight) in inputs {
        dy.must_be_for(arithmetic);
        assert!(
            dy.cols == weight.rows()
                && dy.rows == rows
                && weight.cols() == cols
                && dx.len() == rows * cols,
            "({}, {}) gradients times a {} x {} matrix do not give {} numbers",
            dy.rows,
            dy.cols,
            weight.rows(),
            weight.cols(),
            dx.len()
        );
    }
    // A strip is whole blocks of every matrix. Wide ones read longer pieces of each stored row; with more threads than those
    // would keep busy, narrow ones.
    let wide = cols.div_ceil(MAX_WIDTH) >= pool.threads()
        || inputs.iter().any(|(_, w)| w.format().block_elems() > WIDTH);
    let width = if wide { MAX_WIDTH } else { WIDTH };
    let out = Out(dx.as_mut_ptr(), cols);
    for_each_item(pool, cols.div_ceil(width), rows, &|strip, rows| {
        let out = &out;
        let (first, mut add) = (strip * width, add);
        let width = width.min(cols - first);
        let mut buffers = Buffers::new(width.div_ceil(WIDTH));
        for (dy, weight) in inputs {
            for start in (0..weight.rows()).step_by(DEPTH) {
                let depth = DEPTH.min(weight.rows() - start);
                let words = pack_cols_panel(
                    arithmetic,
                    weight,
                    (first, width),
                    (start, depth),
                    &mut buffers.panel,
                );
                for p in 0..width.div_ceil(WIDTH) {
                    let tile = Tiles {
                        x: dy,
                        rows,
                        term: start,
                        depth,
                        col: first + p * WIDTH,
                        cols: WIDTH.min(width - p * WIDTH),
                        add,
                    };
                    let panel = &words_of(&buffers.panel)[p * words * WIDTH..];
                    // SAFETY: the columns are this strip's and the rows this item's: nobody else writes them.
                    unsafe { run_tiles_of(arithmetic, &tile, panel, *out) };
                }
                add = true;
            }
        }
        if inputs.iter().all(|(_, weight)| weight.rows() == 0) && !add {
            for row in rows.0..rows.1 {
                // SAFETY: as above.
                unsafe { out.row(row, first, width) }.fill(0.0);
            }
        }
    });
}

/// Where results go: the first number and the distance of rows.
#[derive(Clone, Copy)]
struct Out(*mut f32, usize);

// SAFETY: items of a run write disjoint columns or rows, as `for_each_item` hands them out.
unsafe impl Sync for Out {}
// SAFETY: as above.
unsafe impl Send for Out {}

impl Out {
    /// Columns `first..first + width` of a row.
    ///
    /// # Safety
    /// They are inside the output and nobody else has them.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the caller's promise")]
    unsafe fn row(&self, row: usize, first: usize, width: usize) -> &mut [f32] {
        // SAFETY: passed on.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(row * self.1 + first), width) }
    }
}

/// Calls `f(strip, (first row, end))`: whole strips, and those that do not divide among the threads cut by rows.
fn for_each_item(
    pool: &Pool,
    strips: usize,
    rows: usize,
    f: &(dyn Fn(usize, (usize, usize)) + Sync),
) {
    if rows == 0 {
        return;
    }
    let threads = pool.threads();
    let whole = strips - strips % threads;
    let tiles = rows.div_ceil(TILE_ROWS);
    let cuts = threads.min(tiles);
    pool.run(whole + (strips - whole) * cuts, &|item| {
        if item < whole {
            f(item, (0, rows));
        } else {
            let (strip, cut) = (whole + (item - whole) / cuts, (item - whole) % cuts);
            let from = tiles * cut / cuts * TILE_ROWS;
            let to = (tiles * (cut + 1) / cuts * TILE_ROWS).min(rows);
            f(strip, (from, to));
        }
    });
}

/// Memory of an item.
struct Buffers {
    panel: Buffer,
    scratch: Vec<u32>,
}

impl Buffers {
    fn new(panels: usize) -> Self {
        Self {
            panel: Buffer::scratch(panels * DEPTH * WIDTH * size_of::<u32>()),
            scratch: vec![0; panel::SCRATCH],
        }
    }
}

fn words_of(buffer: &Buffer) -> &[u32] {
    // SAFETY: any bits are a u32; `align_to` keeps to the aligned part, which is all of a `Buffer`.
    unsafe { buffer.align_to::<u32>().1 }
}

fn words_of_mut(buffer: &mut Buffer) -> &mut [u32] {
    // SAFETY: as in `words_of`.
    unsafe { buffer.align_to_mut::<u32>().1 }
}

fn pack_rows_panel(
    arithmetic: Arithmetic,
    weight: &Stored<'_>,
    first: usize,
    terms: (usize, usize),
    scratch: &mut [u32],
    panel: &mut Buffer,
) {
    let isa = arithmetic.isa();
    let out = words_of_mut(panel);
    match arithmetic.kind() {
        // SAFETY: the `Arithmetic` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Kind::Bf16 => unsafe {
            crate::x86_64::avx512_bf16::pack_of_rows(weight, first, terms, scratch, out);
        },
        Kind::F32 => of_rows_f32(isa, weight, first, terms, scratch, out),
        _ => panel::of_rows::<panel::PlainPairs, true>(
            weight,
            first,
            terms,
            scratch,
            out,
            panel::turn_plain,
        ),
    }
}

fn of_rows_f32(
    isa: Isa,
    weight: &Stored<'_>,
    first: usize,
    terms: (usize, usize),
    scratch: &mut [u32],
    out: &mut [u32],
) {
    vectorized!(isa, of_rows_f32_with(weight: &Stored<'_>, first: usize, terms: (usize, usize), scratch: &mut [u32], out: &mut [u32]));
}

#[inline(always)]
unsafe fn of_rows_f32_with<L: Lanes>(
    weight: &Stored<'_>,
    first: usize,
    terms: (usize, usize),
    scratch: &mut [u32],
    out: &mut [u32],
) {
    panel::of_rows::<panel::PlainPairs, false>(
        weight,
        first,
        terms,
        scratch,
        out,
        panel::turn_plain,
    );
}

/// Returns the words of a column of a panel.
fn pack_cols_panel(
    arithmetic: Arithmetic,
    weight: &Stored<'_>,
    cols: (usize, usize),
    terms: (usize, usize),
    panel: &mut Buffer,
) -> usize {
    let isa = arithmetic.isa();
    let out = words_of_mut(panel);
    match arithmetic.kind() {
        // SAFETY: the `Arithmetic` proves the instructions.
        #[cfg(target_arch = "x86_64")]
        Kind::Bf16 => unsafe {
            crate::x86_64::avx512_bf16::pack_of_cols(weight, cols, terms, out);
        },
        Kind::F32 => of_cols_f32(isa, weight, cols, terms, out),
        _ => panel::of_cols::<panel::PlainPairs, true>(weight, cols, terms, out),
    }
    if arithmetic.is_bf16() {
        terms.1.div_ceil(2)
    } else {
        terms.1
    }
}

fn of_cols_f32(
    isa: Isa,
    weight: &Stored<'_>,
    cols: (usize, usize),
    terms: (usize, usize),
    out: &mut [u32],
) {
    vectorized!(isa, of_cols_f32_with(weight: &Stored<'_>, cols: (usize, usize), terms: (usize, usize), out: &mut [u32]));
}

#[inline(always)]
unsafe fn of_cols_f32_with<L: Lanes>(
    weight: &Stored<'_>,
    cols: (usize, usize),
    terms: (usize, usize),
    out: &mut [u32],
) {
    panel::of_cols::<panel::PlainPairs, false>(weight, cols, terms, out);
}

/// Rows times a panel.
struct Tiles<'a> {
    x: &'a PackedRows,
    /// First row and end; the first is a multiple of six.
    rows: (usize, usize),
    /// First term, a multiple of [`DEPTH`].
    term: usize,
    depth: usize,
    /// First column of the output, and how many.
    col: usize,
    cols: usize,
    add: bool,
}

unsafe fn run_tiles(arithmetic: Arithmetic, tiles: &Tiles<'_>, panel: &Buffer, out: Out) {
    // SAFETY: passed on.
    unsafe { run_tiles_of(arithmetic, tiles, words_of(panel), out) };
}

/// # Safety
/// Rows and columns lie inside the output, and nobody else writes them.
unsafe fn run_tiles_of(arithmetic: Arithmetic, tiles: &Tiles<'_>, panel: &[u32], out: Out) {
    let Tiles {
        x,
        rows: (from, to),
        term,
        depth,
        col,
        cols,
        add,
    } = *tiles;
    if arithmetic.kind() == Kind::F32 {
        // SAFETY: f32 words lie as (rows, cols); the panel holds `depth` terms of 64 columns.
        unsafe {
            multiply(
                arithmetic.isa(),
                Raw {
                    shape: (to - from, cols, depth),
                    a: x.words.as_ptr().cast::<f32>().add(from * x.cols + term),
                    a_strides: (x.cols, 1),
                    b: panel.as_ptr().cast(),
                    b_row: WIDTH,
                    c: out.0.add(from * out.1 + col),
                    c_row: out.1,
                    scale: 1.0,
                    add,
                },
            );
        }
        return;
    }
    let (pairs, group) = (depth.div_ceil(2), TILE_ROWS * x.cols.div_ceil(2));
    let panel = &panel[..pairs * WIDTH];
    for row in (from..to).step_by(TILE_ROWS) {
        let at = row / TILE_ROWS * group + term / 2 * TILE_ROWS;
        let left = &x.words[at..at + pairs * TILE_ROWS];
        let rows = TILE_ROWS.min(to - row);
        // SAFETY: `rows` rows from `row` and `cols` columns from `col` are the caller's.
        unsafe {
            let c = out.0.add(row * out.1 + col);
            match arithmetic.kind() {
                #[cfg(target_arch = "x86_64")]
                Kind::Bf16 => {
                    crate::x86_64::avx512_bf16::tile(left, panel, (c, out.1), (rows, cols), add);
                }
                _ => tile_plain(left, panel, (c, out.1), (rows, cols), add),
            }
        }
    }
}

/// The twin of the bf16 microkernel: `left` (pairs, 6), `panel` (pairs, 64).
///
/// # Safety
/// `rows` rows of `cols` numbers lie at `c`, its second number apart.
unsafe fn tile_plain(
    left: &[u32],
    panel: &[u32],
    (c, c_row): (*mut f32, usize),
    (rows, cols): (usize, usize),
    add: bool,
) {
    let halves = |word: u32| {
        (
            f32::from_bits(word << 16),
            f32::from_bits(word & 0xffff_0000),
        )
    };
    for r in 0..rows {
        let mut sums = [0.0_f32; WIDTH];
        for (left, panel) in left.chunks_exact(TILE_ROWS).zip(panel.chunks_exact(WIDTH)) {
            let (x0, x1) = halves(left[r]);
            for (sum, word) in sums.iter_mut().zip(panel) {
                let (w0, w1) = halves(*word);
                *sum = x0 * w0 + (x1 * w1 + *sum);
            }
        }
        // SAFETY: the caller's promise.
        let out = unsafe { std::slice::from_raw_parts_mut(c.add(r * c_row), cols) };
        for (o, sum) in out.iter_mut().zip(sums) {
            *o = if add { *o + sum } else { sum };
        }
    }
}
