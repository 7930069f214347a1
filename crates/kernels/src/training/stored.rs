//! A frozen weight matrix as its file stores it: borrowed, never copied. It multiplies nothing.

use crate::{Error, Format, dequantize};

/// Rows of a larger matrix in groups at equal distances, as the queries of a fused query_key_value lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// First row of the first group.
    pub first: usize,
    /// Rows of a group; at least 1.
    pub len: usize,
    /// From one group's first row to the next one's.
    pub stride: usize,
}

/// Weights of shape (rows, cols): `rows` outputs of `cols` inputs each, in the file's format.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    format: Format,
    rows: usize,
    cols: usize,
    bytes: &'a [u8],
    row_bytes: usize,
    groups: Option<Groups>,
}

impl<'a> Stored<'a> {
    /// Checks that `bytes` hold every row that will be read.
    pub fn new(
        format: Format,
        (rows, cols): (usize, usize),
        bytes: &'a [u8],
        groups: Option<Groups>,
    ) -> Result<Self, Error> {
        let shape = Error::Shape { format, rows, cols };
        let row_bytes = format.row_bytes(cols).ok_or(shape.clone())?;
        let last = match (rows.checked_sub(1), groups) {
            (None, _) => 0,
            (Some(last), None) => last + 1,
            (Some(_), Some(groups)) if groups.len == 0 => return Err(shape),
            (Some(last), Some(groups)) => (last / groups.len)
                .checked_mul(groups.stride)
                .and_then(|start| start.checked_add(groups.first + last % groups.len + 1))
                .ok_or(shape.clone())?,
        };
        let expected = last.checked_mul(row_bytes).ok_or(shape)?;
        if bytes.len() < expected || (groups.is_none() && bytes.len() != expected) {
            return Err(Error::Bytes {
                format,
                rows,
                cols,
                expected,
                found: bytes.len(),
            });
        }
        Ok(Self {
            format,
            rows,
            cols,
            bytes,
            row_bytes,
            groups,
        })
    }

    /// Outputs.
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    pub const fn cols(&self) -> usize {
        self.cols
    }

    /// How the numbers are stored.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Bytes that its rows take.
    pub const fn bytes(&self) -> usize {
        self.rows * self.row_bytes
    }

    /// Row `row` as f32.
    ///
    /// # Panics
    /// If there is no such row, or `out` is not `cols` long.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        dequantize(self.format, self.row_bytes(row), out);
    }

    /// The stored bytes of a row below `rows`.
    #[inline(always)]
    fn row_bytes(&self, row: usize) -> &'a [u8] {
        let source = match self.groups {
            None => row,
            Some(groups) => groups.first + row / groups.len * groups.stride + row % groups.len,
        };
        &self.bytes[source * self.row_bytes..(source + 1) * self.row_bytes]
    }

    /// The bytes of columns `start..start + len` of a row; both are whole blocks.
    #[inline(always)]
    pub(super) fn part(&self, row: usize, start: usize, len: usize) -> &'a [u8] {
        let (elems, size) = (self.format.block_elems(), self.format.block_bytes());
        &self.row_bytes(row)[start / elems * size..(start + len) / elems * size]
    }
}
