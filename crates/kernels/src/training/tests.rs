//! Every kernel of training that this CPU has against plain arithmetic in f64: all formats, all tails; gradients against
//! differences.

use super::*;
use crate::ops::{self, Gelu};
use crate::{Format, Isa, Pool, dequantize, quantize};

/// Two orders of summing the same f32 terms, relative to the sum of their magnitudes.
const SUM_TOLERANCE: f64 = 2e-6;

/// Both operands rounded to the 8 bits of bf16, so 2^-8 each at most, relative to the sum of magnitudes.
const BF16_TOLERANCE: f64 = 7.9e-3;

/// A central difference with f32 functions and steps of 1e-2, relative to the gradient's size.
const DIFFERENCE_TOLERANCE: f64 = 2e-3;

fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
        })
        .collect()
}

/// Stored bytes of random weights and what they are worth.
fn weights(format: Format, rows: usize, cols: usize) -> (Vec<u8>, Vec<f32>) {
    let w = numbers((rows * 31 + cols) as u64, rows * cols);
    let mut bytes = vec![0; format.row_bytes(cols).unwrap() * rows];
    quantize(format, &w, &mut bytes);
    let mut exact = vec![0.0; rows * cols];
    dequantize(format, &bytes, &mut exact);
    (bytes, exact)
}

fn every_arithmetic() -> Vec<Arithmetic> {
    let all: Vec<Arithmetic> = Isa::available()
        .into_iter()
        .flat_map(Arithmetic::available)
        .collect();
    println!(
        "arithmetic: {:?}",
        all.iter().map(|a| a.name()).collect::<Vec<_>>()
    );
    all
}

fn close(arithmetic: Arithmetic, found: f32, terms: impl Iterator<Item = f64>, what: &str) {
    let (mut sum, mut size) = (0.0, 0.0);
    for term in terms {
        sum += term;
        size += term.abs();
    }
    let tolerance = if arithmetic.is_bf16() {
        BF16_TOLERANCE
    } else {
        SUM_TOLERANCE
    };
    let error = (f64::from(found) - sum).abs();
    assert!(
        error <= tolerance * size + 1e-30,
        "{what} by {}: {found}, expected {sum}",
        arithmetic.name()
    );
}

#[test]
fn products_agree_with_plain_arithmetic_in_both_directions() {
    let pool = Pool::new(2);
    let arithmetics = every_arithmetic();
    for format in Format::ALL {
        let shapes: &[(usize, usize)] = match format.block_elems() {
            256 => &[(65, 256), (7, 768)],
            32 => &[(65, 96), (600, 32), (33, 544)],
            _ => &[(65, 33), (1, 7), (130, 600)],
        };
        for &(outs, ins) in shapes {
            let (bytes, w) = weights(format, outs, ins);
            let stored = Stored::new(format, (outs, ins), &bytes, None).unwrap();
            for rows in [1, 6, 13] {
                let (x, dy) = (numbers(3, rows * ins), numbers(5, rows * outs));
                for &arithmetic in &arithmetics {
                    let mut packed = PackedRows::new();
                    packed.pack(arithmetic, &pool, &x, ins);
                    let mut y = vec![f32::NAN; rows * outs];
                    forward(arithmetic, &pool, &packed, &mut [(&stored, &mut y)]);
                    for (i, y) in y.iter().enumerate() {
                        let (r, o) = (i / outs, i % outs);
                        let terms =
                            (0..ins).map(|k| f64::from(x[r * ins + k]) * f64::from(w[o * ins + k]));
                        close(arithmetic, *y, terms, &format!("{format} y({r}, {o})"));
                    }
                    packed.pack(arithmetic, &pool, &dy, outs);
                    let mut dx = vec![f32::NAN; rows * ins];
                    backward(arithmetic, &pool, &[(&packed, &stored)], &mut dx, false);
                    let first = dx.clone();
                    for (i, dx) in dx.iter().enumerate() {
                        let (r, c) = (i / ins, i % ins);
                        let terms = (0..outs)
                            .map(|k| f64::from(dy[r * outs + k]) * f64::from(w[k * ins + c]));
                        close(arithmetic, *dx, terms, &format!("{format} dx({r}, {c})"));
                    }
                    // Twice the same input, added to itself.
                    let twice = [(&packed, &stored), (&packed, &stored)];
                    backward(arithmetic, &pool, &twice, &mut dx, true);
                    for (dx, first) in dx.iter().zip(&first) {
                        assert!((dx - 3.0 * first).abs() <= 1e-4 * (1.0 + first.abs() * 3.0));
                    }
                }
            }
        }
    }
}

