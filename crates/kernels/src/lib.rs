//! Billion: kernels.
