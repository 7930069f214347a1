//! Plain Rust: what blocks mean, the reference quantizers, and the twin of every SIMD kernel.

pub(crate) mod blocks;
mod dequantize;
mod matmul;
mod quantize;
mod search;

pub use dequantize::dequantize;
pub(crate) use matmul::matmul_rows;
pub use quantize::{quantize, quantize_on};
