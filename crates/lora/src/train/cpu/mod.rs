//! The trainer on a processor: forward and backward pass by hand over plain slices, on `billion_kernels::training`.
//!
//! No tape and no tensors of a framework: what the backward pass needs is known, so memory is a few buffers and, for each block,
//! what `saved` lists. Rows of a batch are laid end to end without padding; the head is computed for scored positions only, some
//! hundred at a time; frozen weights get no gradients. Every sum has one order, whatever the number of threads.

mod backward;
mod forward;
mod head;
mod low_rank;
mod saved;

use std::ops::Range;

use billion_kernels::training::{Arithmetic, PackedRows};
use billion_kernels::{Format, Isa, Pool, ops};
use billion_llm::spec::{DecoderSpec, DecoderTensors, Norm, Pairing, Residual, TensorView};

use super::engine::{Engine, Work};
use super::frozen::{Frozen, FrozenNorm, Place};
use super::trainable::Trainable;
use crate::Error;
use crate::dataset::Example;
use saved::Saved;

/// Rows that are computed at once, unless one example is longer: enough that decoding weights costs little, few enough that
/// activations stay small. A batch of more rows is cut; the sum of gradients is the same.
pub(super) const PASS_ROWS: usize = 768;

/// How to compute.
pub(super) struct CpuSettings {
    pub isa: Isa,
    pub threads: usize,
    /// Keep only each block's input and run the block again in the backward pass.
    pub recompute: bool,
    /// Bytes of weights that are in memory at a time.
    pub weight_bytes: u64,
}

/// Computes losses and gradients of one model.
pub(super) struct CpuEngine<'a> {
    spec: &'a DecoderSpec,
    frozen: Frozen<'a>,
    trainable: &'a Trainable,
    arithmetic: Arithmetic,
    pool: Pool,
    recompute: bool,
    weight_bytes: u64,
    buffers: Buffers,
    saved: Vec<Saved>,
    /// Called after each block: pages of the mapped file may be given back.
    release: Option<&'a (dyn Fn() + 'a)>,
}

/// Buffers of the rows at hand, (rows, width) each.
#[derive(Default)]
pub(super) struct Buffers {
    /// Residual stream; in the backward pass a block's input.
    x: Vec<f32>,
    /// Gradient of the residual stream.
    d: Vec<f32>,
    /// Input of the MLP's norm.
    mid: Vec<f32>,
    normed: Vec<f32>,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    attended: Vec<f32>,
    sums: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    inner: Vec<f32>,
    /// Gradients beside those written over the above.
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    d_attended: Vec<f32>,
    d_normed: Vec<f32>,
    d_mlp_normed: Vec<f32>,
    /// An adapter's input with dropout, and the gradient of it.
    dropped: Vec<f32>,
    low: Vec<f32>,
    turned: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
    packed: [PackedRows; 3],
    /// Of the head: rows, logits.
    scored: Vec<f32>,
    d_scored: Vec<f32>,
    logits: Vec<f32>,
    losses: Vec<f64>,
}

impl Buffers {
    fn bytes(&self) -> usize {
        let f32s = [
            &self.x,
            &self.d,
            &self.mid,
            &self.normed,
            &self.q,
            &self.k,
            &self.v,
            &self.attended,
            &self.sums,
            &self.gate,
            &self.up,
            &self.inner,
            &self.dq,
            &self.dk,
            &self.dv,
            &self.d_attended,
            &self.d_normed,
            &self.d_mlp_normed,
            &self.dropped,
            &self.low,
            &self.turned,
            &self.cos,
            &self.sin,
            &self.scored,
            &self.d_scored,
            &self.logits,
        ];
        let f32s: usize = f32s.iter().map(|v| v.capacity() * size_of::<f32>()).sum();
        f32s + self.packed.iter().map(PackedRows::bytes).sum::<usize>()
    }
}

