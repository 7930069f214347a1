//! The one error of this crate: each variant says what was asked and what was found.

use std::path::PathBuf;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A data file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A data file is not what it should be.
    #[error("{}, row {row}: {problem}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// Row, from 1.
        row: usize,
        /// What was expected and what was found.
        problem: String,
    },
}
