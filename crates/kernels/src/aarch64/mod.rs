//! 64-bit Arm: one file per instruction set.

pub(crate) mod neon;
