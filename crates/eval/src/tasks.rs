//! The benchmark tasks. Each owns its data format and its prompts.

pub mod mmlu;
