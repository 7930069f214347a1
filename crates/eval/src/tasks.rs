//! The benchmark tasks. Each owns its data format, its prompts and its driver.

pub mod humaneval;
pub mod mmlu;
pub mod perplexity;
