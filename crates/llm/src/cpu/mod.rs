//! The CPU executor: a decoder description over packed weights and our own kernels.
