//! The last norm, the head and the loss, for scored positions only and some hundred of them at a time: logits of all positions
//! never exist.

use billion_kernels::ops;
use billion_kernels::training::{backward, cross_entropy, forward};

use super::{Batch, CpuEngine, Normalizer, shaped};

/// Bytes of logits at a time: some hundred rows of a vocabulary of 50,000.
const LOGITS_BYTES: usize = 64 << 20;

/// Fewest rows at a time, so that decoding the head is shared.
const LEAST_ROWS: usize = 48;

impl CpuEngine<'_> {
    /// Sum of the losses of the batch's scored positions, in nats, from `buffers.x`. With a `scale`, `buffers.d` becomes the
    /// gradient of `scale` times that.
    pub(super) fn head(&mut self, batch: &Batch, scale: Option<f32>) -> f64 {
        let (hidden, vocab) = (self.spec.hidden, self.spec.vocab_size);
        let isa = self.isa();
        let at_once = (LOGITS_BYTES / size_of::<f32>() / vocab).max(LEAST_ROWS);
        let buffers = &mut self.buffers;
        let norm = Normalizer::new(isa, self.spec.norm, &self.frozen.final_norm);
        let d = shaped(&mut buffers.d, batch.rows() * hidden);
        if scale.is_some() {
            d.fill(0.0);
        }
        let mut total = 0.0;
        for scored in batch.scored.chunks(at_once) {
            let rows = scored.len();
            let x = shaped(&mut buffers.scored, 2 * rows * hidden);
            let (x, normed) = x.split_at_mut(rows * hidden);
            for (x, (row, _)) in x.chunks_exact_mut(hidden).zip(scored) {
                x.copy_from_slice(&buffers.x[row * hidden..(row + 1) * hidden]);
            }
            norm.forward(&self.pool, x, normed);
            let packed = &mut buffers.packed[0];
            packed.pack(self.arithmetic, &self.pool, normed, hidden);
            let logits = shaped(&mut buffers.logits, rows * vocab);
            let head = &self.frozen.head;
            forward(
                self.arithmetic,
                &self.pool,
                packed,
                &mut [(head, &mut *logits)],
            );
            buffers.losses.clear();
            buffers.losses.resize(rows, 0.0);
            {
                let mut jobs: Vec<(&mut [f32], &mut f64)> = logits
                    .chunks_exact_mut(vocab)
                    .zip(buffers.losses.iter_mut())
                    .collect();
                ops::for_each(&self.pool, &mut jobs, &|row, (logits, loss)| {
                    let target = scored[row].1 as usize;
                    **loss = cross_entropy(isa, logits, target, scale.unwrap_or(0.0));
                });
            }
            total += buffers.losses.iter().sum::<f64>();
            if scale.is_none() {
                continue;
            }
            packed.pack(self.arithmetic, &self.pool, logits, vocab);
            let d_scored = shaped(&mut buffers.d_scored, 2 * rows * hidden);
            let (d_normed, d_x) = d_scored.split_at_mut(rows * hidden);
            backward(
                self.arithmetic,
                &self.pool,
                &[(packed, head)],
                d_normed,
                false,
            );
            d_x.fill(0.0);
            norm.backward(&self.pool, x, d_normed, d_x);
            for (d_x, (row, _)) in d_x.chunks_exact(hidden).zip(scored) {
                d[row * hidden..(row + 1) * hidden].copy_from_slice(d_x);
            }
        }
        self.release();
        total
    }
}
