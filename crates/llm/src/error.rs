//! The one error of this crate: what was read, what was expected, what was found, and what to do next.

use std::path::PathBuf;
use std::time::Duration;

/// Why a model could not be opened, understood or run.
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
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Whoever asked for it does not want it any more.
    #[error("cancelled")]
    Cancelled,
    /// A file is damaged, incomplete or of a kind that Billion does not read.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what was found, with figures, and what to do next.
        problem: String,
    },
    /// A tensor is missing or has another shape or format than the model's description asks for.
    #[error("tensor {tensor}: {problem}")]
    Tensor {
        /// Name in the file.
        tensor: String,
        /// What was expected and what was found.
        problem: String,
    },
    /// The file is well-formed but describes something that Billion does not run.
    #[error("{0}")]
    Unsupported(String),
    /// The tokenizer cannot be read or does not fit the weights.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The chat template is invalid, refused the messages, or took too many steps.
    #[error("chat template: {0}")]
    ChatTemplate(String),
    /// The chat template took too long. Its thread cannot be ended and goes on: a process that meets this is best ended.
    #[error(
        "chat template: it does not end within {} ms; it is broken or hostile, choose another model file",
        limit.as_millis()
    )]
    ChatTemplateRunsOn {
        /// Longest time that it gets.
        limit: Duration,
    },
    /// A matrix does not fit the kernels.
    #[error(transparent)]
    Kernel(#[from] billion_kernels::Error),
    /// The tensor backend failed.
    #[error("{0}")]
    Backend(String),
}
