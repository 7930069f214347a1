//! The packed layout of F32, F16 and BF16 weights, shared by every SIMD instruction set.
//!
//! A tile is 16 rows, its columns in pairs. F32 and F16: the 16 rows of the even column, then those of the odd one.
//! BF16: row after row the two columns, as `vdpbf16ps` reads them. An odd last column is paired with zeros.

use crate::buffer::Buffer;
use crate::parts::Parts;
use crate::tiles::TILE;
use crate::{Format, Pool, scalar};

/// Source bytes that one chunk of packing takes at least.
const PACK_CHUNK_BYTES: usize = 1 << 18;

/// Columns interleaved at once.
const STRIP_COLS: usize = 64;

/// A float matrix in tiles.
pub(crate) struct FloatTiles {
    pub format: Format,
    /// Pairs of columns.
    pub pairs: usize,
    /// `[tile][pair]`, 32 numbers each.
    pub numbers: Buffer,
}

impl FloatTiles {
    /// Packs `rows` rows of a float `format`; the sizes have been checked.
    pub(crate) fn pack(
        pool: &Pool,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Self {
        let size = format.block_bytes();
        let pairs = cols.div_ceil(2);
        let tiles = rows.div_ceil(TILE);
        let tile_bytes = pairs * 32 * size;
        let mut numbers = Buffer::of_weights(tiles * tile_bytes);
        let parts = Parts::new(&mut numbers);
        let per_chunk = PACK_CHUNK_BYTES / tile_bytes.max(1) + 1;
        let chunks = if cols == 0 {
            0
        } else {
            tiles.div_ceil(per_chunk)
        };
        pool.run(chunks, &|chunk| {
            for tile in chunk * per_chunk..((chunk + 1) * per_chunk).min(tiles) {
                // SAFETY: each tile has its own range, and is packed once.
                let out = unsafe { parts.part(tile * tile_bytes..(tile + 1) * tile_bytes) };
                let source =
                    &bytes[tile * TILE * cols * size..((tile + 1) * TILE).min(rows) * cols * size];
                match format {
                    Format::F32 => interleave::<4>(source, cols, out, false),
                    Format::F16 => interleave::<2>(source, cols, out, false),
                    _ => interleave::<2>(source, cols, out, true),
                }
            }
        });
        Self {
            format,
            pairs,
            numbers,
        }
    }

    /// Row `row` as f32.
    pub(crate) fn row(&self, row: usize, out: &mut [f32]) {
        let size = self.format.block_bytes();
        let tile = &self.numbers[row / TILE * self.pairs * 32 * size..];
        for (col, out) in out.iter_mut().enumerate() {
            let at = place(col, row % TILE, self.format == Format::BF16) * size;
            scalar::dequantize(self.format, &tile[at..at + size], std::slice::from_mut(out));
        }
    }
}

/// Where column `col` of row `r` lies in a tile.
#[inline(always)]
const fn place(col: usize, r: usize, paired: bool) -> usize {
    if paired {
        col / 2 * 32 + 2 * r + col % 2
    } else {
        col * 16 + r
    }
}

/// The rows of `source` into a tile, a strip of columns at a time so that what is written stays in cache.
fn interleave<const SIZE: usize>(source: &[u8], cols: usize, out: &mut [u8], paired: bool) {
    let (source, out) = (source.as_chunks::<SIZE>().0, out.as_chunks_mut::<SIZE>().0);
    for start in (0..cols).step_by(STRIP_COLS) {
        let end = (start + STRIP_COLS).min(cols);
        for (r, row) in source.chunks_exact(cols).enumerate() {
            if paired {
                for col in start..end {
                    out[place(col, r, true)] = row[col];
                }
            } else {
                for col in start..end {
                    out[place(col, r, false)] = row[col];
                }
            }
        }
    }
}
