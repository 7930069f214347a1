//! The meters: speed and memory of a loaded model, and the load of other programs meanwhile.

pub mod load;
pub mod memory;
pub mod speed;
