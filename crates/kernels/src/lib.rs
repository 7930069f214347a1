//! Block formats, SIMD kernels and the thread pool: all unsafe arithmetic of Billion.
//!
//! It knows matrices, rows and heads, not models, files or tokens.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod activations;
pub mod attention;
mod buffer;
mod error;
mod floats;
mod format;
mod isa;
mod matmul;
mod matrix;
pub mod ops;
mod parts;
mod pool;
mod scalar;
mod simd;
mod tile_product;
mod tiles;
pub mod training;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use activations::Activations;
pub use error::Error;
pub use format::Format;
pub use isa::Isa;
pub use matmul::matmul;
pub use matrix::Matrix;
pub use pool::Pool;
pub use scalar::{dequantize, quantize, quantize_on};
