//! Every operation on every instruction set against f64, over all tail lengths.

use super::*;
use crate::Pool;

/// f32 arithmetic on values of size 1: some tens of roundings.
const TOLERANCE: f64 = 2e-6;
/// The error function's polynomial alone is off by up to 1.5e-7; inputs reach 8.
const GELU_TOLERANCE: f64 = 3e-6;

fn noise(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * scale
        })
        .collect()
}

fn assert_close(what: &str, isa: Isa, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (*g as f64 - w).abs() / w.abs().max(1.0);
        assert!(
            error < tolerance,
            "{what} on {} at {i} of {}: {g} for {w}",
            isa.name(),
            got.len()
        );
    }
}

#[test]
fn norms_match_f64() {
    for isa in Isa::available() {
        println!("norms on {}", isa.name());
        for n in (1..=70).chain([576, 2048]) {
            let x: Vec<f32> = noise(n as u64, n, 3.0).iter().map(|v| v + 5.0).collect();
            let (weight, bias) = (noise(7, n, 1.0), noise(8, n, 1.0));
            let wide: Vec<f64> = x.iter().map(|v| *v as f64).collect();
            let mut out = vec![0.0; n];

            rms_norm(isa, &x, &weight, 1e-5, &mut out);
            let square = wide.iter().map(|v| v * v).sum::<f64>() / n as f64;
            let scale = 1.0 / (square + 1e-5).sqrt();
            let want: Vec<f64> = wide
                .iter()
                .zip(&weight)
                .map(|(v, w)| v * scale * *w as f64)
                .collect();
            assert_close("rms_norm", isa, &out, &want, TOLERANCE);

            let mean = wide.iter().sum::<f64>() / n as f64;
            let variance = wide.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n as f64;
            let scale = 1.0 / (variance + 1e-5).sqrt();
            let plain: Vec<f64> = wide
                .iter()
                .zip(&weight)
                .map(|(v, w)| (v - mean) * scale * *w as f64)
                .collect();
            if n > 2 {
                layer_norm(isa, &x, &weight, None, 1e-5, &mut out);
                assert_close("layer_norm", isa, &out, &plain, 10.0 * TOLERANCE);
                layer_norm(isa, &x, &weight, Some(&bias), 1e-5, &mut out);
                let want: Vec<f64> = plain
                    .iter()
                    .zip(&bias)
                    .map(|(v, b)| v + *b as f64)
                    .collect();
                assert_close("layer_norm with bias", isa, &out, &want, 10.0 * TOLERANCE);
            }
        }
    }
}

#[test]
fn low_rank_products_match_f64() {
    for isa in Isa::available() {
        println!("low-rank products on {}", isa.name());
        for (cols, out) in (1..=70).zip((1..=70).rev()).chain([(576, 1536)]) {
            for rank in [0, 1, 3, 64, 67, 130] {
                let x = noise(cols as u64, cols, 1.0);
                let a = noise(3, rank * cols, 0.1);
                let b = noise(4, rank * out, 0.1);
                let start = noise(5, out, 1.0);
                let mut y = start.clone();
                add_low_rank(isa, &x, (&a, &b), 0.5, &mut y);
                let mut want: Vec<f64> = start.iter().map(|v| *v as f64).collect();
                for (a, b) in a.chunks(cols).zip(b.chunks(out)) {
                    let products = a.iter().zip(&x).map(|(a, x)| *a as f64 * *x as f64);
                    let inner = 0.5 * products.sum::<f64>();
                    for (want, b) in want.iter_mut().zip(b) {
                        *want += inner * *b as f64;
                    }
                }
                assert_close("add_low_rank", isa, &y, &want, TOLERANCE);
            }
        }
    }
}

