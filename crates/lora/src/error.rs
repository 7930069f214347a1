//! The one error of this crate: what was asked, what was found with figures, what to do next.

use std::path::PathBuf;

/// Why a dataset cannot be read or a model not be trained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused to read a file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused to write a file.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A dataset is not what it should be.
    #[error("{}: {problem}", path.display())]
    Dataset {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, and the next step.
        problem: String,
    },
    /// An option asks for what cannot be done.
    #[error("{0}")]
    Options(String),
    /// Whoever asked for it does not want it any more.
    #[error("cancelled")]
    Cancelled,
    /// The model cannot be read or run.
    #[error(transparent)]
    Model(#[from] billion_llm::Error),
}
