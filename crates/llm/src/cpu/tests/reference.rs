//! The specification executed plainly in f64, position by position: the oracle of the tests beside.

use crate::spec::{DecoderSpec, DecoderTensors, Linear, Mlp, Norm, NormTensors, Pairing, Residual};

type Vector = Vec<f64>;

fn linear(map: &Linear<Vector>, x: &[f64]) -> Vector {
    let mut y = matrix(&map.weight, x);
    if let Some(bias) = &map.bias {
        y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
    y
}

fn matrix(weight: &[f64], x: &[f64]) -> Vector {
    weight
        .chunks_exact(x.len())
        .map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum())
        .collect()
}

fn layer_norm(x: &[f64], weight: &[f64], bias: Option<&Vector>, eps: f32) -> Vector {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(eps)).sqrt();
    (0..x.len())
        .map(|i| (x[i] - mean) * scale * weight[i] + bias.map_or(0.0, |b| b[i]))
        .collect()
}

fn norm(spec: &DecoderSpec, tensors: &NormTensors<Vector>, x: &[f64]) -> Vector {
    match spec.norm {
        Norm::Rms { eps } => {
            let square = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            let scale = 1.0 / (square + f64::from(eps)).sqrt();
            x.iter()
                .zip(&tensors.weight)
                .map(|(v, w)| v * scale * w)
                .collect()
        }
        Norm::Layer { eps } => layer_norm(x, &tensors.weight, tensors.bias.as_ref(), eps),
    }
}

fn rotate(spec: &DecoderSpec, x: &mut [f64], position: usize) {
    let dims = spec.rotary.dims;
    for head in x.chunks_exact_mut(spec.head_dim) {
        for i in 0..dims / 2 {
            let (a, b) = match spec.rotary.pairing {
                Pairing::Halves => (i, i + dims / 2),
                Pairing::Interleaved => (2 * i, 2 * i + 1),
            };
            let (s, c) = (position as f64 * f64::from(spec.rotary.frequencies[i])).sin_cos();
            (head[a], head[b]) = (head[a] * c - head[b] * s, head[a] * s + head[b] * c);
        }
    }
}

fn norm_heads(spec: &DecoderSpec, weight: Option<&Vector>, x: &mut Vector) {
    let (Norm::Rms { eps } | Norm::Layer { eps }) = spec.norm;
    if let Some(weight) = weight {
        let dim = spec.head_dim;
        let heads = x.chunks_exact(dim).zip(weight.chunks_exact(dim));
        *x = heads
            .flat_map(|(x, w)| layer_norm(x, w, None, eps))
            .collect();
    }
}

/// erf by its series, whose terms cancel to 1e-9 for |x| < 4; beyond, it differs from 1 by less than 2e-8.
fn erf(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn gelu(kind: Mlp, x: f64) -> f64 {
    let inner = match kind {
        Mlp::GeluTanh => ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh(),
        _ => erf(x * std::f64::consts::FRAC_1_SQRT_2),
    };
    0.5 * x * (1.0 + inner)
}

/// Logits of every position of one sequence.
pub(super) fn logits(
    spec: &DecoderSpec,
    tensors: &DecoderTensors<Vector>,
    tokens: &[u32],
) -> Vec<Vector> {
    let (dim, hidden, kv_width) = (spec.head_dim, spec.hidden, spec.kv_width());
    let group = spec.heads / spec.kv_heads;
    let mut caches = vec![(Vec::<Vector>::new(), Vec::<Vector>::new()); spec.layers];
    let mut all = Vec::new();
    for (position, &token) in tokens.iter().enumerate() {
        let mut x = tensors.embedding[token as usize * hidden..][..hidden].to_vec();
        for (layer, (keys, values)) in tensors.layers.iter().zip(&mut caches) {
            let normed = norm(spec, &layer.attention_norm, &x);
            let (mut q, mut k) = (linear(&layer.q, &normed), linear(&layer.k, &normed));
            norm_heads(spec, layer.q_norm.as_ref(), &mut q);
            norm_heads(spec, layer.k_norm.as_ref(), &mut k);
            rotate(spec, &mut q, position);
            rotate(spec, &mut k, position);
            assert_eq!(k.len(), kv_width);
            keys.push(k);
            values.push(linear(&layer.v, &normed));
            let mut attended = vec![0.0; q.len()];
            for head in 0..spec.heads {
                let kv = head / group * dim;
                let weights: Vector = keys
                    .iter()
                    .map(|k| {
                        let dot: f64 = (0..dim).map(|d| q[head * dim + d] * k[kv + d]).sum();
                        (dot / (dim as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                for (w, v) in weights.iter().zip(values.iter()) {
                    for d in 0..dim {
                        attended[head * dim + d] += w / total * v[kv + d];
                    }
                }
            }
            let attended = linear(&layer.o, &attended);
            let mlp_input = match spec.residual {
                Residual::Sequential => x.iter().zip(&attended).map(|(x, a)| x + a).collect(),
                Residual::Parallel => x.clone(),
            };
            let mlp_norm = layer.mlp_norm.as_ref().unwrap_or(&layer.attention_norm);
            let normed = norm(spec, mlp_norm, &mlp_input);
            let mut inner = linear(&layer.up, &normed);
            match &layer.gate {
                Some(gate) => {
                    for (u, g) in inner.iter_mut().zip(linear(gate, &normed)) {
                        *u *= g / (1.0 + (-g).exp());
                    }
                }
                None => inner.iter_mut().for_each(|u| *u = gelu(spec.mlp, *u)),
            }
            let down = linear(&layer.down, &inner);
            for i in 0..hidden {
                x[i] += attended[i] + down[i];
            }
        }
        let normed = norm(spec, &tensors.final_norm, &x);
        all.push(matrix(
            tensors.head.as_ref().unwrap_or(&tensors.embedding),
            &normed,
        ));
    }
    all
}