#[test]
fn bf16_agrees_with_its_twin_and_no_result_depends_on_threads() {
    for arithmetic in every_arithmetic() {
        let (outs, ins, rows) = (200, 1056, 50);
        let (bytes, _) = weights(Format::Q4_0, outs, ins);
        let stored = Stored::new(Format::Q4_0, (outs, ins), &bytes, None).unwrap();
        let (x, dy) = (numbers(1, rows * ins), numbers(2, rows * outs));
        let run = |arithmetic, threads| {
            let pool = Pool::new(threads);
            let mut packed = PackedRows::new();
            packed.pack(arithmetic, &pool, &x, ins);
            let (mut y, mut dx) = (vec![0.0; rows * outs], vec![0.0; rows * ins]);
            forward(arithmetic, &pool, &packed, &mut [(&stored, &mut y)]);
            packed.pack(arithmetic, &pool, &dy, outs);
            backward(arithmetic, &pool, &[(&packed, &stored)], &mut dx, false);
            (y, dx)
        };
        let one = run(arithmetic, 1);
        // With eight, narrow strips take the place of wide ones.
        for threads in [2, 3, 8] {
            assert!(one == run(arithmetic, threads), "{}", arithmetic.name());
        }
        if arithmetic.is_bf16() {
            let plain = Arithmetic::available(Isa::scalar())[1];
            assert!(plain.is_bf16());
            let twin = run(plain, 1);
            let pairs = one.0.iter().zip(&twin.0).chain(one.1.iter().zip(&twin.1));
            for (found, expected) in pairs {
                assert!((found - expected).abs() < 1e-4, "{found}, twin {expected}");
            }
        }
    }
}

#[test]
fn rows_of_a_fused_matrix_are_read_in_place() {
    let pool = Pool::new(1);
    let (bytes, w) = weights(Format::Q8_0, 24, 64);
    // Two heads of 12 rows: queries, keys and values of 4 rows each.
    let groups = Groups {
        first: 4,
        len: 4,
        stride: 12,
    };
    let keys = Stored::new(Format::Q8_0, (8, 64), &bytes, Some(groups)).unwrap();
    let rows: Vec<f32> = [4..8, 16..20]
        .into_iter()
        .flat_map(|rows| w[rows.start * 64..rows.end * 64].to_vec())
        .collect();
    let mut row = vec![0.0; 64];
    for r in 0..8 {
        keys.row(r, &mut row);
        assert_eq!(row, rows[r * 64..(r + 1) * 64]);
    }
    let arithmetic = Arithmetic::choose(Isa::detect(), true);
    let x = numbers(8, 64);
    let mut packed = PackedRows::new();
    packed.pack(arithmetic, &pool, &x, 64);
    let mut y = vec![0.0; 8];
    forward(arithmetic, &pool, &packed, &mut [(&keys, &mut y)]);
    for (o, y) in y.iter().enumerate() {
        let terms = (0..64).map(|k| f64::from(x[k]) * f64::from(rows[o * 64 + k]));
        close(arithmetic, *y, terms, "fused");
    }
    let beyond = Groups {
        first: 12,
        ..groups
    };
    assert!(Stored::new(Format::Q8_0, (8, 64), &bytes, Some(beyond)).is_err());
    assert!(Stored::new(Format::Q8_0, (8, 64), &bytes, None).is_err());
    let none = Groups { len: 0, ..groups };
    assert!(Stored::new(Format::Q8_0, (8, 64), &bytes, Some(none)).is_err());
    assert!(Stored::new(Format::Q8_0, (usize::MAX, 64), &bytes, None).is_err());
}

#[test]
fn dense_products_of_any_strides() {
    let pool = Pool::new(2);
    for isa in Isa::available() {
        for (m, n, k) in [
            (1, 1, 1),
            (7, 5, 3),
            (13, 70, 9),
            (100, 33, 64),
            (6, 130, 0),
        ] {
            for turned in [false, true] {
                let a = numbers(1, m * k + 3);
                let b = numbers(2, k * (n + 2) + n);
                let mut c = numbers(3, m * (n + 1));
                let before = c.clone();
                let (row, col) = if turned { (1, m) } else { (k, 1) };
                dense(
                    isa,
                    &pool,
                    Dense {
                        shape: (m, n, k),
                        left: Left { data: &a, row, col },
                        right: &b,
                        right_row: n + 2,
                        out: &mut c,
                        out_row: n + 1,
                        scale: 0.5,
                        add: turned,
                    },
                );
                for i in 0..m {
                    for j in 0..=n {
                        let at = i * (n + 1) + j;
                        if j == n {
                            assert_eq!(c[at], before[at], "outside");
                            continue;
                        }
                        let sum: f64 = (0..k)
                            .map(|t| {
                                f64::from(a[i * row + t * col]) * f64::from(b[t * (n + 2) + j])
                            })
                            .sum();
                        let old = if turned { f64::from(before[at]) } else { 0.0 };
                        assert!((f64::from(c[at]) - old - 0.5 * sum).abs() < 1e-4);
                    }
                }
            }
        }
    }
}

