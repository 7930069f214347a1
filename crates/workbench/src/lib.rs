//! Billion: workbench.
