//! Block formats, SIMD kernels and the thread pool: all unsafe arithmetic of Billion.
//!
//! It knows matrices, rows and heads, not models, files or tokens.

mod activations;
mod error;
mod format;
mod isa;
mod matmul;
mod matrix;
mod parts;
mod pool;
mod scalar;

pub use activations::Activations;
pub use error::Error;
pub use format::Format;
pub use isa::Isa;
pub use matmul::matmul;
pub use matrix::Matrix;
pub use pool::Pool;
pub use scalar::{dequantize, quantize};
