//! The forward pass: from tokens to the residual stream after the last block, keeping what the backward pass needs.

use billion_kernels::training::{Stored, add_bias, attention_forward, forward};
use billion_kernels::{Isa, Pool, ops};
use billion_llm::spec::{DecoderSpec, Mlp, Residual};

use super::low_rank::LowRank;
use super::saved::Saved;
use super::{ATTENTION_INPUTS, Batch, CpuEngine, Normalizer, eps, rotate, shaped};
use crate::train::engine::Work;
use crate::train::frozen::{FrozenLayer, Place};

impl CpuEngine<'_> {
    /// Fills `buffers.x`. `keep`: for a backward pass.
    pub(super) fn forward(&mut self, batch: &Batch, work: &Work<'_>, keep: bool) {
        let (rows, hidden) = (batch.rows(), self.spec.hidden);
        let embedding = &self.frozen.embedding;
        let x = shaped(&mut self.buffers.x, rows * hidden);
        ops::for_each_row(&self.pool, x, hidden, &|row, x| {
            embedding.row(batch.tokens[row] as usize, x);
        });
        self.saved.resize_with(self.spec.layers, Saved::default);
        let round = self.arithmetic.is_bf16();
        for index in 0..self.spec.layers {
            let mut saved = std::mem::take(&mut self.saved[index]);
            if keep {
                let x = &self.buffers.x[..rows * hidden];
                saved.x.put((self.isa(), &self.pool), x, round);
            }
            let keep = keep && !self.recompute;
            self.block(index, batch, work, keep.then_some(&mut saved), None);
            self.saved[index] = saved;
            self.release();
        }
    }

    /// Runs a block on `buffers.x` in place. What the backward pass needs goes to `saved`, or, when the block is run again for
    /// the backward pass, is left in the buffers and `low`, and `buffers.x` stays the block's input.
    pub(super) fn block(
        &mut self,
        index: usize,
        batch: &Batch,
        work: &Work<'_>,
        mut saved: Option<&mut Saved>,
        mut again: Option<&mut Saved>,
    ) {
        let (rows, spec) = (batch.rows(), self.spec);
        let layer = &self.frozen.layers[index];
        let here = (self.arithmetic.isa(), &self.pool);
        let (isa, pool) = here;
        let round = self.arithmetic.is_bf16();
        let (hidden, qw, kw, ffn) = (spec.hidden, spec.q_width(), spec.kv_width(), spec.ffn);
        let adapters = Adapters {
            engine: (self.trainable, work, batch),
            here,
            layer: index,
        };
        let buffers = &mut self.buffers;
        let mut scratch = [
            std::mem::take(&mut buffers.low),
            std::mem::take(&mut buffers.dropped),
        ];

        let x = &buffers.x[..rows * hidden];
        let normed = shaped(&mut buffers.normed, rows * hidden);
        Normalizer::new(isa, spec.norm, &layer.attention_norm).forward(pool, x, normed);
        let packed = &mut buffers.packed[0];
        packed.pack(self.arithmetic, pool, normed, hidden);
        let q = shaped(&mut buffers.q, rows * qw);
        let k = shaped(&mut buffers.k, rows * kw);
        let v = shaped(&mut buffers.v, rows * kw);
        {
            let mut outputs: [(&Stored<'_>, &mut [f32]); 3] = [
                (&layer.linear(Place::Q).weight, &mut *q),
                (&layer.linear(Place::K).weight, &mut *k),
                (&layer.linear(Place::V).weight, &mut *v),
            ];
            forward(self.arithmetic, pool, packed, &mut outputs);
        }
        for (place, y) in ATTENTION_INPUTS
            .into_iter()
            .zip([&mut *q, &mut *k, &mut *v])
        {
            add_own_bias(here, layer, place, y);
            let low = Self::low_of(&mut saved, &mut again, place);
            adapters.forward(place, normed, y, low, &mut scratch);
        }
        if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
            if let Some(saved) = saved.as_deref_mut().or(again.as_deref_mut()) {
                saved.q_raw.put(here, q, round);
                saved.k_raw.put(here, k, round);
            }
            norm_heads(here, spec, q_norm, q);
            norm_heads(here, spec, k_norm, k);
        }
        let tables = (&buffers.cos[..], &buffers.sin[..]);
        rotate((isa, pool, spec), q, qw, tables, false);
        rotate((isa, pool, spec), k, kw, tables, false);
        let attended = shaped(&mut buffers.attended, rows * qw);
        let sums = shaped(&mut buffers.sums, rows * spec.heads);
        let shape = billion_kernels::training::HeadShape {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
        };
        attention_forward(
            isa,
            pool,
            shape,
            &batch.sequences,
            (q, k, v),
            (&mut *attended, &mut *sums),
        );
        if let Some(saved) = saved.as_deref_mut() {
            saved.q.put(here, q, round);
            saved.k.put(here, k, round);
            saved.v.put(here, v, round);
            saved.attended.put(here, attended, round);
            saved.sums.clear();
            saved.sums.extend_from_slice(sums);
        }

        // What attention adds goes to `mid`, the stream behind it too where the MLP reads that.
        let packed = &mut buffers.packed[1];
        packed.pack(self.arithmetic, pool, attended, qw);
        let mid = shaped(&mut buffers.mid, rows * hidden);
        let o = &layer.linear(Place::O).weight;
        forward(self.arithmetic, pool, packed, &mut [(o, &mut *mid)]);
        add_own_bias(here, layer, Place::O, mid);
        let low = Self::low_of(&mut saved, &mut again, Place::O);
        adapters.forward(Place::O, attended, mid, low, &mut scratch);
        add_rows(here, mid, x, hidden);
        let sequential = spec.residual == Residual::Sequential;
        if let Some(saved) = saved.as_deref_mut()
            && sequential
        {
            saved.mid.put(here, mid, round);
        }
        let own_norm = layer.mlp_norm.as_ref();
        if let Some(norm) = own_norm {
            let input = if sequential { &*mid } else { x };
            Normalizer::new(isa, spec.norm, norm).forward(pool, input, normed);
            buffers.packed[0].pack(self.arithmetic, pool, normed, hidden);
        }
        let up = shaped(&mut buffers.up, rows * ffn);
        let gated = spec.mlp == Mlp::SwiGlu;
        let gate = shaped(&mut buffers.gate, if gated { rows * ffn } else { 0 });
        {
            let up_map = (&layer.linear(Place::Up).weight, &mut *up);
            if gated {
                let gate_map = (&layer.linear(Place::Gate).weight, &mut *gate);
                let mut outputs = [gate_map, up_map];
                forward(self.arithmetic, pool, &buffers.packed[0], &mut outputs);
            } else {
                forward(self.arithmetic, pool, &buffers.packed[0], &mut [up_map]);
            }
        }
        if gated {
            add_own_bias(here, layer, Place::Gate, gate);
            let low = Self::low_of(&mut saved, &mut again, Place::Gate);
            adapters.forward(Place::Gate, normed, gate, low, &mut scratch);
        }
        add_own_bias(here, layer, Place::Up, up);
        let low = Self::low_of(&mut saved, &mut again, Place::Up);
        adapters.forward(Place::Up, normed, up, low, &mut scratch);
        if let Some(saved) = saved.as_deref_mut() {
            saved.up.put(here, up, round);
            if gated {
                saved.gate.put(here, gate, round);
            }
        }
        let again_without_down =
            again.is_some() && self.trainable.slot(index, Place::Down).is_none();
        if !again_without_down {
            let inner = shaped(&mut buffers.inner, rows * ffn);
            activate(here, spec, gate, up, inner);
            if let Some(again) = again.as_deref_mut() {
                // Only what the adapter of `down` needs.
                adapters.low(
                    Place::Down,
                    inner,
                    &mut again.low[Place::Down as usize],
                    &mut scratch,
                );
            } else {
                let packed = &mut buffers.packed[1];
                packed.pack(self.arithmetic, pool, inner, ffn);
                let x = &mut buffers.x[..rows * hidden];
                let added = shaped(&mut buffers.normed, rows * hidden);
                let down = &layer.linear(Place::Down).weight;
                forward(self.arithmetic, pool, packed, &mut [(down, &mut *added)]);
                add_own_bias(here, layer, Place::Down, added);
                let low = Self::low_of(&mut saved, &mut again, Place::Down);
                adapters.forward(Place::Down, inner, added, low, &mut scratch);
                x.copy_from_slice(mid);
                add_rows(here, x, added, hidden);
            }
        }
        [buffers.low, buffers.dropped] = scratch;
    }

    /// Where an adapter's input times A is kept; none if nothing is.
    fn low_of<'s>(
        saved: &'s mut Option<&mut Saved>,
        again: &'s mut Option<&mut Saved>,
        place: Place,
    ) -> Option<&'s mut Vec<f32>> {
        let saved = saved.as_deref_mut().or(again.as_deref_mut())?;
        Some(&mut saved.low[place as usize])
    }
}

