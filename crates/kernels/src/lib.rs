//! Block formats, SIMD kernels and the thread pool: all unsafe arithmetic of Billion.
//!
//! It knows matrices, rows and heads, not models, files or tokens.

mod format;

pub use format::Format;
