//! Where models come from and where they lie: the starter pack, the library of imported models, the catalogue of known
//! ones, and whether a model fits into this machine's memory.
//!
//! The only crate that may open sockets to fetch; it opens none yet. It does not run models, and it stores nothing but
//! model files and what it found in them.

mod catalogue;
mod error;
mod facts;
mod fingerprint;
mod fit;
mod import;
mod library;
mod memory;
mod starter;

pub use catalogue::{CATALOGUE, Known};
pub use error::Error;
pub use facts::{Facts, Inspection, inspect};
pub use fit::{Fit, FitLevel, fit};
pub use library::{Installed, Library, Resolved, Source};
pub use memory::free_bytes;
pub use starter::{Places, STARTER_ID, StarterPack};
