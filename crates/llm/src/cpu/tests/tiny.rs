//! Tiny random decoders of every form, in any number format, and the same weights as f64.

use crate::spec::*;
use billion_kernels::{Format, dequantize, quantize};
use std::borrow::Cow;

/// A decoder: as views into a file would be, and as the reference reads it.
pub(super) struct Tiny {
    pub name: &'static str,
    pub spec: DecoderSpec,
    pub views: DecoderTensors<TensorView<'static>>,
    pub exact: DecoderTensors<Vec<f64>>,
}

/// What a form differs in.
#[allow(
    clippy::struct_excessive_bools,
    reason = "a table of what each model has"
)]
struct Form {
    norm: Norm,
    rotary_dims: usize,
    pairing: Pairing,
    kv_heads: usize,
    residual: Residual,
    mlp: Mlp,
    tied: bool,
    qkv_bias: bool,
    other_bias: bool,
    qk_norm: bool,
    mlp_norm: bool,
}

const LLAMA: Form = Form {
    norm: Norm::Rms { eps: 1e-5 },
    rotary_dims: 16,
    pairing: Pairing::Halves,
    kv_heads: 2,
    residual: Residual::Sequential,
    mlp: Mlp::SwiGlu,
    tied: true,
    qkv_bias: false,
    other_bias: false,
    qk_norm: false,
    mlp_norm: true,
};

const FORMS: [(&str, Form); 5] = [
    ("llama, tied", LLAMA),
    (
        "llama from gguf, untied",
        Form {
            pairing: Pairing::Interleaved,
            tied: false,
            ..LLAMA
        },
    ),
    (
        "stablelm 2 1.6b",
        Form {
            norm: Norm::Layer { eps: 1e-5 },
            rotary_dims: 4,
            kv_heads: 4,
            tied: false,
            qkv_bias: true,
            ..LLAMA
        },
    ),
    (
        "stablelm 2 12b",
        Form {
            norm: Norm::Layer { eps: 1e-5 },
            rotary_dims: 4,
            residual: Residual::Parallel,
            tied: false,
            qk_norm: true,
            mlp_norm: false,
            ..LLAMA
        },
    ),
    (
        "gpt-neox",
        Form {
            norm: Norm::Layer { eps: 1e-5 },
            rotary_dims: 4,
            kv_heads: 4,
            residual: Residual::Parallel,
            mlp: Mlp::Gelu,
            tied: false,
            qkv_bias: true,
            other_bias: true,
            ..LLAMA
        },
    ),
];

/// Every form with matrices in `format`; widths are multiples of 64 for blocks of 32, of 256 for K-quants.
pub(super) fn every_form(format: Format) -> Vec<Tiny> {
    FORMS
        .iter()
        .map(|(name, form)| build(name, form, format))
        .collect()
}

struct Maker {
    state: u64,
    format: Format,
}

impl Maker {
    /// Uniform numbers of variance `scale^2`.
    fn noise(&mut self, n: usize, scale: f32, around: f32) -> Vec<f32> {
        (0..n)
            .map(|_| {
                self.state ^= self.state << 13;
                self.state ^= self.state >> 7;
                self.state ^= self.state << 17;
                let unit = (self.state >> 40) as f32 / (1 << 23) as f32 - 1.0;
                around + unit * scale * 1.732
            })
            .collect()
    }