/// Attention of one sequence in f64.
fn attention_exact(shape: HeadShape, q: &[f32], k: &[f32], v: &[f32]) -> Vec<f64> {
    let (d, group) = (shape.head_dim, shape.heads / shape.kv_heads);
    let (qw, kw) = (shape.heads * d, shape.kv_heads * d);
    let rows = q.len() / qw;
    let mut out = vec![0.0; q.len()];
    for row in 0..rows {
        for head in 0..shape.heads {
            let kv = head / group * d;
            let weights: Vec<f64> = (0..=row)
                .map(|key| {
                    let dot: f64 = (0..d)
                        .map(|i| {
                            f64::from(q[row * qw + head * d + i]) * f64::from(k[key * kw + kv + i])
                        })
                        .sum();
                    (dot / (d as f64).sqrt()).exp()
                })
                .collect();
            let total: f64 = weights.iter().sum();
            for (key, w) in weights.iter().enumerate() {
                for i in 0..d {
                    out[row * qw + head * d + i] += w / total * f64::from(v[key * kw + kv + i]);
                }
            }
        }
    }
    out
}

#[test]
fn attention_and_its_gradients() {
    let pool = Pool::new(2);
    for (heads, kv_heads, head_dim) in [(4, 2, 16), (3, 3, 5), (2, 1, 40)] {
        let shape = HeadShape {
            heads,
            kv_heads,
            head_dim,
        };
        let (qw, kw) = (heads * head_dim, kv_heads * head_dim);
        let sequences = [0..53, 53..54, 54..71];
        let rows = 71;
        let (q, k, v) = (
            numbers(1, rows * qw),
            numbers(2, rows * kw),
            numbers(3, rows * kw),
        );
        let g = numbers(4, rows * qw);
        let loss = |q: &[f32], k: &[f32], v: &[f32]| -> f64 {
            let mut total = 0.0;
            for s in &sequences {
                let out = attention_exact(
                    shape,
                    &q[s.start * qw..s.end * qw],
                    &k[s.start * kw..s.end * kw],
                    &v[s.start * kw..s.end * kw],
                );
                let g = &g[s.start * qw..s.end * qw];
                total += out
                    .iter()
                    .zip(g)
                    .map(|(o, g)| o * f64::from(*g))
                    .sum::<f64>();
            }
            total
        };
        for isa in Isa::available() {
            let (mut out, mut sums) = (vec![f32::NAN; rows * qw], vec![f32::NAN; rows * heads]);
            attention_forward(
                isa,
                &pool,
                shape,
                &sequences,
                (&q, &k, &v),
                (&mut out, &mut sums),
            );
            for s in &sequences {
                let exact = attention_exact(
                    shape,
                    &q[s.start * qw..s.end * qw],
                    &k[s.start * kw..s.end * kw],
                    &v[s.start * kw..s.end * kw],
                );
                for (o, e) in out[s.start * qw..s.end * qw].iter().zip(&exact) {
                    assert!((f64::from(*o) - e).abs() < 1e-5, "{o}, expected {e}");
                }
            }
            let mut dq = vec![f32::NAN; rows * qw];
            let (mut dk, mut dv) = (vec![f32::NAN; rows * kw], vec![f32::NAN; rows * kw]);
            attention_backward(
                isa,
                &pool,
                shape,
                &sequences,
                (&q, &k, &v),
                (&out, &sums, &g),
                (&mut dq, &mut dk, &mut dv),
            );
            for (which, gradient) in [(0, &dq), (1, &dk), (2, &dv)] {
                for at in (0..gradient.len()).step_by(gradient.len() / 23) {
                    let moved = |by: f32| {
                        let mut all = [q.clone(), k.clone(), v.clone()];
                        all[which][at] += by;
                        loss(&all[0], &all[1], &all[2])
                    };
                    let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                    let found = f64::from(gradient[at]);
                    assert!(
                        (found - difference).abs() < 1e-3 * (1.0 + difference.abs()),
                        "{which} at {at} on {}: {found}, by differences {difference}",
                        isa.name()
                    );
                }
            }
        }
    }
}