/// The adapters of a block.
pub(super) struct Adapters<'a> {
    pub engine: (
        &'a crate::train::trainable::Trainable,
        &'a Work<'a>,
        &'a Batch,
    ),
    pub here: (Isa, &'a Pool),
    pub layer: usize,
}

impl Adapters<'_> {
    /// The adapter of a map; none if it has none.
    pub fn of(&self, place: Place) -> Option<LowRank<'_>> {
        let (trainable, work, batch) = self.engine;
        Some(LowRank {
            isa: self.here.0,
            pool: self.here.1,
            slot: trainable.slot(self.layer, place)?,
            rank: trainable.rank,
            scale: trainable.scale,
            dropout: work.dropout,
            keys: &batch.keys,
        })
    }

    fn forward(
        &self,
        place: Place,
        x: &[f32],
        y: &mut [f32],
        low: Option<&mut Vec<f32>>,
        [own_low, dropped]: &mut [Vec<f32>; 2],
    ) {
        if let Some(adapter) = self.of(place) {
            let numbers = self.engine.1.numbers;
            adapter.forward(numbers, x, y, low.unwrap_or(own_low), dropped);
        }
    }

    /// Only the input times A.
    fn low(&self, place: Place, x: &[f32], low: &mut Vec<f32>, scratch: &mut [Vec<f32>; 2]) {
        if let Some(adapter) = self.of(place) {
            adapter.forward_low(self.engine.1.numbers, x, low, &mut scratch[1]);
        }
    }
}

