//! Weights, decoder specifications, executors, tokenizers, chat templates and generation.
//!
//! This crate owns everything between a file of weights and a stream of text. It does not own SIMD arithmetic
//! (`billion-kernels`), tasks and statistics (`billion-eval`), or where files come from (`billion-hub`).

pub mod decoder;
pub mod generate;
pub mod spec;
