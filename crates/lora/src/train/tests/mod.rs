//! The trainer against PEFT and PyTorch, against differences, and against itself: resumed, recomputed, stopped, broken.

mod fixtures;
mod gradients;
mod runs;
