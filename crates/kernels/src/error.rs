//! The one error of this crate: shapes and sizes that do not fit.

use crate::Format;

/// Why bytes cannot become a matrix, or matrices cannot be multiplied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not as many as the shape needs.
    #[error("a {format} matrix of {rows} x {cols} needs {expected} bytes, found {found}")]
    Bytes {
        /// Format of the numbers.
        format: Format,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
        /// Bytes that shape takes.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// Rows of this length are no whole blocks, or the size overflows.
    #[error("a row of {cols} numbers is no whole number of {format} blocks (of {}), or {rows} such rows are too large", format.block_elems())]
    Shape {
        /// Format of the numbers.
        format: Format,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
}
