//! What the loop asks of whoever computes losses and gradients: the processor's own trainer, candle's, and fakes in tests.

use crate::Error;
use crate::dataset::Example;

/// Rows to compute a loss of, and how.
pub(super) struct Work<'a> {
    /// The numbers that are trained.
    pub numbers: &'a [f32],
    /// Rows, with the keys that their dropout follows from.
    pub examples: &'a [(&'a Example, u64)],
    /// What the gradient of each scored token's loss is multiplied by: 1 / scored tokens of the optimizer step.
    pub scale: f32,
    /// Share of inputs to drop; 0 where only the loss is wanted.
    pub dropout: f32,
}

/// Computes losses and gradients.
pub(super) trait Engine {
    /// Sum of the scored tokens' losses in nats. Gradients of `scale` times that are added to `gradients`.
    fn gradients(&mut self, work: &Work<'_>, gradients: &mut [f32]) -> Result<f64, Error>;

    /// Sum of the scored tokens' losses in nats.
    fn loss(&mut self, work: &Work<'_>) -> Result<f64, Error>;

    /// Bytes held for weights, activations and scratch, at most so far.
    fn peak_bytes(&self) -> u64;

    /// Blocks are run again in the backward pass.
    fn recomputes(&self) -> bool;
}