    fn tensor(format: Format, shape: &[usize], values: &[f32]) -> (TensorView<'static>, Vec<f64>) {
        let row = *shape.last().unwrap();
        let bytes = format.row_bytes(row).unwrap() * (values.len() / row);
        let mut stored = vec![0; bytes];
        quantize(format, values, &mut stored);
        let mut exact = vec![0.0; values.len()];
        dequantize(format, &stored, &mut exact);
        let view = TensorView {
            name: format!("tensor {shape:?}"),
            format,
            shape: shape.to_vec(),
            bytes: Cow::Owned(stored),
            rows: None,
        };
        (view, exact.into_iter().map(f64::from).collect())
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> (TensorView<'static>, Vec<f64>) {
        let values = self.noise(rows * cols, 1.0 / (cols as f32).sqrt(), 0.0);
        Self::tensor(self.format, &[rows, cols], &values)
    }

    fn vector(&mut self, n: usize, scale: f32, around: f32) -> (TensorView<'static>, Vec<f64>) {
        let values = self.noise(n, scale, around);
        Self::tensor(Format::F32, &[n], &values)
    }

    fn linear(
        &mut self,
        rows: usize,
        cols: usize,
        bias: bool,
    ) -> (Linear<TensorView<'static>>, Linear<Vec<f64>>) {
        let (weight, exact) = self.matrix(rows, cols);
        let (bias, exact_bias) = bias.then(|| self.vector(rows, 0.3, 0.0)).unzip();
        (
            Linear { weight, bias },
            Linear {
                weight: exact,
                bias: exact_bias,
            },
        )
    }

    fn norm(
        &mut self,
        n: usize,
        bias: bool,
    ) -> (NormTensors<TensorView<'static>>, NormTensors<Vec<f64>>) {
        let (weight, exact) = self.vector(n, 0.2, 1.0);
        let (bias, exact_bias) = bias.then(|| self.vector(n, 0.2, 0.0)).unzip();
        (
            NormTensors { weight, bias },
            NormTensors {
                weight: exact,
                bias: exact_bias,
            },
        )
    }
}

fn build(name: &'static str, form: &Form, format: Format) -> Tiny {
    let wide = if format.block_elems() == 256 { 4 } else { 1 };
    let (hidden, ffn, layers, heads, head_dim, vocab_size) =
        (64 * wide, 128 * wide, 2, 4, 16 * wide, 97);
    let (q, kv) = (heads * head_dim, form.kv_heads * head_dim);
    let rotary_dims = form.rotary_dims * wide;
    let frequencies = (0..rotary_dims / 2)
        .map(|i| 10000_f32.powf(-2.0 * i as f32 / rotary_dims as f32))
        .collect();
    let spec = DecoderSpec {
        architecture: name.to_owned(),
        vocab_size,
        hidden,
        layers,
        heads,
        kv_heads: form.kv_heads,
        head_dim,
        ffn,
        context_len: 1000,
        norm: form.norm,
        rotary: Rotary {
            dims: rotary_dims,
            pairing: form.pairing,
            frequencies,
        },
        qk_norm: form.qk_norm,
        residual: form.residual,
        mlp: form.mlp,
        tied_head: form.tied,
    };
    let mut maker = Maker {
        state: 0x2545_f491_4f6c_dd1d,
        format,
    };
    let norm_bias = matches!(form.norm, Norm::Layer { .. });
    // An embedding of size 1, so that the blocks' outputs matter beside it.
    let values = maker.noise(vocab_size * hidden, 1.0, 0.0);
    let (embedding, exact_embedding) = Maker::tensor(format, &[vocab_size, hidden], &values);
    let mut blocks = Vec::new();
    let mut exact_blocks = Vec::new();
    for _ in 0..layers {
        let attention_norm = maker.norm(hidden, norm_bias);
        let q_map = maker.linear(q, hidden, form.qkv_bias);
        let k_map = maker.linear(kv, hidden, form.qkv_bias);
        let v_map = maker.linear(kv, hidden, form.qkv_bias);
        let o = maker.linear(hidden, q, form.other_bias);
        let (q_norm, exact_q_norm) = form.qk_norm.then(|| maker.vector(q, 0.2, 1.0)).unzip();
        let (k_norm, exact_k_norm) = form.qk_norm.then(|| maker.vector(kv, 0.2, 1.0)).unzip();
        let (mlp_norm, exact_mlp_norm) =
            form.mlp_norm.then(|| maker.norm(hidden, norm_bias)).unzip();
        let gated = form.mlp == Mlp::SwiGlu;
        let (gate, exact_gate) = gated
            .then(|| maker.linear(ffn, hidden, form.other_bias))
            .unzip();
        let up = maker.linear(ffn, hidden, form.other_bias);
        let down = maker.linear(hidden, ffn, form.other_bias);
        blocks.push(LayerTensors {
            attention_norm: attention_norm.0,
            q: q_map.0,
            k: k_map.0,
            v: v_map.0,
            o: o.0,
            q_norm,
            k_norm,
            mlp_norm,
            gate,
            up: up.0,
            down: down.0,
        });
        exact_blocks.push(LayerTensors {
            attention_norm: attention_norm.1,
            q: q_map.1,
            k: k_map.1,
            v: v_map.1,
            o: o.1,
            q_norm: exact_q_norm,
            k_norm: exact_k_norm,
            mlp_norm: exact_mlp_norm,
            gate: exact_gate,
            up: up.1,
            down: down.1,
        });
    }
    let final_norm = maker.norm(hidden, norm_bias);
    let (head, exact_head) = (!form.tied)
        .then(|| maker.matrix(vocab_size, hidden))
        .unzip();
    Tiny {
        name,
        spec,
        views: DecoderTensors {
            embedding,
            layers: blocks,
            final_norm: final_norm.0,
            head,
        },
        exact: DecoderTensors {
            embedding: exact_embedding,
            layers: exact_blocks,
            final_norm: final_norm.1,
            head: exact_head,
        },
    }
}

/// Pseudo-random tokens.
pub(super) fn tokens(seed: u32, n: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % 97
        })
        .collect()
}