/// The first `len` numbers of a buffer, which grows if it must; what they are is left over.
fn shaped(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Rows at hand.
struct Batch {
    tokens: Vec<u32>,
    positions: Vec<usize>,
    /// Keys that the rows' dropout follows from.
    keys: Vec<u64>,
    sequences: Vec<Range<usize>>,
    /// (row, token that it should predict).
    scored: Vec<(usize, u32)>,
}

impl Batch {
    fn new(examples: &[(&Example, u64)]) -> Self {
        let mut batch = Self {
            tokens: Vec::new(),
            positions: Vec::new(),
            keys: Vec::new(),
            sequences: Vec::new(),
            scored: Vec::new(),
        };
        for (example, key) in examples {
            let start = batch.tokens.len();
            // Behind the last scored token nothing is learnt, and the last token itself predicts nothing that is scored.
            let end = example
                .scored
                .iter()
                .rposition(|scored| *scored)
                .unwrap_or(0);
            for i in 0..end {
                batch.tokens.push(example.tokens[i]);
                batch.positions.push(i);
                batch.keys.push(*key ^ ((i as u64) << 40));
                if example.scored[i + 1] {
                    batch.scored.push((start + i, example.tokens[i + 1]));
                }
            }
            if end > 0 {
                batch.sequences.push(start..batch.tokens.len());
            }
        }
        batch
    }

    fn rows(&self) -> usize {
        self.tokens.len()
    }
}

impl<'a> CpuEngine<'a> {
    /// Borrows the weights; nothing of them is copied but norms and biases.
    pub fn new(
        spec: &'a DecoderSpec,
        tensors: &'a DecoderTensors<TensorView<'_>>,
        trainable: &'a Trainable,
        settings: &CpuSettings,
    ) -> Result<Self, Error> {
        let frozen = Frozen::new(spec, tensors)?;
        let exact = frozen.matrices().all(|m| m.format() == Format::F32);
        Ok(Self {
            spec,
            frozen,
            trainable,
            arithmetic: Arithmetic::choose(settings.isa, exact),
            pool: Pool::new(settings.threads),
            recompute: settings.recompute,
            weight_bytes: settings.weight_bytes,
            buffers: Buffers::default(),
            saved: Vec::new(),
            release: None,
        })
    }

    /// Calls `release` after each block, so that a mapped file need not stay in memory.
    pub fn releasing(mut self, release: &'a (dyn Fn() + 'a)) -> Self {
        self.release = Some(release);
        self
    }

    fn isa(&self) -> Isa {
        self.arithmetic.isa()
    }

    /// Cuts examples into passes of about [`PASS_ROWS`] rows, and calls `f` for each.
    fn passes(&mut self, work: &Work<'_>, mut f: impl FnMut(&mut Self, &Batch) -> f64) -> f64 {
        let mut total = 0.0;
        let mut rest = work.examples;
        while !rest.is_empty() {
            let mut rows = 0;
            let fit = rest.iter().position(|(example, _)| {
                rows += example.tokens.len();
                rows > PASS_ROWS
            });
            let (now, later) = rest.split_at(fit.unwrap_or(rest.len()).max(1));
            rest = later;
            let batch = Batch::new(now);
            if batch.rows() > 0 {
                self.rotary_tables(&batch);
                total += f(self, &batch);
            }
        }
        total
    }

    /// Angles are products of f32, as in the reference implementations; their sine and cosine are exact to f32.
    fn rotary_tables(&mut self, batch: &Batch) {
        let frequencies = &self.spec.rotary.frequencies;
        let len = batch.rows() * frequencies.len();
        let cos = shaped(&mut self.buffers.cos, len);
        let sin = shaped(&mut self.buffers.sin, len);
        let mut at = 0;
        for position in &batch.positions {
            for frequency in frequencies {
                let angle = f64::from(*position as f32 * frequency);
                (cos[at], sin[at]) = (angle.cos() as f32, angle.sin() as f32);
                at += 1;
            }
        }
    }

    /// Frees pages of the file that have been read.
    fn release(&self) {
        if let Some(release) = self.release {
            release();
        }
    }
}

impl Engine for CpuEngine<'_> {
    fn gradients(&mut self, work: &Work<'_>, gradients: &mut [f32]) -> Result<f64, Error> {
        Ok(self.passes(work, |engine, batch| {
            engine.forward(batch, work, true);
            let loss = engine.head(batch, Some(work.scale));
            engine.backward(batch, work, gradients);
            loss
        }))
    }

    fn loss(&mut self, work: &Work<'_>) -> Result<f64, Error> {
        Ok(self.passes(work, |engine, batch| {
            engine.forward(batch, work, false);
            engine.head(batch, None)
        }))
    }

    fn peak_bytes(&self) -> u64 {
        let saved: usize = self.saved.iter().map(Saved::bytes).sum();
        self.weight_bytes + (self.buffers.bytes() + saved) as u64
    }

    fn recomputes(&self) -> bool {
        self.recompute
    }
}