/// inner = silu(gate) * up, or gelu(up). Shapes: (rows, ffn).
pub(super) fn activate(
    (isa, pool): (Isa, &Pool),
    spec: &DecoderSpec,
    gate: &[f32],
    up: &[f32],
    inner: &mut [f32],
) {
    let ffn = spec.ffn;
    ops::for_each_row(pool, inner, ffn, &|row, inner| {
        let at = row * ffn..(row + 1) * ffn;
        match gelu_of(spec.mlp) {
            None => ops::silu_mul(isa, &gate[at.clone()], &up[at], inner),
            Some(form) => ops::gelu(isa, form, &up[at], inner),
        }
    });
}

/// The form of gelu; none for SwiGLU.
pub(super) const fn gelu_of(mlp: Mlp) -> Option<ops::Gelu> {
    match mlp {
        Mlp::SwiGlu => None,
        Mlp::Gelu => Some(ops::Gelu::Erf),
        Mlp::GeluTanh => Some(ops::Gelu::Tanh),
    }
}

/// Layer norm of every head with its own weights, (heads, head_dim), in place.
fn norm_heads((isa, pool): (Isa, &Pool), spec: &DecoderSpec, weight: &[f32], x: &mut [f32]) {
    let dim = spec.head_dim;
    ops::for_each_row(pool, x, weight.len(), &|_, x| {
        let mut head = vec![0.0; dim];
        for (x, weight) in x.chunks_exact_mut(dim).zip(weight.chunks_exact(dim)) {
            ops::layer_norm(isa, x, weight, None, eps(spec), &mut head);
            x.copy_from_slice(&head);
        }
    });
}

fn add_own_bias((isa, pool): (Isa, &Pool), layer: &FrozenLayer<'_>, place: Place, y: &mut [f32]) {
    if let Some(bias) = &layer.linear(place).bias {
        add_bias(isa, pool, y, bias);
    }
}

/// y += x, (rows, width) both.
pub(super) fn add_rows((isa, pool): (Isa, &Pool), y: &mut [f32], x: &[f32], width: usize) {
    ops::for_each_row(pool, y, width, &|row, y| {
        ops::add(isa, y, &x[row * width..(row + 1) * width]);
    });
}
