//! The backward pass: from the gradient of the residual stream down to the lowest block that has an adapter.
//!
//! Frozen weights get no gradient; below the lowest adapter nothing is computed.

use billion_kernels::training::{
    attention_backward, backward, gelu_backward, layer_norm_backward, silu_mul_backward,
};
use billion_kernels::{Isa, Pool, ops};
use billion_llm::spec::{DecoderSpec, Mlp, Residual};

use super::forward::{Adapters, activate, add_rows, gelu_of};
use super::{ATTENTION_INPUTS, Batch, CpuEngine, Normalizer, eps, rotate, shaped};
use crate::train::engine::Work;
use crate::train::frozen::Place;

impl CpuEngine<'_> {
    /// From `buffers.d` after the last block; adds to `gradients`.
    pub(super) fn backward(&mut self, batch: &Batch, work: &Work<'_>, gradients: &mut [f32]) {
        for index in (0..self.spec.layers).rev() {
            self.block_backward(index, batch, work, gradients);
            self.release();
        }
    }

    /// Brings a block's buffers back: what it kept, or by running it again.
    fn restore(&mut self, index: usize, batch: &Batch, work: &Work<'_>) {
        let (rows, spec) = (batch.rows(), self.spec);
        let (hidden, qw, kw, ffn) = (spec.hidden, spec.q_width(), spec.kv_width(), spec.ffn);
        let rounded = self.arithmetic.is_bf16();
        let isa = self.isa();
        let here = (isa, &self.pool);
        let (saved, buffers) = (&self.saved[index], &mut self.buffers);
        saved
            .x
            .take(here, shaped(&mut buffers.x, rows * hidden), rounded);
        if self.recompute {
            let mut saved = std::mem::take(&mut self.saved[index]);
            self.block(index, batch, work, None, Some(&mut saved));
            self.saved[index] = saved;
            return;
        }
        let back = |kept: &super::saved::Kept, buffer: &mut Vec<f32>, width: usize| {
            kept.take(here, shaped(buffer, rows * width), rounded);
        };
        back(&saved.q, &mut buffers.q, qw);
        back(&saved.k, &mut buffers.k, kw);
        back(&saved.v, &mut buffers.v, kw);
        back(&saved.attended, &mut buffers.attended, qw);
        back(&saved.up, &mut buffers.up, ffn);
        if spec.mlp == Mlp::SwiGlu {
            back(&saved.gate, &mut buffers.gate, ffn);
        }
        if spec.residual == Residual::Sequential {
            back(&saved.mid, &mut buffers.mid, hidden);
        }
        shaped(&mut buffers.sums, rows * spec.heads).copy_from_slice(&saved.sums);
    }

    fn block_backward(
        &mut self,
        index: usize,
        batch: &Batch,
        work: &Work<'_>,
        gradients: &mut [f32],
    ) {
        self.restore(index, batch, work);
        let (rows, spec) = (batch.rows(), self.spec);
        let layer = &self.frozen.layers[index];
        let here = (self.arithmetic.isa(), &self.pool);
        let (isa, pool) = here;
        let (hidden, qw, kw, ffn) = (spec.hidden, spec.q_width(), spec.kv_width(), spec.ffn);
        let (sequential, gated) = (
            spec.residual == Residual::Sequential,
            spec.mlp == Mlp::SwiGlu,
        );
        let adapters = Adapters {
            engine: (self.trainable, work, batch),
            here,
            layer: index,
        };
        let saved = &self.saved[index];
        let buffers = &mut self.buffers;
        let mut scratch = [
            std::mem::take(&mut buffers.low),
            std::mem::take(&mut buffers.dropped),
        ];
        let mut learn = |place: Place, x: &[f32], dy: &[f32], dx: Option<&mut [f32]>| {
            if let Some(adapter) = adapters.of(place) {
                let [d_low, dropped] = &mut scratch;
                adapter.backward(
                    (work.numbers, &mut *gradients),
                    (x, &saved.low[place as usize], dy),
                    dx,
                    (d_low, dropped),
                );
            }
        };

        let x = &buffers.x[..rows * hidden];
        let d = &mut buffers.d[..rows * hidden];
        let (up, gate) = (
            &mut buffers.up[..rows * ffn],
            &mut buffers.gate[..if gated { rows * ffn } else { 0 }],
        );

        // Down: `inner` becomes the gradient of the activation's result.
        buffers.packed[0].pack(self.arithmetic, pool, d, hidden);
        let inner = shaped(&mut buffers.inner, rows * ffn);
        let down = &layer.linear(Place::Down).weight;
        let d_inner = shaped(&mut buffers.d_mlp_normed, rows * ffn);
        backward(
            self.arithmetic,
            pool,
            &[(&buffers.packed[0], down)],
            d_inner,
            false,
        );
        if adapters.of(Place::Down).is_some() {
            activate(here, spec, gate, up, inner);
            learn(Place::Down, inner, d, Some(&mut *d_inner));
        }
        // Activation: gate and up become their gradients.
        activation_backward(here, spec, gate, up, d_inner);
        let normed = shaped(&mut buffers.normed, rows * hidden);
        let own_norm = layer.mlp_norm.as_ref();
        let mlp_norm = own_norm.unwrap_or(&layer.attention_norm);
        let mlp_norm = Normalizer::new(isa, spec.norm, mlp_norm);
        let mlp_input = if sequential {
            &buffers.mid[..rows * hidden]
        } else {
            x
        };
        let d_mlp_normed = shaped(&mut buffers.d_mlp_normed, rows * hidden);
        let up_map = &layer.linear(Place::Up).weight;
        buffers.packed[1].pack(self.arithmetic, pool, up, ffn);
        if gated {
            let gate_map = &layer.linear(Place::Gate).weight;
            buffers.packed[2].pack(self.arithmetic, pool, gate, ffn);
            let inputs = [(&buffers.packed[2], gate_map), (&buffers.packed[1], up_map)];
            backward(self.arithmetic, pool, &inputs, d_mlp_normed, false);
        } else {
            backward(
                self.arithmetic,
                pool,
                &[(&buffers.packed[1], up_map)],
                d_mlp_normed,
                false,
            );
        }
        if adapters.of(Place::Gate).is_some() || adapters.of(Place::Up).is_some() {
            mlp_norm.forward(pool, mlp_input, normed);
            learn(Place::Gate, normed, gate, Some(&mut *d_mlp_normed));
            learn(Place::Up, normed, up, Some(&mut *d_mlp_normed));
        }
        if sequential {
            mlp_norm.backward(pool, mlp_input, d_mlp_normed, d);
        }

        // Attention's output map; `d` is the gradient of what attention adds.
        if sequential {
            buffers.packed[0].pack(self.arithmetic, pool, d, hidden);
        }
        let d_attended = shaped(&mut buffers.d_attended, rows * qw);
        let o = &layer.linear(Place::O).weight;
        backward(
            self.arithmetic,
            pool,
            &[(&buffers.packed[0], o)],
            d_attended,
            false,
        );
        let attended = &buffers.attended[..rows * qw];
        learn(Place::O, attended, d, Some(&mut *d_attended));
        let dq = shaped(&mut buffers.dq, rows * qw);
        let dk = shaped(&mut buffers.dk, rows * kw);
        let dv = shaped(&mut buffers.dv, rows * kw);
        let shape = billion_kernels::training::HeadShape {
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
        };
        attention_backward(
            isa,
            pool,
            shape,
            &batch.sequences,
            (
                &buffers.q[..rows * qw],
                &buffers.k[..rows * kw],
                &buffers.v[..rows * kw],
            ),
            (attended, &buffers.sums[..rows * spec.heads], d_attended),
            (&mut *dq, &mut *dk, &mut *dv),
        );
        let tables = (&buffers.cos[..], &buffers.sin[..]);
        rotate((isa, pool, spec), dq, qw, tables, true);
        rotate((isa, pool, spec), dk, kw, tables, true);
        if let (Some(q_norm), Some(k_norm)) = (&layer.q_norm, &layer.k_norm) {
            let rounded = self.arithmetic.is_bf16();
            let q_raw = shaped(&mut buffers.q, rows * qw);
            saved.q_raw.take(here, q_raw, rounded);
            heads_backward(here, spec, q_norm, q_raw, dq);
            let k_raw = shaped(&mut buffers.k, rows * kw);
            saved.k_raw.take(here, k_raw, rounded);
            heads_backward(here, spec, k_norm, k_raw, dk);
        }

        // The lowest block's input needs no gradient: the embedding is frozen.
        let lowest = index == 0;
        let d_normed = shaped(&mut buffers.d_normed, rows * hidden);
        if !lowest {
            for (packed, dy) in buffers.packed.iter_mut().zip([&*dq, &*dk, &*dv]) {
                packed.pack(self.arithmetic, pool, dy, dy.len() / rows);
            }
            let [pq, pk, pv] = &buffers.packed;
            let inputs = [
                (pq, &layer.linear(Place::Q).weight),
                (pk, &layer.linear(Place::K).weight),
                (pv, &layer.linear(Place::V).weight),
            ];
            backward(self.arithmetic, pool, &inputs, d_normed, false);
        }
        let norm = Normalizer::new(isa, spec.norm, &layer.attention_norm);
        if ATTENTION_INPUTS
            .iter()
            .any(|place| adapters.of(*place).is_some())
        {
            norm.forward(pool, x, normed);
            for (place, dy) in ATTENTION_INPUTS.into_iter().zip([&*dq, &*dk, &*dv]) {
                let dx = (!lowest).then_some(&mut *d_normed);
                learn(place, normed, dy, dx);
            }
        }
        if !lowest {
            if !sequential {
                if own_norm.is_some() {
                    mlp_norm.backward(pool, x, d_mlp_normed, d);
                } else {
                    add_rows(here, d_normed, d_mlp_normed, hidden);
                }
            }
            norm.backward(pool, x, d_normed, d);
        }
        [buffers.low, buffers.dropped] = scratch;
    }
}

