//! The right operand of every product: a weight matrix, packed once for the instruction set that reads it.

use crate::floats::FloatTiles;
use crate::scalar::{self, blocks};
use crate::tiles::Tiles;
use crate::{Error, Format, Isa, Pool, parts::Parts, simd};

/// Bytes that a chunk of packing takes: large enough to hide the cost of claiming it.
const PACK_CHUNK_BYTES: usize = 1 << 18;

/// Weights of shape (rows, cols): `rows` outputs of `cols` inputs each. The bytes it was packed from are not kept.
pub struct Matrix {
    isa: Isa,
    format: Format,
    rows: usize,
    cols: usize,
    layout: Layout,
}

/// How the numbers lie in memory.
pub(crate) enum Layout {
    /// As in the file, row after row.
    Rows(Vec<u8>),
    /// Quantized, in tiles.
    Tiles(Tiles),
    /// Floats, in tiles.
    Floats(FloatTiles),
}

impl Matrix {
    /// Packs `bytes`, rows of `format` as ggml lays them out, for `isa`.
    pub fn pack(
        isa: Isa,
        pool: &Pool,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: &[u8],
    ) -> Result<Self, Error> {
        let shape = Error::Shape { format, rows, cols };
        // Blocks of 32 columns are the unit of every quantized kernel.
        let row_bytes = format.row_bytes(cols).ok_or(shape.clone())?;
        let expected = row_bytes.checked_mul(rows).ok_or(shape)?;
        if bytes.len() != expected {
            return Err(Error::Bytes {
                format,
                rows,
                cols,
                expected,
                found: bytes.len(),
            });
        }
        let layout = if !simd::has_tiles(isa) {
            Layout::Rows(copy(pool, bytes))
        } else if format.is_quantized() {
            Layout::Tiles(Tiles::pack(
                pool,
                format,
                rows,
                cols,
                bytes,
                |tiles, source, parts| {
                    simd::pack_tile(isa, tiles, source, parts);
                },
            ))
        } else {
            Layout::Floats(FloatTiles::pack(pool, format, rows, cols, bytes))
        };
        Ok(Self {
            isa,
            format,
            rows,
            cols,
            layout,
        })
    }

    /// Rows: outputs.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// Format of the source.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        match &self.layout {
            Layout::Rows(bytes) => bytes.len(),
            Layout::Tiles(tiles) => tiles.bytes(),
            Layout::Floats(tiles) => tiles.numbers.len(),
        }
    }

    /// Row `row` as f32, exactly the values of the source: the lookup of an embedding.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not `cols` long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(
            row < self.rows && out.len() == self.cols,
            "row {row} of {} x {} does not fit {} numbers",
            self.rows,
            self.cols,
            out.len()
        );
        match &self.layout {
            Layout::Rows(bytes) => {
                let len = bytes.len() / self.rows;
                scalar::dequantize(self.format, &bytes[row * len..(row + 1) * len], out);
            }
            Layout::Tiles(tiles) => tiles.row(row, out),
            Layout::Floats(tiles) => tiles.row(row, out),
        }
    }

    /// The instruction set it was packed for.
    pub(crate) const fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn is_quantized(&self) -> bool {
        blocks::scheme(self.format).is_some()
    }
}

fn copy(pool: &Pool, bytes: &[u8]) -> Vec<u8> {
    let mut copy = vec![0; bytes.len()];
    let parts = Parts::new(&mut copy);
    pool.run(bytes.len().div_ceil(PACK_CHUNK_BYTES), &|chunk| {
        let range = chunk * PACK_CHUNK_BYTES..((chunk + 1) * PACK_CHUNK_BYTES).min(bytes.len());
        // SAFETY: each chunk is run once and has its own range.
        unsafe { parts.part(range.clone()) }.copy_from_slice(&bytes[range]);
    });
    copy
}