/// erf by its series, whose terms cancel to 1e-9 for |x| < 4; beyond, it differs from 1 by less than 2e-8.
fn erf_f64(x: f64) -> f64 {
    if x.abs() > 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn activations_match_f64() {
    for isa in Isa::available() {
        println!("activations on {}", isa.name());
        for n in (1..=40).chain([1536]) {
            let (mut x, up) = (noise(n as u64, n, 8.0), noise(9, n, 1.0));
            x[0] = 0.0;
            let wide = x.iter().map(|v| *v as f64);
            let mut out = vec![0.0; n];

            silu_mul(isa, &x, &up, &mut out);
            let want: Vec<f64> = wide
                .clone()
                .zip(&up)
                .map(|(g, u)| g / (1.0 + (-g).exp()) * *u as f64)
                .collect();
            assert_close("silu_mul", isa, &out, &want, TOLERANCE);

            gelu(isa, Gelu::Erf, &x, &mut out);
            let want: Vec<f64> = wide
                .clone()
                .map(|v| 0.5 * v * (1.0 + erf_f64(v * std::f64::consts::FRAC_1_SQRT_2)))
                .collect();
            assert_close("gelu by erf", isa, &out, &want, GELU_TOLERANCE);

            gelu(isa, Gelu::Tanh, &x, &mut out);
            let want: Vec<f64> = wide
                .map(|v| {
                    let u = (2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v);
                    0.5 * v * (1.0 + u.tanh())
                })
                .collect();
            assert_close("gelu by tanh", isa, &out, &want, GELU_TOLERANCE);

            add(isa, &mut x, &up);
            for ((sum, x), up) in x.iter().zip(noise(n as u64, n, 8.0)).zip(&up).skip(1) {
                assert_eq!(*sum, x + up);
            }
        }
    }
}

#[test]
fn extreme_inputs_stay_finite() {
    for isa in Isa::available() {
        let x = [-1e30, -200.0, -90.0, 90.0, 200.0, 1e18];
        let mut out = [0.0; 6];
        silu_mul(isa, &x, &[1.0; 6], &mut out);
        assert!(out.iter().all(|v| v.is_finite()), "silu {out:?}");
        assert!(out[1].abs() < 1e-30 && out[4] == 200.0);
        for form in [Gelu::Erf, Gelu::Tanh] {
            gelu(isa, form, &x[1..5], &mut out[1..5]);
            assert!(out[1].abs() < 1e-6 && out[4] == 200.0, "{form:?} {out:?}");
        }
    }
}

#[test]
fn rope_turns_pairs() {
    for isa in Isa::available() {
        println!("rope on {}", isa.name());
        for (head_dim, dims) in [(64, 64), (80, 20), (6, 4), (128, 128), (34, 34)] {
            for pairing in [Pairing::Halves, Pairing::Interleaved] {
                let x = noise(3, 3 * head_dim, 1.0);
                let angles = noise(4, dims / 2, 3.0);
                let (sin, cos): (Vec<f32>, Vec<f32>) = angles.iter().map(|a| a.sin_cos()).unzip();
                let mut got = x.clone();
                rope(isa, &mut got, head_dim, pairing, (&cos, &sin));
                let mut want: Vec<f64> = x.iter().map(|v| *v as f64).collect();
                for head in 0..3 {
                    for i in 0..dims / 2 {
                        let (a, b) = match pairing {
                            Pairing::Halves => (i, i + dims / 2),
                            Pairing::Interleaved => (2 * i, 2 * i + 1),
                        };
                        let (a, b) = (head * head_dim + a, head * head_dim + b);
                        let (c, s) = (cos[i] as f64, sin[i] as f64);
                        (want[a], want[b]) = (want[a] * c - want[b] * s, want[a] * s + want[b] * c);
                    }
                }
                assert_close("rope", isa, &got, &want, TOLERANCE);
            }
        }
    }
}

#[test]
fn rows_and_items_are_visited_once() {
    for threads in [1, 3] {
        let pool = Pool::new(threads);
        for (rows, width) in [(0, 4), (1, 7), (5, 3), (100, 500)] {
            let (mut a, mut b) = (vec![0.0; rows * width], vec![0.0; rows * 2]);
            for_each_row_pair(&pool, (&mut a, width), (&mut b, 2), &|row, a, b| {
                a.iter_mut().for_each(|v| *v += row as f32 + 1.0);
                b.iter_mut().for_each(|v| *v -= row as f32);
            });
            assert!(
                a.iter()
                    .enumerate()
                    .all(|(i, v)| *v == (i / width) as f32 + 1.0)
            );
            assert!(b.iter().enumerate().all(|(i, v)| *v == -((i / 2) as f32)));
            let mut items: Vec<usize> = vec![0; rows];
            for_each(&pool, &mut items, &|i, item| *item += i + 1);
            assert!(items.iter().enumerate().all(|(i, v)| *v == i + 1));
        }
    }
}
