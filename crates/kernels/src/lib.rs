//! Block formats, SIMD kernels and the thread pool: all unsafe arithmetic of Billion.
//!
//! It knows matrices, rows and heads, not models, files or tokens.

mod error;
mod format;

pub use error::Error;
pub use format::Format;
