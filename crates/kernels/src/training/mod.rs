//! What training needs beyond inference: products with frozen weights in both directions, and the backward passes of what
//! lies between them.
//!
//! Weights stay as their file stores them. A thread turns a strip of 64 outputs into a panel that fits its cache and
//! multiplies all rows by it, so that with hundreds of rows decoding costs little and no second copy of the weights is held.
//! Where the processor has AVX512-BF16 panels and activations are rounded to bf16 and summed in f32, unless the weights are
//! F32; everything else is f32. A result never depends on the number of threads.
//!
//! It knows matrices, rows and heads, not layers, adapters or optimizers.

mod arithmetic;
mod attention;
mod decode;
mod dense;
mod elementwise;
mod loss;
pub(crate) mod panel;
mod product;
pub(crate) mod stored;
#[cfg(test)]
mod tests;

pub use arithmetic::Arithmetic;
pub use attention::{HeadShape, attention_backward, attention_forward};
pub use dense::{Dense, Left, dense};
pub use elementwise::{
    add_bias, from_bf16, gelu_backward, layer_norm_backward, rms_norm_backward, silu_mul_backward,
    to_bf16,
};
pub use loss::cross_entropy;
pub use product::{PackedRows, backward, forward};
pub use stored::{Groups, Stored};
