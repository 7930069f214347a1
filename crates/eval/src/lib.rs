//! What Billion measures and how sure it is: the tasks, the meters, the statistics that turn counts into intervals and
//! verdicts, and the clock and progress events that every measurement shares.
//!
//! It sees a model only through `Decoder` and text only through `TextCodec`. It stores nothing and opens no sockets:
//! results are plain serialisable values.

pub mod clock;
mod error;
#[cfg(test)]
mod fakes;
mod likelihood;
pub mod meters;
pub mod progress;
pub mod sandbox;
pub mod sizes;
pub mod stats;
pub mod tasks;

pub use error::Error;
pub use progress::Event;

/// A loaded model under test, and the clock that times it.
pub struct UnderTest<'a> {
    /// The model. A run opens its own sequences and closes them, however it ends.
    pub decoder: &'a mut dyn billion_llm::decoder::Decoder,
    /// Its tokenizer.
    pub codec: &'a dyn billion_llm::decoder::TextCodec,
    /// Times the run.
    pub clock: &'a dyn clock::Clock,
}