/// Checks a backward pass against differences of `forward`, for every number of `x`.
fn check_gradient(what: &str, x: &[f32], found: &[f32], forward: impl Fn(&[f32]) -> f64) {
    let size = found.iter().map(|g| f64::from(g.abs())).fold(0.1, f64::max);
    for at in 0..x.len() {
        let moved = |by: f32| {
            let mut x = x.to_vec();
            x[at] += by;
            forward(&x)
        };
        let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
        assert!(
            (f64::from(found[at]) - difference).abs() < DIFFERENCE_TOLERANCE * size,
            "{what} at {at}: {}, by differences {difference}",
            found[at]
        );
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

#[test]
fn gradients_of_norms_and_activations() {
    for isa in Isa::available() {
        for n in [1, 15, 16, 37] {
            let (x, w, g) = (numbers(1, n), numbers(2, n), numbers(3, n));
            if n > 1 {
                let mut dx = vec![0.0; n];
                rms_norm_backward(isa, &x, &w, 1e-2, &g, &mut dx);
                check_gradient("rms norm", &x, &dx, |x| {
                    let mut y = vec![0.0; n];
                    ops::rms_norm(isa, x, &w, 1e-2, &mut y);
                    dot(&y, &g)
                });
                dx.fill(0.0);
                layer_norm_backward(isa, &x, &w, 1e-2, &g, &mut dx);
                check_gradient("layer norm", &x, &dx, |x| {
                    let mut y = vec![0.0; n];
                    ops::layer_norm(isa, x, &w, None, 1e-2, &mut y);
                    dot(&y, &g)
                });
            }
            let spread: Vec<f32> = x.iter().map(|x| 3.0 * x).collect();
            let (mut gate, mut up) = (spread.clone(), w.clone());
            silu_mul_backward(isa, &mut gate, &mut up, &g);
            let silu = |gate: &[f32], up: &[f32]| {
                let mut y = vec![0.0; n];
                ops::silu_mul(isa, gate, up, &mut y);
                dot(&y, &g)
            };
            check_gradient("gate", &spread, &gate, |x| silu(x, &w));
            check_gradient("up", &w, &up, |x| silu(&spread, x));
            for form in [Gelu::Erf, Gelu::Tanh] {
                let mut dx = spread.clone();
                gelu_backward(isa, form, &mut dx, &g);
                check_gradient("gelu", &spread, &dx, |x| {
                    let mut y = vec![0.0; n];
                    ops::gelu(isa, form, x, &mut y);
                    dot(&y, &g)
                });
            }
        }
    }
}

#[test]
fn cross_entropy_and_its_gradient() {
    for isa in Isa::available() {
        for n in [1, 16, 45] {
            let logits: Vec<f32> = numbers(9, n).iter().map(|x| 6.0 * x).collect();
            let target = n / 2;
            let exact = |x: &[f32]| {
                let total: f64 = x.iter().map(|x| f64::from(*x).exp()).sum();
                total.ln() - f64::from(x[target])
            };
            let mut gradient = logits.clone();
            let loss = cross_entropy(isa, &mut gradient, target, 0.5);
            assert!((loss - exact(&logits)).abs() < 1e-5, "{loss}");
            check_gradient("logits", &logits, &gradient, |x| 0.5 * exact(x));
            for bad in [f32::NAN, f32::INFINITY] {
                let mut logits = logits.clone();
                logits[n - 1] = bad;
                assert!(!cross_entropy(isa, &mut logits, 0, 1.0).is_finite());
                logits.resize(n + 40, 0.0);
                logits[3 % n] = bad;
                assert!(!cross_entropy(isa, &mut logits, 0, 1.0).is_finite());
            }
        }
    }
}

#[test]
fn bf16_rounds_as_the_oracle_does() {
    let pool = Pool::new(2);
    let mut x = numbers(7, 100_000);
    x.extend([f32::NAN, f32::INFINITY, -f32::INFINITY, 0.0, -0.0, f32::MAX]);
    let mut bits = vec![0; x.len()];
    let isa = Isa::detect();
    to_bf16(isa, &pool, &x, &mut bits);
    for (x, bits) in x.iter().zip(&bits) {
        let expected = half::bf16::from_f32(*x);
        let found = half::bf16::from_bits(*bits);
        assert!(found == expected || (found.is_nan() && expected.is_nan()));
    }
    let mut back = vec![0.0; x.len()];
    from_bf16(isa, &pool, &bits, &mut back);
    for (back, bits) in back.iter().zip(&bits) {
        assert_eq!(back.to_bits(), u32::from(*bits) << 16);
    }
}
