//! Statistics of benchmark results: intervals for proportions, paired comparison, pass@k, summaries of timings.
//!
//! Owns formulas only, each with its source; it knows nothing of tasks or models.

mod paired;
mod proportion;
mod summary;

pub use paired::{Comparison, PairedVerdict, compare_paired};
pub use proportion::{
    Stratum, clustered_wilson95, expected_half_width, mean_pass_at_k, mean_stderr, pass_at_k,
    pooled_stderr, stratified_wilson95, wilson95,
};
pub use summary::Summary;

/// Two-sided 95 % point of the standard normal distribution.
pub const Z95: f64 = 1.959_963_984_540_054;