/// Gradients of the MLP's activation for the gradient `d_inner` of its result, written over `gate` and `up`, (rows, ffn) all.
fn activation_backward(
    (isa, pool): (Isa, &Pool),
    spec: &DecoderSpec,
    gate: &mut [f32],
    up: &mut [f32],
    d_inner: &[f32],
) {
    let ffn = spec.ffn;
    let of_row = |row: usize| &d_inner[row * ffn..(row + 1) * ffn];
    match gelu_of(spec.mlp) {
        None => ops::for_each_row_pair(pool, (gate, ffn), (up, ffn), &|row, gate, up| {
            silu_mul_backward(isa, gate, up, of_row(row));
        }),
        Some(form) => ops::for_each_row(pool, up, ffn, &|row, up| {
            gelu_backward(isa, form, up, of_row(row));
        }),
    }
}

/// Gradients through the norm of every head: `dy`, (rows, heads * head_dim), becomes the gradient of `x`.
fn heads_backward(
    (isa, pool): (Isa, &Pool),
    spec: &DecoderSpec,
    weight: &[f32],
    x: &[f32],
    dy: &mut [f32],
) {
    let (dim, width) = (spec.head_dim, weight.len());
    ops::for_each_row(pool, dy, width, &|row, dy| {
        let x = &x[row * width..(row + 1) * width];
        let mut dx = vec![0.0; dim];
        let heads = x.chunks_exact(dim).zip(weight.chunks_exact(dim));
        for (dy, (x, weight)) in dy.chunks_exact_mut(dim).zip(heads) {
            dx.fill(0.0);
            layer_norm_backward(isa, x, weight, eps(spec), dy, &mut dx);
            dy.copy_from_slice(&dx);
        }
    });
}
