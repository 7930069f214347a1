//! The meters: speed, memory and energy of a loaded model, what a draft brings it, and the load of other programs meanwhile.

pub mod energy;
pub mod load;
pub mod memory;
pub mod speculation;
pub mod speed;
