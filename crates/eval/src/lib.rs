//! Billion: eval.
