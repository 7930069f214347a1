//! The one error of this crate: each variant says what was asked and what was found.

use std::path::PathBuf;

use billion_llm::decoder::DecodeError;

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
    /// An option asks for what cannot be measured.
    #[error("{0}")]
    Options(String),
    /// The tokenizer refused a text.
    #[error("cannot encode {what}: {problem}")]
    Text {
        /// Which text.
        what: String,
        /// What the tokenizer said.
        problem: String,
    },
    /// The model gave something that is not a number.
    #[error(
        "the model's logits for {0} are not numbers: the weights are damaged or the numbers overflowed"
    )]
    NotANumber(String),
    /// A reading that cannot be true, so no figure is made of it.
    #[error("{0}")]
    Implausible(String),
    /// The interpreter that runs models' programs failed, not a program in it.
    #[error("{what}: {problem}")]
    Sandbox {
        /// What was tried.
        what: String,
        /// What was found, and the next step.
        problem: String,
    },
    /// The receiver of the events broke off; what it was told is all there is.
    #[error("cancelled")]
    Cancelled,
    /// The decoder failed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}
