//! Weights, decoder specifications, executors, tokenizers, chat templates and generation.
//!
//! This crate owns everything between a file of weights and a stream of text. It does not own SIMD arithmetic
//! (`billion-kernels`), tasks and statistics (`billion-eval`), or where files come from (`billion-hub`).

pub mod adapter;
pub mod candle;
pub mod chat_template;
pub mod checkpoint;
pub mod cpu;
pub mod decoder;
pub mod device;
mod error;
pub mod generate;
pub mod load;
pub mod models;
pub mod quantize;
pub mod spec;
pub mod tokenizer;
pub mod weights;

pub use billion_kernels::Isa;
pub use checkpoint::convert_checkpoint;
pub use error::Error;
