//! LoRA fine-tuning: datasets to examples, and training of adapters.
//!
//! It sees models through `billion-llm` and computes with `billion-kernels`. It does not own adapter files
//! (`billion_llm::adapter`), jobs, storage or processes (`billion-workbench`).

pub mod dataset;
mod error;
pub mod train;

pub use error::Error;
