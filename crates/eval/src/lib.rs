//! What Billion measures and how sure it is: the tasks, the statistics that turn counts into intervals and verdicts, and the
//! clock and progress events that every measurement shares.
//!
//! It stores nothing and opens no sockets: results are plain serialisable values.

pub mod clock;
mod error;
pub mod progress;
pub mod stats;
pub mod tasks;

pub use error::Error;
pub use progress::Event;