/// Bytes that a pass of `rows` rows keeps for the backward pass, all blocks together.
pub(super) fn saved_bytes(spec: &DecoderSpec, rows: usize, exact: bool, recompute: bool) -> u64 {
    let number = if exact { 4 } else { 2 };
    let block = if recompute {
        spec.hidden
    } else {
        let sequential = usize::from(spec.residual == Residual::Sequential);
        let normed = if spec.qk_norm { 2 } else { 1 };
        (1 + sequential) * spec.hidden
            + (normed + 1) * spec.q_width()
            + (normed + 1) * spec.kv_width()
            + 2 * spec.ffn
    };
    (spec.layers * rows * block * number) as u64
}

/// One of the two norms, over the last dimension.
struct Normalizer<'a> {
    isa: Isa,
    norm: Norm,
    weights: &'a FrozenNorm,
}

impl<'a> Normalizer<'a> {
    const fn new(isa: Isa, norm: Norm, weights: &'a FrozenNorm) -> Self {
        Self { isa, norm, weights }
    }

    /// Every row of x to `out`, (rows, width) both.
    fn forward(&self, pool: &Pool, x: &[f32], out: &mut [f32]) {
        let width = self.weights.weight.len();
        ops::for_each_row(pool, out, width, &|row, out| {
            let x = &x[row * width..(row + 1) * width];
            let weight = &self.weights.weight;
            match self.norm {
                Norm::Rms { eps } => ops::rms_norm(self.isa, x, weight, eps, out),
                Norm::Layer { eps } => {
                    let bias = self.weights.bias.as_deref();
                    ops::layer_norm(self.isa, x, weight, bias, eps, out);
                }
            }
        });
    }

    /// Adds the gradient of the norm's input to `dx`, for the gradient `dy` of its result.
    fn backward(&self, pool: &Pool, x: &[f32], dy: &[f32], dx: &mut [f32]) {
        use billion_kernels::training::{layer_norm_backward, rms_norm_backward};
        let width = self.weights.weight.len();
        ops::for_each_row(pool, dx, width, &|row, dx| {
            let at = row * width..(row + 1) * width;
            let (x, dy, weight) = (&x[at.clone()], &dy[at], &self.weights.weight);
            match self.norm {
                Norm::Rms { eps } => rms_norm_backward(self.isa, x, weight, eps, dy, dx),
                Norm::Layer { eps } => layer_norm_backward(self.isa, x, weight, eps, dy, dx),
            }
        });
    }
}

/// Rotates every row of x (rows, width) forth or, for gradients, back.
fn rotate(
    (isa, pool, spec): (Isa, &Pool, &DecoderSpec),
    x: &mut [f32],
    width: usize,
    (cos, sin): (&[f32], &[f32]),
    back: bool,
) {
    let half = spec.rotary.dims / 2;
    if half == 0 {
        return;
    }
    let pairing = match spec.rotary.pairing {
        Pairing::Halves => ops::Pairing::Halves,
        Pairing::Interleaved => ops::Pairing::Interleaved,
    };
    ops::for_each_row(pool, x, width, &|row, x| {
        let at = row * half..(row + 1) * half;
        if back {
            let opposite: Vec<f32> = sin[at.clone()].iter().map(|s| -s).collect();
            ops::rope(isa, x, spec.head_dim, pairing, (&cos[at], &opposite));
        } else {
            ops::rope(isa, x, spec.head_dim, pairing, (&cos[at.clone()], &sin[at]));
        }
    });
}

/// The epsilon of all norms.
const fn eps(spec: &DecoderSpec) -> f32 {
    match spec.norm {
        Norm::Rms { eps } | Norm::Layer { eps } => eps,
    }
}

/// Maps that read the block's first norm.
const ATTENTION_INPUTS: [Place; 3] = [Place::Q, Place::K, Place::V];
